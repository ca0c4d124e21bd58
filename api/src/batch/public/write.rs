//! Writes the public columns, for programs of ours that submit.

use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{StringBuilder, UInt32Builder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;

/// Bytes after which a batch is closed: far below [`super::MESSAGE_BYTES_MAX`], and enough that the
/// headers do not matter.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// A job to be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Row<'a> {
    /// What the submitter calls it.
    pub client_id: Option<&'a str>,
    /// Lower runs earlier.
    pub priority: u32,
    /// How many tasks, for an array.
    pub count: Option<u32>,
    /// The namespace, if it is not the default one.
    pub namespace: Option<&'a str>,
    /// A JSON object.
    pub labels: Option<&'a str>,
    /// A JSON object.
    pub annotations: Option<&'a str>,
    /// The pod spec as JSON.
    pub pod_spec: &'a str,
}

/// Collects jobs and makes a stream of them.
pub struct Writer {
    stream: StreamWriter<Vec<u8>>,
    bytes: usize,
    client_id: StringBuilder,
    priority: UInt32Builder,
    count: UInt32Builder,
    namespace: StringBuilder,
    labels: StringBuilder,
    annotations: StringBuilder,
    pod_spec: StringBuilder,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// A stream without jobs.
    ///
    /// # Panics
    /// Never: writing to memory does not fail.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stream: StreamWriter::try_new(Vec::new(), &schema()).expect("memory takes every byte"),
            bytes: 0,
            client_id: StringBuilder::new(),
            priority: UInt32Builder::new(),
            count: UInt32Builder::new(),
            namespace: StringBuilder::new(),
            labels: StringBuilder::new(),
            annotations: StringBuilder::new(),
            pod_spec: StringBuilder::new(),
        }
    }

    /// Adds a job.
    pub fn push(&mut self, row: &Row<'_>) {
        let texts = [row.client_id, row.namespace, row.labels, row.annotations];
        self.bytes += row.pod_spec.len() + texts.iter().flatten().map(|t| t.len()).sum::<usize>();
        self.client_id.append_option(row.client_id);
        self.priority.append_value(row.priority);
        self.count.append_option(row.count);
        self.namespace.append_option(row.namespace);
        self.labels.append_option(row.labels);
        self.annotations.append_option(row.annotations);
        self.pod_spec.append_value(row.pod_spec);
        if self.bytes >= BATCH_BYTES {
            self.close();
        }
    }

    /// The stream.
    ///
    /// # Panics
    /// Never: writing to memory does not fail.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        self.close();
        self.stream.into_inner().expect("memory takes every byte").into()
    }

    fn close(&mut self) {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.client_id.finish()),
            Arc::new(self.priority.finish()),
            Arc::new(self.count.finish()),
            Arc::new(self.namespace.finish()),
            Arc::new(self.labels.finish()),
            Arc::new(self.annotations.finish()),
            Arc::new(self.pod_spec.finish()),
        ];
        self.bytes = 0;
        let batch = RecordBatch::try_new(Arc::new(schema()), columns);
        let batch = batch.expect("the columns are the schema's");
        if batch.num_rows() > 0 {
            self.stream.write(&batch).expect("memory takes every byte");
        }
    }
}

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("client_id", DataType::Utf8, true),
        Field::new("priority", DataType::UInt32, false),
        Field::new("count", DataType::UInt32, true),
        Field::new("namespace", DataType::Utf8, true),
        Field::new("labels", DataType::Utf8, true),
        Field::new("annotations", DataType::Utf8, true),
        Field::new("pod_spec", DataType::Utf8, false),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::public::Stream;
    use crate::job_text::Parser;

    /// Each job's client id, priority, count, namespace, labels and length of the pod spec.
    type Read = (Option<String>, u32, Option<u32>, String, String, usize);

    fn read(bytes: &[u8]) -> Vec<Read> {
        let (mut stream, mut parser, mut found) = (Stream::new(), Parser::new(), Vec::new());
        stream.push(bytes);
        while let Some(jobs) = stream.next_batch().unwrap() {
            for row in 0..jobs.len() {
                let job = jobs.job(row, &mut parser).unwrap();
                let client_id = job.client_id.map(|id| id.into_owned());
                let (namespace, labels) = (job.namespace.into_owned(), job.labels.to_owned());
                let spec = job.pod_spec.len();
                found.push((client_id, job.priority, job.count, namespace, labels, spec));
            }
        }
        stream.finish().unwrap();
        found
    }

    #[test]
    fn what_is_written_is_read_back_as_jobs() {
        let mut writer = Writer::new();
        let pod_spec = r#"{"containers":[{}]}"#;
        writer.push(&Row {
            client_id: Some("a"),
            priority: 7,
            count: Some(3),
            namespace: Some("ns"),
            labels: Some(r#"{"x":"y"}"#),
            annotations: None,
            pod_spec,
        });
        writer.push(&Row { pod_spec, ..Row::default() });
        let found = read(&writer.finish());
        assert_eq!(
            found,
            [
                (Some("a".into()), 7, Some(3), "ns".into(), r#"{"x":"y"}"#.into(), pod_spec.len()),
                (None, 0, None, "default".into(), String::new(), pod_spec.len()),
            ]
        );
        assert!(read(&Writer::new().finish()).is_empty());
    }

    #[test]
    fn many_jobs_become_batches_that_are_taken() {
        let filler = "x".repeat(60_000);
        let pod_spec = format!(r#"{{"containers":[{{"image":"{filler}"}}]}}"#);
        let mut writer = Writer::new();
        for _ in 0..200 {
            writer.push(&Row { pod_spec: &pod_spec, ..Row::default() });
        }
        let found = read(&writer.finish());
        assert_eq!(found.len(), 200);
        assert!(found.iter().all(|job| job.5 == pod_spec.len()));
    }
}
