//! What some jobs ask for beside what they run, and whether they were given it: nothing runs before
//! what it depends on has ended as it should, what cannot run any more is cancelled, and no more
//! tasks of an array run at once than may; and nothing is tried again more often than it says.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::id::JobId;
use muster_runtime::Random;
use serde_json::{Value, json};

use crate::history::{Books, Line};
use crate::ledger::{Job, Ledger, Standing};

/// Jobs that were acknowledged last, on one of which another may depend.
const RECENT: u64 = 30;

/// What a job asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// The jobs that it depends on, by their tags, and how they have to end.
    after: Vec<(String, &'static str)>,
    max_running: Option<usize>,
    /// How often it is tried again when a run ends by itself and not well.
    retries: u32,
    /// Whether its tasks run together or not at all.
    pub(crate) is_gang: bool,
}

impl Wishes {
    /// Of a gang: it can have no other.
    pub(crate) fn of_gang() -> Self {
        Self { is_gang: true, ..Self::default() }
    }
}

/// Gives one in so many jobs of a submission to a queue some terms, and half of the arrays, which
/// are few, a bound for the tasks that run at once.
pub(crate) fn add(
    random: &Random,
    one_in: u64,
    known: &[(String, JobId)],
    lines: &mut [Line],
    jobs: &mut [Value],
) {
    for (line, job) in lines.iter_mut().zip(jobs.iter_mut()) {
        if line.count.is_some() && random.below(2) == 0 {
            let max = 1 + random.below(3);
            (line.wishes.max_running, job["maxRunning"]) = (Some(max as usize), max.into());
        }
    }
    for (place, job) in jobs.iter_mut().enumerate() {
        if random.below(one_in) > 0 {
            continue;
        }
        let (before, line) = lines.split_at_mut(place);
        let line = &mut line[0];
        let once = !job["annotations"]["muster.dev/at-most-once"].is_null();
        if !once && random.below(2) == 0 {
            line.wishes.retries = 1 + random.below(3) as u32;
            let seconds = random.below(4_000) as f64 / 1_000.0;
            job["retry"] = json!([{
                "action": "retry", "limit": line.wishes.retries, "reasons": ["Error"],
                "backoff": { "baseSeconds": seconds, "maxSeconds": 5 },
            }]);
        }
        for _ in 0..random.below(3) {
            let when = ["success", "success", "finish", "failure"][random.below(4) as usize];
            let named = before.iter().filter(|line| line.client_id.is_some());
            let named: Vec<&Line> = named.collect();
            let wish = if !named.is_empty() && random.below(2) == 0 {
                let on = named[random.below(named.len() as u64) as usize];
                Some((on.tag.clone(), json!({ "clientId": on.client_id, "after": when })))
            } else {
                let behind = random.below(RECENT) as usize;
                let on = known.iter().rev().nth(behind).or(known.first());
                on.map(|(tag, id)| (tag.clone(), json!({ "jobId": id.to_string(), "after": when })))
            };
            if let Some((tag, wish)) = wish {
                line.wishes.after.push((tag, when));
                match job["dependsOn"].as_array_mut() {
                    Some(list) => list.push(wish),
                    None => job["dependsOn"] = json!([wish]),
                }
            }
        }
    }
}

/// The jobs of a queue that were acknowledged, in the order in which they were sent.
pub(crate) fn known(books: &Books, queue: &str) -> Vec<(String, JobId)> {
    let of_queue = books.submissions.iter().filter(|submission| submission.queue == queue);
    let lines = of_queue.flat_map(|submission| &submission.lines);
    lines.filter_map(|line| Some((line.tag.clone(), line.id?.0))).collect()
}

/// Everything that was not given as it was asked for.
pub(crate) fn check(books: &Books, ledger: &Ledger, findings: &mut Vec<String>) {
    let by_tag: BTreeMap<&str, &Job> =
        ledger.jobs.values().map(|job| (job.tag.as_str(), job)).collect();
    for line in books.submissions.iter().flat_map(|submission| &submission.lines) {
        let Some(job) = by_tag.get(line.tag.as_str()) else { continue };
        let began = job.tasks.iter().filter_map(|task| task.first(Standing::Held)).min();
        for (tag, when) in &line.wishes.after {
            let Some(on) = by_tag.get(tag.as_str()) else {
                findings.push(format!("{} depends on {tag}, which is not there", line.tag));
                continue;
            };
            match (end(on), began) {
                (Some((end, at)), Some(began)) if !is_met(when, end) || at > began => {
                    findings.push(format!(
                        "{} ran at {began:?}, after {when} of {tag}, which was {} at {at:?}",
                        line.tag,
                        end.name()
                    ));
                }
                (None, Some(_)) => {
                    findings.push(format!("{} ran, and {tag} has not ended", line.tag));
                }
                (Some(_) | None, _) => {}
            }
        }
        let is_over = job.tasks.iter().all(|task| task.standing == Standing::Cancelled);
        if !is_over && is_doomed(line, &by_tag) {
            findings.push(format!("{} can no longer run, and is not cancelled", line.tag));
        }
        let most = job.tasks.iter().map(|task| task.retried).max().unwrap_or_default();
        if most > line.wishes.retries {
            findings.push(format!("{} was tried again {most} times: {line:?}", line.tag));
        }
        let at_once = at_once(job);
        if line.wishes.max_running.is_some_and(|max| at_once > max) {
            findings.push(format!("{at_once} tasks of {} ran at once: {line:?}", line.tag));
        }
    }
}

/// The jobs that are cancelled because of what they depend on.
pub(crate) fn doomed(books: &Books, ledger: &Ledger) -> Vec<String> {
    let by_tag: BTreeMap<&str, &Job> =
        ledger.jobs.values().map(|job| (job.tag.as_str(), job)).collect();
    let lines = books.submissions.iter().flat_map(|submission| &submission.lines);
    lines.filter(|line| is_doomed(line, &by_tag)).map(|line| line.tag.clone()).collect()
}

fn is_doomed(line: &Line, by_tag: &BTreeMap<&str, &Job>) -> bool {
    line.wishes.after.iter().any(|(tag, when)| {
        let end = by_tag.get(tag.as_str()).and_then(|on| end(on));
        end.is_some_and(|(end, _)| !is_met(when, end))
    })
}

fn is_met(when: &str, end: Standing) -> bool {
    match when {
        "success" => end == Standing::Succeeded,
        "failure" => end == Standing::Failed,
        _ => true,
    }
}

/// How a job ended and when, an array as a whole.
fn end(job: &Job) -> Option<(Standing, Duration)> {
    let mut end = (Standing::Succeeded, Duration::ZERO);
    for task in &job.tasks {
        let worse = match (task.standing, end.0) {
            (Standing::Queued | Standing::Held, _) => return None,
            (Standing::Failed, _) | (_, Standing::Failed) => Standing::Failed,
            (Standing::Cancelled, _) | (_, Standing::Cancelled) => Standing::Cancelled,
            (Standing::Succeeded, _) => Standing::Succeeded,
        };
        end = (worse, end.1.max(task.at));
    }
    Some(end)
}

/// How many of its tasks clusters held at once, at most.
fn at_once(job: &Job) -> usize {
    let spans = job.tasks.iter().flat_map(|task| task.spans(Standing::Held));
    let spans: Vec<(Duration, Duration)> = spans.collect();
    let at = |moment: Duration| {
        spans.iter().filter(|(from, to)| *from <= moment && moment < *to).count()
    };
    spans.iter().map(|(from, _)| at(*from)).max().unwrap_or_default()
}
