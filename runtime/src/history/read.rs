//! Objects into finished jobs, reading as little as will do: the key tells which objects, the
//! footer which row groups, the columns of the filter which pages.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use bytes::Bytes;
use muster_core::history::Finished;
use muster_core::id::{JobId, JobRef, ShardId};
use muster_core::job::Counts;
use muster_core::time::Timestamp;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, RowFilter};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder};

use super::columns::Rows;
use super::listing::File;
use super::name::Day;
use super::write::{FORMAT_KEY, ROW_GROUPS_KEY};
use super::{ArrayEnd, Error, FORMAT_VERSION, Filter, History, Page};
use crate::codec::checksum;

/// Objects of at most so many bytes are read whole, in one request.
const WHOLE_BYTES_MAX: u64 = 1 << 20;
/// Bytes at an object's end that are read first: the footer is among them, or nearly.
const TAIL_BYTES: u64 = 128 << 10;
/// Objects that one listing reads, if it need not read more to get on at all.
const OBJECTS_PER_PAGE: usize = 64;
/// Rows decoded at a time.
const BATCH_ROWS: usize = 1024;

/// Which rows of an object are wanted.
#[derive(Debug, Clone)]
enum Wanted {
    One(JobRef),
    Tasks(JobId),
    Behind(Option<JobRef>, Filter),
}

pub(super) async fn find(history: &History, job: JobRef) -> Result<Option<Finished>, Error> {
    let shard = job.job.shard();
    for day in history.listings.days(&history.store, earliest(job)).await? {
        let files = history.listings.files(&history.store, shard, day).await?;
        let may_hold = |file: &&File| file.name.first <= job && job <= file.name.last;
        for file in files.iter().filter(may_hold) {
            let found = rows(history, file, &Wanted::One(job), 1).await?;
            if let Some(found) = found.into_iter().next() {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

pub(super) async fn list(
    history: &History,
    shard: ShardId,
    filter: &Filter,
    after: Option<JobRef>,
    limit: usize,
) -> Result<Page, Error> {
    let mut files = Vec::new();
    for day in history.listings.days(&history.store, after.map_or(Day(0), earliest)).await? {
        let listed = history.listings.files(&history.store, shard, day).await?;
        files.extend(listed.iter().filter(|file| Some(file.name.last) > after).cloned());
    }
    files.sort_by_key(|file| file.name.first);
    let wanted = Wanted::Behind(after, filter.clone());
    let mut found: BTreeMap<JobRef, Finished> = BTreeMap::new();
    for (read, file) in files.iter().enumerate() {
        let first = file.name.first;
        if found.len() == limit && found.last_key_value().is_none_or(|(last, _)| *last < first) {
            break;
        }
        // All that lies before this object has been read, if that is any way forward.
        let stop = before(first);
        if read >= OBJECTS_PER_PAGE && Some(stop) > after.max(Some(before(files[0].name.first))) {
            found.split_off(&first);
            let jobs: Vec<Finished> = found.into_values().collect();
            return Ok(Page { jobs, next: Some(stop) });
        }
        for row in rows(history, file, &wanted, limit).await? {
            found.insert(row.job, row);
        }
        while found.len() > limit {
            found.pop_last();
        }
    }
    let last = found.last_key_value().map(|(job, _)| *job);
    let next = last.filter(|_| found.len() == limit);
    Ok(Page { jobs: found.into_values().collect(), next })
}

pub(super) async fn array(history: &History, array: JobId) -> Result<Option<ArrayEnd>, Error> {
    let (first, last) = (JobRef::task(array, 0), JobRef::task(array, u32::MAX - 1));
    let mut end: Option<ArrayEnd> = None;
    for day in history.listings.days(&history.store, earliest(first)).await? {
        let files = history.listings.files(&history.store, array.shard(), day).await?;
        let may_hold = |file: &&File| file.name.first <= last && first <= file.name.last;
        for file in files.iter().filter(may_hold) {
            let wanted = Wanted::Tasks(array);
            let Some(example) = rows(history, file, &wanted, 1).await?.pop() else { continue };
            let scan = Scan { columns: Some(&["state", "finished_at"]), limit: usize::MAX };
            let tallies = scan.run(history, file, &wanted, tally).await?;
            let end = end.get_or_insert_with(|| ArrayEnd::none_yet(example));
            for (counts, finished_at) in tallies {
                end.add(&counts, finished_at);
            }
        }
    }
    Ok(end)
}

/// How many rows are in each state, and when the last of them finished.
fn tally(batch: &RecordBatch) -> Result<(Counts, Timestamp), String> {
    let rows = Rows(batch);
    let (mut counts, mut last) = (Counts::default(), Timestamp(i64::MIN));
    for row in 0..batch.num_rows() {
        counts[rows.state(row)?] += 1;
        last = last.max(rows.finished_at(row)?);
    }
    Ok((counts, last))
}

/// The first day on which a job that was submitted with `job` or later can have finished; one day
/// of grace for clusters whose clocks are slow.
fn earliest(job: JobRef) -> Day {
    Day(Day::of(job.job.submitted_at()).0 - 1)
}

/// The greatest reference below `job`.
fn before(job: JobRef) -> JobRef {
    match job.index {
        Some(0) => JobRef::whole(job.job),
        Some(index) => JobRef::task(job.job, index - 1),
        None => {
            let id = u128::from_be_bytes(job.job.to_bytes()).saturating_sub(1);
            JobRef::task(JobId::from_bytes(id.to_be_bytes()), u32::MAX - 1)
        }
    }
}

/// The first `limit` wanted rows of an object.
async fn rows(
    history: &History,
    file: &File,
    wanted: &Wanted,
    limit: usize,
) -> Result<Vec<Finished>, Error> {
    let scan = Scan { columns: None, limit };
    let batches = scan.run(history, file, wanted, all_finished).await?;
    Ok(batches.into_iter().flatten().collect())
}

/// One pass over the wanted rows of an object.
struct Scan {
    /// The columns that are read; all, if not said.
    columns: Option<&'static [&'static str]>,
    limit: usize,
}

impl Scan {
    /// What `work` makes of each batch of wanted rows.
    async fn run<T: fmt::Debug + Send + 'static>(
        &self,
        history: &History,
        file: &File,
        wanted: &Wanted,
        work: fn(&RecordBatch) -> Result<T, String>,
    ) -> Result<Vec<T>, Error> {
        let source = match Source::open(history.store.objects(), file).await {
            Ok(source) => source,
            // It was listed, and its day was let go since, perhaps by another process.
            Err(Error::Request(object_store::Error::NotFound { .. })) => {
                history.listings.forget(file.name.shard);
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        source.verify_if_whole()?;
        let mut decoder = open_decoder(&source, wanted, self).await?;
        let mut done = Vec::new();
        loop {
            let step = move || {
                let decoded = decoder.try_decode();
                let worked = decoded.map(|decoded| match decoded {
                    DecodeResult::Data(batch) => DecodeResult::Data(work(&batch)),
                    DecodeResult::NeedsData(ranges) => DecodeResult::NeedsData(ranges),
                    DecodeResult::Finished => DecodeResult::Finished,
                });
                (decoder, worked)
            };
            let (stepped, worked) = history.blocking.run(step).await?;
            decoder = stepped;
            match worked.map_err(|error| source.malformed(error.to_string()))? {
                DecodeResult::NeedsData(ranges) => {
                    let data = source.fetch(&ranges).await?;
                    let pushed = decoder.push_ranges(ranges, data);
                    pushed.map_err(|error| source.malformed(error.to_string()))?;
                }
                DecodeResult::Data(work) => {
                    done.push(work.map_err(|reason| source.malformed(reason))?);
                }
                DecodeResult::Finished => return Ok(done),
            }
        }
    }
}

async fn open_decoder(
    source: &Source,
    wanted: &Wanted,
    scan: &Scan,
) -> Result<ParquetPushDecoder, Error> {
    let malformed = |error: ParquetError| source.malformed(error.to_string());
    let metadata = Arc::new(metadata(source).await?);
    let pairs = metadata.file_metadata().key_value_metadata();
    let value = |key: &str| {
        let pair = pairs.into_iter().flatten().find(|pair| pair.key == key);
        pair.and_then(|pair| pair.value.as_deref())
    };
    match value(FORMAT_KEY) {
        Some(format) if format == FORMAT_VERSION.to_string() => {}
        format => {
            let reason = format!("format version {format:?} is not {FORMAT_VERSION}");
            return Err(source.malformed(reason));
        }
    }
    let firsts: Result<Vec<JobRef>, _> =
        value(ROW_GROUPS_KEY).unwrap_or_default().split(',').map(str::parse).collect();
    let firsts = firsts.map_err(|error| source.malformed(error.to_string()))?;
    if firsts.len() != metadata.num_row_groups() {
        return Err(source.malformed("the footer does not name each row group".to_owned()));
    }
    let filter = row_filter(&metadata, wanted.clone());
    let decoder = ParquetPushDecoderBuilder::try_new_decoder(metadata).map_err(malformed)?;
    let columns = match scan.columns {
        None => ProjectionMask::all(),
        Some(names) => ProjectionMask::columns(decoder.parquet_schema(), names.iter().copied()),
    };
    let decoder = decoder
        .with_row_groups(groups(&firsts, wanted).collect())
        .with_projection(columns)
        .with_row_filter(filter)
        .with_batch_size(BATCH_ROWS)
        .with_limit(scan.limit);
    decoder.build().map_err(malformed)
}

async fn metadata(source: &Source) -> Result<ParquetMetaData, Error> {
    let malformed = |error: ParquetError| source.malformed(error.to_string());
    let mut decoder = ParquetMetaDataPushDecoder::try_new(source.size)
        .map_err(malformed)?
        .with_column_index_policy(PageIndexPolicy::Skip)
        .with_offset_index_policy(PageIndexPolicy::Optional);
    loop {
        match decoder.try_decode().map_err(malformed)? {
            DecodeResult::NeedsData(ranges) => {
                let data = source.fetch(&ranges).await?;
                decoder.push_ranges(ranges, data).map_err(malformed)?;
            }
            DecodeResult::Data(metadata) => return Ok(metadata),
            DecodeResult::Finished => return Err(source.malformed("no footer".to_owned())),
        }
    }
}

/// The row groups that may hold wanted rows, given the first job of each.
fn groups(firsts: &[JobRef], wanted: &Wanted) -> Range<usize> {
    let holding = |job: JobRef| firsts.partition_point(|first| *first <= job).saturating_sub(1);
    match wanted {
        Wanted::One(job) => holding(*job)..holding(*job) + 1,
        Wanted::Tasks(array) => {
            holding(JobRef::whole(*array))..holding(JobRef::task(*array, u32::MAX - 1)) + 1
        }
        Wanted::Behind(after, _) => after.map_or(0, holding)..firsts.len(),
    }
}

fn row_filter(metadata: &ParquetMetaData, wanted: Wanted) -> RowFilter {
    let columns: &[&str] = match &wanted {
        Wanted::One(_) | Wanted::Tasks(_) => &["job_id"],
        Wanted::Behind(..) => &["job_id", "queue", "job_set", "state"],
    };
    let mask =
        ProjectionMask::columns(metadata.file_metadata().schema_descr(), columns.iter().copied());
    let predicate = move |batch: RecordBatch| {
        let rows = Rows(&batch);
        let kept: Result<Vec<bool>, String> = match &wanted {
            Wanted::One(job) => {
                let job = job.to_string();
                let is = |row| Ok(rows.text("job_id", row)? == Some(job.as_str()));
                (0..batch.num_rows()).map(is).collect()
            }
            Wanted::Tasks(array) => {
                let prefix = format!("{array}-");
                let is = |row| {
                    Ok(rows.text("job_id", row)?.is_some_and(|text| text.starts_with(&prefix)))
                };
                (0..batch.num_rows()).map(is).collect()
            }
            Wanted::Behind(after, filter) => {
                let after = after.map(|after| after.to_string());
                let is = |row| keeps(&rows, row, after.as_deref(), filter);
                (0..batch.num_rows()).map(is).collect()
            }
        };
        kept.map(BooleanArray::from).map_err(ArrowError::InvalidArgumentError)
    };
    RowFilter::new(vec![Box::new(ArrowPredicateFn::new(mask, predicate))])
}

fn keeps(
    rows: &Rows<'_>,
    row: usize,
    after: Option<&str>,
    filter: &Filter,
) -> Result<bool, String> {
    let is = |name: &str, wanted: &Option<muster_core::Name>| match wanted {
        None => Ok(true),
        Some(wanted) => rows.text(name, row).map(|text| text == Some(wanted)),
    };
    let behind = match after {
        None => true,
        Some(after) => order(rows.text("job_id", row)?.unwrap_or_default(), after).is_gt(),
    };
    Ok(behind
        && is("queue", &filter.queue)?
        && is("job_set", &filter.job_set)?
        && filter.states.contains(rows.state(row)?))
}

/// The order of references by their texts: ids have one length, indices are numbers without leading
/// zeros.
fn order(a: &str, b: &str) -> Ordering {
    let parts = |text| str::split_once(text, '-').unwrap_or((text, ""));
    let ((a, a_index), (b, b_index)) = (parts(a), parts(b));
    a.cmp(b).then(a_index.len().cmp(&b_index.len())).then(a_index.cmp(b_index))
}

fn all_finished(batch: &RecordBatch) -> Result<Vec<Finished>, String> {
    (0..batch.num_rows()).map(|row| Rows(batch).finished(row)).collect()
}

/// An object of which a part, perhaps all, has been read.
struct Source {
    objects: Arc<dyn ObjectStore>,
    key: Path,
    size: u64,
    /// The object's end, from this offset on.
    tail: (u64, Bytes),
}

impl Source {
    async fn open(objects: Arc<dyn ObjectStore>, file: &File) -> Result<Self, Error> {
        let (key, size) = (file.name.key(), file.size);
        let start = if size <= WHOLE_BYTES_MAX { 0 } else { size - TAIL_BYTES };
        let tail = objects.get_range(&key, start..size).await?;
        Ok(Self { objects, key, size, tail: (start, tail) })
    }

    /// Checks what was read whole; older versions wrote no checksum. Of a large object a part is
    /// read, and its checksum not looked at.
    fn verify_if_whole(&self) -> Result<(), Error> {
        if self.tail.0 > 0 {
            return Ok(());
        }
        let verified = checksum::verify_if_signed(&self.tail.1);
        verified.map(|_| ()).map_err(|error| self.malformed(error.to_string()))
    }

    async fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        let (start, tail) = &self.tail;
        if ranges.iter().all(|range| range.start >= *start) {
            let offset = |at: u64| usize::try_from(at - start).expect("the tail is in memory");
            let slice = |range: &Range<u64>| tail.slice(offset(range.start)..offset(range.end));
            return Ok(ranges.iter().map(slice).collect());
        }
        Ok(self.objects.get_ranges(&self.key, ranges).await?)
    }

    fn malformed(&self, reason: String) -> Error {
        Error::Malformed { key: self.key.to_string(), reason }
    }
}
