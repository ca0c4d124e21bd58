//! The columns of log objects and checkpoints, and how each is stored.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::Error;

/// Rows that are encoded or decoded at a time.
pub(super) const BATCH_ROWS: usize = 16 * 1024;
const ROW_GROUP_ROWS: usize = 256 * 1024;
const ZSTD_LEVEL: i32 = 1;
const DICTIONARY_PAGE_BYTES: usize = 1024 * 1024;

/// Columns that only executors need; they make up most of an object.
pub(super) const PAYLOAD: [&str; 5] = ["namespace", "labels", "annotations", "pod_spec", "network"];

/// Values that hardly repeat: a dictionary would be built for nothing.
const UNIQUE: [&str; 7] =
    ["job_id", "client_id", "pod_spec", "message", "command_id", "idempotency_key", "detail"];

/// Numbers that mostly rise by little.
const RISING: [&str; 4] = ["at", "index", "spec_row", "end_row"];

pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(schema()));

fn schema() -> Schema {
    let name = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let id = || DataType::FixedSizeBinary(16);
    let columns = [
        ("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))),
        ("job_id", id()),
        ("index", DataType::UInt32),
        ("queue", name()),
        ("job_set", name()),
        ("client_id", DataType::Utf8),
        ("priority", DataType::UInt32),
        ("count", DataType::UInt32),
        ("at_most_once", DataType::Boolean),
        ("pool", name()),
        ("class", name()),
        ("request_cpu_millis", DataType::Int64),
        ("request_memory_bytes", DataType::Int64),
        ("shape", name()),
        ("namespace", name()),
        ("labels", DataType::Binary),
        ("annotations", DataType::Binary),
        ("pod_spec", DataType::Binary),
        ("attempt", DataType::UInt32),
        ("cluster", name()),
        ("node", name()),
        ("exit_code", DataType::Int32),
        ("signal", DataType::Int32),
        ("reason", name()),
        ("message", DataType::Utf8),
        ("state", name()),
        ("incarnation", DataType::UInt64),
        ("command_id", id()),
        ("idempotency_key", id()),
        ("outcome", name()),
        ("spec_sequence", DataType::UInt64),
        ("spec_row", DataType::UInt32),
        ("end_sequence", DataType::UInt64),
        ("end_row", DataType::UInt32),
        ("detail", DataType::Binary),
        ("network", DataType::Binary),
        ("memory_peak_bytes", DataType::Int64),
        ("cpu_time_ms", DataType::Int64),
    ];
    let optional = columns.into_iter().map(|(name, of)| Field::new(name, of, true));
    let mut fields = vec![Field::new("kind", name(), false)];
    fields.extend(optional);
    Schema::new(fields)
}

/// How the columns of an object are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// With zstd.
    Zstd,
    /// Not at all.
    Plain,
}

pub(super) fn properties(
    footer: Vec<KeyValue>,
    packing: Packing,
) -> Result<WriterProperties, Error> {
    let column = |name: &str| ColumnPath::from(name);
    let compression = match packing {
        Packing::Zstd => Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?),
        Packing::Plain => Compression::UNCOMPRESSED,
    };
    let mut properties = WriterProperties::builder()
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_statistics_enabled(column("pod_spec"), EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_dictionary_page_size_limit(DICTIONARY_PAGE_BYTES)
        .set_created_by(concat!("muster ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(footer));
    for name in UNIQUE {
        properties = properties.set_column_dictionary_enabled(column(name), false);
    }
    for name in RISING {
        properties = properties
            .set_column_dictionary_enabled(column(name), false)
            .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    Ok(properties.build())
}
