//! Records for tests: any (by strategy), and one of each kind (for fixtures).

use bytes::Bytes;
use muster_core::Name;
use muster_core::command::{IdRun, LeasedRun, Outcome, PreemptedRun, Refusal, Unknown, Verdict};
use muster_core::history::Finished;
use muster_core::id::{CommandId, JobId, JobRef, Position, ShardId};
use muster_core::job::{Address, Counts, Exit, JobState, Usage};
use muster_core::quantity::Quantity;
use muster_core::record::{
    ArrayTasks, Change, Changed, Done, HistorySpan, JobSetTotals, LiveJob, Next, Payload, Record,
    Run, Submitted, Task,
};
use muster_core::retry::{Action, Backoff, Growth, Policy, Reason, Retry, Rule};
use muster_core::shape::{Shape, Toleration};
use muster_core::terms::{Dependency, On, Terms, When};
use muster_core::time::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use std::sync::Arc;

use crate::codec::Kind;

pub(super) fn records() -> impl Strategy<Value = Vec<Record>> {
    vec(record(), 0..12)
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        submitted().prop_map(|submitted| Record::Submitted(Box::new(submitted))),
        changed().prop_map(Record::Changed),
        (any::<u128>(), at(), option::of(any::<u128>()), outcome()).prop_map(
            |(id, at, key, outcome)| Record::Command(Done { id: CommandId(id), at, key, outcome })
        ),
        (name(), any::<u64>(), at()).prop_map(|(queue, incarnation, at)| Record::QueueClosed {
            queue,
            incarnation,
            at
        }),
        at().prop_map(|at| Record::Forgotten { at }),
        at().prop_map(|at| Record::Rested { at }),
        vec((job_id(), state()), 0..3).prop_map(Record::Ends),
        span().prop_map(Record::HistoryPlanned),
        span().prop_map(Record::HistoryWritten),
        live().prop_map(|live| Record::Job(Box::new(live))),
        (name(), name(), position(), at(), counts()).prop_map(
            |(queue, job_set, first, changed_at, counts)| {
                Record::JobSet(JobSetTotals { queue, job_set, first, changed_at, counts })
            }
        ),
        job_id().prop_map(Record::LastJob),
        finished().prop_map(|finished| Record::Finished(Box::new(finished))),
    ]
}

fn name() -> impl Strategy<Value = Name> {
    "[a-zé:/ ]{0,6}".prop_map(Name::from)
}

fn at() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}

fn position() -> impl Strategy<Value = Position> {
    any::<(u64, u32)>().prop_map(|(sequence, row)| Position { sequence, row })
}

fn span() -> impl Strategy<Value = HistorySpan> {
    (position(), position()).prop_map(|(after, through)| HistorySpan { after, through })
}

fn job_id() -> impl Strategy<Value = JobId> {
    any::<[u8; 16]>().prop_map(JobId::from_bytes)
}

fn job_ref() -> impl Strategy<Value = JobRef> {
    (job_id(), option::of(any::<u32>())).prop_map(|(job, index)| JobRef { job, index })
}

fn counts() -> impl Strategy<Value = Counts> {
    any::<[u64; 7]>().prop_map(|values| {
        let mut counts = Counts::default();
        for (state, value) in JobState::ALL.into_iter().zip(values) {
            counts[state] = value;
        }
        counts
    })
}

fn state() -> impl Strategy<Value = JobState> {
    proptest::sample::select(&JobState::ALL[..])
}

fn shape() -> impl Strategy<Value = Arc<Shape>> {
    let toleration = (option::of(name()), option::of(name()), option::of(name()))
        .prop_map(|(key, value, effect)| Toleration { key, value, effect });
    let request = btree_map(name(), 1i64..1 << 40, 0..3)
        .prop_map(|m| m.into_iter().map(|(n, q)| (n, Quantity::from_millis(q))).collect());
    let selector = btree_map(name(), name(), 0..3);
    (request, selector, vec(toleration, 0..2), name(), name()).prop_map(
        |(request, node_selector, tolerations, pool, class)| {
            let (affinity, gang, avoid) = (None, None, Vec::new());
            Arc::new(Shape {
                request,
                node_selector,
                affinity,
                tolerations,
                pool,
                class,
                gang,
                avoid,
                placement: None,
                lasts_max: None,
            })
        },
    )
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn submitted() -> impl Strategy<Value = Submitted> {
    let texts = (blob(), blob(), blob(), blob());
    let payload = (name(), texts).prop_map(|(namespace, texts)| {
        let (labels, annotations, network, pod_spec) = texts;
        Payload { namespace, labels, annotations, network, pod_spec }
    });
    let numbers = (any::<u32>(), option::of(any::<u32>()), any::<bool>(), terms());
    (job_id(), name(), name(), option::of(name()), numbers, shape(), payload).prop_map(
        |(
            job,
            queue,
            job_set,
            client_id,
            (priority, count, at_most_once, terms),
            shape,
            payload,
        )| {
            Submitted {
                job,
                queue,
                job_set,
                client_id,
                priority,
                count,
                at_most_once,
                terms,
                shape,
                payload,
            }
        },
    )
}

fn next() -> impl Strategy<Value = Next> {
    let shape = option::weighted(0.3, shape());
    let next = (any::<u32>(), option::of(at()), shape)
        .prop_map(|(retries, not_before, shape)| Next { retries, not_before, shape });
    prop_oneof![Just(Next::default()), next]
}

fn policy() -> impl Strategy<Value = Arc<Policy>> {
    let backoff = any::<(u64, u32, u64)>().prop_map(|(base_ms, factor_millis, max_ms)| Backoff {
        base_ms,
        factor_millis,
        max_ms,
    });
    let memory = (any::<u32>(), 0i64..1 << 40)
        .prop_map(|(factor_millis, max)| Growth { factor_millis, max: Quantity::from_millis(max) });
    let retry = (any::<u32>(), option::of(backoff), any::<bool>(), option::of(memory)).prop_map(
        |(limit, backoff, other_node, memory)| Retry { limit, backoff, other_node, memory },
    );
    let action = prop_oneof![Just(Action::Fail), retry.prop_map(Action::Retry)];
    let reasons = vec(proptest::sample::select(&Reason::ALL[..]), 0..3);
    let rule = (vec(any::<(i32, i32)>(), 0..3), vec(any::<i32>(), 0..3), reasons, action).prop_map(
        |(exit_codes, signals, reasons, action)| Rule { exit_codes, signals, reasons, action },
    );
    vec(rule, 0..3).prop_map(|rules| Arc::new(Policy { rules }))
}

fn terms() -> impl Strategy<Value = Option<Arc<Terms>>> {
    let when = proptest::sample::select(&When::ALL[..]);
    let dependency = (on(), when).prop_map(|(on, when)| Dependency { on, when });
    let terms = (option::of(any::<u32>()), vec(dependency, 0..3), option::of(policy()))
        .prop_map(|(running_max, after, retry)| Arc::new(Terms { running_max, after, retry }));
    option::weighted(0.3, terms)
}

fn on() -> impl Strategy<Value = On> {
    prop_oneof![job_id().prop_map(On::Job), name().prop_map(On::Client)]
}

fn exit() -> impl Strategy<Value = Exit> {
    let numbers = (option::of(any::<i32>()), option::of(any::<i32>()));
    (numbers, option::of(name()), option::of(name()), usage()).prop_map(
        |((code, signal), reason, message, usage)| Exit { code, signal, reason, message, usage },
    )
}

fn usage() -> impl Strategy<Value = Option<Usage>> {
    let most = i64::MAX as u64;
    let usage = (0..=most, 0..=most)
        .prop_map(|(memory_peak_bytes, cpu_time_ms)| Usage { memory_peak_bytes, cpu_time_ms });
    option::of(usage)
}

fn addresses() -> impl Strategy<Value = Vec<Address>> {
    let address = (any::<u32>(), name()).prop_map(|(port, address)| Address { port, address });
    vec(address, 0..3)
}

fn change() -> impl Strategy<Value = Change> {
    let attempt = any::<u32>;
    prop_oneof![
        (attempt(), name(), name()).prop_map(|(attempt, cluster, node)| Change::Leased {
            attempt,
            cluster,
            node
        }),
        attempt().prop_map(|attempt| Change::Pending { attempt }),
        (attempt(), addresses())
            .prop_map(|(attempt, addresses)| Change::Running { attempt, addresses }),
        (attempt(), exit()).prop_map(|(attempt, exit)| Change::Succeeded { attempt, exit }),
        (attempt(), exit()).prop_map(|(attempt, exit)| Change::Failed { attempt, exit }),
        (attempt(), exit(), next()).prop_map(|(attempt, exit, next)| Change::Requeued {
            attempt,
            exit,
            next
        }),
        (attempt(), name(), usage()).prop_map(|(attempt, reason, usage)| Change::Preempted {
            attempt,
            reason,
            usage
        }),
        (option::of(name()), usage())
            .prop_map(|(reason, usage)| Change::Cancelled { reason, usage }),
        any::<u32>().prop_map(|priority| Change::Reprioritized { priority }),
    ]
}

fn changed() -> impl Strategy<Value = Changed> {
    (job_ref(), name(), name(), at(), any::<u32>(), change()).prop_map(
        |(job, queue, job_set, at, count, change)| Changed {
            job,
            queue,
            job_set,
            at,
            count,
            change,
        },
    )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let id_run = (any::<u64>(), job_id(), any::<u32>()).prop_map(|(line, first, count)| IdRun {
        line,
        first,
        count,
    });
    let refs = || vec(job_ref(), 0..3);
    let verdict = prop_oneof![Just(Verdict::Taken), Just(Verdict::Stale)];
    prop_oneof![
        vec(id_run, 0..3).prop_map(Outcome::Submitted),
        (any::<u64>(), refs(), refs()).prop_map(|(changed, finished, missing)| {
            Outcome::Applied { changed, finished, missing }
        }),
        leased().prop_map(Outcome::Leased),
        vec(preempted(), 0..3).prop_map(Outcome::Preempted),
        vec(verdict, 0..5).prop_map(Outcome::Reported),
        any::<usize>().prop_map(Outcome::Expired),
        Just(Outcome::QueueClosed),
        Just(Outcome::Noted),
        name().prop_map(|queue| Outcome::Refused(Refusal::QueueClosed { queue })),
        (name(), any::<u64>())
            .prop_map(|(queue, live)| Outcome::Refused(Refusal::QueueInUse { queue, live })),
        (any::<u64>(), job_id())
            .prop_map(|(line, job)| Outcome::Refused(Refusal::KeyReused { line, job })),
        (any::<u64>(), on(), name(), any::<bool>()).prop_map(|(line, on, queue, is_later)| {
            let reason = if is_later { Unknown::Later } else { Unknown::NotThere };
            Outcome::Refused(Refusal::DependencyUnknown { line, on, queue, reason })
        }),
        (name(), any::<[u64; 3]>()).prop_map(|(queue, [queued, more, max])| {
            Outcome::Refused(Refusal::QueueFull { queue, queued, more, max })
        }),
    ]
}

fn preempted() -> impl Strategy<Value = PreemptedRun> {
    (any::<u32>(), job_ref(), any::<u32>()).prop_map(|(victims, job, attempt)| PreemptedRun {
        victims,
        job,
        attempt,
    })
}

/// Leases of which some share their shape.
fn leased() -> impl Strategy<Value = Vec<LeasedRun>> {
    let run = (job_ref(), any::<u32>(), name(), 0usize..2);
    (vec(shape(), 2), vec(run, 0..4)).prop_map(|(shapes, runs)| {
        let run = |(job, attempt, node, shape): (_, _, _, usize)| LeasedRun {
            job,
            attempt,
            node,
            shape: Arc::clone(&shapes[shape]),
        };
        runs.into_iter().map(run).collect()
    })
}

fn run() -> impl Strategy<Value = Run> {
    let times = (at(), option::of(at()), option::of((at(), exit())));
    (any::<u32>(), name(), name(), times, addresses()).prop_map(
        |(attempt, cluster, node, (leased_at, started_at, ended), addresses)| Run {
            attempt,
            cluster,
            node,
            leased_at,
            started_at,
            addresses,
            ended,
        },
    )
}

fn task() -> impl Strategy<Value = Task> {
    (any::<u32>(), option::of((state(), run())), vec(run(), 0..2), next())
        .prop_map(|(attempts, active, past, next)| Task { attempts, active, past, next })
}

fn live() -> impl Strategy<Value = LiveJob> {
    let array = (vec(any::<(u32, u32)>(), 0..3), vec((any::<u32>(), task()), 0..2), counts())
        .prop_map(|(queued, touched, counts)| ArrayTasks { queued, touched, counts });
    let task = prop_oneof![Just(Task::default()), task()];
    (submitted(), position(), task, option::of(array))
        .prop_map(|(submitted, spec, task, array)| LiveJob { submitted, spec, task, array })
}

fn finished() -> impl Strategy<Value = Finished> {
    let places = (position(), position());
    let names = (name(), name(), option::of(name()), option::of(name()));
    (job_ref(), any::<(u32, u32)>(), names, shape(), state(), at(), vec(run(), 0..3), places)
        .prop_map(|(job, (count, priority), names, shape, state, finished_at, runs, places)| {
            let (queue, job_set, client_id, reason) = names;
            Finished {
                job,
                count,
                queue,
                job_set,
                client_id,
                priority,
                shape,
                state,
                finished_at,
                reason,
                runs,
                spec: places.0,
                at: places.1,
            }
        })
}

/// The records of the fixtures: one of each kind that such an object may hold.
pub(super) fn of_each_kind(kind: Kind) -> Vec<Record> {
    match kind {
        Kind::Fence => Vec::new(),
        Kind::Log => of_a_log(),
        Kind::Checkpoint => of_a_checkpoint(),
    }
}

const NOON: Timestamp = Timestamp(1_790_000_000_000);

fn fixed_job() -> JobId {
    JobId::new(NOON, ShardId(3), 0x0123_4567_89ab_cdef)
}

fn fixed_shape() -> Arc<Shape> {
    let request = [("cpu", "1500m"), ("memory", "2Gi"), ("pods", "1"), ("nvidia.com/gpu", "1")];
    Arc::new(Shape {
        request: request.map(|(n, q)| (n.into(), q.parse().unwrap())).into_iter().collect(),
        node_selector: [("zone".into(), "a".into())].into(),
        affinity: None,
        tolerations: vec![Toleration {
            key: Some("gpu".into()),
            value: None,
            effect: Some("NoSchedule".into()),
        }],
        pool: "default".into(),
        class: "high".into(),
        gang: None,
        avoid: Vec::new(),
        placement: None,
        lasts_max: None,
    })
}

fn fixed_submitted() -> Submitted {
    Submitted {
        job: fixed_job(),
        queue: "team/a".into(),
        job_set: "night".into(),
        client_id: Some("client-1".into()),
        priority: 1000,
        count: Some(5),
        at_most_once: true,
        terms: None,
        shape: fixed_shape(),
        payload: Payload {
            namespace: "jobs".into(),
            labels: Bytes::from_static(br#"{"app":"x"}"#),
            annotations: Bytes::from_static(br#"{"note":"y"}"#),
            network: Bytes::new(),
            pod_spec: Bytes::from_static(br#"{"containers":[{"name":"main","image":"busybox"}]}"#),
        },
    }
}

fn fixed_exit() -> Exit {
    Exit {
        code: Some(1),
        signal: Some(9),
        reason: Some("OOMKilled".into()),
        message: Some("container `main` was killed".into()),
        usage: None,
    }
}

fn fixed_run() -> Run {
    Run {
        attempt: 2,
        cluster: "east".into(),
        node: "node-7".into(),
        leased_at: NOON,
        started_at: Some(Timestamp(NOON.0 + 5)),
        addresses: Vec::new(),
        ended: Some((Timestamp(NOON.0 + 9), fixed_exit())),
    }
}

fn of_a_log() -> Vec<Record> {
    let (attempt, exit) = (2, fixed_exit());
    let changes = [
        Change::Leased { attempt, cluster: "east".into(), node: "node-7".into() },
        Change::Pending { attempt },
        Change::Running { attempt, addresses: Vec::new() },
        Change::Succeeded { attempt, exit: Exit { code: Some(0), ..Exit::default() } },
        Change::Failed { attempt, exit: exit.clone() },
        Change::Requeued { attempt, exit, next: Next::default() },
        Change::Cancelled { reason: Some("not wanted".into()), usage: None },
        Change::Reprioritized { priority: 7 },
    ];
    let changes = changes.into_iter().map(|change| {
        Record::Changed(Changed {
            job: JobRef::task(fixed_job(), 4),
            queue: "team/a".into(),
            job_set: "night".into(),
            at: NOON,
            count: 1,
            change,
        })
    });
    let job = JobRef::whole(fixed_job());
    let queue = || Name::from("team/a");
    let lease = LeasedRun { job, attempt, node: "node-7".into(), shape: fixed_shape() };
    let outcomes = [
        Outcome::Submitted(vec![IdRun { line: 0, first: fixed_job(), count: 3 }]),
        Outcome::Applied { changed: 5, finished: vec![job], missing: vec![job] },
        Outcome::Leased(vec![lease.clone(), lease]),
        Outcome::Reported(vec![Verdict::Taken, Verdict::Stale]),
        Outcome::Expired(6),
        Outcome::QueueClosed,
        Outcome::Noted,
        Outcome::Refused(Refusal::QueueClosed { queue: queue() }),
        Outcome::Refused(Refusal::QueueInUse { queue: queue(), live: 4 }),
    ];
    let commands = outcomes.into_iter().enumerate().map(|(n, outcome)| {
        let key = (n == 0).then_some(0xfeed);
        Record::Command(Done { id: CommandId(n as u128), at: NOON, key, outcome })
    });
    let span = HistorySpan {
        after: Position { sequence: 1, row: 2 },
        through: Position { sequence: 3, row: 4 },
    };
    let mut records = vec![Record::Submitted(Box::new(fixed_submitted()))];
    records.extend(changes.chain(commands));
    records.push(Record::QueueClosed { queue: queue(), incarnation: 3, at: NOON });
    records.push(Record::HistoryPlanned(span));
    records.push(Record::HistoryWritten(span));
    records
}

fn of_a_checkpoint() -> Vec<Record> {
    let spec = Position { sequence: 12, row: 34 };
    let mut counts = Counts::default();
    for (n, state) in JobState::ALL.into_iter().enumerate() {
        counts[state] = n as u64;
    }
    let active = Run { ended: None, ..fixed_run() };
    let task = Task {
        attempts: 2,
        active: Some((JobState::Running, active)),
        past: vec![fixed_run()],
        next: Next::default(),
    };
    let array =
        ArrayTasks { queued: vec![(0, 2), (3, 4)], touched: vec![(4, task.clone())], counts };
    let live = |task, array| {
        let submitted = Submitted { payload: Payload::default(), ..fixed_submitted() };
        Record::Job(Box::new(LiveJob { submitted, spec, task, array }))
    };
    vec![
        live(Task::default(), None),
        live(task, None),
        live(Task::default(), Some(array)),
        Record::JobSet(JobSetTotals {
            queue: "team/a".into(),
            job_set: "night".into(),
            first: spec,
            changed_at: NOON,
            counts,
        }),
        Record::LastJob(fixed_job()),
        Record::Finished(Box::new(Finished {
            job: JobRef::task(fixed_job(), 4),
            count: 1,
            queue: "team/a".into(),
            job_set: "night".into(),
            client_id: Some("client-1".into()),
            priority: 7,
            shape: fixed_shape(),
            state: JobState::Failed,
            finished_at: NOON,
            reason: Some("not wanted".into()),
            runs: vec![fixed_run()],
            spec,
            at: Position { sequence: 40, row: 1 },
        })),
    ]
}
