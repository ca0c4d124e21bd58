//! What clusters say of their runs, and clusters that say nothing any more.

use super::{Context, Shard, Writer, gangs, retry};
use crate::Name;
use crate::command::{Outcome, Report, RunStatus, Verdict};
use crate::id::JobRef;
use crate::job::{Exit, JobState};
use crate::mutant::{self, Mutant};
use crate::record::Change;
use crate::retry::Ending;
use crate::time::Timestamp;

pub(super) fn report(
    shard: &mut Shard,
    cluster: &Name,
    reports: Vec<Report>,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Outcome {
    let verdicts = reports.into_iter().map(|r| take(shard, cluster, r, ctx, writer)).collect();
    Outcome::Reported(verdicts)
}

fn take(
    shard: &mut Shard,
    cluster: &Name,
    report: Report,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Verdict {
    let Report { job, attempt, status, at, addresses, used } = report;
    let Some((state, since)) = believed(shard, cluster, job, attempt) else {
        return Verdict::Stale;
    };
    if let Some(used) = used {
        shard.measured.note(job, used);
    }
    // The cluster's clock may be off: a run ends neither before it was leased and began, nor in
    // the future.
    let at = at.clamp(since, ctx.now.max(since));
    let over = |ending, exit| retry::ended(shard, job, attempt, (ending, exit), ctx.now);
    let change = match status {
        RunStatus::Pending if state == JobState::Leased => Change::Pending { attempt },
        RunStatus::Running if state != JobState::Running => Change::Running { attempt, addresses },
        RunStatus::Pending | RunStatus::Running => return Verdict::Taken,
        RunStatus::Succeeded(exit) => Change::Succeeded { attempt, exit },
        RunStatus::Failed(exit) => over(Ending::Failed, exit),
        RunStatus::Returned(exit) => over(Ending::Returned, exit),
        RunStatus::Lost(exit) => over(Ending::Lost, exit),
    };
    gangs::write(shard, job, at, change, ctx, writer);
    Verdict::Taken
}

/// The state of a run and the last that is known of it, if the system believes in it.
fn believed(
    shard: &Shard,
    cluster: &Name,
    job: JobRef,
    attempt: u32,
) -> Option<(JobState, Timestamp)> {
    let (state, run) = shard.jobs.get(job.job)?.active(job.index)?;
    let since = run.started_at.unwrap_or(run.leased_at);
    let is_it = run.attempt == attempt || mutant::is(Mutant::ForgetsAttempt);
    (run.cluster == *cluster && is_it).then_some((state, since))
}

pub(super) fn expire_cluster(
    shard: &mut Shard,
    cluster: &Name,
    runs_max: usize,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Outcome {
    let runs: Vec<JobRef> = shard
        .clusters
        .get(cluster)
        .map(|known| known.runs.iter().copied().take(runs_max).collect())
        .unwrap_or_default();
    let expired = runs.len();
    for job in runs {
        let Some(known) = shard.jobs.get(job.job) else { continue };
        let Some((_, run)) = known.active(job.index) else { continue };
        let attempt = run.attempt;
        let exit = Exit {
            reason: Some("LeaseExpired".into()),
            message: Some(format!("cluster `{cluster}` was not heard of for too long").into()),
            ..Exit::default()
        };
        let change = retry::ended(shard, job, attempt, (Ending::Lost, exit), ctx.now);
        gangs::write(shard, job, ctx.now, change, ctx, writer);
    }
    Outcome::Expired(expired)
}
