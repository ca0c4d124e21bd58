//! The objects of one shard: their keys, and single operations on them with time-outs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use muster_core::id::ShardId;
use muster_core::mutant::{self, Mutant};
use muster_core::record::Record;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, PutMode, PutOptions, PutPayload};

use super::{Limits, Params, ReadError};
use crate::{Blocking, Random, codec};

/// Puts may take a second longer for so many bytes.
const PUT_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;

/// Which of a shard's two kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Log,
    Checkpoint,
}

/// What a put came to, for certain.
pub(super) enum Put {
    /// The object under the key is ours.
    Ours,
    /// Another object stands there.
    Theirs(Bytes),
}

#[derive(Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    pub(super) shard: ShardId,
    pub(super) writer: u128,
    pub(super) random: Random,
    pub(super) blocking: Blocking,
    pub(super) limits: Limits,
}

impl Objects {
    pub(super) fn new(params: Params) -> Self {
        let Params { store, shard, writer, random, blocking, limits } = params;
        Self { store, shard, writer, random, blocking, limits }
    }

    /// Which object of this shard has that key.
    pub(super) fn place_of(&self, key: &str) -> Option<(Place, u64)> {
        let key = Path::from(key);
        let sequence = sequence_of(&key)?;
        [Place::Log, Place::Checkpoint]
            .into_iter()
            .find(|place| self.key(*place, sequence) == key)
            .map(|place| (place, sequence))
    }

    pub(super) fn key(&self, place: Place, sequence: u64) -> Path {
        key(self.shard, place, sequence)
    }

    /// The sequence numbers of the objects there are from `first` on, ascending.
    pub(super) async fn list(&self, place: Place, first: u64) -> Result<Vec<u64>, ReadError> {
        let mut delays = self.limits.retry.delays(self.random.clone());
        let mut retries = 0;
        loop {
            let error = match self.list_once(place, first).await {
                Ok(sequences) => return Ok(sequences),
                Err(error) => error,
            };
            match delays.next() {
                Some(delay) if retries < self.limits.read_retries_max => {
                    retries += 1;
                    tokio::time::sleep(delay).await;
                }
                _ => return Err(error),
            }
        }
    }

    async fn list_once(&self, place: Place, first: u64) -> Result<Vec<u64>, ReadError> {
        let folder = Path::from(folder(self.shard, place));
        let key = || folder.to_string();
        let listing = match first.checked_sub(1) {
            None => self.store.list(Some(&folder)),
            Some(before) => self.store.list_with_offset(Some(&folder), &self.key(place, before)),
        };
        let after = self.limits.attempt_timeout.0;
        // The listing may have any number of pages, but none may be later than the time-out.
        let mut listing = std::pin::pin!(listing);
        let mut sequences = Vec::new();
        loop {
            let next = tokio::time::timeout(after, listing.try_next()).await;
            let next = next.map_err(|_| ReadError::Timeout { key: key(), after })?;
            let next = next.map_err(|source| ReadError::Store { key: key(), source })?;
            let Some(object) = next else { break };
            match sequence_of(&object.location) {
                Some(sequence) => sequences.push(sequence),
                None => tracing::warn!(key = %object.location, "foreign object in a shard's log"),
            }
        }
        sequences.retain(|&sequence| sequence >= first);
        sequences.sort_unstable();
        Ok(sequences)
    }

    /// The bytes of an object, tried a few times.
    pub(super) async fn get(&self, place: Place, sequence: u64) -> Result<Bytes, ReadError> {
        let key = self.key(place, sequence);
        let mut delays = self.limits.retry.delays(self.random.clone());
        let mut retries = 0;
        loop {
            let error = match self.get_once(&key).await {
                Ok(bytes) => return Ok(bytes),
                Err(error @ ReadError::Missing { .. }) => return Err(error),
                Err(error) => error,
            };
            match delays.next() {
                Some(delay) if retries < self.limits.read_retries_max => {
                    retries += 1;
                    tokio::time::sleep(delay).await;
                }
                _ => return Err(error),
            }
        }
    }

    async fn get_once(&self, key: &Path) -> Result<Bytes, ReadError> {
        let after = self.limits.attempt_timeout.0;
        // Headers and body each have the time-out: an object may be large.
        let timed_out = |_| ReadError::Timeout { key: key.to_string(), after };
        let failed = |source| match source {
            object_store::Error::NotFound { .. } => ReadError::Missing { key: key.to_string() },
            source => ReadError::Store { key: key.to_string(), source },
        };
        let get = self.store.get_opts(key, GetOptions::default());
        let found = tokio::time::timeout(after, get).await.map_err(timed_out)?.map_err(failed)?;
        let patience = after + transfer_time(found.meta.size);
        let bytes = tokio::time::timeout(patience, found.bytes()).await;
        bytes.map_err(timed_out)?.map_err(failed)
    }

    /// Creates an object, and knows at the end whether it is there. Never gives up.
    pub(super) async fn put(&self, place: Place, sequence: u64, bytes: &Bytes) -> Put {
        let key = self.key(place, sequence);
        let policy = &self.limits.retry;
        let mut delays = policy.delays(self.random.clone());
        let mut attempts = 0u64;
        loop {
            attempts += 1;
            let failure = match self.put_once(&key, bytes).await {
                Ok(put) => return put,
                Err(_) if mutant::is(Mutant::TimeoutIsSuccess) => return Put::Ours,
                Err(_) if mutant::is(Mutant::TimeoutIsFailure) => return Put::Theirs(Bytes::new()),
                Err(failure) => failure,
            };
            // Each power of two: an outage of hours gives a dozen lines.
            if attempts.is_power_of_two() {
                tracing::warn!(%key, attempts, %failure, "cannot put object, trying again");
            }
            let longest = || self.random.jitter(policy.delay_max.0, policy.jitter);
            tokio::time::sleep(delays.next().unwrap_or_else(longest)).await;
        }
    }

    /// One attempt; a failure leaves open whether the object is there.
    pub(super) async fn put_once(&self, key: &Path, bytes: &Bytes) -> Result<Put, String> {
        let options = PutOptions::from(PutMode::Create);
        let patience = self.limits.attempt_timeout.0 + transfer_time(bytes.len() as u64);
        let put = self.store.put_opts(key, PutPayload::from(bytes.clone()), options);
        match tokio::time::timeout(patience, put).await {
            Err(_) => return Err(format!("no answer after {patience:?}")),
            Ok(Ok(_)) => return Ok(Put::Ours),
            Ok(Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            )) if mutant::is(Mutant::ConflictIsOurs) => return Ok(Put::Ours),
            Ok(Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            )) => {}
            Ok(Err(error)) => return Err(error.to_string()),
        }
        // Also S3's 409 comes here, which means that a concurrent create may or may not have won:
        // only the object itself tells.
        match self.get_once(key).await {
            Ok(found) if found == *bytes => Ok(Put::Ours),
            Ok(found) => Ok(Put::Theirs(found)),
            Err(error) => Err(format!("the key is taken, but: {error}")),
        }
    }

    /// Opens an object's bytes on the blocking pool and checks that it belongs under its key.
    pub(super) async fn open(
        &self,
        place: Place,
        sequence: u64,
        bytes: Bytes,
    ) -> Result<codec::Reader, ReadError> {
        let key = || self.key(place, sequence).to_string();
        let open = move || codec::Reader::open(bytes, codec::Columns::WithoutPayload);
        self.blocking
            .run(open)
            .await
            .map_err(|source| ReadError::Blocking { key: key(), source })?
            .and_then(|reader| {
                reader.header().expect(self.shard, sequence, place == Place::Checkpoint)?;
                Ok(reader)
            })
            .map_err(|source| ReadError::Unreadable { key: key(), source })
    }

    /// Opens an object as [`Objects::open`] does, and reads all of it in the same piece of work:
    /// for small ones, of which a turn on the pool for each step takes longer than the steps.
    pub(super) async fn open_whole(
        &self,
        place: Place,
        sequence: u64,
        bytes: Bytes,
    ) -> Result<(codec::Header, Vec<Record>), ReadError> {
        let key = || self.key(place, sequence).to_string();
        let shard = self.shard;
        let open = move || {
            let mut reader = codec::Reader::open(bytes, codec::Columns::WithoutPayload)?;
            reader.header().expect(shard, sequence, place == Place::Checkpoint)?;
            let mut records = Vec::new();
            for batch in reader.by_ref() {
                records.extend(batch?);
            }
            Ok((reader.header().clone(), records))
        };
        let opened = self.blocking.run(open).await;
        opened
            .map_err(|source| ReadError::Blocking { key: key(), source })?
            .map_err(|source| ReadError::Unreadable { key: key(), source })
    }
}

fn transfer_time(bytes: u64) -> Duration {
    Duration::from_secs(bytes / PUT_BYTES_PER_SECOND)
}

/// Where the objects of a shard's place are.
pub(crate) fn folder(shard: ShardId, place: Place) -> String {
    match place {
        Place::Log => format!("shards/{shard}/log"),
        Place::Checkpoint => format!("shards/{shard}/checkpoint"),
    }
}

/// The key of an object.
pub(crate) fn key(shard: ShardId, place: Place, sequence: u64) -> Path {
    Path::from(format!("{}/{sequence:020}.parquet", folder(shard, place)))
}

/// The sequence in a key, if it has one.
pub(crate) fn sequence_of(key: &Path) -> Option<u64> {
    let digits = key.filename()?.strip_suffix(".parquet")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_the_log_have_a_sequence() {
        let sequence = |key: &str| sequence_of(&Path::from(key));
        assert_eq!(sequence("shards/3/log/00000000000000000042.parquet"), Some(42));
        for bad in ["a/42.parquet", "a/00000000000000000042.json", "a/+0000000000000000042.parquet"]
        {
            assert_eq!(sequence(bad), None, "{bad}");
        }
    }
}
