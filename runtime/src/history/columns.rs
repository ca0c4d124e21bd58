//! The columns of history: the schema, and rows to and from record batches.
//!
//! Plain types only (UTF-8 text, signed integers, UTC timestamps), so that any reader of Parquet
//! can work with them. What is nested, all runs and all requested resources, is JSON text.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    Int32Builder, Int64Builder, StringBuilder, TimestampMillisecondBuilder,
};
use arrow_array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use muster_core::history::Finished;
use muster_core::id::{JobRef, Position, ShardId};
use muster_core::job::{Address, Exit, JobState, Usage};
use muster_core::record::Run;
use muster_core::resources::{CPU, MEMORY};
use muster_core::shape::Shape;
use muster_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The schema of every history object.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let always = |name: &str, kind: DataType| Field::new(name, kind, false);
    let maybe = |name: &str, kind: DataType| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        always("job_id", DataType::Utf8),
        maybe("array_id", DataType::Utf8),
        maybe("array_index", DataType::Int64),
        always("queue", DataType::Utf8),
        always("job_set", DataType::Utf8),
        maybe("client_id", DataType::Utf8),
        always("state", DataType::Utf8),
        always("priority", DataType::Int64),
        always("priority_class", DataType::Utf8),
        always("pool", DataType::Utf8),
        always("submitted_at", time()),
        maybe("leased_at", time()),
        maybe("started_at", time()),
        always("finished_at", time()),
        always("attempts", DataType::Int64),
        maybe("cluster", DataType::Utf8),
        maybe("node", DataType::Utf8),
        maybe("exit_code", DataType::Int32),
        maybe("signal", DataType::Int32),
        maybe("reason", DataType::Utf8),
        maybe("message", DataType::Utf8),
        maybe("cancel_reason", DataType::Utf8),
        always("request_cpu_millis", DataType::Int64),
        always("request_memory_bytes", DataType::Int64),
        always("requests", DataType::Utf8),
        always("runs", DataType::Utf8),
        always("shape", DataType::Utf8),
        always("spec_sequence", DataType::Int64),
        always("spec_row", DataType::Int64),
        always("log_sequence", DataType::Int64),
        always("log_row", DataType::Int64),
        always("shard", DataType::Int32),
        maybe("memory_peak_bytes", DataType::Int64),
        maybe("cpu_time_ms", DataType::Int64),
    ]))
});

/// Collects rows into a record batch.
#[derive(Default)]
pub(super) struct Columns {
    job_id: StringBuilder,
    array_id: StringBuilder,
    array_index: Int64Builder,
    queue: StringBuilder,
    job_set: StringBuilder,
    client_id: StringBuilder,
    state: StringBuilder,
    priority: Int64Builder,
    priority_class: StringBuilder,
    pool: StringBuilder,
    submitted_at: TimestampMillisecondBuilder,
    leased_at: TimestampMillisecondBuilder,
    started_at: TimestampMillisecondBuilder,
    finished_at: TimestampMillisecondBuilder,
    attempts: Int64Builder,
    cluster: StringBuilder,
    node: StringBuilder,
    exit_code: Int32Builder,
    signal: Int32Builder,
    reason: StringBuilder,
    message: StringBuilder,
    cancel_reason: StringBuilder,
    request_cpu_millis: Int64Builder,
    request_memory_bytes: Int64Builder,
    requests: StringBuilder,
    runs: StringBuilder,
    shape: StringBuilder,
    spec_sequence: Int64Builder,
    spec_row: Int64Builder,
    log_sequence: Int64Builder,
    log_row: Int64Builder,
    shard: Int32Builder,
    memory_peak_bytes: Int64Builder,
    cpu_time_ms: Int64Builder,
}

impl Columns {
    /// Adds a row for each of the jobs `jobs`, which all ended as `finished` says.
    pub(super) fn push(
        &mut self,
        shard: ShardId,
        finished: &Finished,
        jobs: impl Iterator<Item = JobRef>,
    ) {
        let runs = runs_text(&finished.runs);
        let requests = requests_text(&finished.shape);
        let shape = finished.shape.canonical();
        for job in jobs {
            self.push_identity(shard, finished, job);
            self.push_end(finished);
            self.push_shape(&finished.shape);
            self.requests.append_value(&requests);
            self.runs.append_value(&runs);
            self.shape.append_value(&shape);
        }
    }

    fn push_identity(&mut self, shard: ShardId, finished: &Finished, job: JobRef) {
        self.job_id.append_value(job.to_string());
        self.array_id.append_option(job.index.map(|_| job.job.to_string()));
        self.array_index.append_option(job.index.map(i64::from));
        self.queue.append_value(&finished.queue);
        self.job_set.append_value(&finished.job_set);
        self.client_id.append_option(finished.client_id.as_deref());
        self.submitted_at.append_value(job.job.submitted_at().0);
        self.spec_sequence.append_value(signed(finished.spec.sequence));
        self.spec_row.append_value(finished.spec.row.into());
        self.log_sequence.append_value(signed(finished.at.sequence));
        self.log_row.append_value(finished.at.row.into());
        self.shard.append_value(shard.0.into());
    }

    fn push_end(&mut self, finished: &Finished) {
        let run = finished.runs.last();
        let exit = run.and_then(|run| run.ended.as_ref()).map(|(_, exit)| exit);
        self.state.append_value(finished.state.name());
        self.finished_at.append_value(finished.finished_at.0);
        self.cancel_reason.append_option(finished.reason.as_deref());
        self.attempts.append_value(run.map_or(0, |run| run.attempt.into()));
        self.leased_at.append_option(run.map(|run| run.leased_at.0));
        self.started_at.append_option(run.and_then(|run| run.started_at).map(|at| at.0));
        self.cluster.append_option(run.map(|run| &*run.cluster));
        self.node.append_option(run.map(|run| &*run.node));
        self.exit_code.append_option(exit.and_then(|exit| exit.code));
        self.signal.append_option(exit.and_then(|exit| exit.signal));
        self.reason.append_option(exit.and_then(|exit| exit.reason.as_deref()));
        self.message.append_option(exit.and_then(|exit| exit.message.as_deref()));
        let usage = exit.and_then(|exit| exit.usage);
        let amount = |of: fn(Usage) -> u64| usage.map(of).and_then(|it| i64::try_from(it).ok());
        self.memory_peak_bytes.append_option(amount(|usage| usage.memory_peak_bytes));
        self.cpu_time_ms.append_option(amount(|usage| usage.cpu_time_ms));
        self.priority.append_value(finished.priority.into());
    }

    fn push_shape(&mut self, shape: &Shape) {
        self.priority_class.append_value(&shape.class);
        self.pool.append_value(&shape.pool);
        self.request_cpu_millis.append_value(shape.request.get(CPU).millis_ceil());
        self.request_memory_bytes.append_value(shape.request.get(MEMORY).units_ceil());
    }

    /// The rows so far; empties the columns.
    pub(super) fn finish(&mut self) -> RecordBatch {
        let utc = |builder: &mut TimestampMillisecondBuilder| -> ArrayRef {
            Arc::new(builder.finish().with_timezone("UTC"))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.job_id.finish()),
            Arc::new(self.array_id.finish()),
            Arc::new(self.array_index.finish()),
            Arc::new(self.queue.finish()),
            Arc::new(self.job_set.finish()),
            Arc::new(self.client_id.finish()),
            Arc::new(self.state.finish()),
            Arc::new(self.priority.finish()),
            Arc::new(self.priority_class.finish()),
            Arc::new(self.pool.finish()),
            utc(&mut self.submitted_at),
            utc(&mut self.leased_at),
            utc(&mut self.started_at),
            utc(&mut self.finished_at),
            Arc::new(self.attempts.finish()),
            Arc::new(self.cluster.finish()),
            Arc::new(self.node.finish()),
            Arc::new(self.exit_code.finish()),
            Arc::new(self.signal.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.message.finish()),
            Arc::new(self.cancel_reason.finish()),
            Arc::new(self.request_cpu_millis.finish()),
            Arc::new(self.request_memory_bytes.finish()),
            Arc::new(self.requests.finish()),
            Arc::new(self.runs.finish()),
            Arc::new(self.shape.finish()),
            Arc::new(self.spec_sequence.finish()),
            Arc::new(self.spec_row.finish()),
            Arc::new(self.log_sequence.finish()),
            Arc::new(self.log_row.finish()),
            Arc::new(self.shard.finish()),
            Arc::new(self.memory_peak_bytes.finish()),
            Arc::new(self.cpu_time_ms.finish()),
        ];
        RecordBatch::try_new(Arc::clone(&SCHEMA), columns)
            .expect("the columns are listed as the schema lists them")
    }
}

/// Rows of a record batch, by the names of its columns.
pub(super) struct Rows<'a>(pub(super) &'a RecordBatch);

impl Rows<'_> {
    /// The job of a row. Needs `job_id` and `array_index`.
    pub(super) fn job(&self, row: usize) -> Result<JobRef, String> {
        let text = self.text("job_id", row)?.ok_or("column `job_id` is null")?;
        text.parse().map_err(|error| format!("{error}"))
    }

    /// A text of a row; `None` where it is null.
    pub(super) fn text(&self, name: &str, row: usize) -> Result<Option<&str>, String> {
        let column = self.column::<StringArray>(name)?;
        Ok(column.is_valid(row).then(|| column.value(row)))
    }

    /// The state of a row.
    pub(super) fn state(&self, row: usize) -> Result<JobState, String> {
        let name = self.text("state", row)?.unwrap_or_default();
        JobState::from_name(name).ok_or_else(|| format!("`{name}` is no state"))
    }

    /// When the job of a row finished.
    pub(super) fn finished_at(&self, row: usize) -> Result<Timestamp, String> {
        let column = self.column::<TimestampMillisecondArray>("finished_at")?;
        Ok(Timestamp(column.value(row)))
    }

    /// A whole row.
    pub(super) fn finished(&self, row: usize) -> Result<Finished, String> {
        let text =
            |name: &str| self.text(name, row)?.ok_or_else(|| format!("column `{name}` is null"));
        let maybe = |name: &str| self.text(name, row).map(|text| text.map(Into::into));
        let shape = text("shape")?;
        Ok(Finished {
            job: self.job(row)?,
            count: 1,
            queue: text("queue")?.into(),
            job_set: text("job_set")?.into(),
            client_id: maybe("client_id")?,
            priority: self.number("priority", row)?,
            shape: Shape::from_canonical(shape)
                .map(Arc::new)
                .ok_or_else(|| format!("`{shape}` is no shape"))?,
            state: self.state(row)?,
            finished_at: self.finished_at(row)?,
            reason: maybe("cancel_reason")?,
            runs: runs_of(text("runs")?)?,
            spec: self.position("spec_sequence", "spec_row", row)?,
            at: self.position("log_sequence", "log_row", row)?,
        })
    }

    fn position(&self, sequence: &str, row_name: &str, row: usize) -> Result<Position, String> {
        Ok(Position { sequence: self.number(sequence, row)?, row: self.number(row_name, row)? })
    }

    fn number<N: TryFrom<i64>>(&self, name: &str, row: usize) -> Result<N, String> {
        let value = self.column::<Int64Array>(name)?.value(row);
        N::try_from(value).map_err(|_| format!("column `{name}` holds {value}"))
    }

    fn column<A: 'static>(&self, name: &str) -> Result<&A, String> {
        let column = self.0.column_by_name(name);
        let typed = column.and_then(|column| column.as_any().downcast_ref());
        typed.ok_or_else(|| format!("column `{name}` is missing or of another type"))
    }
}

/// A run as it stands in the column `runs`.
#[derive(Serialize, Deserialize)]
struct RunText {
    attempt: u32,
    cluster: String,
    node: String,
    leased_at_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<AddressText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_peak_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu_time_ms: Option<u64>,
}

/// Where a port of a run could be reached.
#[derive(Serialize, Deserialize)]
struct AddressText {
    port: u32,
    address: String,
}

impl From<&Run> for RunText {
    fn from(run: &Run) -> Self {
        let exit = run.ended.as_ref().map(|(_, exit)| exit.clone()).unwrap_or_default();
        Self {
            attempt: run.attempt,
            cluster: run.cluster.to_string(),
            node: run.node.to_string(),
            leased_at_ms: run.leased_at.0,
            started_at_ms: run.started_at.map(|at| at.0),
            ended_at_ms: run.ended.as_ref().map(|(at, _)| at.0),
            exit_code: exit.code,
            signal: exit.signal,
            reason: exit.reason.map(|text| text.to_string()),
            message: exit.message.map(|text| text.to_string()),
            addresses: run.addresses.iter().map(AddressText::from).collect(),
            memory_peak_bytes: exit.usage.map(|usage| usage.memory_peak_bytes),
            cpu_time_ms: exit.usage.map(|usage| usage.cpu_time_ms),
        }
    }
}

impl From<RunText> for Run {
    fn from(run: RunText) -> Self {
        let usage = run.memory_peak_bytes.zip(run.cpu_time_ms);
        let exit = Exit {
            code: run.exit_code,
            signal: run.signal,
            reason: run.reason.map(Into::into),
            message: run.message.map(Into::into),
            usage: usage
                .map(|(memory_peak_bytes, cpu_time_ms)| Usage { memory_peak_bytes, cpu_time_ms }),
        };
        Self {
            attempt: run.attempt,
            cluster: run.cluster.into(),
            node: run.node.into(),
            leased_at: Timestamp(run.leased_at_ms),
            started_at: run.started_at_ms.map(Timestamp),
            addresses: run.addresses.into_iter().map(Address::from).collect(),
            ended: run.ended_at_ms.map(|at| (Timestamp(at), exit)),
        }
    }
}

impl From<&Address> for AddressText {
    fn from(at: &Address) -> Self {
        Self { port: at.port, address: at.address.to_string() }
    }
}

impl From<AddressText> for Address {
    fn from(at: AddressText) -> Self {
        Self { port: at.port, address: at.address.into() }
    }
}

fn runs_text(runs: &[Run]) -> String {
    let runs: Vec<RunText> = runs.iter().map(RunText::from).collect();
    serde_json::to_string(&runs).expect("numbers and texts are always JSON")
}

fn runs_of(text: &str) -> Result<Vec<Run>, String> {
    let runs: Vec<RunText> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(runs.into_iter().map(Run::from).collect())
}

fn requests_text(shape: &Shape) -> String {
    let amounts: BTreeMap<&str, String> =
        shape.request.iter().map(|(name, amount)| (&**name, amount.to_string())).collect();
    serde_json::to_string(&amounts).expect("a map of texts is always JSON")
}

fn signed(sequence: u64) -> i64 {
    i64::try_from(sequence).expect("a log does not reach 2^63 objects")
}
