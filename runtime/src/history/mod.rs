//! History: one row for every finished job and every task of an array, as Parquet objects
//! `history/finished_date=YYYY-MM-DD/….parquet` that any reader of Parquet can work with where they
//! lie.
//!
//! Objects are made of a planned span of a shard's log, with names and rows that follow from the
//! span and its jobs alone: a new owner of a shard writes the same objects again, finds them there
//! and goes on.
//!
//! What was listed is remembered, which is safe because only the owner of a shard writes its
//! history and all its writes pass through the same [`History`]; whoever becomes the owner calls
//! [`History::forget`].

pub(crate) mod check;
mod columns;
mod expire;
mod listing;
mod name;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use muster_core::Name as Word;
use muster_core::history::Finished;
use muster_core::id::{JobId, JobRef, ShardId};
use muster_core::job::{Counts, JobState, StateSet};
use muster_core::record::HistorySpan;
use muster_core::time::Timestamp;

use crate::collect::Mode;
use crate::store::Store;
use crate::{Blocking, Clock, blocking};
use listing::Listings;

pub(crate) use expire::expire_days;
pub(crate) use name::{Day, Tree};

/// Version of the format, in the footer of every object.
pub const FORMAT_VERSION: u32 = 1;

/// Reads and writes history. Clones share what was listed.
#[derive(Debug, Clone)]
pub struct History {
    store: Store,
    blocking: Blocking,
    listings: Arc<Listings>,
}

/// Which finished jobs are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Only of this queue.
    pub queue: Option<Word>,
    /// Only of this job set.
    pub job_set: Option<Word>,
    /// Only in one of these states.
    pub states: StateSet,
}

/// Finished jobs in the order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The jobs; each task of an array by itself.
    pub jobs: Vec<Finished>,
    /// Where to go on: every wanted job up to and with this one has been given. `None` when there
    /// are no more. A page with few jobs, or none, may have it too: one call reads a bounded number
    /// of objects.
    pub next: Option<JobRef>,
}

/// What history has of an array as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayEnd {
    /// One of its tasks: for what all of them have in common.
    pub example: Finished,
    /// How many of its tasks ended in each state.
    pub counts: Counts,
    /// When the last of them ended.
    pub finished_at: Timestamp,
}

impl ArrayEnd {
    fn none_yet(example: Finished) -> Self {
        let finished_at = example.finished_at;
        Self { example, counts: Counts::default(), finished_at }
    }

    fn add(&mut self, counts: &Counts, finished_at: Timestamp) {
        for state in JobState::ALL {
            self.counts[state] += counts[state];
        }
        self.finished_at = self.finished_at.max(finished_at);
    }
}

/// Why history could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("the object store did not answer for the history")]
    Request(#[from] object_store::Error),
    /// An object that this program does not understand.
    #[error("history object `{key}` cannot be read: {reason}")]
    Malformed {
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The rows could not be encoded.
    #[error("history cannot be encoded")]
    Encode(#[source] parquet::errors::ParquetError),
    /// Jobs that cannot be rows.
    #[error("`{job}` cannot stand for {count} tasks")]
    Count {
        /// The first of them.
        job: JobRef,
        /// How many were claimed.
        count: u32,
    },
    /// An object is said to be there and is not.
    #[error("history object `{key}` is refused, although it is not there")]
    Refused {
        /// The object.
        key: String,
    },
    /// The work was not done.
    #[error(transparent)]
    Blocking(#[from] blocking::Error),
}

impl History {
    /// History in `store`; encoding and decoding run on `blocking`.
    #[must_use]
    pub fn new(store: Store, blocking: Blocking) -> Self {
        Self { store, blocking, listings: Arc::default() }
    }

    /// Writes the jobs of `shard` that finished within `span`. Objects that are there already are
    /// left alone: they are from an earlier call with the same arguments.
    ///
    /// # Errors
    /// When the store fails; some of the objects may have been written. Call again with the same
    /// arguments.
    pub async fn write(
        &self,
        shard: ShardId,
        span: HistorySpan,
        rows: Vec<Finished>,
    ) -> Result<(), Error> {
        write::write(self, shard, span, rows).await
    }

    /// The finished job or task; `None` when history has none. An array as a whole has no row.
    ///
    /// # Errors
    /// When the store fails or an object is malformed.
    pub async fn find(&self, job: JobRef) -> Result<Option<Finished>, Error> {
        read::find(self, job).await
    }

    /// What became of the tasks of an array, as far as history has them; `None` when it has none.
    /// Reads the states of all of them.
    ///
    /// # Errors
    /// When the store fails or an object is malformed.
    pub async fn array(&self, array: JobId) -> Result<Option<ArrayEnd>, Error> {
        read::array(self, array).await
    }

    /// Up to `limit` finished jobs of `shard` behind `after`, in the order of ids.
    ///
    /// # Errors
    /// When the store fails or an object is malformed.
    pub async fn list(
        &self,
        shard: ShardId,
        filter: &Filter,
        after: Option<JobRef>,
        limit: usize,
    ) -> Result<Page, Error> {
        read::list(self, shard, filter, after, limit).await
    }

    /// Lets go of days of all shards that were over `days` ago, at most so many objects a second,
    /// and tells `deleted` the bytes of each. Returns how long it takes until the next day may go;
    /// `None` when there is no history.
    ///
    /// # Errors
    /// When the store fails; call again.
    pub async fn expire(
        &self,
        clock: &Clock,
        days: u32,
        per_second: u32,
        mode: Mode,
        deleted: impl FnMut(u64) + Send,
    ) -> Result<Option<Duration>, Error> {
        expire::expire(self, clock, days, per_second, mode, deleted).await
    }

    /// Forgets what was listed of a shard: to be called by whoever becomes its owner.
    pub fn forget(&self, shard: ShardId) {
        self.listings.forget(shard);
    }
}
