//! A check of everything that a deployment has in its store: that each object is whole and lies
//! where it belongs, that logs have no holes where none may be, that checkpoints say what the log
//! says, and that each job that was submitted lives or stands in the history, once.
//!
//! It writes nothing, and may run beside the deployment: what is written meanwhile is not looked
//! at, and what is let go meanwhile is not missed.

mod jobs;
mod log;
#[cfg(test)]
mod tests;

use futures::{StreamExt, TryStreamExt, stream};
use muster_core::id::ShardId;
use object_store::path::Path;

use crate::store::Store;
use crate::{Blocking, history};
use jobs::Ledger;

/// Objects that are fetched at once.
const READ_AHEAD: usize = 8;
/// Findings that are kept; more are counted.
const FINDINGS_MAX: usize = 1_000;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// Of which object, or place; a job's finding names its shard.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// What was looked at, of one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardReport {
    /// The shard.
    pub shard: u16,
    /// Log objects, fences among them.
    pub log_objects: u64,
    /// Fences.
    pub fences: u64,
    /// Log objects that were let go.
    pub collected: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Checkpoints that were compared with the log before them.
    pub checkpoints_compared: u64,
    /// History objects.
    pub history_objects: u64,
    /// Of these, those of older versions that have no checksum.
    pub history_unsigned: u64,
    /// Jobs and tasks that live.
    pub live: u64,
    /// Jobs and tasks in the history.
    pub history: u64,
    /// Jobs and tasks whose submission is in the log that is left; each was accounted for.
    pub submitted: u64,
}

/// What came of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// By shard.
    pub shards: Vec<ShardReport>,
    /// What is wrong, a thousand at most.
    pub findings: Vec<Finding>,
    /// How much more is wrong.
    pub findings_left_out: u64,
}

/// The check could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("the object store did not answer")]
    Request(#[from] object_store::Error),
    /// The work was not done.
    #[error(transparent)]
    Blocking(#[from] crate::blocking::Error),
}

impl Report {
    fn find(&mut self, place: impl ToString, what: impl ToString) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { place: place.to_string(), what: what.to_string() });
        } else {
            self.findings_left_out += 1;
        }
    }
}

/// The shards that have a log.
///
/// # Errors
/// When the store fails.
pub async fn shards(store: &Store) -> Result<Vec<ShardId>, Error> {
    let listed = store.objects().list_with_delimiter(Some(&Path::from("shards"))).await?;
    let numbers =
        listed.common_prefixes.iter().filter_map(|prefix| prefix.filename()?.parse().ok());
    let mut shards: Vec<ShardId> = numbers.map(ShardId).collect();
    shards.sort_unstable();
    Ok(shards)
}

/// Checks everything; `progress` hears of each part before it is looked at.
///
/// # Errors
/// When the store fails: then nothing is known.
pub async fn verify(
    store: &Store,
    blocking: &Blocking,
    mut progress: impl FnMut(&str) + Send,
) -> Result<Report, Error> {
    let mut report = Report::default();
    let mut ledgers = Vec::new();
    for shard in shards(store).await? {
        progress(&format!("shard {shard}: log and checkpoints"));
        ledgers.push(log::check(store, blocking, shard, &mut report).await?);
    }
    // Behind the logs: what is written to the history later is of spans that these do not have.
    progress("history");
    check_history(store, blocking, &mut ledgers, &mut report).await?;
    for ledger in ledgers {
        progress(&format!("shard {}: jobs", ledger.report.shard));
        let shard = ledger.settle(&mut report);
        report.shards.push(shard);
    }
    Ok(report)
}

async fn check_history(
    store: &Store,
    blocking: &Blocking,
    ledgers: &mut [Ledger],
    report: &mut Report,
) -> Result<(), Error> {
    let root = Path::from("history");
    let listed: Vec<_> = store.objects().list(Some(&root)).try_collect().await?;
    let keys = listed.into_iter().map(|object| object.location);
    let known = keys.filter_map(|key| Some((history::check::place(&key)?, key)));
    let read = |(place, key): (history::check::Place, Path)| async move {
        let found = store.read(&key).await?;
        let jobs = match found {
            None => None,
            Some(bytes) => Some(blocking.run(move || history::check::jobs(bytes)).await?),
        };
        Ok::<_, Error>((place, key, jobs))
    };
    let mut objects = stream::iter(known).map(read).buffered(READ_AHEAD);
    while let Some((place, key, jobs)) = objects.try_next().await? {
        let ledger = ledgers.iter_mut().find(|ledger| ledger.report.shard == place.shard.0);
        let Some(ledger) = ledger else {
            report.find(&key, format!("shard {} has no log", place.shard));
            continue;
        };
        match jobs {
            None => {}
            Some(Err(what)) => {
                ledger.is_whole = false;
                report.find(&key, what);
            }
            Some(Ok((jobs, is_signed))) => ledger.history(place, &jobs, is_signed),
        }
    }
    Ok(())
}
