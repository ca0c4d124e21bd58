//! A shard's log in the object store: one object is one commit, and whoever creates it owns its
//! number.
//!
//! Objects are created if absent and never changed, so two writers cannot both own a sequence
//! number. A new owner creates a fence object in the first free number, so that the old owner's
//! next create fails, and then reads everything before it. The fence's number is the new owner's
//! epoch, which rises with each takeover without any reading. Fences are never deleted. A put that
//! failed may have landed: it counts as neither success nor failure until the object under its key
//! has been read.

mod append;
mod cache;
pub(crate) mod objects;
mod read;
mod take_over;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use muster_core::id::ShardId;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};

use crate::config::{ByteSize, HumanDuration};
use crate::{Blocking, Random, codec, retry};

pub use append::{AppendError, CheckpointError, Log, Sealed};
pub use read::Reader;
pub use take_over::{Stretch, TakeOverError, TakenOver};

/// How patient and how large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How long one attempt to put or get an object may take, plus a second for every 4 MiB put.
    pub attempt_timeout: HumanDuration,
    /// Waits between attempts. Appends never give up, whatever it says of that.
    pub retry: retry::Policy,
    /// How often a read is tried again.
    pub read_retries_max: u32,
    /// Log objects that are fetched at once when a shard is taken over.
    pub read_ahead: usize,
    /// Memory for objects that are read again and again.
    pub cache_bytes_max: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempt_timeout: HumanDuration::secs(10),
            retry: retry::Policy::default(),
            read_retries_max: 5,
            read_ahead: 4,
            cache_bytes_max: ByteSize::mib(64),
        }
    }
}

/// Whose log it is, and what it stands on.
#[derive(Debug, Clone)]
pub struct Params {
    /// Where the objects are. A deployment's own prefix is the store's matter (`PrefixStore`).
    pub store: Arc<dyn ObjectStore>,
    /// The shard.
    pub shard: ShardId,
    /// The process that writes: different for every start of every process.
    pub writer: u128,
    /// For nonces and jitter.
    pub random: Random,
    /// Where objects are encoded and decoded.
    pub blocking: Blocking,
    /// How patient and how large.
    pub limits: Limits,
}

/// Whether the object under that key of a shard is there, whole, and the one that belongs there.
///
/// # Errors
/// When it is not, or the store does not give it.
pub async fn check(params: Params, key: &str) -> Result<(), ReadError> {
    let objects = objects::Objects::new(params);
    let Some((place, sequence)) = objects.place_of(key) else {
        return Err(ReadError::Missing { key: key.to_owned() });
    };
    let bytes = objects.get(place, sequence).await?;
    objects.open(place, sequence, bytes).await.map(|_| ())
}

/// Why an object could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store did not give it.
    #[error("object `{key}`: {source}")]
    Store {
        /// Its key.
        key: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The store did not answer in time.
    #[error("object `{key}`: no answer after {after:?}")]
    Timeout {
        /// Its key.
        key: String,
        /// How long the last attempt waited.
        after: Duration,
    },
    /// There is no such object.
    #[error("object `{key}` is missing")]
    Missing {
        /// Its key.
        key: String,
    },
    /// It is damaged, or is not what its key says.
    #[error("object `{key}` cannot be read: {source}")]
    Unreadable {
        /// Its key.
        key: String,
        /// Why.
        source: codec::Error,
    },
    /// The work of decoding it did not finish.
    #[error("object `{key}`: {source}")]
    Blocking {
        /// Its key.
        key: String,
        /// Why.
        source: crate::blocking::Error,
    },
}
