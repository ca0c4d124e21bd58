//! Log objects and checkpoints as Parquet: [`Record`]s on one side, bytes on the other.
//!
//! One schema serves both, one row is one record, and any Parquet reader can query the files. What
//! only some records have and no column fits (outcomes, past runs, array tasks) is MessagePack in
//! `detail`. The footer says whose object it is and holds a checksum of the whole object, verified
//! before anything else is read. Everything here is CPU work of the caller's thread: call it from
//! [`crate::blocking`], unless [`is_small`] says that it is little.

mod builders;
pub(crate) mod checksum;
mod columns;
mod decode;
mod detail;
mod encode;
mod header;
mod payload;
pub(crate) mod policy;
mod schema;
mod terms;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use muster_core::record::{Payload, Record};

pub use decode::Reader;
pub use encode::{encode, is_small};
pub use header::{FORMAT, Header, Kind};
pub use payload::PayloadColumns;

/// So few bytes a record are made room for before it is read; ids alone take more, mostly.
const RECORD_BYTES_MIN: usize = 4;

/// Which columns to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Columns {
    /// Every one.
    All,
    /// All but namespace, labels, annotations and pod spec: payloads come back empty.
    WithoutPayload,
}

/// Why an object could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not Parquet, or not one of this system.
    #[error("not a log object: {reason}")]
    Foreign {
        /// What is wrong with it.
        reason: String,
    },
    /// Its bytes are not those that were written.
    #[error("checksum of {bytes} bytes is {found:032x}, the footer says {stated:032x}")]
    Checksum {
        /// The object's size.
        bytes: usize,
        /// The checksum of the bytes.
        found: u128,
        /// The checksum in the footer.
        stated: u128,
    },
    /// A newer version of the software wrote it.
    #[error("object has format {found}, this version reads up to {FORMAT}")]
    Format {
        /// Its format.
        found: u32,
    },
    /// It is not the object that belongs under its key.
    #[error("object says {field} {found}, its key says {wanted}")]
    Misplaced {
        /// What disagrees.
        field: &'static str,
        /// The object's word.
        found: String,
        /// The key's.
        wanted: String,
    },
    /// A row lacks a value, or has one that is none of its column's.
    #[error("row {row}, column `{column}`: {reason}")]
    Row {
        /// The row.
        row: u64,
        /// The column.
        column: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// There is no such row.
    #[error("no row {row} in an object of {rows} rows")]
    NoRow {
        /// The row asked for.
        row: u32,
        /// How many there are.
        rows: u64,
    },
    /// Parquet failed.
    #[error("parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Arrow failed.
    #[error("arrow: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
}

/// The header and records of an object.
///
/// # Errors
/// When the bytes are damaged, foreign or of a newer format.
pub fn decode(bytes: Bytes, columns: Columns) -> Result<(Header, Vec<Record>), Error> {
    let bytes_len = bytes.len();
    let reader = Reader::open(bytes, columns)?;
    let header = reader.header().clone();
    // The footer's word for it is not yet that they are there.
    let rows = usize::try_from(reader.rows()).unwrap_or(usize::MAX);
    let mut records = Vec::with_capacity(rows.min(bytes_len / RECORD_BYTES_MIN));
    for batch in reader {
        records.append(&mut batch?);
    }
    Ok((header, records))
}

/// The payloads in these rows of an object, in the order asked for.
///
/// # Errors
/// When the bytes are damaged, foreign or of a newer format, or there is no such row.
pub fn decode_payloads(bytes: Bytes, rows: &[u32]) -> Result<Vec<Payload>, Error> {
    let columns = PayloadColumns::decode(bytes)?;
    rows.iter().map(|&row| columns.get(row)).collect()
}
