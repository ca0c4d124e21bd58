//! Parquet to records, a batch at a time.

use std::sync::Arc;

use arrow_array::types::{TimestampMillisecondType, UInt32Type, UInt64Type};
use arrow_array::{
    BinaryArray, BooleanArray, FixedSizeBinaryArray, Int32Array, Int64Array, PrimitiveArray,
    RecordBatch, StringArray,
};
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use muster_core::Name;
use muster_core::history::Finished;
use muster_core::id::{CommandId, JobId, JobRef, Position};
use muster_core::job::{Exit, JobState, Usage};
use muster_core::record::{
    Change, Changed, Done, HistorySpan, JobSetTotals, LiveJob, Next, Payload, Record, Submitted,
    Task,
};
use muster_core::shape::Shape;
use muster_core::terms::Terms;
use muster_core::time::Timestamp;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::columns::{Column, Dictionary, Interner};
use super::detail::{
    self, JobSetDetail, LiveDetail, OutcomeDetail, RunDetail, SpanDetail, from_bytes,
};
use super::payload::PayloadBatch;
use super::schema::{BATCH_ROWS, PAYLOAD, SCHEMA};
use super::terms::{EndsDetail, NextDetail, TermsDetail};
use super::{Columns, Error, Header, checksum};

/// Reads an object: its header at once, its records in batches of some thousand rows.
pub struct Reader {
    header: Header,
    rows: u64,
    row: u64,
    columns: Columns,
    batches: ParquetRecordBatchReader,
    interner: Interner,
}

impl Reader {
    /// Verifies the checksum of an object and reads its header.
    ///
    /// # Errors
    /// When the bytes are damaged, foreign or of a newer format.
    pub fn open(bytes: Bytes, columns: Columns) -> Result<Self, Error> {
        let wanted = |name: &str| columns == Columns::All || !PAYLOAD.contains(&name);
        let (header, rows, batches) = open(bytes, wanted)?;
        Ok(Self { header, rows, row: 0, columns, batches, interner: Interner::default() })
    }

    /// What the object's footer says.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many records it has.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn records(&mut self, batch: &RecordBatch) -> Result<Vec<Record>, Error> {
        let rows = Rows::new(batch, self.row, self.columns, &mut self.interner)?;
        let records = (0..batch.num_rows())
            .map(|row| rows.record(row, &mut self.interner))
            .collect::<Result<_, _>>()?;
        self.row += batch.num_rows() as u64;
        Ok(records)
    }

    /// The end, or that it is too early.
    fn end(&mut self) -> Option<Result<Vec<Record>, Error>> {
        let (row, rows) = (self.row, std::mem::replace(&mut self.rows, self.row));
        (row != rows).then(|| {
            let reason = format!("it has {row} rows, its footer says {rows}");
            Err(Error::Foreign { reason })
        })
    }
}

impl Iterator for Reader {
    type Item = Result<Vec<Record>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(batch) = self.batches.next() else { return self.end() };
        Some(batch.map_err(Error::from).and_then(|batch| self.records(&batch)))
    }
}

/// An object's header, number of rows and those of the wanted columns that hold anything.
pub(super) fn open(
    bytes: Bytes,
    wanted: impl Fn(&str) -> bool,
) -> Result<(Header, u64, ParquetRecordBatchReader), Error> {
    checksum::verify(&bytes)?;
    let plain = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(&bytes, plain.clone())?;
    let file = metadata.metadata().file_metadata();
    let footer = file.key_value_metadata().map_or(&[][..], Vec::as_slice);
    let header = Header::from_key_values(footer)?;
    let rows = rows_of(metadata.metadata())?;
    let typed = plain.with_schema(typed(metadata.schema()));
    let metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), typed)?;
    let leaves: Vec<usize> = metadata
        .schema()
        .fields()
        .iter()
        .enumerate()
        .filter(|(column, field)| {
            wanted(field.name()) && !is_empty(metadata.metadata(), *column, field.is_nullable())
        })
        .map(|(column, _)| column)
        .collect();
    let mask = ProjectionMask::leaves(metadata.parquet_schema(), leaves);
    let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
        .with_batch_size(BATCH_ROWS)
        .with_projection(mask)
        .build()?;
    Ok((header, rows, batches))
}

/// How many rows an object has, by its footer and all of its row groups.
fn rows_of(metadata: &ParquetMetaData) -> Result<u64, Error> {
    let stated = metadata.file_metadata().num_rows();
    let groups = metadata.row_groups().iter().map(RowGroupMetaData::num_rows);
    let sum = groups.fold(0i64, i64::saturating_add);
    match u64::try_from(stated) {
        Ok(rows) if sum == stated => Ok(rows),
        _ => {
            let reason = format!("its footer says {stated} rows, its row groups {sum}");
            Err(Error::Foreign { reason })
        }
    }
}

/// The file's columns with the types that they have here: a dictionary stays one.
fn typed(file: &Schema) -> SchemaRef {
    let ours = |name: &str| SCHEMA.field_with_name(name).ok().cloned().map(Arc::new);
    let fields =
        file.fields().iter().map(|field| ours(field.name()).unwrap_or_else(|| field.clone()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Whether the file says that a column holds nothing but nulls.
fn is_empty(metadata: &ParquetMetaData, column: usize, nullable: bool) -> bool {
    nullable
        && metadata.row_groups().iter().all(|group| {
            let chunk = group.column(column);
            let nulls = chunk.statistics().and_then(|statistics| statistics.null_count_opt());
            nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(chunk.num_values()))
        })
}

#[derive(Clone, Copy)]
enum RowKind {
    Submitted,
    Leased,
    Pending,
    Running,
    Succeeded,
    Failed,
    Requeued,
    Preempted,
    Cancelled,
    Reprioritized,
    Command,
    QueueClosed,
    Forgotten,
    Rested,
    HistoryPlanned,
    HistoryWritten,
    Job,
    JobSet,
    Ends,
    LastJob,
    Finished,
}

impl RowKind {
    fn from_name(name: &str) -> Result<Self, String> {
        Ok(match name {
            "submitted" => Self::Submitted,
            "leased" => Self::Leased,
            "pending" => Self::Pending,
            "running" => Self::Running,
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            "requeued" => Self::Requeued,
            "preempted" => Self::Preempted,
            "cancelled" => Self::Cancelled,
            "reprioritized" => Self::Reprioritized,
            "command" => Self::Command,
            "queue_closed" => Self::QueueClosed,
            "rested" => Self::Rested,
            "forgotten" => Self::Forgotten,
            "history_planned" => Self::HistoryPlanned,
            "history_written" => Self::HistoryWritten,
            "job" => Self::Job,
            "job_set" => Self::JobSet,
            "ends" => Self::Ends,
            "last_job" => Self::LastJob,
            "finished" => Self::Finished,
            _ => return Err(format!("unknown kind `{name}`")),
        })
    }
}

/// The columns of one batch.
struct Rows {
    kind: Dictionary<RowKind>,
    at: Column<PrimitiveArray<TimestampMillisecondType>>,
    job_id: Column<FixedSizeBinaryArray>,
    index: Column<PrimitiveArray<UInt32Type>>,
    queue: Dictionary<Name>,
    job_set: Dictionary<Name>,
    client_id: Column<StringArray>,
    priority: Column<PrimitiveArray<UInt32Type>>,
    count: Column<PrimitiveArray<UInt32Type>>,
    at_most_once: Column<BooleanArray>,
    shape: Dictionary<Arc<Shape>>,
    payload: Option<PayloadBatch>,
    attempt: Column<PrimitiveArray<UInt32Type>>,
    cluster: Dictionary<Name>,
    node: Dictionary<Name>,
    exit_code: Column<Int32Array>,
    signal: Column<Int32Array>,
    reason: Dictionary<Name>,
    message: Column<StringArray>,
    memory_peak_bytes: Column<Int64Array>,
    cpu_time_ms: Column<Int64Array>,
    state: Dictionary<JobState>,
    incarnation: Column<PrimitiveArray<UInt64Type>>,
    command_id: Column<FixedSizeBinaryArray>,
    idempotency_key: Column<FixedSizeBinaryArray>,
    spec_sequence: Column<PrimitiveArray<UInt64Type>>,
    spec_row: Column<PrimitiveArray<UInt32Type>>,
    end_sequence: Column<PrimitiveArray<UInt64Type>>,
    end_row: Column<PrimitiveArray<UInt32Type>>,
    detail: Column<BinaryArray>,
}

impl Rows {
    fn new(
        batch: &RecordBatch,
        first_row: u64,
        columns: Columns,
        interner: &mut Interner,
    ) -> Result<Self, Error> {
        let mut names =
            |name| Dictionary::new(batch, first_row, name, |text| Ok(interner.name(text)));
        let (queue, job_set) = (names("queue")?, names("job_set")?);
        let (cluster, node, reason) = (names("cluster")?, names("node")?, names("reason")?);
        let state =
            |text: &str| JobState::from_name(text).ok_or_else(|| format!("no state: `{text}`"));
        let payload = match columns {
            Columns::All => Some(PayloadBatch::new(batch, first_row, interner)?),
            Columns::WithoutPayload => None,
        };
        Ok(Self {
            kind: Dictionary::new(batch, first_row, "kind", RowKind::from_name)?,
            at: Column::new(batch, first_row, "at")?,
            job_id: Column::new(batch, first_row, "job_id")?,
            index: Column::new(batch, first_row, "index")?,
            queue,
            job_set,
            client_id: Column::new(batch, first_row, "client_id")?,
            priority: Column::new(batch, first_row, "priority")?,
            count: Column::new(batch, first_row, "count")?,
            at_most_once: Column::new(batch, first_row, "at_most_once")?,
            shape: Dictionary::new(batch, first_row, "shape", |text| interner.shape(text))?,
            payload,
            attempt: Column::new(batch, first_row, "attempt")?,
            cluster,
            node,
            exit_code: Column::new(batch, first_row, "exit_code")?,
            signal: Column::new(batch, first_row, "signal")?,
            reason,
            message: Column::new(batch, first_row, "message")?,
            memory_peak_bytes: Column::new(batch, first_row, "memory_peak_bytes")?,
            cpu_time_ms: Column::new(batch, first_row, "cpu_time_ms")?,
            state: Dictionary::new(batch, first_row, "state", state)?,
            incarnation: Column::new(batch, first_row, "incarnation")?,
            command_id: Column::new(batch, first_row, "command_id")?,
            idempotency_key: Column::new(batch, first_row, "idempotency_key")?,
            spec_sequence: Column::new(batch, first_row, "spec_sequence")?,
            spec_row: Column::new(batch, first_row, "spec_row")?,
            end_sequence: Column::new(batch, first_row, "end_sequence")?,
            end_row: Column::new(batch, first_row, "end_row")?,
            detail: Column::new(batch, first_row, "detail")?,
        })
    }

    fn record(&self, row: usize, interner: &mut Interner) -> Result<Record, Error> {
        let attempt = || self.attempt.value(row);
        let change = match self.kind.value(row)? {
            RowKind::Submitted => {
                let terms = match self.detail.present(row) {
                    Some(_) => self.terms(row, Some(self.detail(row)?))?,
                    None => None,
                };
                let submitted = Submitted { terms, ..self.submitted(row)? };
                return Ok(Record::Submitted(Box::new(submitted)));
            }
            RowKind::Command => return self.command(row, interner),
            RowKind::QueueClosed => {
                let (queue, at) = (self.queue.value(row)?, self.at(row)?);
                let incarnation = self.incarnation.value(row)?;
                return Ok(Record::QueueClosed { queue, incarnation, at });
            }
            RowKind::Rested => return Ok(Record::Rested { at: self.at(row)? }),
            RowKind::Forgotten => return Ok(Record::Forgotten { at: self.at(row)? }),
            RowKind::HistoryPlanned => return Ok(Record::HistoryPlanned(self.span(row)?)),
            RowKind::HistoryWritten => return Ok(Record::HistoryWritten(self.span(row)?)),
            RowKind::Job => return self.live(row, interner),
            RowKind::JobSet => return self.job_set(row),
            RowKind::Ends => {
                let ends = self.detail::<EndsDetail>(row)?.into_ends();
                return ends.map(Record::Ends).map_err(|reason| self.detail.wrong(row, reason));
            }
            RowKind::LastJob => return Ok(Record::LastJob(self.job_id(row)?)),
            RowKind::Finished => return self.finished(row, interner),
            RowKind::Leased => {
                let (cluster, node) = (self.cluster.value(row)?, self.node.value(row)?);
                Change::Leased { attempt: attempt()?, cluster, node }
            }
            RowKind::Pending => Change::Pending { attempt: attempt()? },
            RowKind::Running => {
                let addresses = match self.detail.present(row) {
                    Some(_) => detail::into_addresses(self.detail(row)?),
                    None => Vec::new(),
                };
                Change::Running { attempt: attempt()?, addresses }
            }
            RowKind::Succeeded => Change::Succeeded { attempt: attempt()?, exit: self.exit(row) },
            RowKind::Failed => Change::Failed { attempt: attempt()?, exit: self.exit(row) },
            RowKind::Requeued => {
                let next = match self.detail.present(row) {
                    Some(_) => self.detail::<NextDetail>(row)?.into_next(interner),
                    None => Ok(Next::default()),
                };
                let next = next.map_err(|reason| self.detail.wrong(row, reason))?;
                Change::Requeued { attempt: attempt()?, exit: self.exit(row), next }
            }
            RowKind::Preempted => Change::Preempted {
                attempt: attempt()?,
                reason: self.reason.value(row)?,
                usage: self.usage(row),
            },
            RowKind::Cancelled => {
                Change::Cancelled { reason: self.reason.get(row), usage: self.usage(row) }
            }
            RowKind::Reprioritized => Change::Reprioritized { priority: self.priority.value(row)? },
        };
        Ok(Record::Changed(Changed {
            job: self.job_ref(row)?,
            queue: self.queue.value(row)?,
            job_set: self.job_set.value(row)?,
            at: self.at(row)?,
            count: self.count.value(row)?,
            change,
        }))
    }

    fn submitted(&self, row: usize) -> Result<Submitted, Error> {
        Ok(Submitted {
            job: self.job_id(row)?,
            queue: self.queue.value(row)?,
            job_set: self.job_set.value(row)?,
            client_id: self.client_id(row),
            priority: self.priority.value(row)?,
            count: self.count.get(row),
            at_most_once: self.at_most_once.need(row)?.value(row),
            terms: None,
            shape: self.shape.value(row)?,
            payload: self.payload.as_ref().map_or_else(Payload::default, |batch| batch.get(row)),
        })
    }

    fn command(&self, row: usize, interner: &mut Interner) -> Result<Record, Error> {
        let outcome: OutcomeDetail = self.detail(row)?;
        let outcome =
            outcome.into_outcome(interner).map_err(|reason| self.detail.wrong(row, reason))?;
        let id = CommandId(u128::from_be_bytes(self.command_id.value(row)?));
        let key = match self.idempotency_key.present(row) {
            Some(_) => Some(u128::from_be_bytes(self.idempotency_key.value(row)?)),
            None => None,
        };
        Ok(Record::Command(Done { id, at: self.at(row)?, key, outcome }))
    }

    fn span(&self, row: usize) -> Result<HistorySpan, Error> {
        Ok(self.detail::<SpanDetail>(row)?.into_span())
    }

    fn live(&self, row: usize, interner: &mut Interner) -> Result<Record, Error> {
        let wrong = |reason| self.detail.wrong(row, reason);
        let (task, array, terms) = if self.detail.present(row).is_none() {
            (Task::default(), None, None)
        } else {
            let detail: LiveDetail = self.detail(row)?;
            let task = detail.task.into_task(interner).map_err(wrong)?;
            let array = detail.array.map(|array| array.into_array(interner));
            (task, array.transpose().map_err(wrong)?, self.terms(row, detail.terms)?)
        };
        let (submitted, spec) = (Submitted { terms, ..self.submitted(row)? }, self.spec(row)?);
        Ok(Record::Job(Box::new(LiveJob { submitted, spec, task, array })))
    }

    fn terms(&self, row: usize, detail: Option<TermsDetail>) -> Result<Option<Arc<Terms>>, Error> {
        let terms = detail.map(|terms| terms.into_terms().map(Arc::new)).transpose();
        terms.map_err(|reason| self.detail.wrong(row, reason))
    }

    fn job_set(&self, row: usize) -> Result<Record, Error> {
        let (first, counts) = self.detail::<JobSetDetail>(row)?.into_parts();
        Ok(Record::JobSet(JobSetTotals {
            queue: self.queue.value(row)?,
            job_set: self.job_set.value(row)?,
            first,
            changed_at: self.at(row)?,
            counts,
        }))
    }

    fn finished(&self, row: usize, interner: &mut Interner) -> Result<Record, Error> {
        let runs: Vec<RunDetail> =
            if self.detail.present(row).is_some() { self.detail(row)? } else { Vec::new() };
        Ok(Record::Finished(Box::new(Finished {
            job: self.job_ref(row)?,
            count: self.count.value(row)?,
            queue: self.queue.value(row)?,
            job_set: self.job_set.value(row)?,
            client_id: self.client_id(row),
            priority: self.priority.value(row)?,
            shape: self.shape.value(row)?,
            state: self.state.value(row)?,
            finished_at: self.at(row)?,
            reason: self.reason.get(row),
            runs: runs.into_iter().map(|run| run.into_run(interner)).collect(),
            spec: self.spec(row)?,
            at: Position { sequence: self.end_sequence.value(row)?, row: self.end_row.value(row)? },
        })))
    }

    fn at(&self, row: usize) -> Result<Timestamp, Error> {
        self.at.value(row).map(Timestamp)
    }

    fn job_id(&self, row: usize) -> Result<JobId, Error> {
        self.job_id.value(row).map(JobId::from_bytes)
    }

    fn job_ref(&self, row: usize) -> Result<JobRef, Error> {
        Ok(JobRef { job: self.job_id(row)?, index: self.index.get(row) })
    }

    fn client_id(&self, row: usize) -> Option<Name> {
        self.client_id.present(row).map(|array| array.value(row).into())
    }

    fn exit(&self, row: usize) -> Exit {
        Exit {
            code: self.exit_code.get(row),
            signal: self.signal.get(row),
            reason: self.reason.get(row),
            message: self.message.present(row).map(|array| array.value(row).into()),
            usage: self.usage(row),
        }
    }

    fn usage(&self, row: usize) -> Option<Usage> {
        let (memory, cpu) = (self.memory_peak_bytes.get(row)?, self.cpu_time_ms.get(row)?);
        let amount = |amount: i64| u64::try_from(amount).unwrap_or_default();
        Some(Usage { memory_peak_bytes: amount(memory), cpu_time_ms: amount(cpu) })
    }

    fn spec(&self, row: usize) -> Result<Position, Error> {
        let (sequence, row) = (self.spec_sequence.value(row)?, self.spec_row.value(row)?);
        Ok(Position { sequence, row })
    }

    fn detail<T: serde::de::DeserializeOwned>(&self, row: usize) -> Result<T, Error> {
        let bytes = self.detail.need(row)?.value(row);
        from_bytes(bytes).map_err(|reason| self.detail.wrong(row, reason))
    }
}
