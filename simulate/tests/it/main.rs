//! The example scenarios, run to their ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_simulate::report::{End, Queue};
use muster_simulate::scenario::{self, Sources, Workload};
use muster_simulate::{Options, Report, Scenario};

mod history;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name)
}

fn read(clusters: &str, workload: &str, config: Option<&str>) -> Scenario {
    let (clusters, workload) = (example(clusters), example(workload));
    let config = config.map(example);
    let workload = Workload::File(&workload);
    let sources = Sources { clusters: &clusters, workload, config: config.as_deref() };
    scenario::read(&sources).expect("examples are in order")
}

/// In long steps: there are fewer of them.
fn run(scenario: Scenario, seed: u64, until: Option<Duration>) -> Report {
    let options = Options { seed, until, step: Duration::from_secs(30), ..Options::default() };
    muster_simulate::run(scenario, options).expect("nothing fails in it")
}

fn queue<'a>(report: &'a Report, name: &str) -> &'a Queue {
    report.queues.iter().find(|queue| queue.queue == name).expect("it is one of them")
}

#[test]
fn queues_get_the_shares_of_their_weights_and_the_same_seed_gives_the_same_report() {
    let report = |seed: u64, minutes: u64| {
        let scenario = read("clusters-small.yaml", "three-queues.yaml", None);
        run(scenario, seed, Some(Duration::from_secs(60 * minutes))).without_timings()
    };
    let first = report(1, 6);
    assert_eq!(first.json(), report(1, 6).json());
    assert_ne!(first.pools[0].series, report(2, 6).pools[0].series, "the seed matters");
    assert_eq!(first.end, End::Until);
    let fairness = &first.pools[0].fairness;
    for (shares, weight) in fairness.queues.iter().zip([1.0, 2.0, 4.0]) {
        let ideal: f64 = weight / 7.0;
        assert!((shares.ideal - ideal).abs() < 0.001, "{shares:?}");
        // A slot of 320 for each queue, and what comes free within a step.
        assert!((shares.actual - ideal).abs() < 0.02, "{shares:?}");
    }
    assert!(first.pools[0].mean_utilisation["cpu"] > 0.95, "{:?}", first.pools[0].mean_utilisation);
}

#[test]
fn higher_classes_preempt_queues_get_their_shares_and_who_depends_comes_last() {
    let scenario = read("clusters-small.yaml", "preemption.yaml", Some("config.yaml"));
    let report = run(scenario, 3, None);
    assert_eq!(report.end, End::Finished);
    for queue in &report.queues {
        assert_eq!((queue.succeeded, queue.failed), (queue.jobs, 0), "{queue:?}");
    }
    let (batch, late, urgent) =
        (queue(&report, "batch"), queue(&report, "late"), queue(&report, "urgent"));
    assert!(batch.preemptions >= 80 + 80, "for urgent jobs, and for a fair share: {batch:?}");
    assert_eq!(urgent.preemptions, 0);
    let wait = |queue: &Queue| queue.wait_seconds.unwrap();
    assert!(wait(urgent).p99 <= 60.0, "{urgent:?}");
    assert!(wait(late).p50 < wait(batch).p90, "{late:?} {batch:?}");
    assert!(report.makespan_seconds.unwrap() > 1_800.0);
}

#[test]
fn gangs_start_beside_a_stream_of_small_jobs() {
    let report = run(read("clusters-small.yaml", "gangs.yaml", None), 4, None);
    assert_eq!(report.end, End::Finished);
    for queue in &report.queues {
        assert_eq!((queue.succeeded, queue.failed), (queue.jobs, 0), "{queue:?}");
    }
    let wait = queue(&report, "training").wait_seconds.unwrap();
    // Ten nodes of a cluster hold one gang at a time; six gangs in two clusters take turns.
    assert!((1_200.0..=4_800.0).contains(&wait.max), "{wait:?}");
}

#[test]
fn jobs_that_fit_nowhere_end_a_simulation_that_has_nothing_else_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let workload = directory.path().join("w.yaml");
    let text = "queues:\n  - name: a\n    jobTemplates:\n      - number: 2\n        runtimeDistribution: { minimum: 1m }\n        requirements: { resourceRequirements: { requests: { cpu: 4 } } }\n      - number: 1\n        requirements: { resourceRequirements: { requests: { cpu: 17 } } }\n";
    std::fs::write(&workload, text).unwrap();
    let clusters = example("clusters-small.yaml");
    let workload = Workload::File(&workload);
    let sources = Sources { clusters: &clusters, workload, config: None };
    let report = run(scenario::read(&sources).unwrap(), 0, None);
    assert_eq!(report.end, End::Stalled);
    let queue = &report.queues[0];
    assert_eq!((queue.jobs, queue.started, queue.succeeded), (3, 2, 2));
    assert!(report.simulated_seconds < 3.0 * 3_600.0, "{}", report.simulated_seconds);
}
