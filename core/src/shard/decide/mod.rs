//! Deciding commands: one file a verb. Each writes the records that say what happened.

mod cancel;
mod gangs;
mod lease;
mod preempt;
mod report;
mod resolve;
mod retry;
mod submit;

pub(super) use cancel::cancel_doomed;
pub(super) use submit::{new_jobs, refusal as submit_refusal};

use super::{Context, Shard, Writer};
use crate::Name;
use crate::command::{Command, Outcome, Refusal};
use crate::id::CommandId;
use crate::record::{Done, HistorySpan, Record};

pub(super) use gangs::is_to_be_stopped;

pub(super) fn decide(
    shard: &mut Shard,
    id: CommandId,
    command: Command,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Outcome {
    match command {
        Command::Submit(submit) => submit::submit(shard, id, submit, ctx, writer),
        Command::Cancel { target, reason } => {
            let concerns_later = target.is_job_set();
            let outcome = cancel::cancel(shard, target, reason.as_ref(), ctx, writer);
            note(shard, id, ctx, outcome, concerns_later, writer)
        }
        Command::Reprioritize { target, priority } => {
            let concerns_later = target.is_job_set();
            let outcome = cancel::reprioritize(shard, target, priority, ctx, writer);
            note(shard, id, ctx, outcome, concerns_later, writer)
        }
        Command::Lease(lease) => lease::lease(shard, lease, ctx, writer),
        Command::Preempt(preempt) => {
            let outcome = preempt::preempt(shard, preempt, ctx, writer);
            note(shard, id, ctx, outcome, true, writer)
        }
        Command::Report { cluster, reports } => {
            report::report(shard, &cluster, reports, ctx, writer)
        }
        Command::ExpireCluster { cluster, runs_max } => {
            report::expire_cluster(shard, &cluster, runs_max, ctx, writer)
        }
        Command::CloseQueue { queue, incarnation } => {
            close_queue(shard, id, queue, incarnation, ctx, writer)
        }
        Command::Tick => Outcome::Noted,
        Command::PlanHistory(span) => plan_history(shard, span, writer),
        Command::NoteHistory(span) => {
            writer.write(shard, Record::HistoryWritten(span));
            Outcome::Noted
        }
    }
}

/// Remembers the outcome of a command that changed something, for those who ask again; also of one
/// that changed nothing and `concerns_later` jobs: a message of it that comes late would change
/// what was submitted since.
fn note(
    shard: &mut Shard,
    id: CommandId,
    ctx: Context,
    outcome: Outcome,
    concerns_later: bool,
    writer: &mut Writer<'_>,
) -> Outcome {
    if writer.records.len() > writer.base || concerns_later {
        let done = Done { id, at: ctx.now, key: None, outcome: outcome.clone() };
        writer.write(shard, Record::Command(done));
    }
    outcome
}

fn close_queue(
    shard: &mut Shard,
    id: CommandId,
    queue: Name,
    incarnation: u64,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Outcome {
    let number = shard.names.number(&queue);
    let live = number.and_then(|n| shard.queues.get(&n)).map_or(0, |queue| queue.live);
    if live > 0 {
        return Outcome::Refused(Refusal::QueueInUse { queue, live });
    }
    if shard.closed.get(&queue).is_none_or(|closed| *closed < incarnation) {
        writer.write(shard, Record::QueueClosed { queue, incarnation, at: ctx.now });
    }
    note(shard, id, ctx, Outcome::QueueClosed, false, writer)
}

fn plan_history(shard: &mut Shard, span: HistorySpan, writer: &mut Writer<'_>) -> Outcome {
    if shard.history_planned.is_none() && span.after == shard.history_through {
        writer.write(shard, Record::HistoryPlanned(span));
    }
    Outcome::Noted
}
