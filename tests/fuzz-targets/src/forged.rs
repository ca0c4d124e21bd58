//! Objects with a right checksum and wrong cells.
//!
//! Four bytes are an edit: which column, which row, what to do, and how many bytes follow that are
//! the new value.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Int32Type, Int64Type, TimestampMillisecondType, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch,
    StringArray,
};
use arrow_schema::DataType;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use xxhash_rust::xxh3::xxh3_128;

use crate::seeds;

/// The edits that are carried out at most.
const EDITS_MAX: usize = 8;

/// An object of ours: its rows, and what its footer says.
struct Original {
    rows: RecordBatch,
    footer: Vec<KeyValue>,
}

static ORIGINALS: LazyLock<[Original; 2]> = LazyLock::new(|| {
    ["log_object", "checkpoint"].map(|target| {
        let seeds = seeds::objects();
        let (_, _, bytes) = seeds
            .into_iter()
            .find(|(of, name, _)| *of == target && *name == "life")
            .expect("there is one of each kind");
        read(bytes.into())
    })
});

/// What is done to a cell.
#[derive(Clone, Copy)]
struct Edit<'a> {
    column: usize,
    row: usize,
    /// Empties the cell, takes it from another row, or gives it the value.
    what: u8,
    value: &'a [u8],
}

fn read(bytes: Bytes) -> Original {
    let plain = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, plain)
        .expect("it is an object of ours");
    let footer = reader.metadata().file_metadata().key_value_metadata().cloned();
    let mut batches = reader.build().expect("it is an object of ours");
    let rows = batches.next().expect("it has rows").expect("they can be read");
    Original { rows, footer: footer.unwrap_or_default() }
}

/// The object with these edits; nothing if Parquet does not write such a one.
pub(crate) fn object(is_checkpoint: bool, edits: &[u8]) -> Option<Bytes> {
    let original = &ORIGINALS[usize::from(is_checkpoint)];
    let mut columns = original.rows.columns().to_vec();
    for edit in edits_of(edits).take(EDITS_MAX) {
        let at = edit.column % columns.len();
        columns[at] = edited(&columns[at], edit)?;
    }
    let rows = RecordBatch::try_new(original.rows.schema(), columns).ok()?;
    let footer = Some(original.footer.clone());
    let properties = WriterProperties::builder().set_key_value_metadata(footer).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).ok()?;
    writer.write(&rows).ok()?;
    writer.close().ok()?;
    signed(bytes)
}

fn edits_of(mut bytes: &[u8]) -> impl Iterator<Item = Edit<'_>> {
    std::iter::from_fn(move || {
        let (&[column, row, what, len], rest) = bytes.split_first_chunk()?;
        let (value, rest) = rest.split_at(usize::from(len).min(rest.len()));
        bytes = rest;
        Some(Edit { column: column.into(), row: row.into(), what, value })
    })
}

fn edited(column: &ArrayRef, edit: Edit<'_>) -> Option<ArrayRef> {
    let value = edit.value;
    let text = std::str::from_utf8(value).ok();
    Some(match column.data_type() {
        DataType::Utf8 => {
            let cells = cells(column.as_string::<i32>().iter(), edit, text);
            Arc::new(StringArray::from(cells))
        }
        DataType::Binary => {
            let cells = cells(column.as_binary::<i32>().iter(), edit, Some(value));
            Arc::new(BinaryArray::from(cells))
        }
        DataType::FixedSizeBinary(_) => {
            let mut id = [0; 16];
            id.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
            let cells = cells(column.as_fixed_size_binary().iter(), edit, Some(&id[..]));
            let cells = cells.into_iter();
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(cells, 16).ok()?)
        }
        DataType::Boolean => {
            let cells = cells(column.as_boolean().iter(), edit, Some(!value.is_empty()));
            Arc::new(BooleanArray::from(cells))
        }
        DataType::UInt32 => numbers::<UInt32Type>(column, edit, |n| n as u32),
        DataType::UInt64 => numbers::<UInt64Type>(column, edit, |n| n),
        DataType::Int32 => numbers::<Int32Type>(column, edit, |n| n as i32),
        DataType::Int64 => numbers::<Int64Type>(column, edit, |n| n as i64),
        DataType::Timestamp(_, _) => {
            numbers::<TimestampMillisecondType>(column, edit, |n| n as i64)
        }
        other => unreachable!("no column is {other}"),
    })
}

fn numbers<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    edit: Edit<'_>,
    number: impl Fn(u64) -> T::Native,
) -> ArrayRef {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(edit.value).for_each(|(to, from)| *to = *from);
    let value = number(u64::from_le_bytes(bytes));
    let cells = cells(column.as_primitive::<T>().iter(), edit, Some(value));
    let array = PrimitiveArray::<T>::from_iter(cells);
    Arc::new(array.with_data_type(column.data_type().clone()))
}

fn cells<T: Copy>(
    cells: impl Iterator<Item = Option<T>>,
    edit: Edit<'_>,
    value: Option<T>,
) -> Vec<Option<T>> {
    let mut cells: Vec<Option<T>> = cells.collect();
    let rows = cells.len();
    cells[edit.row % rows] = match edit.what % 4 {
        0 => None,
        1 => cells[usize::from(edit.what / 4) % rows],
        _ => value,
    };
    cells
}

/// With the checksum that the bytes have.
fn signed(mut bytes: Vec<u8>) -> Option<Bytes> {
    const KEY: &[u8] = b"muster.checksum";
    const DIGITS: usize = 32;
    let key = bytes.windows(KEY.len()).rposition(|window| window == KEY)?;
    let at = key + KEY.len() + 2;
    bytes.get_mut(at..at + DIGITS)?.fill(b'0');
    let digits = format!("{:032x}", xxh3_128(&bytes));
    bytes[at..at + DIGITS].copy_from_slice(digits.as_bytes());
    Some(bytes.into())
}
