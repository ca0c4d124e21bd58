//! Garbage collection of one shard: log objects that nobody needs any more, and superseded
//! checkpoints.
//!
//! What may go is decided from what is durable, and nothing that may go is ever needed again. So a
//! pass may be cut off anywhere, begun again by anybody, and done by two at once, also by an owner
//! that has been fenced and does not know it yet.
//!
//! Never deleted: fences; the two newest checkpoints; log objects from the older of these two on;
//! log objects with the payload of a job that lives or is not in the history yet.

mod offline;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use muster_core::id::ShardId;
use muster_core::mutant::{self, Mutant};
use muster_core::time::Timestamp;
use object_store::path::Path;

use crate::Clock;
use crate::codec::{self, Kind};
use crate::log::objects::{Place, folder, key, sequence_of};
use crate::store::{self, Store};

pub use offline::bounds;

/// An object of more bytes has records, and so is no fence: a fence is a footer and nothing else.
const FENCE_BYTES_MAX: u64 = 64 * 1024;
/// Objects that one request deletes at most, as S3 has it.
const BATCH_MAX: usize = 1000;
/// Superseded checkpoints are large and read by nobody but a takeover that listed them a moment
/// ago: they stay for so long at most.
pub const CHECKPOINT_GRACE_MAX: Duration = Duration::from_secs(600);

/// What of a shard may go, as its durable state has it.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The older one of the two newest checkpoints: recovery may begin there, and nowhere before.
    pub checkpoint: u64,
    /// Log objects, ascending, whose payloads are needed by the state of the newest checkpoint, or
    /// of any place behind it.
    pub in_use: Arc<[u64]>,
    /// Log objects from here on up to the checkpoint are commits of whoever collects, and so no
    /// fences; `u64::MAX` when that is not known of any.
    pub own_from: u64,
}

/// How patient, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long objects stay that could go.
    pub grace: Duration,
    /// Objects deleted in a second, at most.
    pub deletes_per_second: u32,
    /// Whether anything is deleted.
    pub mode: Mode,
}

/// Whether anything is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What may go, goes.
    Delete,
    /// It is only looked at.
    DryRun,
}

/// A kind of objects that are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Garbage {
    /// A checkpoint.
    Checkpoint,
    /// An object of the history.
    History,
    /// A log object.
    Log,
    /// A record of rounds.
    Rounds,
}

/// What came of a pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// In how long more of what was seen may go; `None` when nothing is only too young.
    pub next: Option<Duration>,
    /// Log objects that are kept for the payloads in them.
    pub in_use: u64,
    /// Fences that were looked at.
    pub fences: u64,
    /// Objects that cannot be read, and stay for that reason: keys, and what is wrong.
    pub unreadable: Vec<String>,
}

/// Why a pass ended early; the next one goes on.
#[derive(Debug, thiserror::Error)]
#[error("garbage below `{place}`: {source}")]
pub struct Error {
    /// Where.
    place: String,
    /// What the store said.
    source: object_store::Error,
}

/// The objects of one shard that were looked at before.
#[derive(Debug)]
pub struct Collector {
    store: Store,
    shard: ShardId,
    clock: Clock,
    /// Each log object before this was looked at: it is gone, or a fence, or in `kept`, or cannot
    /// be read.
    floor: u64,
    /// Log objects before `floor`, by sequence, with their sizes.
    kept: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Listed {
    sequence: u64,
    at: Timestamp,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Victim {
    place: Place,
    sequence: u64,
    bytes: u64,
}

impl Collector {
    /// Knows nothing yet: the first pass lists all that is there.
    #[must_use]
    pub fn new(store: Store, shard: ShardId, clock: Clock) -> Self {
        Self { store, shard, clock, floor: 1, kept: BTreeMap::new() }
    }

    /// Deletes what may go, as long as `goes_on` says so, and tells `deleted` of each object and
    /// its bytes.
    ///
    /// # Errors
    /// When the store fails; what was deleted until then is deleted.
    pub async fn pass(
        &mut self,
        bounds: &Bounds,
        settings: &Settings,
        mut deleted: impl FnMut(Garbage, u64) + Send,
        goes_on: impl Fn() -> bool + Send,
    ) -> Result<Passed, Error> {
        let mut passed = Passed::default();
        // Checkpoints first: one that is left has all of the log behind it.
        let checkpoints = self.old_checkpoints(bounds, settings, &mut passed).await?;
        self.look(bounds, settings, &mut passed).await?;
        let mut batches = Pace::new(&self.clock, settings.deletes_per_second);
        for batch in checkpoints.chunks(batches.size()) {
            if !goes_on() {
                return Ok(passed);
            }
            batches.next().await;
            self.delete(batch, settings.mode, &mut deleted).await?;
        }
        let unneeded: Vec<u64> =
            self.kept.keys().copied().filter(|sequence| !is_in_use(bounds, *sequence)).collect();
        passed.in_use = (self.kept.len() - unneeded.len()) as u64;
        for sequences in unneeded.chunks(batches.size()) {
            if !goes_on() {
                return Ok(passed);
            }
            batches.next().await;
            let batch = self.without_fences(sequences, bounds, &mut passed).await?;
            self.delete(&batch, settings.mode, &mut deleted).await?;
        }
        Ok(passed)
    }

    /// The checkpoints that are superseded, and have been for long enough.
    async fn old_checkpoints(
        &self,
        bounds: &Bounds,
        settings: &Settings,
        passed: &mut Passed,
    ) -> Result<Vec<Victim>, Error> {
        let grace = settings.grace.min(CHECKPOINT_GRACE_MAX);
        let now = self.clock.now();
        let place = Place::Checkpoint;
        let mut victims = Vec::new();
        for Listed { sequence, at, bytes } in self.list(place, 0, bounds.checkpoint).await? {
            match too_young(now, at, grace) {
                Some(wait) => passed.wait(wait),
                None => victims.push(Victim { place, sequence, bytes }),
            }
        }
        Ok(victims)
    }

    /// Lists what has become old enough since the last time.
    async fn look(
        &mut self,
        bounds: &Bounds,
        settings: &Settings,
        passed: &mut Passed,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let mut floor = self.floor.max(bounds.checkpoint);
        for Listed { sequence, at, bytes } in
            self.list(Place::Log, self.floor, bounds.checkpoint).await?
        {
            // What comes behind is younger still.
            if let Some(wait) = too_young(now, at, settings.grace) {
                passed.wait(wait);
                floor = sequence;
                break;
            }
            self.kept.insert(sequence, bytes);
        }
        self.floor = floor;
        Ok(())
    }

    /// Of log objects that nobody needs, those that may go: all but fences, and but what cannot be
    /// told from a fence.
    ///
    /// A fence holds its number for ever, so that a writer that slept over the takeover finds it
    /// taken however late it wakes.
    async fn without_fences(
        &mut self,
        sequences: &[u64],
        bounds: &Bounds,
        passed: &mut Passed,
    ) -> Result<Vec<Victim>, Error> {
        let place = Place::Log;
        let mut victims = Vec::new();
        for &sequence in sequences {
            let bytes = self.kept.get(&sequence).copied().unwrap_or_default();
            let victim = Victim { place, sequence, bytes };
            if sequence >= bounds.own_from || bytes > FENCE_BYTES_MAX {
                victims.push(victim);
                continue;
            }
            match self.kind(sequence).await? {
                Some(Ok(Kind::Log)) => victims.push(victim),
                Some(Ok(Kind::Fence)) if mutant::is(Mutant::CollectsFences) => victims.push(victim),
                Some(Ok(Kind::Fence)) => {
                    passed.fences += 1;
                    self.kept.remove(&sequence);
                }
                // Somebody else was faster.
                None => drop(self.kept.remove(&sequence)),
                Some(Ok(Kind::Checkpoint)) => {
                    self.stays(sequence, "it is a checkpoint", passed);
                }
                Some(Err(error)) => self.stays(sequence, &error.to_string(), passed),
            }
        }
        Ok(victims)
    }

    fn stays(&mut self, sequence: u64, why: &str, passed: &mut Passed) {
        self.kept.remove(&sequence);
        let key = key(self.shard, Place::Log, sequence);
        passed.unreadable.push(format!("`{key}`: {why}"));
    }

    /// What a log object is, by its own words; `None` when it is gone.
    async fn kind(&self, sequence: u64) -> Result<Option<Result<Kind, codec::Error>>, Error> {
        let key = key(self.shard, Place::Log, sequence);
        let failed = |source| Error { place: key.to_string(), source };
        let found = self.store.read(&key).await.map_err(failed)?;
        Ok(found.map(|bytes| {
            let header = codec::Header::read(&bytes)?;
            header.expect(self.shard, sequence, false)?;
            Ok(header.kind)
        }))
    }

    async fn delete(
        &mut self,
        victims: &[Victim],
        mode: Mode,
        deleted: &mut impl FnMut(Garbage, u64),
    ) -> Result<(), Error> {
        if mode == Mode::Delete {
            let keys: Vec<Path> = victims
                .iter()
                .map(|victim| key(self.shard, victim.place, victim.sequence))
                .collect();
            delete_all(&self.store, keys)
                .await
                .map_err(|source| Error { place: format!("shards/{}", self.shard), source })?;
        }
        for victim in victims {
            let kind = match victim.place {
                Place::Checkpoint => Garbage::Checkpoint,
                Place::Log => {
                    self.kept.remove(&victim.sequence);
                    Garbage::Log
                }
            };
            deleted(kind, victim.bytes);
        }
        Ok(())
    }

    /// The objects of a place from `from` up to and without `until`, ascending.
    async fn list(&self, place: Place, from: u64, until: u64) -> Result<Vec<Listed>, Error> {
        let folder = Path::from(folder(self.shard, place));
        let objects = self.store.objects();
        let mut listing = match from.checked_sub(1) {
            None => objects.list(Some(&folder)),
            Some(before) => {
                objects.list_with_offset(Some(&folder), &key(self.shard, place, before))
            }
        };
        let failed = |source| Error { place: folder.to_string(), source };
        let mut listed = Vec::new();
        while let Some(object) = listing.try_next().await.map_err(failed)? {
            let Some(sequence) = sequence_of(&object.location) else { continue };
            if sequence >= until {
                // Listings are in the order of keys, except those of a directory.
                if self.store.kind() == store::Kind::File {
                    continue;
                }
                break;
            }
            let at = Timestamp(object.last_modified.timestamp_millis());
            listed.push(Listed { sequence, at, bytes: object.size });
        }
        listed.retain(|listed| listed.sequence >= from);
        listed.sort_unstable_by_key(|listed| listed.sequence);
        Ok(listed)
    }
}

impl Passed {
    fn wait(&mut self, wait: Duration) {
        self.next = Some(self.next.map_or(wait, |next| next.min(wait)));
    }
}

fn is_in_use(bounds: &Bounds, sequence: u64) -> bool {
    bounds.in_use.binary_search(&sequence).is_ok()
}

/// How long an object has still to stay, if it has.
fn too_young(now: Timestamp, at: Timestamp, grace: Duration) -> Option<Duration> {
    let left = grace.saturating_sub(now.since(at));
    (!left.is_zero()).then_some(left)
}

/// Deletes objects; one that is not there is as good as deleted.
pub(crate) async fn delete_all(store: &Store, keys: Vec<Path>) -> Result<(), object_store::Error> {
    let keys = stream::iter(keys.into_iter().map(Ok)).boxed();
    let mut results = store.objects().delete_stream(keys);
    let mut failure = None;
    while let Some(result) = results.next().await {
        match result {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Spreads deletions over time.
pub(crate) struct Pace {
    clock: Clock,
    size: usize,
    is_first: bool,
}

impl Pace {
    pub(crate) fn new(clock: &Clock, per_second: u32) -> Self {
        let size = usize::try_from(per_second).unwrap_or(BATCH_MAX).clamp(1, BATCH_MAX);
        Self { clock: clock.clone(), size, is_first: true }
    }

    /// Objects of one batch.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Waits until the next batch may go.
    pub(crate) async fn next(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.clock.sleep(Duration::from_secs(1)).await;
        }
    }
}
