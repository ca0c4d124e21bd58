//! The payload columns alone: what executors need of the jobs in an object.

use arrow_array::{BinaryArray, RecordBatch};
use bytes::Bytes;
use muster_core::Name;
use muster_core::record::Payload;

use super::Error;
use super::columns::{Column, Dictionary, Interner};
use super::decode::open;
use super::schema::PAYLOAD;

/// The payloads of an object, decoded once. They share its memory with what [`PayloadColumns::get`]
/// gives.
pub struct PayloadColumns {
    rows: u64,
    bytes: usize,
    batches: Vec<(u64, PayloadBatch)>,
}

impl PayloadColumns {
    /// Decodes the payload columns of an object and no others.
    ///
    /// # Errors
    /// When the bytes are damaged, foreign or of a newer format.
    pub fn decode(bytes: Bytes) -> Result<Self, Error> {
        let (_, rows, reader) = open(bytes, |name| PAYLOAD.contains(&name))?;
        let mut columns = Self { rows, bytes: 0, batches: Vec::new() };
        let mut interner = Interner::default();
        let mut first_row = 0;
        for batch in reader {
            let batch = batch?;
            columns.bytes += batch.get_array_memory_size();
            let payloads = PayloadBatch::new(&batch, first_row, &mut interner)?;
            columns.batches.push((first_row, payloads));
            first_row += batch.num_rows() as u64;
        }
        Ok(columns)
    }

    /// The payload of a row; empty when its record has none.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn get(&self, row: u32) -> Result<Payload, Error> {
        let wanted = u64::from(row);
        if wanted >= self.rows {
            return Err(Error::NoRow { row, rows: self.rows });
        }
        let behind = self.batches.partition_point(|(first, _)| *first <= wanted);
        let found = behind.checked_sub(1).map(|batch| &self.batches[batch]);
        Ok(found.map_or_else(Payload::default, |(first, batch)| {
            batch.get(usize::try_from(wanted - first).expect("a batch fits memory"))
        }))
    }

    /// Bytes of memory that it takes, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }
}

/// The payload columns of one batch.
pub(super) struct PayloadBatch {
    namespace: Dictionary<Name>,
    labels: Blobs,
    annotations: Blobs,
    pod_spec: Blobs,
    network: Blobs,
}

impl PayloadBatch {
    pub(super) fn new(
        batch: &RecordBatch,
        first_row: u64,
        interner: &mut Interner,
    ) -> Result<Self, Error> {
        let blobs = |name| Column::new(batch, first_row, name).map(Blobs::new);
        Ok(Self {
            namespace: Dictionary::new(batch, first_row, "namespace", |t| Ok(interner.name(t)))?,
            labels: blobs("labels")?,
            annotations: blobs("annotations")?,
            pod_spec: blobs("pod_spec")?,
            network: blobs("network")?,
        })
    }

    pub(super) fn get(&self, row: usize) -> Payload {
        Payload {
            namespace: self.namespace.get(row).unwrap_or_default(),
            labels: self.labels.get(row),
            annotations: self.annotations.get(row),
            pod_spec: self.pod_spec.get(row),
            network: self.network.get(row),
        }
    }
}

/// A binary column whose values are handed out without copying them.
struct Blobs {
    column: Column<BinaryArray>,
    values: Bytes,
}

impl Blobs {
    fn new(column: Column<BinaryArray>) -> Self {
        let values = column
            .array()
            .map(|array| Bytes::from_owner(array.values().clone()))
            .unwrap_or_default();
        Self { column, values }
    }

    fn get(&self, row: usize) -> Bytes {
        let Some(array) = self.column.present(row) else {
            return Bytes::new();
        };
        let offset = |at: usize| usize::try_from(array.value_offsets()[at]);
        match (offset(row), offset(row + 1)) {
            (Ok(start), Ok(end)) => self.values.slice(start..end),
            _ => unreachable!("Arrow's offsets are never negative"),
        }
    }
}
