//! Records to Parquet. Each record touches only the columns that it has; the gaps become nulls.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Int32Builder, Int64Builder,
    StringBuilder, TimestampMillisecondBuilder, UInt32Builder, UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use muster_core::history::Finished;
use muster_core::id::{JobId, JobRef, Position};
use muster_core::job::{Exit, Usage};
use muster_core::record::{
    Change, Changed, Done, HistorySpan, JobSetTotals, LiveJob, Payload, Record, Submitted, Task,
};
use muster_core::shape::Shape;
use muster_core::time::Timestamp;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

use super::builders::{Gaps, Names, Shapes};
use super::detail::{
    self, ArrayDetail, JobSetDetail, LiveDetail, OutcomeDetail, RunDetail, SpanDetail, TaskDetail,
    to_bytes,
};
use super::schema::{self, BATCH_ROWS, Packing, SCHEMA};
use super::terms::{EndsDetail, NextDetail, TermsDetail};
use super::{Error, Header, checksum};

/// Rows of a small object.
const SMALL_ROWS_MAX: usize = 64;
/// Bytes of payload in a small object.
const SMALL_PAYLOAD_BYTES_MAX: usize = 16 * 1024;

/// Whether these records make a small object: one that is encoded faster than it is handed to
/// another thread and back, because its columns are stored as they are. To set up a compressor for
/// each column takes longer than all the rest of it, and saves next to nothing.
#[must_use]
pub fn is_small(records: &[Record]) -> bool {
    let payload_bytes = |record: &Record| {
        let Record::Submitted(submitted) = record else { return 0 };
        submitted.payload.len()
    };
    records.len() <= SMALL_ROWS_MAX
        && records.iter().map(payload_bytes).sum::<usize>() <= SMALL_PAYLOAD_BYTES_MAX
}

/// An object of these records, one row each, in order.
///
/// # Errors
/// When Parquet refuses them, which only a batch of more than 2 GiB of pod specs makes it do.
pub fn encode(header: &Header, records: &[Record]) -> Result<Bytes, Error> {
    let packing = if is_small(records) { Packing::Plain } else { Packing::Zstd };
    let options = ArrowWriterOptions::new()
        .with_properties(schema::properties(header.to_key_values(), packing)?)
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), SCHEMA.clone(), options)?;
    for batch in records.chunks(BATCH_ROWS) {
        let mut rows = Rows::default();
        for record in batch {
            rows.push(record)?;
        }
        writer.write(&rows.finish()?)?;
    }
    let mut object = writer.into_inner()?;
    checksum::sign(&mut object)?;
    Ok(object.into())
}

struct Rows<'a> {
    row: usize,
    kind: Names<'a>,
    at: TimestampMillisecondBuilder,
    job_id: FixedSizeBinaryBuilder,
    index: UInt32Builder,
    queue: Names<'a>,
    job_set: Names<'a>,
    client_id: StringBuilder,
    priority: UInt32Builder,
    count: UInt32Builder,
    at_most_once: BooleanBuilder,
    pool: Names<'a>,
    class: Names<'a>,
    request_cpu_millis: Int64Builder,
    request_memory_bytes: Int64Builder,
    shape: Shapes<'a>,
    namespace: Names<'a>,
    labels: BinaryBuilder,
    annotations: BinaryBuilder,
    pod_spec: BinaryBuilder,
    attempt: UInt32Builder,
    cluster: Names<'a>,
    node: Names<'a>,
    exit_code: Int32Builder,
    signal: Int32Builder,
    reason: Names<'a>,
    message: StringBuilder,
    state: Names<'a>,
    incarnation: UInt64Builder,
    command_id: FixedSizeBinaryBuilder,
    idempotency_key: FixedSizeBinaryBuilder,
    outcome: Names<'a>,
    spec_sequence: UInt64Builder,
    spec_row: UInt32Builder,
    end_sequence: UInt64Builder,
    end_row: UInt32Builder,
    detail: BinaryBuilder,
    network: BinaryBuilder,
    memory_peak_bytes: Int64Builder,
    cpu_time_ms: Int64Builder,
}

impl Default for Rows<'_> {
    fn default() -> Self {
        Self {
            row: 0,
            kind: Names::default(),
            at: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            job_id: FixedSizeBinaryBuilder::new(16),
            index: UInt32Builder::new(),
            queue: Names::default(),
            job_set: Names::default(),
            client_id: StringBuilder::new(),
            priority: UInt32Builder::new(),
            count: UInt32Builder::new(),
            at_most_once: BooleanBuilder::new(),
            pool: Names::default(),
            class: Names::default(),
            request_cpu_millis: Int64Builder::new(),
            request_memory_bytes: Int64Builder::new(),
            shape: Shapes::default(),
            namespace: Names::default(),
            labels: BinaryBuilder::new(),
            annotations: BinaryBuilder::new(),
            pod_spec: BinaryBuilder::new(),
            attempt: UInt32Builder::new(),
            cluster: Names::default(),
            node: Names::default(),
            exit_code: Int32Builder::new(),
            signal: Int32Builder::new(),
            reason: Names::default(),
            message: StringBuilder::new(),
            state: Names::default(),
            incarnation: UInt64Builder::new(),
            command_id: FixedSizeBinaryBuilder::new(16),
            idempotency_key: FixedSizeBinaryBuilder::new(16),
            outcome: Names::default(),
            spec_sequence: UInt64Builder::new(),
            spec_row: UInt32Builder::new(),
            end_sequence: UInt64Builder::new(),
            end_row: UInt32Builder::new(),
            detail: BinaryBuilder::new(),
            network: BinaryBuilder::new(),
            memory_peak_bytes: Int64Builder::new(),
            cpu_time_ms: Int64Builder::new(),
        }
    }
}

impl<'a> Rows<'a> {
    fn push(&mut self, record: &'a Record) -> Result<(), Error> {
        match record {
            Record::Submitted(submitted) => {
                self.at(submitted.job.submitted_at());
                self.submitted("submitted", submitted)?;
                if let Some(terms) = &submitted.terms {
                    self.detail(&to_bytes(&TermsDetail::of(terms)));
                }
            }
            Record::Changed(changed) => self.changed(changed)?,
            Record::Command(done) => self.command(done)?,
            Record::QueueClosed { queue, incarnation, at } => {
                self.kind.push(self.row, "queue_closed");
                self.queue.push(self.row, queue);
                self.incarnation.reach(self.row).append_value(*incarnation);
                self.at(*at);
            }
            Record::Rested { at } => {
                self.kind.push(self.row, "rested");
                self.at(*at);
            }
            Record::Forgotten { at } => {
                self.kind.push(self.row, "forgotten");
                self.at(*at);
            }
            Record::HistoryPlanned(span) => self.span("history_planned", span),
            Record::HistoryWritten(span) => self.span("history_written", span),
            Record::Job(live) => self.live(live)?,
            Record::JobSet(totals) => self.job_set(totals),
            Record::Ends(ends) => {
                self.kind.push(self.row, "ends");
                self.detail(&to_bytes(&EndsDetail::of(ends)));
            }
            Record::LastJob(job) => {
                self.kind.push(self.row, "last_job");
                self.job_id(*job)?;
            }
            Record::Finished(finished) => self.finished(finished)?,
        }
        self.row += 1;
        Ok(())
    }

    fn submitted(&mut self, kind: &'static str, job: &'a Submitted) -> Result<(), Error> {
        let row = self.row;
        self.kind.push(row, kind);
        self.job_id(job.job)?;
        self.queue.push(row, &job.queue);
        self.job_set.push(row, &job.job_set);
        self.client_id(job.client_id.as_deref());
        self.priority.reach(row).append_value(job.priority);
        if let Some(count) = job.count {
            self.count.reach(row).append_value(count);
        }
        self.at_most_once.reach(row).append_value(job.at_most_once);
        self.shape(&job.shape);
        self.payload(&job.payload);
        Ok(())
    }

    fn payload(&mut self, payload: &'a Payload) {
        let row = self.row;
        if !payload.namespace.is_empty() {
            self.namespace.push(row, &payload.namespace);
        }
        let columns =
            [&mut self.labels, &mut self.annotations, &mut self.pod_spec, &mut self.network];
        let values = [&payload.labels, &payload.annotations, &payload.pod_spec, &payload.network];
        for (column, value) in columns.into_iter().zip(values) {
            if !value.is_empty() {
                column.reach(row).append_value(value);
            }
        }
    }

    fn changed(&mut self, changed: &'a Changed) -> Result<(), Error> {
        let row = self.row;
        self.job_ref(&changed.job)?;
        self.queue.push(row, &changed.queue);
        self.job_set.push(row, &changed.job_set);
        self.at(changed.at);
        self.count.reach(row).append_value(changed.count);
        let kind = match &changed.change {
            Change::Leased { attempt, cluster, node } => {
                self.attempt.reach(row).append_value(*attempt);
                self.cluster.push(row, cluster);
                self.node.push(row, node);
                "leased"
            }
            Change::Pending { attempt } => {
                self.attempt.reach(row).append_value(*attempt);
                "pending"
            }
            Change::Running { attempt, addresses } => {
                self.attempt.reach(row).append_value(*attempt);
                if !addresses.is_empty() {
                    self.detail(&to_bytes(&detail::addresses(addresses)));
                }
                "running"
            }
            Change::Succeeded { attempt, exit } => {
                self.exit(*attempt, exit);
                "succeeded"
            }
            Change::Failed { attempt, exit } => {
                self.exit(*attempt, exit);
                "failed"
            }
            Change::Requeued { attempt, exit, next } => {
                self.exit(*attempt, exit);
                if let Some(next) = NextDetail::of(next) {
                    self.detail(&to_bytes(&next));
                }
                "requeued"
            }
            Change::Preempted { attempt, reason, usage } => {
                self.attempt.reach(row).append_value(*attempt);
                self.reason.push(row, reason);
                self.usage(usage.as_ref());
                "preempted"
            }
            Change::Cancelled { reason, usage } => {
                self.reason.push_option(row, reason.as_deref());
                self.usage(usage.as_ref());
                "cancelled"
            }
            Change::Reprioritized { priority } => {
                self.priority.reach(row).append_value(*priority);
                "reprioritized"
            }
        };
        self.kind.push(row, kind);
        Ok(())
    }

    fn command(&mut self, done: &'a Done) -> Result<(), Error> {
        let (outcome, detail) = OutcomeDetail::of(&done.outcome);
        self.kind.push(self.row, "command");
        self.command_id.reach(self.row).append_value(done.id.0.to_be_bytes())?;
        if let Some(key) = done.key {
            self.idempotency_key.reach(self.row).append_value(key.to_be_bytes())?;
        }
        self.at(done.at);
        self.outcome.push(self.row, outcome);
        self.detail(&to_bytes(&detail));
        Ok(())
    }

    fn span(&mut self, kind: &'static str, span: &HistorySpan) {
        self.kind.push(self.row, kind);
        self.detail(&to_bytes(&SpanDetail::of(span)));
    }

    fn live(&mut self, live: &'a LiveJob) -> Result<(), Error> {
        self.submitted("job", &live.submitted)?;
        self.spec(live.spec);
        if let Some((state, run)) = &live.task.active {
            self.state.push(self.row, state.name());
            self.cluster.push(self.row, &run.cluster);
            self.node.push(self.row, &run.node);
        }
        // A job that was never leased is the common case, and then its columns say all.
        let terms = live.submitted.terms.as_ref();
        if live.task != Task::default() || live.array.is_some() || terms.is_some() {
            let array = live.array.as_ref().map(ArrayDetail::of);
            let terms = terms.map(|terms| TermsDetail::of(terms));
            let detail = LiveDetail { task: TaskDetail::of(&live.task), array, terms };
            self.detail(&to_bytes(&detail));
        }
        Ok(())
    }

    fn job_set(&mut self, totals: &'a JobSetTotals) {
        self.kind.push(self.row, "job_set");
        self.queue.push(self.row, &totals.queue);
        self.job_set.push(self.row, &totals.job_set);
        self.at(totals.changed_at);
        self.detail(&to_bytes(&JobSetDetail::of(totals.first, &totals.counts)));
    }

    fn finished(&mut self, finished: &'a Finished) -> Result<(), Error> {
        let row = self.row;
        self.kind.push(row, "finished");
        self.job_ref(&finished.job)?;
        self.count.reach(row).append_value(finished.count);
        self.queue.push(row, &finished.queue);
        self.job_set.push(row, &finished.job_set);
        self.client_id(finished.client_id.as_deref());
        self.priority.reach(row).append_value(finished.priority);
        self.shape(&finished.shape);
        self.state.push(row, finished.state.name());
        self.at(finished.finished_at);
        self.reason.push_option(row, finished.reason.as_deref());
        self.spec(finished.spec);
        self.end_sequence.reach(row).append_value(finished.at.sequence);
        self.end_row.reach(row).append_value(finished.at.row);
        if !finished.runs.is_empty() {
            let runs: Vec<_> = finished.runs.iter().map(RunDetail::of).collect();
            self.detail(&to_bytes(&runs));
        }
        Ok(())
    }

    fn at(&mut self, at: Timestamp) {
        self.at.reach(self.row).append_value(at.0);
    }

    fn job_id(&mut self, job: JobId) -> Result<(), Error> {
        Ok(self.job_id.reach(self.row).append_value(job.to_bytes())?)
    }

    fn job_ref(&mut self, job: &JobRef) -> Result<(), Error> {
        if let Some(index) = job.index {
            self.index.reach(self.row).append_value(index);
        }
        self.job_id(job.job)
    }

    fn client_id(&mut self, client_id: Option<&str>) {
        if let Some(client_id) = client_id {
            self.client_id.reach(self.row).append_value(client_id);
        }
    }

    fn shape(&mut self, shape: &'a Shape) {
        let row = self.row;
        let found = self.shape.push(row, shape);
        self.pool.push(row, &shape.pool);
        self.class.push(row, &shape.class);
        self.request_cpu_millis.reach(row).append_value(found.cpu_millis);
        self.request_memory_bytes.reach(row).append_value(found.memory_bytes);
    }

    fn exit(&mut self, attempt: u32, exit: &'a Exit) {
        let row = self.row;
        self.attempt.reach(row).append_value(attempt);
        if let Some(code) = exit.code {
            self.exit_code.reach(row).append_value(code);
        }
        if let Some(signal) = exit.signal {
            self.signal.reach(row).append_value(signal);
        }
        self.reason.push_option(row, exit.reason.as_deref());
        if let Some(message) = &exit.message {
            self.message.reach(row).append_value(message);
        }
        self.usage(exit.usage.as_ref());
    }

    fn usage(&mut self, usage: Option<&Usage>) {
        if let Some(usage) = usage {
            self.memory_peak_bytes.reach(self.row).append_value(signed(usage.memory_peak_bytes));
            self.cpu_time_ms.reach(self.row).append_value(signed(usage.cpu_time_ms));
        }
    }

    fn spec(&mut self, spec: Position) {
        self.spec_sequence.reach(self.row).append_value(spec.sequence);
        self.spec_row.reach(self.row).append_value(spec.row);
    }

    fn detail(&mut self, detail: &[u8]) {
        self.detail.reach(self.row).append_value(detail);
    }

    fn finish(mut self) -> Result<RecordBatch, Error> {
        let rows = self.row;
        let columns: Vec<ArrayRef> = vec![
            self.kind.finish(rows)?,
            Arc::new(self.at.reach(rows).finish()),
            Arc::new(self.job_id.reach(rows).finish()),
            Arc::new(self.index.reach(rows).finish()),
            self.queue.finish(rows)?,
            self.job_set.finish(rows)?,
            Arc::new(self.client_id.reach(rows).finish()),
            Arc::new(self.priority.reach(rows).finish()),
            Arc::new(self.count.reach(rows).finish()),
            Arc::new(self.at_most_once.reach(rows).finish()),
            self.pool.finish(rows)?,
            self.class.finish(rows)?,
            Arc::new(self.request_cpu_millis.reach(rows).finish()),
            Arc::new(self.request_memory_bytes.reach(rows).finish()),
            self.shape.finish(rows)?,
            self.namespace.finish(rows)?,
            Arc::new(self.labels.reach(rows).finish()),
            Arc::new(self.annotations.reach(rows).finish()),
            Arc::new(self.pod_spec.reach(rows).finish()),
            Arc::new(self.attempt.reach(rows).finish()),
            self.cluster.finish(rows)?,
            self.node.finish(rows)?,
            Arc::new(self.exit_code.reach(rows).finish()),
            Arc::new(self.signal.reach(rows).finish()),
            self.reason.finish(rows)?,
            Arc::new(self.message.reach(rows).finish()),
            self.state.finish(rows)?,
            Arc::new(self.incarnation.reach(rows).finish()),
            Arc::new(self.command_id.reach(rows).finish()),
            Arc::new(self.idempotency_key.reach(rows).finish()),
            self.outcome.finish(rows)?,
            Arc::new(self.spec_sequence.reach(rows).finish()),
            Arc::new(self.spec_row.reach(rows).finish()),
            Arc::new(self.end_sequence.reach(rows).finish()),
            Arc::new(self.end_row.reach(rows).finish()),
            Arc::new(self.detail.reach(rows).finish()),
            Arc::new(self.network.reach(rows).finish()),
            Arc::new(self.memory_peak_bytes.reach(rows).finish()),
            Arc::new(self.cpu_time_ms.reach(rows).finish()),
        ];
        Ok(RecordBatch::try_new(SCHEMA.clone(), columns)?)
    }
}

/// What is measured is far below this bound.
fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
