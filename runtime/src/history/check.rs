//! What a check of everything needs of a history object: that it is whole, and which jobs it has.

use arrow_array::RecordBatch;
use bytes::Bytes;
use muster_core::id::{JobRef, ShardId};
use muster_core::record::HistorySpan;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::FORMAT_VERSION;
use super::columns::Rows;
use super::name::Name;
use super::write::FORMAT_KEY;
use crate::codec::checksum;

/// A history object, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) shard: ShardId,
    pub(crate) span: HistorySpan,
    /// The day on which its jobs finished, in days since 1970.
    pub(crate) day: i64,
}

/// What a key says; `None` when it is of no history object.
pub(crate) fn place(key: &Path) -> Option<Place> {
    let Name { day, shard, span, .. } = Name::parse(key)?;
    Some(Place { shard, span, day: day.0 })
}

/// The jobs of a whole object in the order of its rows, and whether it has a checksum. CPU work.
pub(crate) fn jobs(bytes: Bytes) -> Result<(Vec<JobRef>, bool), String> {
    let is_signed = checksum::verify_if_signed(&bytes).map_err(|error| error.to_string())?;
    let text = |error: parquet::errors::ParquetError| error.to_string();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(text)?;
    let pairs = reader.metadata().file_metadata().key_value_metadata();
    let format = pairs.into_iter().flatten().find(|pair| pair.key == FORMAT_KEY);
    let format = format.and_then(|pair| pair.value.clone());
    if format != Some(FORMAT_VERSION.to_string()) {
        return Err(format!("format version {format:?} is not {FORMAT_VERSION}"));
    }
    let mask = ProjectionMask::columns(reader.parquet_schema(), ["job_id"]);
    let mut jobs = Vec::new();
    for batch in reader.with_projection(mask).build().map_err(text)? {
        let batch: RecordBatch = batch.map_err(|error| error.to_string())?;
        let rows = Rows(&batch);
        for row in 0..batch.num_rows() {
            jobs.push(rows.job(row)?);
        }
    }
    Ok((jobs, is_signed))
}
