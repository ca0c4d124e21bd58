//! The columns of records: the schema, and rows to and from objects. Plain types, so that any
//! reader of Parquet can work with them.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    Float64Builder, Int64Builder, StringBuilder, TimestampMillisecondBuilder,
};
use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use muster_core::Name;
use muster_core::time::Timestamp;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::{FORMAT_VERSION, Kind, Reasons, Row};
use crate::codec::checksum;

/// The footer's key for the version of the format.
const FORMAT_KEY: &str = "muster.format";
/// The columns of counts, as they stand behind each other.
const COUNTS: [&str; 10] = [
    "placed",
    "preempted",
    "waiting",
    "never_fits",
    "no_room",
    "budget",
    "rate",
    "limit",
    "claimed",
    "gang",
];

/// The schema of every object.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new("pool", DataType::Utf8, false),
        Field::new("at", time, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("digest", DataType::Utf8, false),
        Field::new("took_us", DataType::Int64, false),
        Field::new("queue", DataType::Utf8, true),
        Field::new("share", DataType::Float64, true),
        Field::new("fair_share", DataType::Float64, true),
    ];
    fields.extend(COUNTS.map(|name| Field::new(name, DataType::Int64, false)));
    Arc::new(Schema::new(fields))
});

/// The rows as an object.
pub(super) fn encode(rows: &[Row]) -> Result<Bytes, ParquetError> {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_created_by("muster".to_owned());
    let properties = properties.set_compression(zstd).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&SCHEMA), Some(properties))?;
    writer.write(&batch(rows))?;
    let format = KeyValue::new(FORMAT_KEY.to_owned(), FORMAT_VERSION.to_string());
    writer.append_key_value_metadata(format);
    writer.append_key_value_metadata(checksum::placeholder());
    let mut object = writer.into_inner()?;
    checksum::sign(&mut object).map_err(|error| ParquetError::General(error.to_string()))?;
    Ok(object.into())
}

fn batch(rows: &[Row]) -> RecordBatch {
    let text = |of: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
        let mut builder = StringBuilder::new();
        rows.iter().for_each(|row| builder.append_option(of(row)));
        Arc::new(builder.finish())
    };
    let part = |of: &dyn Fn(&Row) -> Option<f64>| -> ArrayRef {
        let mut builder = Float64Builder::new();
        rows.iter().for_each(|row| builder.append_option(of(row)));
        Arc::new(builder.finish())
    };
    let count = |of: &dyn Fn(&Row) -> u64| -> ArrayRef {
        let mut builder = Int64Builder::new();
        let counts = rows.iter().map(|row| i64::try_from(of(row)).unwrap_or(i64::MAX));
        counts.for_each(|count| builder.append_value(count));
        Arc::new(builder.finish())
    };
    let mut at = TimestampMillisecondBuilder::new();
    rows.iter().for_each(|row| at.append_value(row.at.0));
    let mut columns: Vec<ArrayRef> = vec![
        text(&|row| Some(row.pool.to_string())),
        Arc::new(at.finish().with_timezone("UTC")),
        text(&|row| Some(row.kind.name().to_owned())),
        text(&|row| Some(format!("{:016x}", row.digest))),
        count(&|row| row.took_us),
        text(&|row| row.queue.as_ref().map(ToString::to_string)),
        part(&|row| row.share),
        part(&|row| row.fair_share),
    ];
    for place in 0..COUNTS.len() {
        columns.push(count(&|row| counts(row)[place]));
    }
    RecordBatch::try_new(Arc::clone(&SCHEMA), columns)
        .expect("the columns are listed as the schema lists them")
}

/// What stands in the columns of [`COUNTS`].
fn counts(row: &Row) -> [u64; COUNTS.len()] {
    let Reasons { never_fits, no_room, budget, rate, limit, claimed, gang } = row.reasons;
    let Row { placed, preempted, waiting, .. } = *row;
    [placed, preempted, waiting, never_fits, no_room, budget, rate, limit, claimed, gang]
}

/// The rows of an object, or what is wrong with it.
pub(super) fn decode(bytes: Bytes) -> Result<Vec<Row>, String> {
    checksum::verify(&bytes).map_err(|error| error.to_string())?;
    let text = |error: ParquetError| error.to_string();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(text)?;
    let pairs = reader.metadata().file_metadata().key_value_metadata();
    let format = pairs.into_iter().flatten().find(|pair| pair.key == FORMAT_KEY);
    let format = format.and_then(|pair| pair.value.clone());
    if format != Some(FORMAT_VERSION.to_string()) {
        return Err(format!("format version {format:?} is not {FORMAT_VERSION}"));
    }
    let mut rows = Vec::new();
    for batch in reader.build().map_err(text)? {
        let batch = batch.map_err(|error| error.to_string())?;
        let columns = Columns(&batch);
        for row in 0..batch.num_rows() {
            rows.push(columns.row(row)?);
        }
    }
    Ok(rows)
}

/// Columns by their names.
struct Columns<'a>(&'a RecordBatch);

impl Columns<'_> {
    fn row(&self, row: usize) -> Result<Row, String> {
        let text = |name: &str| -> Result<Option<Name>, String> {
            let column = self.column::<StringArray>(name)?;
            Ok(column.is_valid(row).then(|| Name::from(column.value(row))))
        };
        let always = |name: &str| text(name)?.ok_or_else(|| format!("column `{name}` is null"));
        let part = |name: &str| -> Result<Option<f64>, String> {
            let column = self.column::<Float64Array>(name)?;
            Ok(column.is_valid(row).then(|| column.value(row)))
        };
        let count = |name: &str| -> Result<u64, String> {
            let value = self.column::<Int64Array>(name)?.value(row);
            u64::try_from(value).map_err(|_| format!("column `{name}` has {value}"))
        };
        let (kind, digest) = (always("kind")?, always("digest")?);
        Ok(Row {
            pool: always("pool")?,
            at: Timestamp(self.column::<TimestampMillisecondArray>("at")?.value(row)),
            kind: Kind::from_name(&kind).ok_or_else(|| format!("`{kind}` is no kind"))?,
            digest: u64::from_str_radix(&digest, 16)
                .map_err(|_| format!("`{digest}` is no digest"))?,
            took_us: count("took_us")?,
            queue: text("queue")?,
            placed: count("placed")?,
            preempted: count("preempted")?,
            waiting: count("waiting")?,
            share: part("share")?,
            fair_share: part("fair_share")?,
            reasons: Reasons {
                never_fits: count("never_fits")?,
                no_room: count("no_room")?,
                budget: count("budget")?,
                rate: count("rate")?,
                limit: count("limit")?,
                claimed: count("claimed")?,
                gang: count("gang")?,
            },
        })
    }

    fn column<T: Array + 'static>(&self, name: &str) -> Result<&T, String> {
        let column = self.0.column_by_name(name).ok_or_else(|| format!("no column `{name}`"))?;
        let column = column.as_any().downcast_ref::<T>();
        column.ok_or_else(|| format!("column `{name}` is of another type"))
    }
}
