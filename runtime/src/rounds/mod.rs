//! Records of scheduling rounds: what each round that did something came to, as Parquet objects by
//! date. They are for people who want to know later why things went as they did: nothing reads them
//! to decide anything, and what cannot be written is let go.
//!
//! `rounds/round_date=2026-01-31/{time}-{session}-{pool}.parquet`: the time is that of the first
//! round in it (`HHMMSSmmm`, UTC), the session that of the leader.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use muster_core::Name;
use muster_core::time::Timestamp;
use object_store::path::Path;

use crate::collect::Mode;
use crate::history::{Day, Tree, expire_days};
use crate::store::Store;
use crate::{Blocking, Clock, blocking};

mod columns;
#[cfg(test)]
mod tests;

/// The version of the format, in each object's footer.
pub const FORMAT_VERSION: u32 = 1;

/// Where the objects lie.
const TREE: Tree = Tree { root: "rounds", day: "round_date=" };
const DAY_MILLIS: i64 = 86_400_000;

/// One row: a round as a whole, or what it came to for one queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The pool.
    pub pool: Name,
    /// When the round began.
    pub at: Timestamp,
    /// What the round was for.
    pub kind: Kind,
    /// A digest of everything that it decided by: rounds with the same one decide the same.
    pub digest: u64,
    /// How long it took to decide, in microseconds.
    pub took_us: u64,
    /// The queue; none for the round as a whole.
    pub queue: Option<Name>,
    /// Jobs placed.
    pub placed: u64,
    /// Jobs told to make room.
    pub preempted: u64,
    /// Jobs that the round knew of and did not place.
    pub waiting: u64,
    /// The part of the pool that the queue had before the round.
    pub share: Option<f64>,
    /// Its fair share, as it was published last.
    pub fair_share: Option<f64>,
    /// Why jobs were not placed.
    pub reasons: Reasons,
}

/// What a round is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Leasing jobs to clusters that ask.
    Lease,
    /// Making room.
    Preempt,
}

/// How many jobs were not placed, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reasons {
    /// No node could ever hold them.
    pub never_fits: u64,
    /// There is no room at the moment.
    pub no_room: u64,
    /// The round had placed as many jobs as it may.
    pub budget: u64,
    /// Their queue's rate was used up.
    pub rate: u64,
    /// A limit leaves no room.
    pub limit: u64,
    /// Room is being made for them.
    pub claimed: u64,
    /// Members of their gang are missing.
    pub gang: u64,
}

/// Why records could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("the object store did not answer for the records of rounds")]
    Request(#[from] object_store::Error),
    /// The rows could not be encoded.
    #[error("records of rounds cannot be encoded")]
    Encode(#[source] parquet::errors::ParquetError),
    /// An object that this program does not understand.
    #[error("record of rounds `{key}` cannot be read: {reason}")]
    Malformed {
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The work was not done.
    #[error(transparent)]
    Blocking(#[from] blocking::Error),
}

/// The records of a deployment.
#[derive(Debug, Clone)]
pub struct Rounds {
    store: Store,
    blocking: Blocking,
}

impl Kind {
    /// Its name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Preempt => "preempt",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Lease, Self::Preempt].into_iter().find(|kind| kind.name() == name)
    }
}

impl Reasons {
    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        self.never_fits += other.never_fits;
        self.no_room += other.no_room;
        self.budget += other.budget;
        self.rate += other.rate;
        self.limit += other.limit;
        self.claimed += other.claimed;
        self.gang += other.gang;
    }
}

impl Rounds {
    /// Records in `store`; encoding and decoding run on `blocking`.
    #[must_use]
    pub fn new(store: Store, blocking: Blocking) -> Self {
        Self { store, blocking }
    }

    /// Writes rows of one pool, in order, as one object. An object of that name that is there
    /// already is of the same session and time, and stays.
    ///
    /// # Errors
    /// When the store fails; the object may have been written all the same.
    pub async fn write(&self, pool: &str, session: &str, rows: Vec<Row>) -> Result<(), Error> {
        let Some(first) = rows.first() else { return Ok(()) };
        let key = key(pool, session, first.at);
        let data = self.blocking.run(move || columns::encode(&rows)).await?;
        self.store.create(&key, data.map_err(Error::Encode)?).await?;
        Ok(())
    }

    /// The last rounds, of one pool if it is named, the latest last; each row of a round is given.
    ///
    /// # Errors
    /// When the store fails or an object is malformed.
    pub async fn last(&self, pool: Option<&str>, rounds: usize) -> Result<Vec<Row>, Error> {
        let mut rows: Vec<Row> = Vec::new();
        let mut days = self.days().await?;
        while let Some(day) = days.pop() {
            let objects = self.store.objects();
            let prefix = TREE.prefix(day);
            let listed: Vec<_> = objects.list(Some(&prefix)).try_collect().await?;
            let keys = listed.into_iter().map(|object| object.location);
            let mut keys: Vec<Path> = keys.filter(|key| is_of(key, pool)).collect();
            keys.sort_unstable();
            for key in keys.into_iter().rev() {
                if rows.iter().filter(|row| row.queue.is_none()).count() >= rounds {
                    break;
                }
                rows.extend(self.read(&key).await?);
            }
        }
        rows.sort_by(|a, b| (a.at, &a.pool, &a.queue).cmp(&(b.at, &b.pool, &b.queue)));
        let mut heads = rows.iter().enumerate().filter(|(_, row)| row.queue.is_none()).rev();
        let from = heads.nth(rounds.saturating_sub(1)).map_or(0, |(place, _)| place);
        Ok(rows.split_off(from))
    }

    /// Lets go of days that were over `days` ago, at most so many objects a second, and tells
    /// `deleted` the bytes of each. Returns how long it takes until the next day may go.
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
        let kept = expire_days(&self.store, TREE, clock, days, per_second, mode, deleted).await?;
        Ok(kept.next)
    }

    /// The days of which there are records, in order.
    async fn days(&self) -> Result<Vec<Day>, Error> {
        let root = Path::from(TREE.root);
        let listed = self.store.objects().list_with_delimiter(Some(&root)).await?;
        let days = listed.common_prefixes.iter().filter_map(|prefix| TREE.day(prefix));
        let mut days: Vec<Day> = days.collect();
        days.sort_unstable();
        Ok(days)
    }

    async fn read(&self, key: &Path) -> Result<Vec<Row>, Error> {
        // One that went meanwhile is too old to matter.
        let Some(bytes) = self.store.read(key).await? else { return Ok(Vec::new()) };
        let bytes: Bytes = bytes;
        let rows = self.blocking.run(move || columns::decode(bytes)).await?;
        rows.map_err(|reason| Error::Malformed { key: key.to_string(), reason })
    }
}

fn key(pool: &str, session: &str, at: Timestamp) -> Path {
    let millis = at.0.rem_euclid(DAY_MILLIS);
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, millis) = (millis / 1_000 % 60, millis % 1_000);
    let name = format!("{hours:02}{minutes:02}{seconds:02}{millis:03}-{session}-{pool}.parquet");
    TREE.prefix(Day::of(at)).join(name)
}

/// Whether an object is of that pool, if one is named.
fn is_of(key: &Path, pool: Option<&str>) -> bool {
    let name = key.filename().and_then(|name| name.strip_suffix(".parquet"));
    let of = name.and_then(|name| name.splitn(3, '-').nth(2));
    of.is_some_and(|of| pool.is_none_or(|pool| of == pool))
}
