//! A deployment's history as a workload.

use std::sync::Arc;
use std::time::Duration;

use muster_core::control::{Control, Error as ControlError, Queue};
use muster_core::history::Finished;
use muster_core::id::{JobId, JobRef, Position, ShardId};
use muster_core::job::{Exit, JobState};
use muster_core::quantity::Quantity;
use muster_core::record::{HistorySpan, Run};
use muster_core::retry::{Action, Policy, Reason, Retry, Rule};
use muster_core::shape::{Affinity, Requirement, Shape, Term, Toleration};
use muster_core::time::Timestamp;
use muster_runtime::history::History;
use muster_runtime::store::control::ControlStore;
use muster_runtime::store::{Config, Store, open};
use muster_runtime::{Blocking, Random};
use muster_simulate::Report;
use muster_simulate::report::End;
use muster_simulate::scenario::{self, Sources, Workload, history};

use crate::{example, queue, run};

const SHARD: ShardId = ShardId(0);
const START: Timestamp = Timestamp(1_769_903_999_000);

fn after(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

/// A shape with everything that a pod spec has to say again.
fn shape(cpu: i64) -> Arc<Shape> {
    let request =
        [("cpu".into(), Quantity::from_units(cpu)), ("pods".into(), Quantity::from_units(1))];
    let requirement = Requirement::NotIn("kind".into(), ["old".into()].into());
    let term = Term { requirements: [requirement, Requirement::NotNamed("n".into())].into() };
    let mut shape = Shape::of_request(request.into_iter().collect());
    shape.affinity = Some(Affinity { terms: [term].into() });
    shape.tolerations = vec![Toleration { key: Some("gpu".into()), value: None, effect: None }];
    shape.class = "armada-preemptible".into();
    Arc::new(shape)
}

/// A job that came at a second after the start, and ran so long, if it ran.
fn finished(n: u64, came: u64, ran: Option<u64>) -> Finished {
    let run = |seconds| Run {
        attempt: 1,
        cluster: "c".into(),
        node: "n".into(),
        leased_at: after(came + 1),
        started_at: Some(after(came + 1)),
        addresses: Vec::new(),
        ended: Some((after(came + 1 + seconds), Exit::default())),
    };
    Finished {
        job: JobRef::whole(JobId::new(after(came), SHARD, n)),
        count: 1,
        queue: if n.is_multiple_of(2) { "even" } else { "odd" }.into(),
        job_set: "s".into(),
        client_id: None,
        priority: 3,
        shape: shape(2),
        state: if ran.is_some() { JobState::Succeeded } else { JobState::Cancelled },
        finished_at: after(came + 2 + ran.unwrap_or(0)),
        reason: None,
        runs: ran.map(run).into_iter().collect(),
        spec: Position { sequence: 1, row: 0 },
        at: Position { sequence: 2, row: 0 },
    }
}

async fn deployment() -> Store {
    let heavy = Queue { weight_millis: 3_000, ..Queue::default() };
    let mut rows: Vec<Finished> = (0..40).map(|n| finished(n, n, Some(60 + n))).collect();
    rows.push(finished(40, 50, None));
    rows.push(finished(41, 9_000, Some(30)));
    deployment_of(&[("even", heavy)], rows).await
}

/// A deployment with these queues and this history.
async fn deployment_of(queues: &[(&str, Queue)], rows: Vec<Finished>) -> Store {
    let store = open(&Config::at("memory:///")).expect("memory opens");
    let control = ControlStore::new(store.clone(), Random::seeded(1));
    control.load_latest().await.expect("memory answers");
    for (name, queue) in queues {
        let change = |control: &Control| {
            let mut changed = control.with_queue(name, queue.clone())?;
            changed.shards = Some(1);
            Ok::<_, ControlError>(changed)
        };
        control.change(change).await.expect("memory answers");
    }
    let place = |sequence| Position { sequence, row: 0 };
    let span = HistorySpan { after: place(1), through: place(2) };
    let history = History::new(store.clone(), Blocking::new(1));
    history.write(SHARD, span, rows).await.expect("memory answers");
    store
}

#[test]
fn jobs_of_the_history_come_when_they_came_and_run_as_long_as_they_ran() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let taken = runtime.block_on(async {
        let store = deployment().await;
        let nothing = history::take(&store, (Some(after(10_000)), None)).await.unwrap_err();
        assert!(nothing.to_string().contains("there is no finished job"), "{nothing}");
        history::take(&store, (None, Some(after(8_000)))).await.unwrap()
    });
    let clusters = example("clusters-small.yaml");
    let workload = Workload::History(&taken);
    let scenario =
        scenario::read(&Sources { clusters: &clusters, workload, config: None }).unwrap();
    let notes = scenario.notes.join("\n");
    assert!(notes.contains("1 jobs were left out: they never ran"), "{notes}");
    assert!(notes.contains("queue `odd` is gone, and has weight 1 here"), "{notes}");
    let report = run(scenario, 0, None);
    assert_eq!(report.end, End::Finished);
    let (even, odd) = (queue(&report, "even"), queue(&report, "odd"));
    assert_eq!((even.jobs, even.succeeded, odd.jobs, odd.succeeded), (20, 20, 20, 20));
    assert_eq!((even.weight, odd.weight), (3.0, 1.0));
    // The last one came after 39 s and ran for 99 s, both in steps of 30 s.
    assert_eq!(report.makespan_seconds, Some(60.0 + 120.0));
}

/// The simulation of such a deployment, for so long.
fn simulated(queues: &[(&str, Queue)], rows: Vec<Finished>, until: Option<Duration>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it has no parts");
    let taken = runtime.block_on(async {
        let store = deployment_of(queues, rows).await;
        history::take(&store, (None, None)).await.expect("there are jobs in it")
    });
    let clusters = example("clusters-small.yaml");
    let workload = Workload::History(&taken);
    let sources = Sources { clusters: &clusters, workload, config: None };
    run(scenario::read(&sources).expect("the clusters are in order"), 0, until)
}

#[test]
fn queues_of_the_history_stand_below_each_other_as_in_the_deployment() {
    let below = |parent: Option<&str>| Queue {
        parent: parent.map(str::to_owned),
        cordoned: true,
        ..Queue::default()
    };
    let queues = [
        ("alone", below(None)),
        ("team", below(None)),
        ("left", below(Some("team"))),
        ("right", below(Some("team"))),
    ];
    let rows = (0..600).map(|n| Finished {
        queue: ["left", "right", "alone"][n as usize % 3].into(),
        ..finished(n, 0, Some(600))
    });
    let report = simulated(&queues, rows.collect(), Some(Duration::from_secs(300)));
    let shares: Vec<_> = report.pools[0].fairness.queues.iter().collect();
    let names: Vec<&str> = shares.iter().map(|share| &*share.queue).collect();
    assert_eq!(names, ["team", "left", "right", "alone"]);
    for (share, ideal) in shares.iter().zip([0.0, 0.25, 0.25, 0.5]) {
        assert!((share.ideal - ideal).abs() < 0.001, "{share:?}");
        // Of 160 places; the first round gives what nobody else asks for yet.
        assert!((share.actual - ideal).abs() < 0.03, "{share:?}");
    }
}

#[test]
fn jobs_that_failed_fail_again_and_are_tried_again_as_their_queues_say() {
    let twice = Retry { limit: 2, backoff: None, other_node: false, memory: None };
    let rule =
        |exit_codes, reasons, action| Rule { exit_codes, signals: Vec::new(), reasons, action };
    let rules = vec![
        rule(vec![(3, 3)], Vec::new(), Action::Retry(twice)),
        rule(Vec::new(), vec![Reason::Preempted], Action::Fail),
    ];
    let retry = Some(Arc::new(Policy { rules }));
    let queues = [("even", Queue { retry, ..Queue::default() }), ("odd", Queue::default())];
    let failed = |n, came, ran, code| {
        let mut failed = Finished { state: JobState::Failed, ..finished(n, came, Some(ran)) };
        let exit = Exit { code: Some(code), reason: Some("Error".into()), ..Exit::default() };
        failed.runs[0].ended.as_mut().unwrap().1 = exit;
        failed
    };
    let report = |code| simulated(&queues, vec![failed(0, 0, 60, code)], None);
    let (once, thrice) = (report(4), report(3));
    for report in [&once, &thrice] {
        let queue = queue(report, "even");
        assert_eq!((report.end, queue.jobs, queue.failed), (End::Finished, 1, 1));
    }
    assert_eq!((once.makespan_seconds, thrice.makespan_seconds), (Some(60.0), Some(180.0)));
    // Jobs of an even number fill the clusters; the others come later, and half is theirs.
    let rows = (0..320u64).map(|n| match n {
        0..160 => finished(2 * n, 0, Some(6_000)),
        _ => finished(2 * n + 1, 600, Some(60)),
    });
    let report = simulated(&queues, rows.collect(), None);
    assert_eq!(report.end, End::Finished);
    let (even, odd) = (queue(&report, "even"), queue(&report, "odd"));
    assert!(even.preemptions > 0, "{even:?}");
    assert_eq!((even.failed, even.succeeded + even.failed), (even.preemptions, 160));
    assert_eq!(odd.succeeded, 160);
}
