//! Finished jobs into objects.
//!
//! How rows are ordered and cut into objects is part of the format: a span that was half written by
//! one program must come out the same from another.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use muster_core::history::Finished;
use muster_core::id::{JobRef, ShardId};
use muster_core::record::HistorySpan;
use object_store::ObjectStoreExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::columns::{Columns, SCHEMA};
use super::listing::File;
use super::name::{Day, Name};
use super::{Error, FORMAT_VERSION, History};
use crate::codec::checksum;
use crate::store::Created;

/// Rows of one object.
const ROWS_PER_OBJECT: u32 = 1_000_000;
/// Rows of one row group: what is read to find one job.
const ROWS_PER_GROUP: usize = 65_536;
/// Rows held as Arrow arrays at a time; divides the rows of a group.
const ROWS_PER_BATCH: usize = 8_192;
/// Rows of one page.
const ROWS_PER_PAGE: usize = 4_096;
/// Writes of one object that are refused although nothing is there.
const REFUSALS_MAX: usize = 5;

/// The footer's key for the first job of each row group, separated by commas.
pub(super) const ROW_GROUPS_KEY: &str = "muster.row_groups";
/// The footer's key for the version of the format.
pub(super) const FORMAT_KEY: &str = "muster.format";

/// One object to be written: `pieces` of the finished jobs.
#[derive(Debug)]
struct Part {
    name: Name,
    pieces: Vec<Piece>,
}

/// Of the finished jobs, element `row`, the tasks `tasks` counted from its first.
#[derive(Debug, Clone)]
struct Piece {
    row: usize,
    tasks: Range<u32>,
}

pub(super) async fn write(
    history: &History,
    shard: ShardId,
    span: HistorySpan,
    rows: Vec<Finished>,
) -> Result<(), Error> {
    let parts = plan(shard, span, &rows)?;
    let rows = Arc::new(rows);
    for part in parts {
        let name = part.name.clone();
        let rows = Arc::clone(&rows);
        let data = history.blocking.run(move || encode(&part, &rows)).await?;
        let size = create(history, &name, data.map_err(Error::Encode)?).await?;
        history.listings.written(File { name, size });
    }
    Ok(())
}

/// Creates the object; returns the size of the one that is there in the end.
async fn create(history: &History, name: &Name, data: Bytes) -> Result<u64, Error> {
    let key = name.key();
    for _ in 0..REFUSALS_MAX {
        if history.store.create(&key, data.clone()).await? == Created::Yes {
            return Ok(data.len() as u64);
        }
        match history.store.objects().head(&key).await {
            Ok(there) => return Ok(there.size),
            // Refused because of a write that was under way and came to nothing.
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Refused { key: key.to_string() })
}

/// Orders the jobs by day and id and cuts them into objects.
fn plan(shard: ShardId, span: HistorySpan, rows: &[Finished]) -> Result<Vec<Part>, Error> {
    for row in rows {
        let (job, count) = (row.job, row.count);
        let fits = match job.index {
            Some(index) => count >= 1 && index.checked_add(count).is_some(),
            None => count == 1,
        };
        if !fits {
            return Err(Error::Count { job, count });
        }
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| (Day::of(rows[*row].finished_at), rows[*row].job));
    let mut parts: Vec<Part> = Vec::new();
    let mut room = 0;
    for row in order {
        let finished = &rows[row];
        let day = Day::of(finished.finished_at);
        let mut from = 0;
        while from < finished.count {
            let previous = parts.last().filter(|part| part.name.day == day);
            if room == 0 || previous.is_none() {
                let part = previous.map_or(0, |part| part.name.part + 1);
                let first = task(finished, from);
                let name = Name { day, shard, span, part, first, last: first };
                parts.push(Part { name, pieces: Vec::new() });
                room = ROWS_PER_OBJECT;
            }
            let to = from + room.min(finished.count - from);
            let part = parts.last_mut().expect("one was pushed where there was none");
            part.pieces.push(Piece { row, tasks: from..to });
            part.name.last = task(finished, to - 1);
            room -= to - from;
            from = to;
        }
    }
    Ok(parts)
}

fn encode(part: &Part, rows: &[Finished]) -> Result<Bytes, ParquetError> {
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&SCHEMA), Some(properties()))?;
    let mut columns = Columns::default();
    let (mut held, mut written) = (0, 0);
    let mut group_firsts: Vec<String> = Vec::new();
    for Piece { row, tasks } in &part.pieces {
        let finished = &rows[*row];
        let mut from = tasks.start;
        while from < tasks.end {
            if held == 0 && written % ROWS_PER_GROUP == 0 {
                group_firsts.push(task(finished, from).to_string());
            }
            let room = u32::try_from(ROWS_PER_BATCH - held).expect("a batch is small");
            let to = from + room.min(tasks.end - from);
            columns.push(part.name.shard, finished, (from..to).map(|n| task(finished, n)));
            held += (to - from) as usize;
            from = to;
            if held == ROWS_PER_BATCH {
                writer.write(&columns.finish())?;
                written += held;
                held = 0;
            }
        }
    }
    if held > 0 {
        writer.write(&columns.finish())?;
    }
    for (key, value) in footer(&part.name, &group_firsts) {
        writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }
    writer.append_key_value_metadata(checksum::placeholder());
    let mut object = writer.into_inner()?;
    checksum::sign(&mut object).map_err(|error| ParquetError::General(error.to_string()))?;
    Ok(object.into())
}

fn task(finished: &Finished, n: u32) -> JobRef {
    JobRef { index: finished.job.index.map(|index| index + n), ..finished.job }
}

fn footer(name: &Name, group_firsts: &[String]) -> [(&'static str, String); 5] {
    let HistorySpan { after, through } = name.span;
    [
        (FORMAT_KEY, FORMAT_VERSION.to_string()),
        ("muster.shard", name.shard.to_string()),
        ("muster.after", format!("{}-{}", after.sequence, after.row)),
        ("muster.through", format!("{}-{}", through.sequence, through.row)),
        (ROW_GROUPS_KEY, group_firsts.join(",")),
    ]
}

fn properties() -> WriterProperties {
    let job_id = ColumnPath::from("job_id");
    WriterProperties::builder()
        .set_created_by("muster".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_data_page_row_count_limit(ROWS_PER_PAGE)
        .set_write_batch_size(ROWS_PER_PAGE)
        // Ids rise and differ in their last characters.
        .set_column_dictionary_enabled(job_id.clone(), false)
        .set_column_encoding(job_id, Encoding::DELTA_BYTE_ARRAY)
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_core::id::{JobId, Position};
    use muster_core::job::JobState;
    use muster_core::resources::Resources;
    use muster_core::shape::Shape;
    use muster_core::time::Timestamp;

    use super::*;

    #[test]
    fn ten_million_tasks_are_cut_into_objects_of_a_million() {
        let place = Position { sequence: 1, row: 0 };
        let array = JobId::new(Timestamp(86_400_000), ShardId(1), 5);
        let finished = |job, count| Finished {
            job,
            count,
            queue: "q".into(),
            job_set: "s".into(),
            client_id: None,
            priority: 0,
            shape: Arc::new(Shape::of_request(Resources::new())),
            state: JobState::Cancelled,
            finished_at: Timestamp(86_400_000),
            reason: None,
            runs: Vec::new(),
            spec: place,
            at: place,
        };
        let single = finished(JobRef::whole(array.plus(1)), 1);
        let tasks = finished(JobRef::task(array, 3), 10_000_000);
        let span = HistorySpan { after: place, through: place };
        let parts = plan(ShardId(1), span, &[single, tasks]).unwrap();
        assert_eq!(parts.len(), 11);
        assert_eq!(parts[0].name.first, JobRef::task(array, 3));
        assert_eq!(parts[9].name.last, JobRef::task(array, 10_000_002));
        assert_eq!((parts[10].name.part, parts[10].name.first), (10, JobRef::whole(array.plus(1))));
        let sizes = parts.iter().map(|p| p.pieces.iter().map(|p| p.tasks.len()).sum::<usize>());
        assert!(sizes.take(10).all(|size| size == ROWS_PER_OBJECT as usize));
    }
}
