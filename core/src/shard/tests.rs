//! Properties of the state machine: any commands, any crashes, any replays.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Context, JobFilter, Shard};
use crate::Name;
use crate::command::{
    Command, Lease, NewJob, Outcome, Pick, Report, RunStatus, Submit, Target, Verdict,
};
use crate::id::{CommandId, JobRef, Position, ShardId};
use crate::job::{Counts, Exit, JobState, StateSet};
use crate::quantity::Quantity;
use crate::record::{HistorySpan, Payload, Record};
use crate::resources::Resources;
use crate::shape::Shape;
use crate::time::Timestamp;

/// A shard with its log: what a worker does, without any IO.
struct Driven {
    shard: Shard,
    log: Vec<Record>,
    /// Where the checkpoint that recovery starts from was taken.
    checkpoint: Option<(usize, Vec<Record>)>,
    now: Timestamp,
    next_command: u128,
}

fn shape(cpu: i64) -> Arc<Shape> {
    let mut request = Resources::new();
    request.set("cpu".into(), Quantity::from_millis(cpu));
    Arc::new(Shape::of_request(request))
}

fn at(index: usize) -> Position {
    Position { sequence: 1, row: u32::try_from(index).unwrap() }
}

impl Driven {
    fn new() -> Self {
        let shard = Shard::new(ShardId(3));
        Self { shard, log: Vec::new(), checkpoint: None, now: Timestamp(1_000), next_command: 1 }
    }

    fn run(&mut self, command: Command) -> Outcome {
        self.next_command += 1;
        self.run_as(CommandId(self.next_command), command)
    }

    fn run_as(&mut self, id: CommandId, command: Command) -> Outcome {
        let ctx = Context { now: self.now, random: 77, position: at(self.log.len()) };
        let mut records = Vec::new();
        let outcome = self.shard.execute(id, command, ctx, &mut records);
        self.log.extend(records);
        outcome
    }

    fn recovered(&self) -> Shard {
        let mut shard = Shard::new(ShardId(3));
        let mut from = 0;
        if let Some((len, records)) = &self.checkpoint {
            for record in records {
                shard.apply(Position::default(), record);
            }
            from = *len;
        }
        for (index, record) in self.log.iter().enumerate().skip(from) {
            shard.apply(at(index), record);
        }
        shard
    }

    fn submit(&mut self, queue: &str, jobs: Vec<NewJob>, key: Option<u128>) -> Vec<JobRef> {
        let submit =
            Submit { queue: queue.into(), incarnation: 1, job_set: "set".into(), key, jobs };
        match self.run(Command::Submit(submit)) {
            Outcome::Submitted(runs) => runs
                .iter()
                .flat_map(|run| (0..run.count).map(|n| JobRef::whole(run.first.plus(n.into()))))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn lease(&mut self, queue: &str, cpu: i64, count: u32) -> Vec<(JobRef, u32)> {
        let pick = Pick {
            queue: queue.into(),
            priority: 0,
            shape: shape(cpu).key(),
            node: "n".into(),
            count,
        };
        match self.run(Command::Lease(Lease { cluster: "c".into(), picks: vec![pick] })) {
            Outcome::Leased(runs) => runs.iter().map(|run| (run.job, run.attempt)).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn report(&mut self, job: JobRef, attempt: u32, status: RunStatus) -> Verdict {
        self.report_of(job, attempt, status, self.now)
    }

    /// What a cluster says whose clock shows `at`.
    fn report_of(
        &mut self,
        job: JobRef,
        attempt: u32,
        status: RunStatus,
        at: Timestamp,
    ) -> Verdict {
        let report = Report { job, attempt, status, at };
        let command = Command::Report { cluster: "c".into(), reports: vec![report] };
        match self.run(command) {
            Outcome::Reported(verdicts) => verdicts[0],
            other => panic!("{other:?}"),
        }
    }
}

fn new_job(line: u64, cpu: i64, priority: u32, count: Option<u32>) -> NewJob {
    NewJob {
        line,
        client_id: None,
        priority,
        count,
        at_most_once: false,
        shape: shape(cpu),
        payload: Payload { namespace: "default".into(), ..Payload::default() },
    }
}

/// Everything that can be read of a shard, for comparison.
fn picture(shard: &Shard) -> impl PartialEq + std::fmt::Debug + use<> {
    let filter = JobFilter { queue: None, job_set: None, states: StateSet::ALL };
    let mut finished: Vec<_> = shard.finished().map(|f| (**f).clone()).collect();
    finished.sort_by_key(|f| f.job);
    // Queues and shapes stand in the order of numbers that no two shards need to give alike.
    let mut offers = shard.offers(100);
    offers.sort_by(|a, b| a.queue.cmp(&b.queue));
    for offer in &mut offers {
        offer.waiting.sort();
        offer.held.sort();
    }
    (
        shard.live_jobs(&filter, None, usize::MAX),
        finished,
        shard.totals(),
        offers,
        shard.last_id,
        shard.cluster_runs("c"),
        shard.runs("c", None, usize::MAX),
        (shard.history_through(), shard.history_planned(), shard.live(), shard.table_len()),
    )
}

/// Counts per state as the jobs say, one by one.
fn recount(shard: &Shard) -> BTreeMap<(Name, Name), Counts> {
    let filter = JobFilter { queue: None, job_set: None, states: StateSet::ALL };
    let mut all: BTreeMap<(Name, Name), Counts> = BTreeMap::new();
    for job in shard.live_jobs(&filter, None, usize::MAX) {
        all.entry((job.queue, job.job_set)).or_default()[job.state] += 1;
    }
    for done in shard.finished() {
        let counts = all.entry((done.queue.clone(), done.job_set.clone())).or_default();
        counts[done.state] += u64::from(done.count);
    }
    all
}

#[derive(Debug, Clone)]
enum Step {
    Submit { queue: u8, jobs: Vec<(u8, u8, Option<u8>)>, key: Option<u8>, client: Option<u8> },
    Lease { queue: u8, cpu: u8, count: u8 },
    Report { which: u8, status: u8, stale: bool },
    Cancel { which: u8, task: Option<u8> },
    CancelSet { queue: u8, states: u8 },
    Reprioritize { which: u8, priority: u8 },
    Expire,
    History,
    Checkpoint,
    Crash,
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let job = (0u8..3, 0u8..3, prop::option::weighted(0.2, 1u8..6));
    prop_oneof![
        4 => (0u8..2, vec(job, 1..5), prop::option::of(0u8..3), prop::option::weighted(0.3, 0u8..4))
            .prop_map(|(queue, jobs, key, client)| Step::Submit { queue, jobs, key, client }),
        5 => (0u8..2, 0u8..3, 1u8..5)
            .prop_map(|(queue, cpu, count)| Step::Lease { queue, cpu, count }),
        8 => (any::<u8>(), 0u8..6, prop::bool::weighted(0.1))
            .prop_map(|(which, status, stale)| Step::Report { which, status, stale }),
        2 => (any::<u8>(), prop::option::of(0u8..6))
            .prop_map(|(which, task)| Step::Cancel { which, task }),
        1 => (0u8..2, any::<u8>()).prop_map(|(queue, states)| Step::CancelSet { queue, states }),
        2 => (any::<u8>(), 0u8..3)
            .prop_map(|(which, priority)| Step::Reprioritize { which, priority }),
        1 => Just(Step::Expire),
        1 => Just(Step::History),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
        2 => (0u16..2000).prop_map(Step::Wait),
    ]
}

fn exit() -> Exit {
    Exit { code: Some(0), ..Exit::default() }
}

/// Carries out one step as a careless world would.
fn take(driven: &mut Driven, step: &Step, ids: &mut Vec<JobRef>) {
    let queue = |n: &u8| Name::from(format!("q{n}"));
    let pick = |ids: &[JobRef], which: u8| ids.get(usize::from(which) % ids.len().max(1)).copied();
    match step {
        Step::Submit { queue: q, jobs, key, client } => {
            let jobs = jobs.iter().enumerate().map(|(line, (cpu, priority, count))| NewJob {
                client_id: client.filter(|_| line == 0).map(|c| format!("client-{c}").into()),
                ..new_job(
                    line as u64,
                    i64::from(*cpu) + 1,
                    (*priority).into(),
                    count.map(u32::from),
                )
            });
            ids.extend(driven.submit(&queue(q), jobs.collect(), key.map(u128::from)));
        }
        Step::Lease { queue: q, cpu, count } => {
            driven.lease(&queue(q), i64::from(*cpu) + 1, (*count).into());
        }
        Step::Report { which, status, stale } => {
            let runs = driven.shard.runs("c", None, usize::MAX);
            let Some(run) = runs.get(usize::from(*which) % runs.len().max(1)) else { return };
            let attempt = if *stale { run.attempt + 1 } else { run.attempt };
            let status = match status {
                0 => RunStatus::Pending,
                1 => RunStatus::Running,
                2 => RunStatus::Succeeded(exit()),
                3 => RunStatus::Failed(exit()),
                4 => RunStatus::Returned(exit()),
                _ => RunStatus::Lost(exit()),
            };
            let verdict = driven.report(run.job, attempt, status);
            assert_eq!(verdict, if *stale { Verdict::Stale } else { Verdict::Taken });
        }
        Step::Cancel { which, task } => {
            let Some(job) = pick(ids, *which) else { return };
            let job = JobRef { job: job.job, index: task.map(u32::from) };
            driven.run(Command::Cancel { target: Target::Jobs(vec![job]), reason: None });
        }
        Step::CancelSet { queue: q, states } => {
            let states = JobState::ALL.into_iter().filter(|s| states & (1 << *s as u8) != 0);
            let states = states.collect();
            let target = Target::JobSet { queue: queue(q), job_set: "set".into(), states };
            driven.run(Command::Cancel { target, reason: Some("test".into()) });
        }
        Step::Reprioritize { which, priority } => {
            let Some(job) = pick(ids, *which) else { return };
            let target = Target::Jobs(vec![job]);
            driven.run(Command::Reprioritize { target, priority: (*priority).into() });
        }
        Step::Expire => {
            driven.run(Command::ExpireCluster { cluster: "c".into(), runs_max: 3 });
        }
        Step::History => {
            let after = driven.shard.history_through();
            let through = at(driven.log.len());
            driven.run(Command::PlanHistory(HistorySpan { after, through }));
        }
        Step::Checkpoint => {
            driven.checkpoint = Some((driven.log.len(), driven.shard.records()));
        }
        Step::Crash => driven.shard = driven.recovered(),
        Step::Wait(millis) => driven.now = Timestamp(driven.now.0 + i64::from(*millis)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_commands_and_crashes_leave_the_state_that_the_log_implies(steps in vec(step(), 1..60)) {
        let mut driven = Driven::new();
        let mut ids = Vec::new();
        for step in &steps {
            take(&mut driven, step, &mut ids);
            prop_assert_eq!(recount(&driven.shard), driven.shard.totals(), "after {:?}", step);
        }
        prop_assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
        let mut copy = Shard::new(ShardId(3));
        for record in driven.shard.records() {
            copy.apply(Position::default(), &record);
        }
        prop_assert_eq!(picture(&copy), picture(&driven.shard));
    }

    #[test]
    fn the_order_that_is_offered_is_the_order_that_is_leased(steps in vec(step(), 1..40)) {
        let mut driven = Driven::new();
        let mut ids = Vec::new();
        for step in &steps {
            take(&mut driven, step, &mut ids);
        }
        for queue in ["q0", "q1"] {
            while let Some(head) = driven.shard.offers_of(&[queue.into()], 100).into_iter().next()
                .and_then(|offer| offer.head.into_iter().next())
            {
                let cpu = head.shape.request.get("cpu").millis_ceil();
                let leased = driven.lease(queue, cpu, u32::try_from(head.count).unwrap());
                prop_assert_eq!(leased.len() as u64, head.count);
                let mut sorted = leased.clone();
                sorted.sort();
                prop_assert_eq!(leased, sorted, "in the order of submission");
            }
            let waiting = driven.shard.offers_of(&[queue.into()], 100);
            prop_assert!(waiting.iter().all(|offer| offer.waiting.is_empty()));
        }
    }
}

#[test]
fn a_command_sent_again_is_answered_again_and_done_once() {
    let mut driven = Driven::new();
    let submit = Submit {
        queue: "q".into(),
        incarnation: 1,
        job_set: "set".into(),
        key: None,
        jobs: vec![new_job(0, 1, 0, None), new_job(1, 1, 0, None)],
    };
    let first = driven.run_as(CommandId(9), Command::Submit(submit.clone()));
    let written = driven.log.len();
    driven.shard = driven.recovered();
    assert_eq!(driven.run_as(CommandId(9), Command::Submit(submit)), first);
    assert_eq!(driven.log.len(), written);
}

#[test]
fn a_submission_cut_off_and_sent_again_keeps_its_ids_and_gets_the_rest() {
    let mut driven = Driven::new();
    let lines = |range: std::ops::Range<u64>| range.map(|l| new_job(l, 1, 0, None)).collect();
    let first = driven.submit("q", lines(0..5), Some(42));
    driven.now = Timestamp(5_000);
    driven.shard = driven.recovered();
    let again = driven.submit("q", lines(0..8), Some(42));
    assert_eq!(again[..5], first);
    assert_eq!(driven.shard.live(), 8);
    let other_key = driven.submit("q", lines(0..1), Some(43));
    assert!(!again.contains(&other_key[0]));
}

#[test]
fn a_client_id_stands_for_one_job_for_a_day() {
    let mut driven = Driven::new();
    let named = || vec![NewJob { client_id: Some("mine".into()), ..new_job(0, 1, 0, None) }];
    let first = driven.submit("q", named(), None);
    driven.now = Timestamp(driven.now.0 + 23 * 3_600_000);
    driven.shard.forget(driven.now);
    assert_eq!(driven.submit("q", named(), None), first);
    assert_ne!(driven.submit("r", named(), None), first, "another queue");
    driven.now = Timestamp(driven.now.0 + 2 * 3_600_000);
    driven.shard.forget(driven.now);
    assert_ne!(driven.submit("q", named(), None), first);
}

#[test]
fn ids_rise_also_when_the_clock_goes_back() {
    let mut driven = Driven::new();
    let a = driven.submit("q", vec![new_job(0, 1, 0, None)], None);
    driven.now = Timestamp(1);
    let b = driven.submit("q", vec![new_job(0, 1, 0, None)], None);
    assert!(b[0] > a[0]);
    assert_eq!(a[0].job.shard(), ShardId(3));
}

#[test]
fn a_stale_attempt_is_not_believed() {
    let mut driven = Driven::new();
    let job = driven.submit("q", vec![new_job(0, 1, 0, None)], None)[0];
    assert_eq!(driven.lease("q", 1, 1), [(job, 1)]);
    assert_eq!(driven.report(job, 1, RunStatus::Running), Verdict::Taken);
    driven.run(Command::ExpireCluster { cluster: "c".into(), runs_max: 10 });
    assert_eq!(driven.lease("q", 1, 1), [(job, 2)]);
    assert_eq!(driven.report(job, 1, RunStatus::Succeeded(exit())), Verdict::Stale);
    assert_eq!(driven.report(job, 2, RunStatus::Succeeded(exit())), Verdict::Taken);
    let done = driven.shard.finished_of(job).unwrap();
    assert_eq!(done.state, JobState::Succeeded);
    assert_eq!(done.runs.iter().map(|run| run.attempt).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_run_ends_neither_before_it_began_nor_in_the_future() {
    let mut driven = Driven::new();
    driven.submit("a", vec![new_job(0, 1, 0, None), new_job(1, 1, 0, None)], None);
    let runs = driven.lease("a", 1, 2);
    for ((job, attempt), end) in runs.into_iter().zip([Timestamp(5), Timestamp(9_999)]) {
        driven.report_of(job, attempt, RunStatus::Running, Timestamp(1_000));
        driven.now = Timestamp(1_500);
        driven.report_of(job, attempt, RunStatus::Running, Timestamp(1_400));
        driven.report_of(job, attempt, RunStatus::Succeeded(Exit::default()), end);
        let done = driven.shard.finished_of(job).unwrap();
        let started_at = done.runs[0].started_at.unwrap();
        assert!(started_at <= done.finished_at && done.finished_at <= driven.now, "{done:?}");
    }
}

#[test]
fn a_lost_run_of_an_at_most_once_job_fails_it() {
    let mut driven = Driven::new();
    let once = NewJob { at_most_once: true, ..new_job(0, 1, 0, None) };
    let job = driven.submit("q", vec![once], None)[0];
    driven.lease("q", 1, 1);
    driven.run(Command::ExpireCluster { cluster: "c".into(), runs_max: 10 });
    assert_eq!(driven.shard.finished_of(job).unwrap().state, JobState::Failed);
}

#[test]
fn ten_million_tasks_are_one_record_and_their_cancellation_another() {
    let mut driven = Driven::new();
    let job = driven.submit("q", vec![new_job(0, 1, 0, Some(10_000_000))], None)[0];
    assert_eq!(driven.log.len(), 2, "the array and the command");
    let leased = driven.lease("q", 1, 2);
    assert_eq!(leased, [(JobRef::task(job.job, 0), 1), (JobRef::task(job.job, 1), 1)]);
    driven.run(Command::Cancel {
        target: Target::Jobs(vec![JobRef::task(job.job, 5)]),
        reason: None,
    });
    let before = driven.log.len();
    driven.run(Command::Cancel { target: Target::Jobs(vec![job]), reason: None });
    assert_eq!(driven.log.len() - before, 4, "two running tasks, the rest, the command");
    assert_eq!(driven.shard.take_stops().len(), 2);
    let state = |index| driven.shard.finished_of(JobRef::task(job.job, index)).unwrap().state;
    assert_eq!(state(9_999_999), JobState::Cancelled);
    assert_eq!(state(5), JobState::Cancelled);
    let view = driven.shard.job(job).unwrap();
    assert_eq!(view.array.unwrap().1[JobState::Cancelled], 10_000_000);
    assert_eq!(driven.shard.live(), 0);
}

#[test]
fn a_closed_queue_takes_nothing_of_the_old_incarnation() {
    let mut driven = Driven::new();
    let job = driven.submit("q", vec![new_job(0, 1, 0, None)], None)[0];
    let close =
        |driven: &mut Driven| driven.run(Command::CloseQueue { queue: "q".into(), incarnation: 1 });
    assert!(matches!(close(&mut driven), Outcome::Refused(_)));
    driven.run(Command::Cancel { target: Target::Jobs(vec![job]), reason: None });
    assert_eq!(close(&mut driven), Outcome::QueueClosed);
    let submit = |incarnation| Submit {
        queue: "q".into(),
        incarnation,
        job_set: "set".into(),
        key: None,
        jobs: vec![new_job(0, 1, 0, None)],
    };
    assert!(matches!(driven.run(Command::Submit(submit(1))), Outcome::Refused(_)));
    assert!(matches!(driven.run(Command::Submit(submit(2))), Outcome::Submitted(_)));
}

#[test]
fn history_keeps_what_finished_behind_the_span() {
    let mut driven = Driven::new();
    let jobs = driven.submit("q", vec![new_job(0, 1, 0, None), new_job(1, 1, 0, None)], None);
    let cancel = |job| Command::Cancel { target: Target::Jobs(vec![job]), reason: None };
    driven.run(cancel(jobs[0]));
    let span = HistorySpan { after: Position::default(), through: at(driven.log.len() - 1) };
    driven.run(cancel(jobs[1]));
    driven.run(Command::PlanHistory(span));
    driven.shard = driven.recovered();
    assert_eq!(driven.shard.history_planned(), Some(span));
    let rows = driven.shard.finished_in(span);
    assert_eq!(rows.iter().map(|row| row.job).collect::<Vec<_>>(), [jobs[0]]);
    driven.run(Command::NoteHistory(span));
    assert_eq!(driven.shard.finished_of(jobs[0]), None);
    assert!(driven.shard.finished_of(jobs[1]).is_some());
}
