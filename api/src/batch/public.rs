//! The columns of `application/vnd.apache.arrow.stream`, for programs that submit.
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `pod_spec` | utf8 or binary | JSON, required |
//! | `client_id` | utf8 | |
//! | `priority` | int32, int64, uint32, uint64 or double | 0 if null |
//! | `count` | int32, int64, uint32 or uint64 | an array of so many tasks |
//! | `namespace` | utf8 | `default` if null |
//! | `labels`, `annotations` | utf8 or binary | a JSON object |
//! | `services`, `ingress` | utf8 or binary | a JSON list |
//!
//! The large variants and utf8 as a dictionary with int32 keys will do, compressed buffers will
//! not.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, DictionaryArray, LargeBinaryArray, LargeStringArray,
    PrimitiveArray, RecordBatch, StringArray,
};
use arrow_schema::DataType;
use serde::de::DeserializeOwned;

use super::Error;
use super::frames::Reader;
use crate::job_text::{self, Job, Parser, Parts};

mod write;

pub use write::{Row, Writer};

/// Bytes of one message of the stream.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

const COLUMNS: [&str; 12] = [
    "client_id",
    "priority",
    "count",
    "max_running",
    "depends_on",
    "retry",
    "namespace",
    "labels",
    "annotations",
    "services",
    "ingress",
    "pod_spec",
];

/// Reads a stream as its bytes come in.
#[derive(Debug)]
pub struct Stream(Reader);

/// The jobs of one batch.
#[derive(Debug)]
pub struct Jobs {
    rows: usize,
    bytes: usize,
    client_id: Option<Texts>,
    priority: Option<Numbers>,
    count: Option<Numbers>,
    max_running: Option<Numbers>,
    depends_on: Option<Texts>,
    retry: Option<Texts>,
    namespace: Option<Texts>,
    labels: Option<Texts>,
    annotations: Option<Texts>,
    services: Option<Texts>,
    ingress: Option<Texts>,
    pod_spec: Texts,
}

#[derive(Debug)]
enum Texts {
    Utf8(StringArray),
    LargeUtf8(LargeStringArray),
    Binary(BinaryArray),
    LargeBinary(LargeBinaryArray),
    Dictionary(DictionaryArray<Int32Type>),
}

#[derive(Debug)]
enum Numbers {
    Int32(PrimitiveArray<Int32Type>),
    Int64(PrimitiveArray<Int64Type>),
    UInt32(PrimitiveArray<UInt32Type>),
    UInt64(PrimitiveArray<UInt64Type>),
    Float64(PrimitiveArray<Float64Type>),
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}

impl Stream {
    /// A stream of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self(Reader::new(MESSAGE_BYTES_MAX, COLUMNS.len()))
    }

    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    /// The next batch, if all of it has come in.
    ///
    /// # Errors
    /// When this is no Arrow stream with the documented columns.
    pub fn next_batch(&mut self) -> Result<Option<Jobs>, Error> {
        self.0.next()?.map(|batch| Jobs::of(&batch)).transpose()
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// When they ended in the middle of a message.
    pub fn finish(&self) -> Result<(), Error> {
        self.0.finish()
    }
}

impl Jobs {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of memory that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// One of them, found in order.
    ///
    /// # Errors
    /// When it is not a job that Muster takes.
    ///
    /// # Panics
    /// When `row` is not less than [`Jobs::len`].
    pub fn job<'a>(&'a self, row: usize, parser: &mut Parser) -> Result<Job<'a>, job_text::Error> {
        let text = |column: &'a Option<Texts>, name| match column {
            Some(column) => column.get(row, name),
            None => Ok(None),
        };
        let filled = |text: Option<&'a str>| text.filter(|t| !t.is_empty()).map(Cow::Borrowed);
        let parts = Parts {
            client_id: filled(text(&self.client_id, "client_id")?),
            priority: self.priority.as_ref().and_then(|c| c.float(row)).unwrap_or_default(),
            count: match &self.count {
                Some(column) => column.whole(row, "count")?,
                None => None,
            },
            max_running: match &self.max_running {
                Some(column) => column.whole(row, "max_running")?,
                None => None,
            },
            depends_on: list(text(&self.depends_on, "depends_on")?, "depends_on")?,
            retry: list(text(&self.retry, "retry")?, "retry")?,
            namespace: filled(text(&self.namespace, "namespace")?),
            labels: text(&self.labels, "labels")?.filter(|text| !text.is_empty()),
            annotations: text(&self.annotations, "annotations")?.filter(|text| !text.is_empty()),
            services: list(text(&self.services, "services")?, "services")?,
            ingress: list(text(&self.ingress, "ingress")?, "ingress")?,
            required_node_labels: None,
            pod_spec: self.pod_spec.get(row, "pod_spec")?.unwrap_or("null"),
        };
        parser.assemble(parts)
    }

    fn of(batch: &RecordBatch) -> Result<Self, Error> {
        for field in batch.schema().fields() {
            if !COLUMNS.contains(&field.name().as_str()) {
                return Err(Error::column(field.name(), "is not one of a submission"));
            }
        }
        let texts = |name: &str| batch.column_by_name(name).map(|c| Texts::of(c, name)).transpose();
        let numbers =
            |name: &str| batch.column_by_name(name).map(|c| Numbers::of(c, name)).transpose();
        let wholes = |name: &str| match numbers(name)? {
            Some(Numbers::Float64(_)) => Err(Error::column(name, "is not of whole numbers")),
            column => Ok(column),
        };
        Ok(Self {
            rows: batch.num_rows(),
            bytes: batch.get_array_memory_size(),
            client_id: texts("client_id")?,
            priority: numbers("priority")?,
            count: wholes("count")?,
            max_running: wholes("max_running")?,
            depends_on: texts("depends_on")?,
            retry: texts("retry")?,
            namespace: texts("namespace")?,
            labels: texts("labels")?,
            annotations: texts("annotations")?,
            services: texts("services")?,
            ingress: texts("ingress")?,
            pod_spec: texts("pod_spec")?.ok_or_else(|| Error::column("pod_spec", "is missing"))?,
        })
    }
}

/// The entries of a JSON list.
fn list<T: DeserializeOwned>(text: Option<&str>, name: &str) -> Result<Vec<T>, job_text::Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    serde_json::from_str(text).map_err(|error| job_text::Error::field(name, error))
}

impl Texts {
    fn of(column: &ArrayRef, name: &str) -> Result<Self, Error> {
        match column.data_type() {
            DataType::Utf8 => Ok(Self::Utf8(column.as_string().clone())),
            DataType::LargeUtf8 => Ok(Self::LargeUtf8(column.as_string().clone())),
            DataType::Binary => Ok(Self::Binary(column.as_binary().clone())),
            DataType::LargeBinary => Ok(Self::LargeBinary(column.as_binary().clone())),
            DataType::Dictionary(_, _) => Ok(Self::Dictionary(column.as_dictionary().clone())),
            other => Err(Error::column(name, format!("type {other} is no text"))),
        }
    }

    fn get(&self, row: usize, name: &'static str) -> Result<Option<&str>, job_text::Error> {
        let bytes = match self {
            Self::Utf8(c) => c.is_valid(row).then(|| c.value(row).as_bytes()),
            Self::LargeUtf8(c) => c.is_valid(row).then(|| c.value(row).as_bytes()),
            Self::Binary(c) => c.is_valid(row).then(|| c.value(row)),
            Self::LargeBinary(c) => c.is_valid(row).then(|| c.value(row)),
            Self::Dictionary(c) => c.key(row).and_then(|key| {
                let values: &StringArray = c.values().as_string();
                (key < values.len() && values.is_valid(key)).then(|| values.value(key).as_bytes())
            }),
        };
        bytes
            .map(std::str::from_utf8)
            .transpose()
            .map_err(|error| job_text::Error::field(name, error))
    }
}

impl Numbers {
    fn of(column: &ArrayRef, name: &str) -> Result<Self, Error> {
        match column.data_type() {
            DataType::Int32 => Ok(Self::Int32(column.as_primitive().clone())),
            DataType::Int64 => Ok(Self::Int64(column.as_primitive().clone())),
            DataType::UInt32 => Ok(Self::UInt32(column.as_primitive().clone())),
            DataType::UInt64 => Ok(Self::UInt64(column.as_primitive().clone())),
            DataType::Float64 => Ok(Self::Float64(column.as_primitive().clone())),
            other => Err(Error::column(name, format!("type {other} is no number"))),
        }
    }

    fn float(&self, row: usize) -> Option<f64> {
        match self {
            Self::Int32(c) => c.is_valid(row).then(|| f64::from(c.value(row))),
            Self::Int64(c) => c.is_valid(row).then(|| c.value(row) as f64),
            Self::UInt32(c) => c.is_valid(row).then(|| f64::from(c.value(row))),
            Self::UInt64(c) => c.is_valid(row).then(|| c.value(row) as f64),
            Self::Float64(c) => c.is_valid(row).then(|| c.value(row)),
        }
    }

    fn whole(&self, row: usize, name: &str) -> Result<Option<u64>, job_text::Error> {
        let value = match self {
            Self::Int32(c) => c.is_valid(row).then(|| i128::from(c.value(row))),
            Self::Int64(c) => c.is_valid(row).then(|| i128::from(c.value(row))),
            Self::UInt32(c) => c.is_valid(row).then(|| i128::from(c.value(row))),
            Self::UInt64(c) => c.is_valid(row).then(|| i128::from(c.value(row))),
            Self::Float64(_) => None,
        };
        let Some(value) = value else { return Ok(None) };
        u64::try_from(value)
            .map(Some)
            .map_err(|_| job_text::Error::field(name, format!("{value} is negative")))
    }
}
