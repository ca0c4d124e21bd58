//! Gangs among the jobs of a simulation: arrays whose tasks run together or not at all, on one
//! cluster. Whether that was so is seen in the log.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::id::JobRef;
use muster_runtime::Random;
use serde_json::Value;

use crate::history::{Books, Line};
use crate::ledger::{Job, Ledger, Standing};
use crate::terms::Wishes;

/// Members, at most.
const MEMBERS_MAX: u64 = 6;

/// Makes a gang of some of the arrays of a submission, no larger than every cluster holds: it has
/// `halves` half cpus.
pub(crate) fn add(random: &Random, halves: u64, lines: &mut [Line], jobs: &mut [Value]) {
    for (line, job) in lines.iter_mut().zip(jobs) {
        if line.count.is_none() || random.below(2) > 0 {
            continue;
        }
        let count = (2 + random.below(MEMBERS_MAX - 1)).min(halves);
        line.count = u32::try_from(count).ok();
        line.wishes = Wishes::of_gang();
        job["count"] = count.into();
        job["annotations"]["muster.dev/gangId"] = line.tag.replace('/', "-").into();
        job["annotations"]["muster.dev/gangCardinality"] = count.to_string().into();
        if random.below(2) == 0 {
            job["annotations"]["muster.dev/simulated-failure-rate"] = "0.3".into();
        }
        job["podSpec"]["containers"][0]["resources"]["requests"]["cpu"] = "500m".into();
        line.spec = job["podSpec"].to_string();
        if let Some(job) = job.as_object_mut() {
            for term in ["retry", "dependsOn", "maxRunning"] {
                job.remove(term);
            }
        }
    }
}

/// Every gang that was torn: after some commit one of its live members was on a cluster and another
/// was waiting, or on another cluster; or one succeeded after another had failed.
pub(crate) fn check(books: &Books, ledger: &Ledger, findings: &mut Vec<String>) {
    let lines = books.submissions.iter().flat_map(|submission| &submission.lines);
    let gangs: BTreeSet<&str> =
        lines.filter(|line| line.wishes.is_gang).map(|line| line.tag.as_str()).collect();
    for (id, job) in ledger.jobs.iter().filter(|(_, job)| gangs.contains(job.tag.as_str())) {
        let held = job.tasks.iter().flat_map(|task| task.spans(Standing::Held));
        let moments: BTreeSet<Duration> = held.flat_map(|(from, to)| [from, to]).collect();
        for at in moments.into_iter().filter(|at| *at < Duration::MAX) {
            let holds = |so: Standing| {
                let is = |task: &crate::ledger::Task| {
                    task.spans(so).any(|(from, to)| from <= at && at < to)
                };
                (0_u32..).zip(&job.tasks).filter(|(_, task)| is(task)).count()
            };
            let (held, queued) = (holds(Standing::Held), holds(Standing::Queued));
            if held > 0 && queued > 0 {
                findings.push(format!("gang {id}: {held} held and {queued} queued at {at:?}"));
            }
        }
        let ended = |so: Standing| {
            let tasks = job.tasks.iter().filter(move |task| task.standing == so);
            tasks.filter_map(|task| task.ended)
        };
        let (failed, succeeded) = (ended(Standing::Failed), ended(Standing::Succeeded));
        if let (Some(failed), Some(succeeded)) = (failed.min(), succeeded.max())
            && succeeded > failed
        {
            findings.push(format!("gang {id}: one succeeded after another had failed"));
        }
        findings.extend(apart(ledger, job, *id));
    }
}

/// Members that were on several clusters at a time.
fn apart(ledger: &Ledger, job: &Job, id: muster_core::id::JobId) -> Option<String> {
    let tasks = 0..u32::try_from(job.tasks.len()).unwrap_or(u32::MAX);
    let of_task = |index| {
        let task = JobRef::task(id, index);
        ledger.grants.range((task, 0)..=(task, u32::MAX)).map(|(_, grant)| grant)
    };
    let grants: Vec<_> = tasks.flat_map(of_task).collect();
    let ends = |until: Option<Duration>| until.unwrap_or(Duration::MAX);
    grants.iter().enumerate().find_map(|(place, one)| {
        let other = grants[place + 1..].iter().find(|other| {
            let together = one.at < ends(other.until) && other.at < ends(one.until);
            together && one.cluster != other.cluster
        })?;
        Some(format!("gang {id} is on two clusters: {one:?}, {other:?}"))
    })
}
