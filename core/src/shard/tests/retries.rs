//! Jobs whose runs do not end well, and that are tried again.

use super::*;
use crate::shape::Gang;
use crate::terms::HeldBack;

fn rule(reasons: &[Reason], action: Action) -> Rule {
    Rule { exit_codes: Vec::new(), signals: Vec::new(), reasons: reasons.to_vec(), action }
}

fn retry(limit: u32) -> Retry {
    Retry { limit, backoff: None, other_node: false, memory: None }
}

fn by(rules: Vec<Rule>) -> Option<Arc<Policy>> {
    Some(Arc::new(Policy { rules }))
}

fn with(retry: Option<Arc<Policy>>, job: NewJob) -> NewJob {
    NewJob { terms: Some(Arc::new(Terms { retry, ..Terms::default() })), ..job }
}

/// The run of a job fails.
fn fail(driven: &mut Driven, job: JobRef, reason: &str) {
    let attempt = driven.shard.job(job).unwrap().runs.last().unwrap().attempt;
    let exit = Exit { code: Some(137), reason: Some(reason.into()), ..Exit::default() };
    assert_eq!(driven.report(job, attempt, RunStatus::Failed(exit)), Verdict::Taken);
}

/// The run of a job never started.
fn come_back(driven: &mut Driven, job: JobRef) {
    let attempt = driven.shard.job(job).unwrap().runs.last().unwrap().attempt;
    assert_eq!(driven.report(job, attempt, RunStatus::Returned(no_room())), Verdict::Taken);
}

/// Until when a job rests.
fn rests(driven: &Driven, job: JobRef) -> Option<Timestamp> {
    match driven.shard.job(job).unwrap().held_back {
        Some(HeldBack::Until(until)) => Some(until),
        None => None,
        other => panic!("{other:?}"),
    }
}

/// As [`rests`], where the seconds of the rest are known.
fn due(driven: &Driven, seconds: i64) -> Option<Timestamp> {
    (seconds > 0).then_some(Timestamp(driven.now.0 + seconds * 1_000))
}

fn last_message(driven: &Driven, job: JobRef) -> String {
    let done = driven.shard.finished_of(job).unwrap();
    assert_eq!(done.state, JobState::Failed);
    let (_, exit) = done.runs.last().unwrap().ended.clone().unwrap();
    exit.message.unwrap_or_default().to_string()
}

#[test]
fn a_job_is_tried_again_until_its_retries_are_used_up_and_says_so() {
    let mut driven = Driven::new();
    let policy = by(vec![rule(&[], Action::Retry(retry(2)))]);
    let job = driven.submit("q", vec![with(policy, new_job(0, 1, 0, None))], None)[0];
    for attempt in 1..=3 {
        assert_eq!(driven.lease("q", 1, 9), [(job, attempt)]);
        driven.shard = driven.replayed(None);
        fail(&mut driven, job, "Error");
    }
    assert_eq!(last_message(&driven, job), "retries are used up, 2 of 2");
    assert!(driven.lease("q", 1, 9).is_empty());
}

#[test]
fn what_is_lost_or_preempted_uses_up_no_retry() {
    let mut driven = Driven::new();
    let policy = by(vec![rule(&[], Action::Retry(retry(1)))]);
    let job = driven.submit("q", vec![with(policy, new_job(0, 1, 0, None))], None)[0];
    for attempt in 1..4 {
        driven.lease("q", 1, 1);
        driven.report(job, attempt, RunStatus::Lost(exit()));
    }
    driven.lease("q", 1, 1);
    assert_eq!(driven.preempt("q", 1, 1).len(), 1);
    driven.lease("q", 1, 1);
    fail(&mut driven, job, "Error");
    assert_eq!(driven.lease("q", 1, 1), [(job, 6)]);
    fail(&mut driven, job, "Error");
    assert_eq!(last_message(&driven, job), "retries are used up, 1 of 1");
}

#[test]
fn a_job_that_makes_room_fails_if_it_says_so_and_its_pod_is_stopped() {
    let mut driven = Driven::new();
    let policy = by(vec![rule(&[Reason::Preempted], Action::Fail)]);
    let job = driven.submit("q", vec![with(policy, new_job(0, 1, 0, None))], None)[0];
    driven.lease("q", 1, 1);
    driven.shard.take_stops();
    assert_eq!(driven.preempt("q", 1, 1), [(job, 1)]);
    assert_eq!(driven.shard.take_stops().len(), 1);
    assert_eq!(last_message(&driven, job), "test");
}

#[test]
fn a_job_without_a_policy_has_that_of_its_queue() {
    let mut driven = Driven::new();
    let queue = by(vec![rule(&[], Action::Retry(retry(1)))]).unwrap();
    driven.shard.retry_by(Arc::new([("q".into(), queue)].into()));
    let own = by(vec![rule(&[Reason::Error], Action::Fail)]);
    let jobs = vec![new_job(0, 1, 0, None), with(own, new_job(1, 1, 0, None))];
    let jobs = driven.submit("q", jobs, None);
    let elsewhere = driven.submit("other", vec![new_job(0, 1, 0, None)], None)[0];
    driven.lease("q", 1, 9);
    driven.lease("other", 1, 9);
    for job in [jobs[0], jobs[1], elsewhere] {
        fail(&mut driven, job, "Error");
    }
    assert_eq!(driven.lease("q", 1, 9), [(jobs[0], 2)]);
    assert_eq!(driven.shard.live(), 1);
}

#[test]
fn a_job_waits_outside_the_order_until_its_time_comes() {
    let mut driven = Driven::new();
    let backoff = Some(Backoff { base_ms: 1_000, factor_millis: 2_000, max_ms: 60_000 });
    let policy = by(vec![rule(&[], Action::Retry(Retry { backoff, ..retry(9) }))]);
    let job = driven.submit("q", vec![with(policy, new_job(0, 1, 0, Some(2)))], None)[0].job;
    let tasks = [JobRef::task(job, 0), JobRef::task(job, 1)];
    assert_eq!(driven.lease("q", 1, 1), [(tasks[0], 1)]);
    fail(&mut driven, tasks[0], "Error");
    let due = Timestamp(driven.now.0 + 1_000);
    assert_eq!(driven.shard.job(tasks[0]).unwrap().held_back, Some(HeldBack::Until(due)));
    assert_eq!(driven.lease("q", 1, 9), [(tasks[1], 1)]);
    driven.store();
    driven.checkpoint = Some((driven.durable, driven.shard.records()));
    driven.shard = driven.recovered();
    driven.now = Timestamp(due.0 - 1);
    driven.run(Command::Tick);
    assert!(driven.lease("q", 1, 9).is_empty());
    driven.now = due;
    let before = driven.written();
    driven.run(Command::Tick);
    assert_eq!(driven.written(), before + 1, "one record for all");
    assert_eq!(driven.lease("q", 1, 9), [(tasks[0], 2)]);
    fail(&mut driven, tasks[0], "Error");
    let held_back = driven.shard.job(tasks[0]).unwrap().held_back;
    assert_eq!(held_back, Some(HeldBack::Until(Timestamp(due.0 + 2_000))));
    driven.run(Command::Cancel { target: Target::Jobs(vec![tasks[0]]), reason: None });
    assert!(!driven.shard.is_rest_over(Timestamp(i64::MAX)));
    assert_eq!(picture(&driven.replayed(None)), picture(&driven.shard));
}

#[test]
fn a_rest_that_began_by_a_clock_that_was_ahead_is_over_when_it_is_put_right() {
    let mut driven = Driven::new();
    let backoff = Some(Backoff { base_ms: 5_000, factor_millis: 2_000, max_ms: 60_000 });
    let policy = by(vec![rule(&[], Action::Retry(Retry { backoff, ..retry(9) }))]);
    let job = driven.submit("q", vec![with(policy, new_job(0, 1, 0, None))], None)[0];
    let right = driven.now;
    for (is_ahead_ms, rests) in [(3_600_000, false), (59_000, true)] {
        assert_eq!(driven.lease("q", 1, 1).len(), 1);
        driven.now = Timestamp(right.0 + is_ahead_ms);
        fail(&mut driven, job, "Error");
        driven.store();
        driven.checkpoint = Some((driven.durable, driven.shard.records()));
        driven.shard = driven.recovered();
        driven.now = right;
        driven.run(Command::Tick);
        let held_back = driven.shard.job(job).unwrap().held_back;
        assert_eq!(held_back.is_some(), rests, "ahead by {is_ahead_ms} ms");
    }
    assert_eq!(picture(&driven.replayed(None)), picture(&driven.shard));
}

#[test]
fn a_job_that_ran_out_of_memory_gets_more_for_its_next_attempts() {
    let of_memory = |units: i64| {
        let mut shape = Shape::clone(&shape(1));
        shape.request.set(MEMORY.into(), Quantity::from_units(units));
        Arc::new(shape)
    };
    let mut driven = Driven::new();
    let memory = Some(Growth { factor_millis: 1_500, max: Quantity::from_units(200) });
    let policy = by(vec![rule(&[Reason::OomKilled], Action::Retry(Retry { memory, ..retry(9) }))]);
    let jobs = [new_job(0, 1, 0, None), new_job(1, 1, 0, Some(2))];
    let jobs = jobs.map(|job| with(policy.clone(), NewJob { shape: of_memory(100), ..job }));
    let ids = driven.submit("q", jobs.to_vec(), Some(9));
    let tasks = [ids[0], JobRef::task(ids[1].job, 0)];
    let lease = |driven: &mut Driven, units: i64| -> Vec<JobRef> {
        let (queue, node, shape) = ("q".into(), "n".into(), of_memory(units).key());
        let pick = Pick { queue, priority: 0, shape, node, count: 2 };
        let lease =
            Command::Lease(Lease { cluster: "c".into(), is_away: false, picks: vec![pick] });
        let Outcome::Leased(runs) = driven.run(lease) else { panic!("it is a lease") };
        assert!(runs.iter().all(|run| run.shape == of_memory(units)));
        runs.iter().map(|run| run.job).collect()
    };
    for units in [100, 150, 200, 200] {
        assert_eq!(lease(&mut driven, units), tasks, "{units}");
        driven.store();
        driven.checkpoint = Some((driven.durable, driven.shard.records()));
        driven.shard = driven.recovered();
        for task in tasks {
            fail(&mut driven, task, "OOMKilled");
        }
        driven.shard = driven.replayed(None);
    }
    assert_eq!(driven.shard.offers(9)[0].waiting.len(), 2, "the other task has its old shape");
    assert_eq!(driven.submit("q", jobs.to_vec(), Some(9)), ids, "it is the same submission");
    assert_eq!(driven.shard.job(tasks[0]).unwrap().shape, of_memory(200));
    driven.run(Command::Cancel { target: Target::Jobs(ids), reason: None });
    assert!(driven.shard.offers(9).is_empty());
}

#[test]
fn a_job_keeps_away_from_a_node_that_is_to_blame_or_if_its_policy_says_so() {
    let avoided = |driven: &Driven, job: JobRef| {
        let shape = driven.shard.job(job).unwrap().shape;
        shape.avoid.iter().map(|(cluster, node)| format!("{cluster}/{node}")).collect::<Vec<_>>()
    };
    let returned =
        |reason: &str| RunStatus::Returned(Exit { reason: Some(reason.into()), ..Exit::default() });
    let mut driven = Driven::new();
    let other_node = by(vec![rule(&[], Action::Retry(Retry { other_node: true, ..retry(9) }))]);
    let jobs = vec![
        with(other_node, new_job(0, 1, 0, None)),
        new_job(1, 1, 0, None),
        new_job(2, 1, 0, None),
        new_job(3, 1, 0, Some(2)),
    ];
    let jobs = driven.submit("q", jobs, None);
    let task = JobRef::task(jobs[3].job, 1);
    driven.lease("q", 1, 9);
    fail(&mut driven, jobs[0], "Error");
    driven.report(jobs[1], 1, returned("StartError"));
    driven.report(jobs[2], 1, returned("DoesNotFit"));
    driven.report(task, 1, returned("StartError"));
    for job in [jobs[0], jobs[1], task] {
        assert_eq!(avoided(&driven, job), ["c/n"], "{job}");
        assert_eq!(driven.shard.finished_of(job), None);
    }
    assert!(avoided(&driven, jobs[2]).is_empty(), "there was no room, which is nobody's fault");
    assert_eq!(picture(&driven.replayed(None)), picture(&driven.shard));
    let runs: u64 = driven.shard.offers(9)[0].heads[0].runs.iter().map(|run| run.count).sum();
    assert_eq!(runs, 4);
}

#[test]
fn a_job_whose_runs_never_start_rests_longer_each_time_until_one_does() {
    let mut driven = Driven::new();
    let job = driven.submit("q", vec![new_job(0, 1, 0, Some(2))], None)[0].job;
    let task = JobRef::task(job, 0);
    for (attempt, seconds) in (1..).zip([0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]) {
        assert_eq!(driven.lease("q", 1, 1), [(task, attempt)]);
        come_back(&mut driven, task);
        let due = due(&driven, seconds);
        assert_eq!(rests(&driven, task), due, "after {attempt} runs");
        driven.store();
        driven.checkpoint = Some((driven.durable, driven.shard.records()));
        driven.shard = driven.recovered();
        if let Some(due) = due {
            driven.now = Timestamp(due.0 - 1);
            driven.run(Command::Tick);
            assert_eq!(rests(&driven, task), Some(due));
            driven.now = due;
            driven.run(Command::Tick);
        }
    }
    let attempt = driven.lease("q", 1, 1)[0].1;
    driven.report(task, attempt, RunStatus::Running);
    driven.report(task, attempt, RunStatus::Lost(exit()));
    assert_eq!(driven.lease("q", 1, 1), [(task, attempt + 1)]);
    come_back(&mut driven, task);
    assert_eq!(driven.lease("q", 1, 1), [(task, attempt + 2)], "one had started");
    assert_eq!(picture(&driven.replayed(None)), picture(&driven.shard));
}

#[test]
fn a_policy_makes_the_rest_of_a_job_that_never_starts_longer_and_not_shorter() {
    let mut driven = Driven::new();
    let backoff = Some(Backoff { base_ms: 3_000, factor_millis: 1_000, max_ms: 3_000 });
    let policy = by(vec![rule(&[Reason::Refused], Action::Retry(Retry { backoff, ..retry(7) }))]);
    let job = driven.submit("q", vec![with(policy, new_job(0, 1, 0, None))], None)[0];
    for seconds in [3, 3, 3, 3, 3, 4, 8] {
        assert_eq!(driven.lease("q", 1, 1).len(), 1);
        come_back(&mut driven, job);
        let due = due(&driven, seconds);
        assert_eq!(rests(&driven, job), due);
        driven.now = due.unwrap();
        driven.run(Command::Tick);
    }
    driven.lease("q", 1, 1);
    come_back(&mut driven, job);
    assert_eq!(last_message(&driven, job), "retries are used up, 7 of 7");
}

#[test]
fn a_gang_of_which_one_never_starts_rests_as_a_whole() {
    use crate::shard::Held;
    let mut driven = Driven::new();
    let jobs = driven.submit("q", gang_of_two(), None);
    let key = driven.shard.job(jobs[0]).unwrap().shape.key();
    for _ in 0..4 {
        assert_eq!(driven.lease_shape("q", key, 2).len(), 2);
        come_back(&mut driven, jobs[1]);
    }
    driven.store();
    driven.checkpoint = Some((driven.durable, driven.shard.records()));
    driven.shard = driven.recovered();
    let due = due(&driven, 1).unwrap();
    for job in [jobs[0], jobs[1]] {
        assert_eq!(rests(&driven, job), Some(due));
        let held = driven.shard.place(job).unwrap().held;
        assert_eq!(held, Some(Held::Back(HeldBack::Until(due))));
    }
    assert!(driven.lease_shape("q", key, 2).is_empty());
    driven.now = due;
    driven.run(Command::Tick);
    assert_eq!(rests(&driven, jobs[0]), None);
    assert_eq!(driven.lease_shape("q", key, 2).len(), 2);
    assert_eq!(picture(&driven.replayed(None)), picture(&driven.shard));
}

fn gang_of_two() -> Vec<NewJob> {
    let gang = Gang { id: "g".into(), cardinality: 2, uniformity: None };
    let shape = Arc::new(Shape { gang: Some(gang), ..Shape::clone(&shape(1)) });
    (0..2).map(|line| NewJob { shape: Arc::clone(&shape), ..new_job(line, 1, 0, None) }).collect()
}

proptest! {
    #[test]
    fn how_long_a_job_rests_follows_from_its_runs_whatever_dies_in_between(
        kind in 0u8..3,
        runs in vec((0u8..8, 0u8..6), 1..24),
    ) {
        let mut driven = Driven::new();
        let (jobs, count) = match kind {
            0 => (vec![new_job(0, 1, 0, None)], 1),
            1 => (vec![new_job(0, 1, 0, Some(1))], 1),
            _ => (gang_of_two(), 2),
        };
        let job = driven.submit("q", jobs, None)[0].job;
        let job = if kind == 1 { JobRef::task(job, 0) } else { JobRef::whole(job) };
        let key = driven.shard.job(job).unwrap().shape.key();
        let mut unstarted = 0_u32;
        for (end, dies) in runs {
            let leased = driven.lease_shape("q", key, count);
            prop_assert_eq!(leased.len(), count as usize);
            let attempt = leased[0].1;
            unstarted += 1;
            match end {
                0 => {
                    unstarted = 0;
                    driven.report(job, attempt, RunStatus::Running);
                    driven.report(job, attempt, RunStatus::Lost(exit()));
                }
                1 => {
                    driven.report(job, attempt, RunStatus::Lost(exit()));
                }
                _ => come_back(&mut driven, job),
            }
            let seconds: i64 = match (end, unstarted) {
                (0 | 1, _) | (_, 0..4) => 0,
                _ => 1 << (unstarted - 4).min(6),
            };
            let due = due(&driven, seconds.min(60));
            if dies < 2 {
                driven.store();
                driven.checkpoint = (dies > 0).then(|| (driven.durable, driven.shard.records()));
                driven.crash(0);
                prop_assert_eq!(picture(&driven.replayed(None)), picture(&driven.shard));
            }
            prop_assert_eq!(rests(&driven, job), due);
            driven.now = due.unwrap_or(driven.now);
            driven.run(Command::Tick);
            prop_assert_eq!(rests(&driven, job), None);
        }
    }
}
