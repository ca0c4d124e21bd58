//! Batches read back: every limit is checked again, since what comes over a bus is only bytes.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, PrimitiveArray, RecordBatch,
    StringArray,
};
use bytes::Bytes;
use muster_core::command::NewJob;
use muster_core::record::Payload;
use muster_core::shape::Shape;
use muster_core::{Name, limits, names};

use super::frames::Reader;
use super::{Error, schema};
use crate::job_text::Terms;

/// Jobs of one batch: a streamed submission sends fewer at a time, an all-or-nothing one comes
/// whole.
const JOBS_MAX: usize = if limits::JOBS_PER_JSON_MAX > limits::JOBS_PER_COMMAND_MAX {
    limits::JOBS_PER_JSON_MAX
} else {
    limits::JOBS_PER_COMMAND_MAX
};
/// Bytes of a message that a shard takes: a command full of the largest jobs.
const MESSAGE_BYTES_MAX: usize = (JOBS_MAX + 1) * 2 * limits::JOB_BYTES_MAX;

/// The jobs of a batch, by rising line; payloads are slices of `message`.
///
/// # Errors
/// When it is no batch that [`super::Builder`] could have made.
pub fn read(message: Bytes) -> Result<Vec<NewJob>, Error> {
    let mut reader = Reader::new(MESSAGE_BYTES_MAX, schema().fields().len());
    let mut rest = message.clone();
    let mut jobs = Vec::new();
    while let Some(batch) = reader.next_of(&mut rest)? {
        if jobs.len() + batch.num_rows() > JOBS_MAX {
            let jobs = jobs.len() + batch.num_rows();
            return Err(Error::Stream(format!("{jobs} jobs, limit is {JOBS_MAX}")));
        }
        read_batch(&message, &batch, &mut jobs)?;
    }
    Ok(jobs)
}

/// The columns of one batch.
struct Columns<'a> {
    line: &'a PrimitiveArray<UInt64Type>,
    client_id: &'a StringArray,
    priority: &'a PrimitiveArray<UInt32Type>,
    count: &'a PrimitiveArray<UInt32Type>,
    at_most_once: &'a BooleanArray,
    terms: Shared<'a, Name>,
    namespace: Shared<'a, Name>,
    labels: &'a BinaryArray,
    annotations: &'a BinaryArray,
    network: &'a BinaryArray,
    pod_spec: &'a BinaryArray,
    shape: Shared<'a, Arc<Shape>>,
}

/// A dictionary column with its values read.
struct Shared<'a, T> {
    keys: &'a PrimitiveArray<Int32Type>,
    values: Vec<T>,
}

fn read_batch(message: &Bytes, batch: &RecordBatch, jobs: &mut Vec<NewJob>) -> Result<(), Error> {
    let columns = Columns::of(batch)?;
    jobs.reserve(batch.num_rows());
    for row in 0..batch.num_rows() {
        let job = columns.job(message, row)?;
        if jobs.last().is_some_and(|last| last.line >= job.line) {
            return Err(Error::row(row, format!("line {} does not rise", job.line)));
        }
        jobs.push(job);
    }
    Ok(())
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, Error> {
        let expected = schema();
        for field in expected.fields() {
            let column = find(batch, field.name())?;
            if column.data_type() != field.data_type() {
                let reason = format!("type {}, not {}", column.data_type(), field.data_type());
                return Err(Error::column(field.name(), reason));
            }
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(Error::column(field.name(), "holds nulls"));
            }
        }
        let shape = |text: &str| {
            Shape::from_canonical(text).map(Arc::new).ok_or("not the canonical text of a shape")
        };
        let namespace = |text: &str| names::namespace(text).map(|()| Name::from(text));
        Ok(Self {
            line: find(batch, "line")?.as_primitive(),
            client_id: find(batch, "client_id")?.as_string(),
            priority: find(batch, "priority")?.as_primitive(),
            count: find(batch, "count")?.as_primitive(),
            at_most_once: find(batch, "at_most_once")?.as_boolean(),
            terms: Shared::of(batch, "terms", |text| Ok::<_, String>(Name::from(text)))?,
            namespace: Shared::of(batch, "namespace", namespace)?,
            labels: find(batch, "labels")?.as_binary(),
            annotations: find(batch, "annotations")?.as_binary(),
            network: find(batch, "network")?.as_binary(),
            pod_spec: find(batch, "pod_spec")?.as_binary(),
            shape: Shared::of(batch, "shape", shape)?,
        })
    }

    fn job(&self, message: &Bytes, row: usize) -> Result<NewJob, Error> {
        let client_id = self.client_id.is_valid(row).then(|| self.client_id.value(row));
        if let Some(id) = client_id {
            names::client_id(id).map_err(|error| Error::row(row, error))?;
        }
        let count = self.count.is_valid(row).then(|| self.count.value(row));
        if count.is_some_and(|count| !(1..=limits::ARRAY_COUNT_MAX).contains(&count)) {
            return Err(Error::row(row, "count is out of range"));
        }
        let terms = Terms::from_text(self.terms.get(row), count);
        let terms = terms.map_err(|error| Error::row(row, error))?;
        let payload = Payload {
            namespace: self.namespace.get(row).clone(),
            labels: bytes(message, self.labels, row),
            annotations: bytes(message, self.annotations, row),
            network: bytes(message, self.network, row),
            pod_spec: bytes(message, self.pod_spec, row),
        };
        let len = payload.len();
        if len > limits::JOB_BYTES_MAX {
            let max = limits::JOB_BYTES_MAX;
            return Err(Error::row(row, format!("job has {len} bytes, limit is {max}")));
        }
        Ok(NewJob {
            line: self.line.value(row),
            client_id: client_id.map(Name::from),
            priority: self.priority.value(row),
            count,
            at_most_once: self.at_most_once.value(row),
            terms,
            shape: Arc::clone(self.shape.get(row)),
            payload,
        })
    }
}

impl<'a, T> Shared<'a, T> {
    fn of<E: ToString>(
        batch: &'a RecordBatch,
        column: &str,
        value: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Self, Error> {
        let array: &DictionaryArray<Int32Type> = find(batch, column)?.as_dictionary();
        let values: &StringArray = array.values().as_string();
        if values.null_count() > 0 {
            return Err(Error::column(column, "holds nulls"));
        }
        let values = (0..values.len())
            .map(|at| {
                value(values.value(at)).map_err(|error| Error::column(column, error.to_string()))
            })
            .collect::<Result<Vec<T>, Error>>()?;
        let keys = array.keys();
        let fits = |key: i32| usize::try_from(key).is_ok_and(|key| key < values.len());
        if keys.null_count() > 0 || !keys.values().iter().all(|key| fits(*key)) {
            return Err(Error::column(column, "keys are out of range"));
        }
        Ok(Self { keys, values })
    }

    fn get(&self, row: usize) -> &T {
        let key = self.keys.value(row);
        &self.values[usize::try_from(key).expect("keys were checked")]
    }
}

fn find<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Error> {
    batch.column_by_name(name).ok_or_else(|| Error::column(name, "is missing"))
}

/// The bytes of a row, as a slice of the message where they lie in it.
fn bytes(message: &Bytes, column: &BinaryArray, row: usize) -> Bytes {
    if column.is_null(row) {
        return Bytes::new();
    }
    let part = column.value(row);
    if part.is_empty() {
        return Bytes::new();
    }
    let whole = message.as_ptr_range();
    let range = part.as_ptr_range();
    // The Arrow library copies a buffer only if it is not aligned, which bytes always are.
    if whole.start <= range.start && range.end <= whole.end {
        message.slice_ref(part)
    } else {
        Bytes::copy_from_slice(part)
    }
}
