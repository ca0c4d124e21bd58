//! Properties of the state machine: any commands, any crashes, any replays.

mod examples;
mod gangs;
mod held_back;
mod places;
mod preemption;
mod retries;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::job::Body;
use super::{Bound, ClassLine, Context, JobFilter, JobView, Shard, dependencies};
use crate::Name;
use crate::command::{
    Command, Lease, NewJob, Outcome, Pick, Preempt, PreemptedRun, Refusal, Report, RunStatus,
    Submit, Target, Verdict, Victims,
};
use crate::id::{CommandId, JobId, JobRef, Position, ShardId};
use crate::job::{Counts, Exit, JobState, StateSet};
use crate::limits;
use crate::quantity::Quantity;
use crate::record::{HistorySpan, Payload, Record};
use crate::resources::{MEMORY, Resources};
use crate::retry::{Action, Backoff, Growth, Policy, Reason, Retry, Rule};
use crate::shape::{Shape, ShapeKey};
use crate::terms::{Dependency, On, Terms, When};
use crate::time::Timestamp;

/// A shard with its log: what a worker does, without any IO.
struct Driven {
    shard: Shard,
    /// What lies in the store or is on its way there, a commit each; the last one is still open.
    commits: Vec<Vec<Record>>,
    /// How many of them are known to be stored.
    durable: usize,
    /// Where the checkpoint that recovery starts from was taken: behind so many commits.
    checkpoint: Option<(usize, Vec<Record>)>,
    now: Timestamp,
    /// The latest that it ever was.
    latest: Timestamp,
    next_command: u128,
    /// Commands that changed something, for those who ask again.
    answered: Vec<Answered>,
}

#[derive(Clone)]
struct Answered {
    id: CommandId,
    command: Command,
    outcome: Outcome,
    at: Timestamp,
    /// The commit that holds it.
    commit: usize,
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
        Self {
            shard: Shard::new(ShardId(3)),
            commits: vec![Vec::new()],
            durable: 0,
            checkpoint: None,
            now: Timestamp(1_000),
            latest: Timestamp(1_000),
            next_command: 1,
            answered: Vec::new(),
        }
    }

    fn run(&mut self, command: Command) -> Outcome {
        self.next_command += 1;
        self.run_as(CommandId(self.next_command), command)
    }

    fn run_as(&mut self, id: CommandId, command: Command) -> Outcome {
        let row = u32::try_from(self.commits.last().unwrap().len()).unwrap();
        let position = Position { sequence: self.commits.len() as u64, row };
        // No two owners give the same id.
        let random = (self.next_command as u64) << 20;
        let ctx = Context { now: self.now, random, position };
        let mut records = Vec::new();
        let outcome = self.shard.execute(id, command.clone(), ctx, &mut records);
        if records.iter().any(|record| matches!(record, Record::Command(done) if done.id == id)) {
            let (at, commit, outcome) = (self.now, self.commits.len() - 1, outcome.clone());
            self.answered.push(Answered { id, command, outcome, at, commit });
        }
        self.commits.last_mut().unwrap().extend(records);
        outcome
    }

    fn written(&self) -> usize {
        self.commits.iter().map(Vec::len).sum()
    }

    /// The open commit goes on its way.
    fn seal(&mut self) {
        if !self.commits.last().unwrap().is_empty() {
            self.commits.push(Vec::new());
        }
    }

    /// All that is on its way arrives.
    fn store(&mut self) {
        self.seal();
        self.durable = self.commits.len() - 1;
    }

    /// The process dies; of what was on its way, some arrived.
    fn crash(&mut self, arrived: usize) {
        let on_its_way = self.commits.len() - 1 - self.durable;
        self.durable += arrived % (on_its_way + 1);
        self.commits.truncate(self.durable);
        self.answered.retain(|answered| answered.commit < self.durable);
        self.commits.push(Vec::new());
        self.shard = self.recovered();
    }

    /// The state of what is known to be stored.
    fn stored(&self) -> Shard {
        let commits = self.commits[..self.durable].to_vec();
        let commits = Self { commits, checkpoint: None, ..Self::new() };
        commits.replayed(None)
    }

    fn recovered(&self) -> Shard {
        self.replayed(self.checkpoint.as_ref())
    }

    fn replayed(&self, checkpoint: Option<&(usize, Vec<Record>)>) -> Shard {
        let mut shard = Shard::new(ShardId(3));
        let mut from = 0;
        if let Some((commits, records)) = checkpoint {
            for record in records {
                shard.apply(Position::default(), record);
            }
            from = *commits;
        }
        for (index, commit) in self.commits.iter().enumerate().skip(from) {
            for (row, record) in commit.iter().enumerate() {
                let row = u32::try_from(row).unwrap();
                shard.apply(Position { sequence: index as u64 + 1, row }, record);
            }
        }
        shard
    }

    fn wait(&mut self, hours: i64) {
        self.now = Timestamp(self.now.0 + hours * HOUR);
        self.latest = self.latest.max(self.now);
    }

    fn submit(&mut self, queue: &str, jobs: Vec<NewJob>, key: Option<u128>) -> Vec<JobRef> {
        let submit = Submit {
            queue: queue.into(),
            incarnation: 1,
            job_set: "set".into(),
            key,
            queued_max: None,
            jobs,
        };
        jobs_of(&self.run(Command::Submit(submit)))
    }

    /// Why these jobs are not taken in.
    fn refused(&mut self, jobs: Vec<NewJob>) -> String {
        let submit = Submit {
            queue: "q".into(),
            incarnation: 1,
            job_set: "set".into(),
            key: None,
            queued_max: None,
            jobs,
        };
        match self.run(Command::Submit(submit)) {
            Outcome::Refused(refusal) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn lease(&mut self, queue: &str, cpu: i64, count: u32) -> Vec<(JobRef, u32)> {
        self.lease_shape(queue, shape(cpu).key(), count)
    }

    fn lease_shape(&mut self, queue: &str, shape: ShapeKey, count: u32) -> Vec<(JobRef, u32)> {
        let (queue, node) = (queue.into(), "n".into());
        let pick = Pick { queue, priority: 0, shape, node, count };
        match self.run(Command::Lease(Lease {
            cluster: "c".into(),
            is_away: false,
            picks: vec![pick],
        })) {
            Outcome::Leased(runs) => runs.iter().map(|run| (run.job, run.attempt)).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn preempt(&mut self, queue: &str, cpu: i64, count: u32) -> Vec<(JobRef, u32)> {
        let (shape, node) = (shape(cpu).key(), "n".into());
        let reason = "test".into();
        let victims = vec![Victims { queue: queue.into(), shape, node, count, reason }];
        match self.run(Command::Preempt(Preempt { cluster: "c".into(), victims })) {
            Outcome::Preempted(runs) => runs.iter().map(|run| (run.job, run.attempt)).collect(),
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
        let report = Report { job, attempt, status, at, addresses: Vec::new(), used: None };
        let command = Command::Report { cluster: "c".into(), reports: vec![report] };
        match self.run(command) {
            Outcome::Reported(verdicts) => verdicts[0],
            other => panic!("{other:?}"),
        }
    }
}

const HOUR: i64 = 3_600_000;

fn jobs_of(outcome: &Outcome) -> Vec<JobRef> {
    let Outcome::Submitted(runs) = outcome else { panic!("{outcome:?}") };
    let jobs = runs.iter().flat_map(|run| (0..run.count).map(|n| run.first.plus(n.into())));
    jobs.map(JobRef::whole).collect()
}

fn new_job(line: u64, cpu: i64, priority: u32, count: Option<u32>) -> NewJob {
    NewJob {
        line,
        client_id: None,
        priority,
        count,
        at_most_once: false,
        terms: None,
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
    let names =
        |key: (u32, u32)| (shard.names.value(key.0).clone(), shard.names.value(key.1).clone());
    let sets = shard.sets.by_key.iter();
    let sets: BTreeMap<_, _> =
        sets.map(|(key, set)| (names(*key), (set.first, set.changed_at, set.counts))).collect();
    (
        (shard.live_jobs(&filter, None, usize::MAX), finished),
        (sets, offers),
        (shard.last_id, shard.dependencies.ends(), shard.resting.clone()),
        shard.cluster_runs("c"),
        shard.runs("c", None, usize::MAX),
        (shard.history_through(), shard.history_planned(), shard.live(), shard.table_len()),
        (shard.commands.picture(), shard.closed.clone()),
    )
}

/// The counts of each job set are those of its jobs, one by one; finished ones may have left
/// memory.
fn assert_counted(shard: &Shard) {
    let filter = JobFilter { queue: None, job_set: None, states: StateSet::ALL };
    let mut all: BTreeMap<(Name, Name), Counts> = BTreeMap::new();
    for job in shard.live_jobs(&filter, None, usize::MAX) {
        all.entry((job.queue, job.job_set)).or_default()[job.state] += 1;
    }
    for done in shard.finished() {
        // It may be of a set that was forgotten since, and began anew.
        let set = shard.job_set(&done.queue, &done.job_set);
        if set.is_none_or(|set| done.at < set.first) {
            continue;
        }
        let counts = all.entry((done.queue.clone(), done.job_set.clone())).or_default();
        counts[done.state] += u64::from(done.count);
    }
    let totals = shard.totals();
    for (set, counted) in &all {
        assert!(counted.live() == 0 || totals.contains_key(set), "{set:?} lives and is forgotten");
    }
    for (set, counts) in &totals {
        let counted = all.get(set).copied().unwrap_or_default();
        for state in JobState::ALL {
            let is_counted = if state.is_final() {
                counts[state] >= counted[state]
            } else {
                counts[state] == counted[state]
            };
            assert!(is_counted, "{set:?} {state:?}: {counts:?}, one by one {counted:?}");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Submit {
        queue: u8,
        set: u8,
        jobs: Vec<RandomJob>,
        key: Option<u8>,
        client: Option<u8>,
    },
    Again {
        which: u8,
    },
    Lease {
        queue: u8,
        cpu: u8,
        count: u8,
    },
    Report {
        which: u8,
        status: u8,
        stale: bool,
    },
    Preempt {
        queue: u8,
        cpu: u8,
        count: u8,
    },
    Cancel {
        which: u8,
        task: Option<u8>,
    },
    CancelSet {
        queue: u8,
        states: u8,
    },
    Reprioritize {
        which: u8,
        priority: u8,
    },
    CloseQueue {
        queue: u8,
    },
    Expire,
    PlanHistory,
    NoteHistory,
    Seal,
    Store,
    Checkpoint,
    Crash {
        arrived: u8,
    },
    Wait(u32),
    /// Hours; clocks go back too.
    Leap(i16),
}

#[derive(Debug, Clone, Copy)]
struct RandomJob {
    cpu: u8,
    priority: u8,
    count: Option<u8>,
    at_most_once: bool,
    /// How many tasks run at once; what it depends on, by its place among all, and how.
    running_max: Option<u8>,
    after: Option<(u8, u8)>,
    /// Which of a few policies it has.
    retry: Option<u8>,
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop::option::weighted(0.2, (any::<u8>(), 0u8..3));
    let terms = (prop::option::of(1u8..3), after, prop::option::weighted(0.3, 0u8..3));
    let job =
        (0u8..3, 0u8..3, prop::option::weighted(0.2, 1u8..6), prop::bool::weighted(0.2), terms)
            .prop_map(|(cpu, priority, count, at_most_once, (running_max, after, retry))| {
                RandomJob {
                    cpu,
                    priority,
                    count,
                    at_most_once,
                    running_max: running_max.filter(|_| count.is_some()),
                    after,
                    retry,
                }
            });
    let key = prop::option::weighted(0.3, 0u8..3);
    let client = prop::option::weighted(0.3, 0u8..4);
    prop_oneof![
        4 => (0u8..2, 0u8..2, vec(job, 1..5), key, client).prop_map(
            |(queue, set, jobs, key, client)| Step::Submit { queue, set, jobs, key, client }
        ),
        1 => any::<u8>().prop_map(|which| Step::Again { which }),
        5 => (0u8..2, 0u8..3, 1u8..5)
            .prop_map(|(queue, cpu, count)| Step::Lease { queue, cpu, count }),
        3 => (0u8..2, 0u8..3, 1u8..4)
            .prop_map(|(queue, cpu, count)| Step::Preempt { queue, cpu, count }),
        8 => (any::<u8>(), 0u8..6, prop::bool::weighted(0.1))
            .prop_map(|(which, status, stale)| Step::Report { which, status, stale }),
        2 => (any::<u8>(), prop::option::of(0u8..6))
            .prop_map(|(which, task)| Step::Cancel { which, task }),
        1 => (0u8..2, any::<u8>()).prop_map(|(queue, states)| Step::CancelSet { queue, states }),
        2 => (any::<u8>(), 0u8..3)
            .prop_map(|(which, priority)| Step::Reprioritize { which, priority }),
        1 => (0u8..2).prop_map(|queue| Step::CloseQueue { queue }),
        1 => Just(Step::Expire),
        2 => Just(Step::PlanHistory),
        2 => Just(Step::NoteHistory),
        3 => Just(Step::Seal),
        2 => Just(Step::Store),
        1 => Just(Step::Checkpoint),
        2 => any::<u8>().prop_map(|arrived| Step::Crash { arrived }),
        2 => prop_oneof![0u32..2_000, 0u32..600_000].prop_map(Step::Wait),
        2 => prop_oneof![Just(1i16), Just(26), Just(200), -30i16..0].prop_map(Step::Leap),
    ]
}

fn exit() -> Exit {
    Exit { code: Some(0), ..Exit::default() }
}

/// A node had no room after all, and nobody keeps away from it.
fn no_room() -> Exit {
    Exit { reason: Some("DoesNotFit".into()), ..Exit::default() }
}

fn queue(n: u8) -> Name {
    format!("q{n}").into()
}

/// The incarnation that a queue has: the one after the last that was closed.
fn incarnation(shard: &Shard, queue: &Name) -> u64 {
    shard.closed.get(queue).copied().unwrap_or_default() + 1
}

fn submission(shard: &Shard, step: &Step, ids: &[JobRef]) -> Option<Submit> {
    let Step::Submit { queue: q, set, jobs, key, client } = step else { return None };
    let jobs = jobs.iter().enumerate().map(|(line, job)| {
        // The lines of a key are the same whenever it comes, and may be cut off anywhere.
        let job = match key {
            Some(key) => RandomJob { cpu: (key + line as u8) % 3, count: None, ..RandomJob::PLAIN },
            None => *job,
        };
        NewJob {
            client_id: client.filter(|_| line == 0).map(|c| format!("client-{c}").into()),
            at_most_once: job.at_most_once,
            terms: terms(shard, &queue(*q), &job, ids),
            ..new_job(
                line as u64,
                i64::from(job.cpu) + 1,
                job.priority.into(),
                job.count.map(u32::from),
            )
        }
    });
    let jobs = jobs.map(|job| match key {
        Some(key) if job.line == 0 => {
            NewJob { client_id: (*key == 1).then(|| "client-9".into()), ..job }
        }
        Some(_) | None => job,
    });
    let (jobs, queue) = (jobs.collect(), queue(*q));
    let set = if key.is_some() { 0 } else { *set };
    Some(Submit {
        incarnation: incarnation(shard, &queue),
        job_set: format!("set{set}").into(),
        // As the gateway makes it: a key in another queue is another one.
        key: key.map(|key| 1_000_000 + u128::from(key) * 2 + u128::from(*q)),
        queue,
        queued_max: None,
        jobs,
    })
}

impl RandomJob {
    const PLAIN: Self = Self {
        cpu: 0,
        priority: 0,
        count: None,
        at_most_once: false,
        running_max: None,
        after: None,
        retry: None,
    };
}

/// Tried again at once, after a while, or with more memory each time.
fn policy(which: u8) -> Arc<Policy> {
    let backoff = Backoff { base_ms: 400, factor_millis: 3000, max_ms: 900_000 };
    let memory = Growth { factor_millis: 2000, max: Quantity::from_units(1 << 20) };
    let retry = Retry {
        limit: 1 + u32::from(which),
        backoff: (which > 0).then_some(backoff),
        other_node: false,
        memory: (which > 1).then_some(memory),
    };
    let rule =
        |reasons, action| Rule { exit_codes: Vec::new(), signals: Vec::new(), reasons, action };
    let lost = vec![Reason::Lost, Reason::Error];
    let rules = vec![
        rule(vec![Reason::Preempted], Action::Retry(retry.clone())),
        rule(lost, Action::Retry(retry)),
        rule(vec![Reason::LeaseExpired], Action::Fail),
    ];
    Arc::new(Policy { rules })
}

/// What the job depends on is a job that its queue knows.
fn terms(shard: &Shard, queue: &Name, job: &RandomJob, ids: &[JobRef]) -> Option<Arc<Terms>> {
    let known: Vec<JobId> = ids
        .iter()
        .map(|job| job.job)
        .filter(|id| dependencies::end_of(shard, queue, *id).is_ok())
        .collect();
    let after = job.after.filter(|_| !known.is_empty()).map(|(which, when)| Dependency {
        on: On::Job(known[usize::from(which) % known.len()]),
        when: When::ALL[usize::from(when)],
    });
    let running_max = job.running_max.map(u32::from);
    let after = after.into_iter().collect();
    Some(Arc::new(Terms { running_max, after, retry: job.retry.map(policy) }))
}

/// Nothing is leased before what it depends on has ended as it should, and no more of an array at
/// once than may be.
fn assert_allowed(driven: &Driven) {
    for (id, job) in driven.shard.jobs.iter_from(JobId::default()) {
        let held: u64 = JobState::ALL
            .into_iter()
            .filter(|state| state.is_on_cluster())
            .map(|state| match &job.body {
                Body::Array(array) => array.counts[state],
                _ => u64::from(job.state(None) == Some(state)),
            })
            .sum();
        assert!(held == 0 || job.after().is_empty(), "{id} runs and waits");
        for dependency in job.after() {
            let On::Job(on) = dependency.on else { panic!("{dependency:?}") };
            let on = driven.shard.jobs.get(on).expect("what is waited for lives");
            assert!(on.live() > 0, "{id} waits for what has ended");
        }
        let limits = job.terms().and_then(|terms| terms.retry.as_ref()).map(|policy| {
            policy.rules.iter().map(|rule| match &rule.action {
                Action::Retry(retry) => retry.limit,
                Action::Fail => 0,
            })
        });
        let limit = limits.and_then(Iterator::max).unwrap_or_default();
        let used = match &job.body {
            Body::Array(array) => array.touched.values().map(|task| task.next.retries).max(),
            _ => job.next(None).map(|next| next.retries),
        };
        assert!(used.is_none_or(|used| used <= limit), "{id} was tried again {used:?} times");
        let max = job.terms().and_then(|terms| terms.running_max);
        assert!(max.is_none_or(|max| held <= max.into()), "{held} of {id} run, limit is {max:?}");
    }
}

/// Carries out one step as a careless world would.
fn take(driven: &mut Driven, step: &Step, ids: &mut Vec<JobRef>) {
    let pick = |ids: &[JobRef], which: u8| ids.get(usize::from(which) % ids.len().max(1)).copied();
    match step {
        Step::Submit { .. } => {
            let submit = submission(&driven.shard, step, ids).unwrap();
            ids.extend(jobs_of(&driven.run(Command::Submit(submit))));
        }
        Step::Again { which } => ask_again(driven, *which),
        Step::Lease { queue: q, cpu, count } => {
            // What was tried before may have another shape than it was submitted with.
            let cpus = i64::from(*cpu) + 1;
            let offers = driven.shard.offers_of(&[queue(*q)], 100);
            let runs = offers.iter().flat_map(|offer| &offer.heads).flat_map(|head| &head.runs);
            let offered = runs.map(|run| &run.shape);
            let mut offered =
                offered.filter(|shape| shape.request.get("cpu").millis_ceil() == cpus);
            let key = offered.next().map_or(shape(cpus).key(), |shape| shape.key());
            driven.lease_shape(&queue(*q), key, (*count).into());
        }
        Step::Preempt { queue: q, cpu, count } => {
            preempt(driven, &queue(*q), i64::from(*cpu) + 1, (*count).into());
        }
        Step::Report { which, status, stale } => report(driven, *which, *status, *stale),
        Step::Cancel { which, task } => {
            let Some(job) = pick(ids, *which) else { return };
            let job = JobRef { job: job.job, index: task.map(u32::from) };
            driven.run(Command::Cancel { target: Target::Jobs(vec![job]), reason: None });
        }
        Step::CancelSet { queue: q, states } => {
            let states = JobState::ALL.into_iter().filter(|s| states & (1 << *s as u8) != 0);
            let states = states.collect();
            let target = Target::JobSet { queue: queue(*q), job_set: "set0".into(), states };
            driven.run(Command::Cancel { target, reason: Some("test".into()) });
        }
        Step::Reprioritize { which, priority } => {
            let Some(job) = pick(ids, *which) else { return };
            let target = Target::Jobs(vec![job]);
            driven.run(Command::Reprioritize { target, priority: (*priority).into() });
        }
        Step::CloseQueue { queue: q } => {
            let queue = queue(*q);
            let incarnation = incarnation(&driven.shard, &queue);
            driven.run(Command::CloseQueue { queue, incarnation });
        }
        Step::Expire => {
            driven.run(Command::ExpireCluster { cluster: "c".into(), runs_max: 3 });
        }
        Step::PlanHistory => {
            let after = driven.shard.history_through();
            let through = Position { sequence: driven.durable as u64, row: u32::MAX };
            if through > after {
                driven.run(Command::PlanHistory(HistorySpan { after, through }));
            }
        }
        Step::NoteHistory => {
            // Nothing is written to the history by a plan that may be lost.
            driven.store();
            if let Some(span) = driven.shard.history_planned() {
                driven.run(Command::NoteHistory(span));
            }
        }
        Step::Seal => driven.seal(),
        Step::Store => driven.store(),
        Step::Checkpoint => {
            driven.store();
            driven.checkpoint = Some((driven.durable, driven.shard.records()));
        }
        Step::Crash { arrived } => {
            driven.crash((*arrived).into());
            assert_eq!(picture(&driven.replayed(None)), picture(&driven.shard));
        }
        Step::Wait(millis) => driven.now = Timestamp(driven.now.0 + i64::from(*millis)),
        Step::Leap(hours) => driven.wait((*hours).into()),
    }
    driven.latest = driven.latest.max(driven.now);
}

/// What is counted as preemptible is what can be preempted, all of it waits again, and its pods
/// are stopped.
fn preempt(driven: &mut Driven, queue: &Name, cpu: i64, count: u32) {
    let (key, rows) = (shape(cpu).key(), driven.shard.preemptible("default", |_| true));
    let row = rows.iter().find(|row| row.queue == *queue && row.shape.key() == key);
    let known = row.map_or(0, |row| row.count);
    driven.shard.take_stops();
    let runs = driven.preempt(queue, cpu, count);
    assert_eq!(runs.len() as u64, known.min(count.into()));
    let stops = driven.shard.take_stops();
    let stops: Vec<_> = stops.into_iter().map(|stop| (stop.job, stop.attempt)).collect();
    assert_eq!(stops, runs);
    for (job, attempt) in runs {
        let job = driven.shard.job(job).unwrap();
        let last = job.runs.last().unwrap();
        assert_eq!((job.state, last.attempt), (JobState::Queued, attempt));
        assert!(last.ended.is_some());
    }
}

fn report(driven: &mut Driven, which: u8, status: u8, stale: bool) {
    let runs = driven.shard.runs("c", None, usize::MAX);
    let Some(run) = runs.get(usize::from(which) % runs.len().max(1)) else { return };
    let attempt = if stale { run.attempt + 1 } else { run.attempt };
    let status = match status {
        0 => RunStatus::Pending,
        1 => RunStatus::Running,
        2 => RunStatus::Succeeded(exit()),
        3 => RunStatus::Failed(exit()),
        4 => RunStatus::Returned(exit()),
        _ => RunStatus::Lost(exit()),
    };
    let verdict = driven.report(run.job, attempt, status);
    assert_eq!(verdict, if stale { Verdict::Stale } else { Verdict::Taken });
}

/// Somebody who heard no answer asks again: of what was not lost he hears what came of it, for as
/// long as is promised.
fn ask_again(driven: &mut Driven, which: u8) {
    let Some(again) = driven.answered.get(usize::from(which) % driven.answered.len().max(1)) else {
        return;
    };
    let again = again.clone();
    let minutes = limits::COMMAND_MINUTES;
    if driven.latest.since(again.at) > std::time::Duration::from_secs(minutes * 60) {
        return;
    }
    let before = driven.written();
    assert_eq!(driven.run_as(again.id, again.command), again.outcome);
    assert_eq!(driven.written(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_commands_and_crashes_leave_the_state_that_the_log_implies(steps in vec(step(), 1..80)) {
        let mut driven = Driven::new();
        let mut ids = Vec::new();
        for step in &steps {
            take(&mut driven, step, &mut ids);
            assert_counted(&driven.shard);
            assert_allowed(&driven);
        }
        prop_assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
        prop_assert_eq!(picture(&driven.replayed(None)), picture(&driven.shard));
        let mut copy = Shard::new(ShardId(3));
        for record in driven.shard.records() {
            copy.apply(Position::default(), &record);
        }
        prop_assert_eq!(picture(&copy), picture(&driven.shard));
    }

    #[test]
    fn a_log_object_that_the_durable_state_does_not_need_is_never_needed_again(
        steps in vec(step(), 1..60),
    ) {
        let mut driven = Driven::new();
        let (mut ids, mut let_go) = (Vec::new(), BTreeSet::new());
        for step in &steps {
            take(&mut driven, step, &mut ids);
            let in_use = driven.stored().log_in_use();
            prop_assert!(in_use.is_sorted_by(|a, b| a < b));
            let needed_again = in_use.iter().find(|sequence| let_go.contains(*sequence));
            prop_assert_eq!(needed_again, None);
            let durable = driven.durable as u64;
            let_go.extend((1..=durable).filter(|sequence| !in_use.contains(sequence)));
        }
        let filter = JobFilter { queue: None, job_set: None, states: StateSet::ALL };
        let live = driven.shard.live_jobs(&filter, None, usize::MAX);
        let in_use = driven.shard.log_in_use();
        prop_assert!(live.iter().all(|job| in_use.contains(&job.spec.sequence)));
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
                .and_then(|offer| offer.heads.into_iter().next()?.runs.into_iter().next())
            {
                let count = u32::try_from(head.count).unwrap();
                let leased = driven.lease_shape(queue, head.shape.key(), count);
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
