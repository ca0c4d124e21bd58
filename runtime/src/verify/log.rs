//! The log and checkpoints of one shard.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use muster_core::id::{Position, ShardId};
use muster_core::record::Record;
use muster_core::shard::Shard;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use xxhash_rust::xxh3::xxh3_128;

use super::jobs::Ledger;
use super::{Error, READ_AHEAD, Report, ShardReport};
use crate::Blocking;
use crate::codec::{self, Columns, Header, Kind};
use crate::log::objects::{Place, folder, key, sequence_of};
use crate::store::Store;

/// An object that was read.
type Read = Result<(Header, Vec<Record>), codec::Error>;

pub(super) async fn check(
    store: &Store,
    blocking: &Blocking,
    shard: ShardId,
    report: &mut Report,
) -> Result<Ledger, Error> {
    let mut ledger = Ledger::new(ShardReport { shard: shard.0, ..ShardReport::default() });
    let checkpoints = list(store, shard, Place::Checkpoint).await?;
    let mut sequences = list(store, shard, Place::Log).await?;
    // Behind it nothing is let go; which also holds when checkpoints were added since.
    let bound = checkpoints.iter().rev().nth(1).copied().unwrap_or(1);
    fill(store, shard, &mut sequences, bound, report, &mut ledger).await?;
    let (first, last) = (sequences.first().copied(), sequences.last().copied().unwrap_or(0));
    ledger.report.collected = last.saturating_sub(sequences.len() as u64);
    ledger.head = last;

    let states =
        read_checkpoints(store, blocking, shard, &checkpoints, report, &mut ledger).await?;
    let mut replay = Replay::new(shard, states, first == Some(1) && last == sequences.len() as u64);
    let known: BTreeSet<u64> = sequences.iter().copied().collect();
    let read = |sequence| async move {
        Ok::<_, Error>((sequence, read(store, blocking, shard, Place::Log, sequence).await?))
    };
    let mut objects = stream::iter(sequences).map(read).buffered(READ_AHEAD);
    while let Some((sequence, object)) = objects.try_next().await? {
        let key = key(shard, Place::Log, sequence);
        match object {
            // It was let go since it was listed; what lies behind the newest checkpoint is not.
            None => replay.breaks(),
            Some(Err(error)) => {
                report.find(&key, error);
                ledger.is_whole = false;
                replay.breaks();
            }
            Some(Ok((header, records))) => {
                ledger.report.log_objects += 1;
                ledger.report.fences += u64::from(header.kind == Kind::Fence);
                if sequence >= bound {
                    owners(&header, &mut replay.epoch, &key, report);
                }
                for record in &records {
                    if let Record::Submitted(submitted) = record {
                        ledger.submitted(submitted.job, submitted.count);
                    }
                }
                replay.apply(sequence, &records, report, &mut ledger);
            }
        }
    }
    replay.end(&known, bound, report, &mut ledger);
    Ok(ledger)
}

/// The log has each number from the second newest checkpoint on. A listing of a log that grows may
/// have missed one and seen the next.
async fn fill(
    store: &Store,
    shard: ShardId,
    sequences: &mut Vec<u64>,
    bound: u64,
    report: &mut Report,
    ledger: &mut Ledger,
) -> Result<(), Error> {
    let Some(&last) = sequences.last() else { return Ok(()) };
    let there: BTreeSet<u64> = sequences.iter().copied().collect();
    for missing in (bound..last).filter(|sequence| !there.contains(sequence)) {
        let key = key(shard, Place::Log, missing);
        match store.objects().head(&key).await {
            Ok(_) => sequences.push(missing),
            Err(object_store::Error::NotFound { .. }) => {
                report.find(&key, "it is missing from the log");
                ledger.is_whole = false;
            }
            Err(error) => return Err(error.into()),
        }
    }
    sequences.sort_unstable();
    Ok(())
}

/// Each object is of the owner whose fence stands before it.
fn owners(header: &Header, epoch: &mut Option<u64>, key: &Path, report: &mut Report) {
    let is_fence = header.kind == Kind::Fence;
    if is_fence && header.epoch != header.sequence {
        report.find(key, format!("it is a fence of epoch {}", header.epoch));
    }
    if let Some(before) = *epoch
        && !is_fence
        && header.epoch != before
    {
        report.find(key, format!("it is of epoch {}, behind the fence of {before}", header.epoch));
    }
    *epoch = Some(header.epoch);
}

async fn read_checkpoints(
    store: &Store,
    blocking: &Blocking,
    shard: ShardId,
    checkpoints: &[u64],
    report: &mut Report,
    ledger: &mut Ledger,
) -> Result<BTreeMap<u64, Vec<Record>>, Error> {
    let mut states = BTreeMap::new();
    for &sequence in checkpoints {
        match read(store, blocking, shard, Place::Checkpoint, sequence).await? {
            None => {}
            Some(Err(error)) => report.find(key(shard, Place::Checkpoint, sequence), error),
            Some(Ok((_, records))) => {
                ledger.report.checkpoints += 1;
                states.insert(sequence, records);
            }
        }
    }
    Ok(states)
}

/// The state as the log makes it, from its beginning or from a checkpoint on.
struct Replay {
    shard: ShardId,
    state: Option<Shard>,
    checkpoints: BTreeMap<u64, Vec<Record>>,
    /// The log object that comes next, if none is missing.
    next: u64,
    epoch: Option<u64>,
}

impl Replay {
    /// From its beginning, if all of it is there; else from the oldest checkpoint on.
    fn new(shard: ShardId, checkpoints: BTreeMap<u64, Vec<Record>>, is_all: bool) -> Self {
        let state = is_all.then(|| Shard::new(shard));
        Self { shard, state, checkpoints, next: 1, epoch: None }
    }

    /// A log object is damaged: the next checkpoint has to do for what was before it.
    fn breaks(&mut self) {
        self.state = None;
    }

    fn apply(
        &mut self,
        sequence: u64,
        records: &[Record],
        report: &mut Report,
        ledger: &mut Ledger,
    ) {
        if sequence != self.next {
            self.state = None;
        }
        self.next = sequence + 1;
        if let Some(state) = &mut self.state {
            apply(state, sequence, records);
        }
        let Some(checkpoint) = self.checkpoints.remove(&sequence) else { return };
        let restored = restore(self.shard, sequence, &checkpoint);
        if let Some(state) = &self.state {
            ledger.report.checkpoints_compared += 1;
            if picture(state) != picture(&restored) {
                let key = key(self.shard, Place::Checkpoint, sequence);
                report.find(key, "it does not say what the log before it says");
            }
        }
        self.state = Some(restored);
    }

    /// All was read: what lives now has its payload.
    fn end(mut self, known: &BTreeSet<u64>, bound: u64, report: &mut Report, ledger: &mut Ledger) {
        // One from before may have landed long after it was sent.
        for sequence in self.checkpoints.keys().filter(|sequence| **sequence >= bound) {
            let key = key(self.shard, Place::Checkpoint, *sequence);
            report.find(key, "the log object that it is of is not there");
        }
        let Some(state) = self.state.take() else {
            ledger.is_whole = false;
            return;
        };
        for (job, spec) in ledger.state(&state) {
            if !known.contains(&spec.sequence) {
                let key = key(self.shard, Place::Log, spec.sequence);
                report.find(key, format!("it holds job `{job}`, which lives, and is not there"));
            }
        }
    }
}

fn apply(state: &mut Shard, sequence: u64, records: &[Record]) {
    for (row, record) in (0u32..).zip(records) {
        state.apply(Position { sequence, row }, record);
    }
}

fn restore(shard: ShardId, sequence: u64, records: &[Record]) -> Shard {
    let mut state = Shard::new(shard);
    apply(&mut state, sequence, records);
    state
}

/// A state for comparison, whatever the order of its records.
fn picture(state: &Shard) -> Vec<u128> {
    let records = state.records();
    let mut hashes: Vec<u128> =
        records.iter().map(|record| xxh3_128(format!("{record:?}").as_bytes())).collect();
    hashes.sort_unstable();
    hashes
}

/// An object and what is in it; `None` when there is none.
async fn read(
    store: &Store,
    blocking: &Blocking,
    shard: ShardId,
    place: Place,
    sequence: u64,
) -> Result<Option<Read>, Error> {
    let Some(bytes) = store.read(&key(shard, place, sequence)).await? else { return Ok(None) };
    let decode = move || {
        let (header, records) = codec::decode(bytes, Columns::WithoutPayload)?;
        header.expect(shard, sequence, place == Place::Checkpoint)?;
        Ok((header, records))
    };
    Ok(Some(blocking.run(decode).await?))
}

async fn list(store: &Store, shard: ShardId, place: Place) -> Result<Vec<u64>, Error> {
    let folder = Path::from(folder(shard, place));
    let listed: Vec<_> = store.objects().list(Some(&folder)).try_collect().await?;
    let mut sequences: Vec<u64> =
        listed.iter().filter_map(|object| sequence_of(&object.location)).collect();
    sequences.sort_unstable();
    Ok(sequences)
}
