//! A submission as columns: what a gateway hands to a shard, as an Arrow IPC stream of one batch.
//!
//! The reader copies no pod spec: payloads are slices of the message. It believes nothing: whatever
//! bytes it is given, it answers with jobs that keep every limit, or with an error. [`public`] has
//! the columns that programs may send.

use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, StringBuilder, StringDictionaryBuilder, UInt32Builder,
    UInt64Builder,
};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use muster_core::command::NewJob;

use crate::job_text::{Job, Terms};

mod frames;
pub mod public;
mod read;
#[cfg(test)]
mod tests;

pub use read::read;

/// Bytes that a batch takes besides what its jobs hold: the schema, the headers, the dictionaries'
/// own.
const FRAME_BYTES: usize = 8 * 1024;
/// Bytes that a job takes besides its texts: numbers, offsets, keys, validity.
const ROW_BYTES: usize = 56;

/// Why bytes are not a batch of jobs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an Arrow IPC stream, or one with features that are not used here.
    #[error("not an arrow stream: {0}")]
    Stream(String),
    /// The library that reads Arrow refuses it.
    #[error("not an arrow stream: {0}")]
    Arrow(#[from] ArrowError),
    /// A column that is missing, or of another type.
    #[error("column `{column}`: {reason}")]
    Column {
        /// Its name.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A job that breaks a limit.
    #[error("row {row}: {reason}")]
    Row {
        /// Which row of the batch.
        row: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    fn column(column: &str, reason: impl Into<String>) -> Self {
        Self::Column { column: column.to_owned(), reason: reason.into() }
    }

    fn row(row: usize, reason: impl ToString) -> Self {
        Self::Row { row, reason: reason.to_string() }
    }
}

/// One job as the columns have it.
struct Row<'a> {
    line: u64,
    client_id: Option<&'a str>,
    priority: u32,
    count: Option<u32>,
    at_most_once: bool,
    terms: &'a str,
    namespace: &'a str,
    labels: &'a [u8],
    annotations: &'a [u8],
    network: &'a [u8],
    pod_spec: &'a [u8],
    shape: &'a str,
}

/// Collects jobs and makes a batch of them.
pub struct Builder {
    jobs: usize,
    bytes: usize,
    line: UInt64Builder,
    client_id: StringBuilder,
    priority: UInt32Builder,
    count: UInt32Builder,
    at_most_once: BooleanBuilder,
    terms: StringDictionaryBuilder<Int32Type>,
    namespace: StringDictionaryBuilder<Int32Type>,
    labels: BinaryBuilder,
    annotations: BinaryBuilder,
    network: BinaryBuilder,
    pod_spec: BinaryBuilder,
    shape: StringDictionaryBuilder<Int32Type>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("jobs", &self.jobs)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A batch without jobs.
    #[must_use]
    pub fn new() -> Self {
        Self {
            jobs: 0,
            bytes: FRAME_BYTES,
            line: UInt64Builder::new(),
            client_id: StringBuilder::new(),
            priority: UInt32Builder::new(),
            count: UInt32Builder::new(),
            at_most_once: BooleanBuilder::new(),
            terms: StringDictionaryBuilder::new(),
            namespace: StringDictionaryBuilder::new(),
            labels: BinaryBuilder::new(),
            annotations: BinaryBuilder::new(),
            network: BinaryBuilder::new(),
            pod_spec: BinaryBuilder::new(),
            shape: StringDictionaryBuilder::new(),
        }
    }

    /// Adds a job; lines must rise.
    pub fn push(&mut self, line: u64, job: &Job<'_>) {
        self.append(&Row {
            line,
            client_id: job.client_id.as_deref(),
            priority: job.priority,
            count: job.count,
            at_most_once: job.at_most_once,
            terms: &Terms::text(job.terms.as_deref()),
            namespace: &job.namespace,
            labels: job.labels.as_bytes(),
            annotations: job.annotations.as_bytes(),
            network: job.network.as_bytes(),
            pod_spec: job.pod_spec.as_bytes(),
            shape: &job.shape.text,
        });
    }

    /// Adds a job that was read from a batch; lines must rise.
    pub fn push_new(&mut self, job: &NewJob) {
        self.append(&Row {
            line: job.line,
            client_id: job.client_id.as_deref(),
            priority: job.priority,
            count: job.count,
            at_most_once: job.at_most_once,
            terms: &Terms::text(job.terms.as_deref()),
            namespace: &job.payload.namespace,
            labels: &job.payload.labels,
            annotations: &job.payload.annotations,
            network: &job.payload.network,
            pod_spec: &job.payload.pod_spec,
            shape: &job.shape.canonical(),
        });
    }

    /// How many jobs it holds.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.jobs
    }

    /// Whether it holds no jobs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs == 0
    }

    /// Bytes that the message will have at most.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes by which [`Builder::bytes`] rises at most with that job.
    #[must_use]
    pub fn bytes_with(&self, job: &Job<'_>) -> usize {
        self.bytes + job_bytes(job)
    }

    /// The batch as an Arrow IPC stream.
    ///
    /// # Panics
    /// Never: the columns fit the schema, and writing to memory does not fail.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.line.finish()),
            Arc::new(self.client_id.finish()),
            Arc::new(self.priority.finish()),
            Arc::new(self.count.finish()),
            Arc::new(self.at_most_once.finish()),
            Arc::new(self.terms.finish()),
            Arc::new(self.namespace.finish()),
            Arc::new(self.labels.finish()),
            Arc::new(self.annotations.finish()),
            Arc::new(self.network.finish()),
            Arc::new(self.pod_spec.finish()),
            Arc::new(self.shape.finish()),
        ];
        let batch = RecordBatch::try_new(schema(), columns).expect("the columns are the schema's");
        let mut message = Vec::with_capacity(self.bytes);
        let mut writer =
            StreamWriter::try_new(&mut message, &batch.schema()).expect("memory takes every byte");
        writer.write(&batch).expect("memory takes every byte");
        writer.finish().expect("memory takes every byte");
        drop(writer);
        message.into()
    }

    fn append(&mut self, row: &Row<'_>) {
        self.jobs += 1;
        self.bytes += ROW_BYTES
            + row.client_id.map_or(0, str::len)
            + row.terms.len()
            + row.namespace.len()
            + row.labels.len()
            + row.annotations.len()
            + row.network.len()
            + row.pod_spec.len()
            + row.shape.len();
        self.line.append_value(row.line);
        self.client_id.append_option(row.client_id);
        self.priority.append_value(row.priority);
        self.count.append_option(row.count);
        self.at_most_once.append_value(row.at_most_once);
        self.terms.append_value(row.terms);
        self.namespace.append_value(row.namespace);
        self.labels.append_option(Some(row.labels).filter(|labels| !labels.is_empty()));
        self.annotations.append_option(Some(row.annotations).filter(|text| !text.is_empty()));
        self.network.append_option(Some(row.network).filter(|text| !text.is_empty()));
        self.pod_spec.append_value(row.pod_spec);
        self.shape.append_value(row.shape);
    }
}

fn job_bytes(job: &Job<'_>) -> usize {
    ROW_BYTES
        + job.client_id.as_deref().map_or(0, str::len)
        + Terms::text(job.terms.as_deref()).len()
        + job.namespace.len()
        + job.labels.len()
        + job.annotations.len()
        + job.network.len()
        + job.pod_spec.len()
        + job.shape.text.len()
}

/// The columns, in their order.
fn schema() -> SchemaRef {
    let dictionary = || DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into());
    Arc::new(Schema::new(vec![
        Field::new("line", DataType::UInt64, false),
        Field::new("client_id", DataType::Utf8, true),
        Field::new("priority", DataType::UInt32, false),
        Field::new("count", DataType::UInt32, true),
        Field::new("at_most_once", DataType::Boolean, false),
        Field::new("terms", dictionary(), false),
        Field::new("namespace", dictionary(), false),
        Field::new("labels", DataType::Binary, true),
        Field::new("annotations", DataType::Binary, true),
        Field::new("network", DataType::Binary, true),
        Field::new("pod_spec", DataType::Binary, false),
        Field::new("shape", dictionary(), false),
    ]))
}
