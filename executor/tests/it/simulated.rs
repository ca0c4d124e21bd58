//! Simulated clusters, in paused time.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use muster_api::bus::RunStatus;
use muster_core::id::JobRef;
use muster_executor::Config;
use muster_executor::config::{BackendKind, SimulatedConfig};
use muster_runtime::Clock;

use crate::world::{START, World, local};

pub(crate) fn simulated(folder: &Path, nodes: u32, pods: u32) -> Config {
    Config {
        cluster: "sim".into(),
        backend: BackendKind::Simulated,
        simulated: SimulatedConfig { nodes, pods, ..SimulatedConfig::default() },
        ..local(folder)
    }
}

#[tokio::test(start_paused = true)]
async fn pods_run_as_long_as_their_annotation_says() {
    let world = World::new(Clock::starting_at(START)).await;
    let folder = tempfile::tempdir().unwrap();
    let executor = world.start(simulated(folder.path(), 1, 10));
    let annotations =
        r#"{"muster.dev/simulated-runtime":"7s","muster.dev/simulated-failure-rate":"1"}"#;
    let job = JobRef::whole(world.job("{}", annotations, None));
    world.lease(job, 1, "sim-node-1", &[("cpu", "2"), ("pods", "1")]);
    let running = world.reported(job, RunStatus::Running).await;
    let end = world.end_of(job).await;
    assert_eq!((end.status, end.exit.code), (RunStatus::Failed, Some(1)));
    assert_eq!(end.at_ms - running.at_ms, 7000);
    let output = world.output("sim", job, 1).await;
    assert_eq!(output, format!("simulated run 1 of {job} on node sim-node-1\nended: Error\n"));
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_pods_run_and_end_once_each() {
    const PODS: u32 = 10_000;
    let world = World::new(Clock::starting_at(START)).await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = simulated(folder.path(), 100, 100);
    config.simulated.runtime = "3s..9s".parse().unwrap();
    config.simulated.failure_rate = 0.1;
    let executor = world.start(config);
    let array = world.job("{}", "", Some(PODS));
    for index in 0..PODS {
        let node = format!("sim-node-{}", index % 100 + 1);
        world.lease(JobRef::task(array, index), 1, &node, &[("pods", "1"), ("cpu", "160m")]);
    }
    let done = || world.lock().believed.is_empty().then_some(());
    world.eventually("all end", done).await;
    let (failed, ends) = {
        let state = world.lock();
        let count = |status| state.reports.iter().filter(|r| r.status == status).count();
        (count(RunStatus::Failed), count(RunStatus::Failed) + count(RunStatus::Succeeded))
    };
    assert_eq!(ends, PODS as usize);
    assert!((800..1200).contains(&failed), "{failed}");
    assert!(world.lock().ended_twice().is_empty());
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn each_real_start_and_end_is_written_down_across_restarts() {
    let world = World::new(Clock::starting_at(START)).await;
    let folder = tempfile::tempdir().unwrap();
    let config = || Config { record_runs: true, ..simulated(folder.path(), 1, 10) };
    let executor = world.start(config());
    let job = |seconds: u32| {
        let annotations = format!(r#"{{"muster.dev/simulated-runtime":"{seconds}s"}}"#);
        let job = JobRef::whole(world.job("{}", &annotations, None));
        world.lease(job, 1, "sim-node-1", &[("pods", "1")]);
        job
    };
    let (quick, slow, forgotten) = (job(1), job(20), job(600));
    world.end_of(quick).await;
    world.reported(slow, RunStatus::Running).await;
    world.reported(forgotten, RunStatus::Running).await;
    executor.end().await;
    let executor = world.start(config());
    world.end_of(slow).await;
    executor.end().await;
    // The cluster loses what it has.
    std::fs::remove_file(folder.path().join("simulated-sim.json")).unwrap();
    let executor = world.start(config());
    world.end_of(forgotten).await;
    executor.end().await;
    let diary = std::fs::read_to_string(folder.path().join("runs-sim.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        diary.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (job, end) in [(quick, "succeeded"), (slow, "succeeded"), (forgotten, "gone")] {
        let of_job = lines.iter().filter(|line| line["job"] == job.to_string());
        let what: Vec<&str> = of_job.map(|line| line["what"].as_str().unwrap()).collect();
        assert_eq!(what, ["started", end], "{job}");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_outlive_the_executor() {
    let world = World::new(Clock::starting_at(START)).await;
    let folder = tempfile::tempdir().unwrap();
    let executor = world.start(simulated(folder.path(), 1, 10));
    let annotations = r#"{"muster.dev/simulated-runtime":"5s"}"#;
    let jobs: Vec<JobRef> =
        (0..3).map(|_| JobRef::whole(world.job("{}", annotations, None))).collect();
    for job in &jobs {
        world.lease(*job, 1, "sim-node-1", &[("pods", "1")]);
        world.reported(*job, RunStatus::Running).await;
    }
    executor.end().await;
    world.clock.sleep(Duration::from_secs(2)).await;
    let executor = world.start(simulated(folder.path(), 1, 10));
    for job in &jobs {
        let end = world.end_of(*job).await;
        assert_eq!(end.status, RunStatus::Succeeded);
    }
    executor.end().await;
    assert!(world.lock().ended_twice().is_empty());
}

/// Copies the files of a folder, as a process that is killed now would leave them.
fn left_by_a_kill(folder: &Path) -> tempfile::TempDir {
    let left = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), left.path().join(entry.file_name())).unwrap();
    }
    left
}

#[tokio::test(start_paused = true)]
async fn what_a_cluster_was_told_outlives_an_executor_that_is_killed() {
    let world = World::new(Clock::starting_at(START)).await;
    let folder = tempfile::tempdir().unwrap();
    let executor = world.start(simulated(folder.path(), 1, 10));
    let job = |runtime: &str| {
        let annotations = format!(r#"{{"muster.dev/simulated-runtime":"{runtime}"}}"#);
        JobRef::whole(world.job("{}", &annotations, None))
    };
    let lease = |job| world.lease(job, 1, "sim-node-1", &[("pods", "1")]);
    let (early, settled, late) = (job("5s"), job("100ms"), job("5s"));
    lease(early);
    world.reported(early, RunStatus::Running).await;
    // Everything from here on is younger than what the file holds.
    let before = std::fs::read(folder.path().join("simulated-sim.json")).unwrap();
    lease(settled);
    world.end_of(settled).await;
    lease(late);
    world.reported(late, RunStatus::Running).await;
    let left = left_by_a_kill(folder.path());
    assert_eq!(std::fs::read(left.path().join("simulated-sim.json")).unwrap(), before);
    // The end of the machine may have cut off a line, too.
    let mut log = OpenOptions::new().append(true).open(left.path().join("simulated-sim.jsonl"));
    log.as_mut().unwrap().write_all(br#"{"pod":{"job""#).unwrap();
    executor.end().await;

    let executor = world.start(simulated(left.path(), 1, 10));
    for job in [early, late] {
        assert_eq!(world.end_of(job).await.status, RunStatus::Succeeded);
    }
    executor.end().await;
    assert!(world.lock().ended_twice().is_empty());
}
