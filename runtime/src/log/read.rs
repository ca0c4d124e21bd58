//! Reading a shard's log object by object: records for events, payloads for leases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use muster_core::id::Position;
use muster_core::record::{Payload, Record, Submitted};

use super::ReadError;
use super::cache::Cache;
use super::objects::{Objects, Place};
use crate::codec::{self, Columns, PayloadColumns};

/// What is kept of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Raw,
    Records,
    Payloads,
}

#[derive(Clone)]
enum Cached {
    Raw(Bytes),
    Records(Arc<Vec<Record>>),
    Payloads(Arc<PayloadColumns>),
}

/// Reads log objects through one cache. Cheap to clone; clones share the cache. Reading needs no
/// ownership of the shard: what an object says never changes.
#[derive(Clone)]
pub struct Reader {
    objects: Arc<Objects>,
    cache: Arc<Cache<(u64, Form), Cached>>,
}

impl Reader {
    pub(super) fn new(objects: Arc<Objects>) -> Self {
        let bytes_max = objects.limits.cache_bytes_max.as_usize();
        Self { objects, cache: Arc::new(Cache::new(bytes_max)) }
    }

    /// The records of a log object, in order.
    ///
    /// # Errors
    /// When there is no such object, the store fails or the object is damaged.
    pub async fn read(
        &self,
        sequence: u64,
        columns: Columns,
    ) -> Result<Arc<Vec<Record>>, ReadError> {
        match columns {
            // Pod specs make up most of an object: they stay encoded.
            Columns::All => self.decode_records(sequence, columns).await,
            Columns::WithoutPayload => {
                let load = async {
                    let records = self.decode_records(sequence, columns).await?;
                    let row_bytes = size_of::<Record>() + size_of::<Submitted>();
                    let bytes = records.len() * row_bytes;
                    Ok((Cached::Records(records), bytes))
                };
                match self.cache.get((sequence, Form::Records), load).await? {
                    Cached::Records(records) => Ok(records),
                    Cached::Raw(_) | Cached::Payloads(_) => unreachable!("the key names the form"),
                }
            }
        }
    }

    /// The payloads of the jobs that were submitted at these places, in that order.
    ///
    /// # Errors
    /// When there is no such object or row, the store fails or an object is damaged.
    pub async fn payloads(&self, places: &[Position]) -> Result<Vec<Payload>, ReadError> {
        let wanted: BTreeSet<u64> = places.iter().map(|place| place.sequence).collect();
        let fetches = wanted.into_iter().map(|sequence| async move {
            Ok::<_, ReadError>((sequence, self.payload_columns(sequence).await?))
        });
        let columns: BTreeMap<_, _> = stream::iter(fetches)
            .buffer_unordered(self.objects.limits.read_ahead.max(1))
            .try_collect()
            .await?;
        let payload = |place: &Position| {
            columns[&place.sequence]
                .get(place.row)
                .map_err(|source| self.unreadable(place.sequence, source))
        };
        places.iter().map(payload).collect()
    }

    /// The log object from which on all are there up to `until`, for those who find one missing
    /// that was let go: asks the store for a listing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn whole_from(&self, until: u64) -> Result<u64, ReadError> {
        let there = self.objects.list(Place::Log, 1).await?;
        let before = there.partition_point(|&sequence| sequence < until);
        let tail = there[..before].iter().rev().zip((0..until).rev());
        Ok(until - tail.take_while(|(there, expected)| *there == expected).count() as u64)
    }

    /// Takes note of an object that was just written or fetched.
    pub(super) fn keep(&self, sequence: u64, bytes: Bytes) {
        let size = bytes.len();
        self.cache.insert((sequence, Form::Raw), Cached::Raw(bytes), size);
    }

    async fn payload_columns(&self, sequence: u64) -> Result<Arc<PayloadColumns>, ReadError> {
        let load = async {
            let raw = self.raw(sequence).await?;
            let columns = self.blocking(sequence, move || PayloadColumns::decode(raw)).await?;
            let bytes = columns.memory_bytes();
            Ok((Cached::Payloads(Arc::new(columns)), bytes))
        };
        match self.cache.get((sequence, Form::Payloads), load).await? {
            Cached::Payloads(columns) => Ok(columns),
            Cached::Raw(_) | Cached::Records(_) => unreachable!("the key names the form"),
        }
    }

    async fn decode_records(
        &self,
        sequence: u64,
        columns: Columns,
    ) -> Result<Arc<Vec<Record>>, ReadError> {
        let raw = self.raw(sequence).await?;
        let (_, records) = self.blocking(sequence, move || codec::decode(raw, columns)).await?;
        Ok(Arc::new(records))
    }

    async fn raw(&self, sequence: u64) -> Result<Bytes, ReadError> {
        let load = async {
            let bytes = self.objects.get(Place::Log, sequence).await?;
            // Once per fetch: the object must be the one that its key promises.
            self.objects.open(Place::Log, sequence, bytes.clone()).await?;
            let size = bytes.len();
            Ok((Cached::Raw(bytes), size))
        };
        match self.cache.get((sequence, Form::Raw), load).await? {
            Cached::Raw(bytes) => Ok(bytes),
            Cached::Records(_) | Cached::Payloads(_) => unreachable!("the key names the form"),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        sequence: u64,
        work: impl FnOnce() -> Result<T, codec::Error> + Send + 'static,
    ) -> Result<T, ReadError> {
        match self.objects.blocking.run(work).await {
            Ok(result) => result.map_err(|source| self.unreadable(sequence, source)),
            Err(source) => {
                let key = self.objects.key(Place::Log, sequence).to_string();
                Err(ReadError::Blocking { key, source })
            }
        }
    }

    fn unreadable(&self, sequence: u64, source: codec::Error) -> ReadError {
        let key = self.objects.key(Place::Log, sequence).to_string();
        ReadError::Unreadable { key, source }
    }
}
