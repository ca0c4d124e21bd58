//! What must hold when everything has settled: the promises of the design, held against the log,
//! the history and what clients saw.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use futures::TryStreamExt as _;
use muster_core::id::{JobId, ShardId};
use muster_core::route::shard_of_queue;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::history::{Books, CancelAsked, Read, Seen, Target};
use crate::ledger::{Ledger, Standing};
use crate::world::Shared;
use crate::{gangs, garbage, grants, terms};

/// A row of the history.
pub(crate) struct Row {
    pub(crate) id: String,
    state: String,
    /// When its object landed.
    pub(crate) at: Duration,
}

/// The log objects that are there, by shard.
pub(crate) struct Kept {
    shards: u16,
    whole_from: BTreeMap<ShardId, u64>,
}

impl Kept {
    pub(crate) async fn read(shared: &Shared) -> anyhow::Result<Self> {
        let shards = shared.site.plan.shards;
        let mut whole_from = BTreeMap::new();
        for shard in (0..shards).map(ShardId) {
            let folder = Path::from(format!("shards/{shard}/log"));
            let listed: Vec<_> = shared.site.objects.list(Some(&folder)).try_collect().await?;
            let there: BTreeSet<u64> =
                listed.iter().filter_map(|object| garbage::sequence(&object.location)).collect();
            let last = there.last().copied().unwrap_or(0);
            let tail = there.iter().rev().zip((0..=last).rev());
            let whole = tail.take_while(|(there, expected)| *there == expected).count() as u64;
            whole_from.insert(shard, last + 1 - whole);
        }
        Ok(Self { shards, whole_from })
    }

    /// Whether an event can still be read by whoever comes without a cursor.
    fn holds(&self, queue: &str, event: &Seen) -> bool {
        let shard = shard_of_queue(queue, self.shards);
        self.whole_from.get(&shard).is_some_and(|from| sequence_of(event) >= *from)
    }
}

/// Each row of the history.
pub(crate) async fn history_rows(shared: &Shared) -> anyhow::Result<Vec<Row>> {
    let folder = Path::from("history");
    let objects = &shared.site.objects;
    let listed: Vec<_> = objects.list(Some(&folder)).try_collect().await?;
    let mut rows = Vec::new();
    for object in listed {
        let bytes = objects.get(&object.location).await?.bytes().await?;
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
            let batch = batch?;
            let column = |name: &str| {
                batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>())
            };
            let (Some(ids), Some(states)) = (column("job_id"), column("state")) else {
                anyhow::bail!("{} lacks a column", object.location);
            };
            let at = shared.site.landings.of(object.location.as_ref()).unwrap_or_default();
            let pairs = ids.iter().zip(states);
            rows.extend(pairs.filter_map(|(id, state)| {
                Some(Row { id: id?.to_owned(), state: state?.to_owned(), at })
            }));
        }
    }
    Ok(rows)
}

/// Everything that is wrong.
pub(crate) async fn check(shared: &Shared, ledger: &Ledger) -> anyhow::Result<Vec<String>> {
    let mut findings = ledger.findings.clone();
    findings.extend(shared.site.pods.findings());
    let kept = Kept::read(shared).await?;
    let deleted = shared.site.landings.deleted();
    {
        let books = shared.history.lock();
        findings.extend(books.findings.iter().cloned());
        acknowledged(&books, ledger, &mut findings);
        cancelled(&books, ledger, &mut findings);
        cancelled_unasked(&books, ledger, &mut findings);
        reads(&books, ledger, &mut findings);
        terms::check(&books, ledger, &mut findings);
        gangs::check(&books, ledger, &mut findings);
        let gone = garbage::Gone::of(&deleted);
        watched(&books, ledger, &gone, shared.site.plan.shards, &mut findings);
        findings.extend(watchers_behind(&books, ledger, &kept));
    }
    findings.extend(grants::check(&shared.site.plan, &shared.site.pods, ledger));
    history(&history_rows(shared).await?, ledger, &mut findings);
    Ok(findings)
}

/// What was acknowledged is there, as acknowledged and not later; nothing is there twice, and
/// nothing that nobody sent.
fn acknowledged(books: &Books, ledger: &Ledger, findings: &mut Vec<String>) {
    let mut by_tag: BTreeMap<&str, Vec<JobId>> = BTreeMap::new();
    for (id, job) in &ledger.jobs {
        by_tag.entry(&job.tag).or_default().push(*id);
    }
    for (number, submission) in books.submissions.iter().enumerate() {
        for line in &submission.lines {
            let there = by_tag.remove(line.tag.as_str()).unwrap_or_default();
            if there.len() > 1 {
                findings.push(format!("submission {number}: {} is there as {there:?}", line.tag));
            }
            let Some((id, at)) = line.id else { continue };
            let Some(job) = ledger.jobs.get(&id) else {
                findings.push(format!("{id} ({}) was acknowledged and is lost", line.tag));
                continue;
            };
            let same = job.tag == line.tag
                && (&job.queue, &job.job_set) == (&submission.queue, &submission.job_set);
            if !same {
                findings.push(format!("{id} was acknowledged for {} and is {}", line.tag, job.tag));
            }
            if job.spec != line.spec.as_bytes() {
                let spec = String::from_utf8_lossy(&job.spec);
                findings.push(format!("{id} was sent as {} and is {spec}", line.spec));
            }
            if job.submitted_at > at {
                findings.push(format!(
                    "{id} was acknowledged at {at:?} and durable at {:?}",
                    job.submitted_at
                ));
            }
            if job.tasks.len() != line.count.unwrap_or(1) as usize {
                findings.push(format!("{id} has {} tasks", job.tasks.len()));
            }
        }
    }
    for (tag, ids) in by_tag {
        findings.push(format!("{ids:?} ({tag}) are there and nobody submitted them"));
    }
}

/// Whatever was cancelled had ended, durably, when that was acknowledged.
fn cancelled(books: &Books, ledger: &Ledger, findings: &mut Vec<String>) {
    for cancelled in &books.cancelled {
        for id in &cancelled.ids {
            let Some(job) = ledger.jobs.get(id) else { continue };
            let late =
                |task: &&crate::ledger::Task| !task.standing.is_final() || task.at > cancelled.at;
            if let Some(task) = job.tasks.iter().find(late) {
                findings.push(format!(
                    "the cancellation of {id} was acknowledged at {:?}: {task:?}",
                    cancelled.at
                ));
            }
        }
    }
}

/// Nothing is cancelled but by a cancellation that was under way, and so had not been acknowledged
/// before: one that comes again later does nothing. Or because of what it depends on.
fn cancelled_unasked(books: &Books, ledger: &Ledger, findings: &mut Vec<String>) {
    let doomed: BTreeSet<String> = terms::doomed(books, ledger).into_iter().collect();
    for (reference, job, task) in ledger.tasks() {
        let asked = |ask: &CancelAsked| {
            let means = match &ask.target {
                Target::Jobs(ids) => ids.contains(&reference.job),
                Target::JobSet(queue, set) => *queue == job.queue && *set == job.job_set,
            };
            means && ask.asked <= task.at && ask.answered.is_none_or(|at| task.at <= at)
        };
        let is_asked = books.cancels.iter().any(asked) || doomed.contains(&job.tag);
        if task.standing == Standing::Cancelled && !is_asked {
            findings.push(format!("{reference} is cancelled, and nobody asked then: {task:?}"));
        }
    }
}

/// A read shows where the job stood, durably, at some moment between question and answer: nothing
/// that is not durable yet, and nothing that is over.
fn reads(books: &Books, ledger: &Ledger, findings: &mut Vec<String>) {
    for Read { job, state, asked, answered } in &books.reads {
        let Some(found) = ledger.jobs.get(&job.job) else { continue };
        // The state of an array as a whole is made of its tasks'.
        if found.is_array && job.index.is_none() {
            continue;
        }
        let task = found.tasks.get(job.index.unwrap_or(0) as usize);
        let standing = Standing::of_state(state);
        let (Some(task), Some(standing)) = (task, standing) else {
            findings.push(format!("{job} was shown as {state}"));
            continue;
        };
        if !task.stood(standing, *asked, *answered) {
            findings.push(format!(
                "{job} was shown as {state} between {asked:?} and {answered:?}: {task:?}"
            ));
        }
    }
}

/// Watchers saw every event once, in order, and none before it was durable; what they missed was
/// collected, and they were told.
fn watched(
    books: &Books,
    ledger: &Ledger,
    gone: &garbage::Gone,
    shards: u16,
    findings: &mut Vec<String>,
) {
    for ((queue, job_set, number), watched) in &books.watched {
        let place = (queue.clone(), job_set.clone());
        let expected = ledger.events.get(&place).map(Vec::as_slice).unwrap_or_default();
        let shard = shard_of_queue(queue, shards);
        let mut next = 0;
        for (number_seen, (seen, at)) in watched.events.iter().enumerate() {
            let wanted = next;
            // Who comes without a cursor, at first or after being told, begins with what is kept.
            if number_seen == 0 || watched.expired.contains(&number_seen) {
                let rest = expected.iter().skip(next);
                next += rest.take_while(|(event, _)| event.cursor != seen.cursor).count();
            }
            if next > wanted && !gone.any(shard, sequence_of(&expected[wanted].0), *at) {
                findings.push(format!(
                    "watcher {number} of {queue}/{job_set} missed {:?}, and nothing was collected",
                    expected[wanted].0
                ));
            }
            match expected.get(next) {
                Some((event, durable_at)) if event == seen => {
                    if durable_at > at {
                        findings
                            .push(format!("{seen:?} was shown at {at:?}, durable {durable_at:?}"));
                    }
                }
                other => {
                    findings.push(format!(
                        "watcher {number} of {queue}/{job_set}: event {number_seen} is {seen:?}, expected was {other:?}"
                    ));
                    break;
                }
            }
            next += 1;
        }
    }
}

/// Watchers who have not seen the last event of their job set, if it is still kept.
pub(crate) fn watchers_behind(books: &Books, ledger: &Ledger, kept: &Kept) -> Vec<String> {
    let mut behind = Vec::new();
    for ((queue, job_set), events) in &ledger.events {
        let Some((last, _)) = events.last().filter(|(event, _)| kept.holds(queue, event)) else {
            continue;
        };
        for number in 0..crate::WATCHERS {
            let place = (queue.clone(), job_set.clone(), number);
            let seen = books.watched.get(&place).and_then(|watched| watched.events.last());
            if seen.is_none_or(|(seen, _)| seen != last) {
                behind.push(format!(
                    "watcher {number} of {queue}/{job_set} saw {seen:?} last, and not {last:?}"
                ));
            }
        }
    }
    behind
}

fn sequence_of(event: &Seen) -> u64 {
    let sequence = event.cursor.split('-').next();
    sequence.and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// One row for each job and task that finished, and its state.
fn history(rows: &[Row], ledger: &Ledger, findings: &mut Vec<String>) {
    let mut by_id: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Row { id, state, .. } in rows {
        by_id.entry(id).or_default().push(state);
    }
    for (reference, _, task) in ledger.tasks() {
        let id = reference.to_string();
        let there = by_id.remove(id.as_str()).unwrap_or_default();
        let expected: &[&str] =
            if task.standing.is_final() { &[task.standing.name()] } else { &[] };
        if there != expected {
            findings.push(format!("{id} is {:?}, history has {there:?}", task.standing));
        }
    }
    for (id, states) in by_id {
        findings.push(format!("history has {id} {states:?}, the log has not"));
    }
}
