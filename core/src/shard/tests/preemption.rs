//! Making room for others, by example.

use super::*;
use crate::record::Change;

/// Jobs of one cpu that run, each leased a second after the one before.
fn running(driven: &mut Driven, jobs: Vec<NewJob>, count: u32) -> Vec<JobRef> {
    driven.submit("q", jobs, None);
    let mut leased = Vec::new();
    for _ in 0..count {
        driven.now = Timestamp(driven.now.0 + 1_000);
        leased.extend(driven.lease("q", 1, 1).into_iter().map(|(job, _)| job));
    }
    leased
}

fn victims(count: u32) -> Victims {
    let (queue, shape, node) = ("q".into(), shape(1).key(), "n".into());
    Victims { queue, shape, node, count, reason: "for `b`".into() }
}

fn command(victims: Vec<Victims>) -> Command {
    Command::Preempt(Preempt { cluster: "c".into(), victims })
}

#[test]
fn those_that_were_leased_last_go_first_and_wait_again_as_they_were() {
    let mut driven = Driven::new();
    let jobs = (0..4).map(|line| new_job(line, 1, 0, None)).collect();
    let leased = running(&mut driven, jobs, 4);
    driven.report(leased[3], 1, RunStatus::Running);
    let run = |victims, job| PreemptedRun { victims, job, attempt: 1 };
    let outcome = driven.run(command(vec![victims(1), victims(2)]));
    let expected = vec![run(0, leased[3]), run(1, leased[2]), run(1, leased[1])];
    assert_eq!(outcome, Outcome::Preempted(expected));
    let stops: Vec<_> = driven.shard.take_stops().iter().map(|stop| stop.job).collect();
    assert_eq!(stops, [leased[3], leased[2], leased[1]]);
    assert_eq!(driven.shard.cluster_runs("c").0, 1);
    let shown = driven.shard.job(leased[3]).unwrap();
    let (at, exit) = shown.runs[0].ended.clone().unwrap();
    assert_eq!((shown.state, at), (JobState::Queued, driven.now));
    assert_eq!(exit, Exit::preempted(&"for `b`".into()));
    assert_eq!(driven.report(leased[3], 1, RunStatus::Succeeded(exit)), Verdict::Stale);
    let again: Vec<_> = leased[1..].iter().map(|job| (*job, 2)).collect();
    assert_eq!(driven.lease("q", 1, 9), again, "in their old order, as the next attempt");
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}

#[test]
fn what_is_sure_to_end_is_told_with_the_youngest_of_each_kind() {
    let mut driven = Driven::new();
    let lasting = |line: u64, lasts_max| {
        let shape = Shape { lasts_max, ..(*shape(1)).clone() };
        NewJob { shape: Arc::new(shape), ..new_job(line, 1, 0, None) }
    };
    let jobs = vec![lasting(0, None), lasting(1, Some(60)), lasting(2, Some(60))];
    driven.submit("q", jobs.clone(), None);
    assert_eq!(driven.shard.ending("default"), []);
    for job in &jobs {
        driven.now = Timestamp(driven.now.0 + 1_000);
        let pick = Pick {
            queue: "q".into(),
            priority: 0,
            shape: job.shape.key(),
            node: "n".into(),
            count: 1,
        };
        driven.run(Command::Lease(Lease {
            cluster: "c".into(),
            is_away: false,
            picks: vec![pick],
        }));
    }
    let rows = driven.shard.ending("default");
    assert_eq!((rows.len(), rows[0].count, rows[0].youngest), (1, 2, driven.now));
    assert_eq!((rows[0].shape.lasts_max, &*rows[0].node), (Some(60), "n"));
    assert_eq!(driven.shard.ending("other"), []);
}

#[test]
fn tasks_of_an_array_go_one_by_one_and_wait_again() {
    let mut driven = Driven::new();
    let tasks = running(&mut driven, vec![new_job(0, 1, 0, Some(5))], 3);
    let rows = driven.shard.preemptible("default", |class| class == "default");
    assert_eq!((rows.len(), rows[0].count, rows[0].youngest), (1, 3, driven.now));
    assert_eq!(driven.preempt("q", 1, 2), [(tasks[2], 1), (tasks[1], 1)]);
    let counts = driven.shard.job(JobRef::whole(tasks[0].job)).unwrap().array.unwrap().1;
    assert_eq!((counts[JobState::Queued], counts[JobState::Leased]), (4, 1));
    let leased = driven.lease("q", 1, 3);
    let task = |index, attempt| (JobRef::task(tasks[0].job, index), attempt);
    assert_eq!(leased, [task(1, 2), task(2, 2), task(3, 1)]);
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}

#[test]
fn what_may_run_once_only_is_neither_counted_nor_preempted() {
    let mut driven = Driven::new();
    let once = NewJob { at_most_once: true, ..new_job(0, 1, 0, None) };
    let leased = running(&mut driven, vec![once, new_job(1, 1, 0, None)], 2);
    let rows = driven.shard.preemptible("default", |_| true);
    assert_eq!((rows.len(), rows[0].count), (1, 1));
    assert_eq!(driven.preempt("q", 1, 9), [(leased[1], 1)]);
    assert_eq!(driven.shard.preemptible("default", |_| true), []);
}

#[test]
fn only_what_was_named_goes() {
    let mut driven = Driven::new();
    running(&mut driven, vec![new_job(0, 1, 0, None), new_job(1, 2, 0, None)], 1);
    driven.lease("q", 2, 1);
    assert_eq!(driven.shard.preemptible("default", |_| true).len(), 2);
    assert_eq!(driven.shard.preemptible("other", |_| true), []);
    assert_eq!(driven.shard.preemptible("default", |_| false), []);
    let other_node = Victims { node: "m".into(), ..victims(9) };
    let other_queue = Victims { queue: "r".into(), ..victims(9) };
    let other_shape = Victims { shape: shape(3).key(), ..victims(9) };
    let others = command(vec![other_node, other_queue, other_shape]);
    let before = driven.written();
    assert_eq!(driven.run(others), Outcome::Preempted(Vec::new()));
    let victims = vec![victims(9)];
    let elsewhere = Command::Preempt(Preempt { cluster: "d".into(), victims });
    assert_eq!(driven.run(elsewhere), Outcome::Preempted(Vec::new()));
    assert_eq!(driven.written() - before, 2, "nothing happened, and that is remembered");
    assert_eq!(driven.preempt("q", 1, 9).len(), 1);
    assert_eq!(driven.shard.cluster_runs("c").0, 1);
}

#[test]
fn a_preemption_sent_again_is_answered_again_and_done_once() {
    let mut driven = Driven::new();
    let jobs = (0..3).map(|line| new_job(line, 1, 0, None)).collect();
    running(&mut driven, jobs, 3);
    let first = driven.run_as(CommandId(77), command(vec![victims(1)]));
    driven.shard = driven.recovered();
    assert_eq!(driven.run_as(CommandId(77), command(vec![victims(1)])), first);
    let is_preempted = |record: &&Record| match record {
        Record::Changed(changed) => matches!(changed.change, Change::Preempted { .. }),
        _ => false,
    };
    assert_eq!(driven.commits.iter().flatten().filter(is_preempted).count(), 1);
}
