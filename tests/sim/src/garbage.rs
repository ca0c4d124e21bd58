//! What the checker holds of the collection of garbage: by rules written here once more, of every
//! object that was deleted, at the moment at which it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use muster_core::id::{JobRef, ShardId};
use muster_core::record::Record;
use muster_runtime::codec::{self, Columns, Kind};
use muster_runtime::store::{self, Store};
use muster_runtime::{Blocking, verify};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use crate::check::history_rows;
use crate::ledger::Ledger;
use crate::world::Shared;

/// Log objects that were deleted, and when.
pub(crate) struct Gone {
    by_shard: BTreeMap<ShardId, BTreeMap<u64, Duration>>,
}

impl Gone {
    pub(crate) fn of(deleted: &[(Path, Duration)]) -> Self {
        let mut by_shard: BTreeMap<ShardId, BTreeMap<u64, Duration>> = BTreeMap::new();
        for (key, at) in deleted {
            if let Some((shard, Place::Log, sequence)) = place(key) {
                by_shard.entry(shard).or_default().entry(sequence).or_insert(*at);
            }
        }
        Self { by_shard }
    }

    /// Whether a log object from that one on had been deleted by then.
    pub(crate) fn any(&self, shard: ShardId, from: u64, by: Duration) -> bool {
        let of_shard = self.by_shard.get(&shard);
        of_shard.is_some_and(|gone| gone.range(from..).any(|(_, at)| *at <= by))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Log,
    Checkpoint,
}

/// The sequence in the key of an object of a log.
pub(crate) fn sequence(key: &Path) -> Option<u64> {
    key.filename()?.strip_suffix(".parquet")?.parse().ok()
}

fn place(key: &Path) -> Option<(ShardId, Place, u64)> {
    let parts: Vec<_> = key.parts().collect();
    let [shards, shard, folder, _] = &parts[..] else { return None };
    let place = match folder.as_ref() {
        "log" => Place::Log,
        "checkpoint" => Place::Checkpoint,
        _ => return None,
    };
    let shard = ShardId(shard.as_ref().parse().ok()?);
    (shards.as_ref() == "shards").then_some((shard, place, sequence(key)?))
}

/// How many objects of logs and checkpoints were collected.
pub(crate) fn collected(shared: &Shared) -> u64 {
    let deleted = shared.site.landings.deleted();
    deleted.iter().filter(|(key, _)| place(key).is_some()).count() as u64
}

/// Everything that was deleted and should not have been.
pub(crate) async fn check(shared: &Shared, ledger: &Ledger) -> anyhow::Result<Vec<String>> {
    let landings = &shared.site.landings;
    let mut findings = Vec::new();
    let rows: BTreeMap<String, Duration> =
        history_rows(shared).await?.into_iter().map(|row| (row.id, row.at)).collect();
    let checkpoints = checkpoints(shared).await?;
    for (key, at) in landings.deleted() {
        let Some((shard, place, sequence)) = place(&key) else { continue };
        let older = checkpoints.get(&shard).and_then(|landed| older_of_two_newest(landed, at));
        if older.is_none_or(|older| sequence >= older) {
            findings.push(format!("{key} was deleted at {at:?}: recovery may begin at {older:?}"));
        }
        if place == Place::Log {
            of_the_log(shared, ledger, &rows, &key, at, &mut findings).await?;
        }
    }
    for (key, payload) in landings.used_again() {
        let first = landings.archive().get(&key).await?.bytes().await?;
        let again = bytes::Bytes::from(payload);
        // A put of long ago that lands once more brings the same bytes; a sleeper may have left a
        // fence where it then found that it owns nothing.
        let is_fence = codec::Header::read(&again).is_ok_and(|header| header.kind == Kind::Fence);
        if first != again && !is_fence {
            findings.push(format!("{key} was used for two different objects"));
        }
    }
    Ok(findings)
}

/// What `muster admin verify` finds.
pub(crate) async fn verify(shared: &Shared) -> anyhow::Result<Vec<String>> {
    let objects = Arc::clone(&shared.site.objects);
    let store = Store::over(objects, store::Kind::Memory, "memory:///");
    let report = verify::verify(&store, &Blocking::inline(), |_| {}).await?;
    let findings = report.findings.iter();
    Ok(findings.map(|found| format!("verify: {}: {}", found.place, found.what)).collect())
}

/// A log object goes only if it is no fence, and if each job in it had ended by then, and stood in
/// the history.
async fn of_the_log(
    shared: &Shared,
    ledger: &Ledger,
    rows: &BTreeMap<String, Duration>,
    key: &Path,
    at: Duration,
    findings: &mut Vec<String>,
) -> anyhow::Result<()> {
    let bytes = shared.site.landings.archive().get(key).await?.bytes().await?;
    let (header, records) = codec::decode(bytes, Columns::WithoutPayload)
        .with_context(|| format!("object {key} cannot be read"))?;
    if header.kind == Kind::Fence {
        findings.push(format!("{key} is a fence, and was deleted at {at:?}"));
    }
    let submitted = records.iter().filter_map(|record| match record {
        Record::Submitted(submitted) => Some(submitted.job),
        _ => None,
    });
    for id in submitted {
        let Some(job) = ledger.jobs.get(&id) else { continue };
        for (index, task) in (0u32..).zip(&job.tasks) {
            let job = if job.is_array { JobRef::task(id, index) } else { JobRef::whole(id) };
            let in_history = rows.get(&job.to_string()).is_some_and(|landed| *landed <= at);
            if !task.standing.is_final() || task.at > at || !in_history {
                findings.push(format!("{key} was deleted at {at:?}, and {job} was {task:?}"));
            }
        }
    }
    Ok(())
}

/// When each checkpoint landed, by shard and sequence.
async fn checkpoints(
    shared: &Shared,
) -> anyhow::Result<BTreeMap<ShardId, BTreeMap<u64, Duration>>> {
    let landings = &shared.site.landings;
    let folder = Path::from("shards");
    let listed: Vec<_> = landings.archive().list(Some(&folder)).try_collect().await?;
    let mut by_shard: BTreeMap<ShardId, BTreeMap<u64, Duration>> = BTreeMap::new();
    for object in listed {
        if let Some((shard, Place::Checkpoint, sequence)) = place(&object.location)
            && let Some(at) = landings.of(object.location.as_ref())
        {
            by_shard.entry(shard).or_default().insert(sequence, at);
        }
    }
    Ok(by_shard)
}

fn older_of_two_newest(landed: &BTreeMap<u64, Duration>, by: Duration) -> Option<u64> {
    let there: BTreeSet<u64> =
        landed.iter().filter(|(_, at)| **at <= by).map(|(sequence, _)| *sequence).collect();
    there.iter().rev().nth(1).copied()
}
