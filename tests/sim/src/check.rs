//! What must hold when everything has settled: the promises of the design, held against the log,
//! the history and what clients saw.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray as _;
use futures::TryStreamExt as _;
use muster_core::id::JobId;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::history::Books;
use crate::ledger::Ledger;
use crate::world::Shared;

/// The states of finished jobs by id, as history has them: each row of it.
pub(crate) async fn history_rows(shared: &Shared) -> anyhow::Result<Vec<(String, String)>> {
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
            let pairs = ids.iter().zip(states);
            rows.extend(pairs.filter_map(|(id, state)| Some((id?.to_owned(), state?.to_owned()))));
        }
    }
    Ok(rows)
}

/// Everything that is wrong.
pub(crate) async fn check(shared: &Shared, ledger: &Ledger) -> anyhow::Result<Vec<String>> {
    let mut findings = ledger.findings.clone();
    findings.extend(shared.site.pods.findings());
    {
        let books = shared.history.lock();
        findings.extend(books.findings.iter().cloned());
        acknowledged(&books, ledger, &mut findings);
        cancelled(&books, ledger, &mut findings);
        watched(&books, ledger, &mut findings);
    }
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
            if job.tag != line.tag || job.queue != submission.queue {
                findings.push(format!("{id} was acknowledged for {} and is {}", line.tag, job.tag));
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

/// Watchers saw every event once, in order, and none before it was durable.
fn watched(books: &Books, ledger: &Ledger, findings: &mut Vec<String>) {
    for ((queue, job_set, number), watched) in &books.watched {
        let place = (queue.clone(), job_set.clone());
        let expected = ledger.events.get(&place).map(Vec::as_slice).unwrap_or_default();
        for (number_seen, pair) in watched.events.iter().enumerate() {
            let (seen, at) = pair;
            match expected.get(number_seen) {
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
        }
    }
    for ((queue, job_set), events) in &ledger.events {
        for number in 0..crate::WATCHERS {
            let place = (queue.clone(), job_set.clone(), number);
            let seen = books.watched.get(&place).map_or(0, |watched| watched.events.len());
            if seen < events.len() {
                findings.push(format!(
                    "watcher {number} of {queue}/{job_set} saw {seen} events of {}",
                    events.len()
                ));
            }
        }
    }
}

/// One row for each job and task that finished, and its state.
fn history(rows: &[(String, String)], ledger: &Ledger, findings: &mut Vec<String>) {
    let mut by_id: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, state) in rows {
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
