//! Runs whose pods are looked at while they run.

use super::*;
use crate::backend::kubernetes::usage::{Look, PodMetrics};

/// A look at a pod that began to run at 10 s, so many seconds into that minute.
fn look(n: u32, second: u32, cpu: &str) -> Look {
    let metrics = json!({
        "metadata": { "name": labels::pod_name(key(n)), "namespace": "team" },
        "timestamp": format!("2026-01-01T00:00:{second:02}Z"),
        "containers": [{ "name": "main", "usage": { "cpu": cpu, "memory": "1Mi" } }] });
    serde_json::from_value::<PodMetrics>(metrics).unwrap().look().unwrap()
}

impl World {
    fn look_at(&mut self, look: &Look) {
        let now = self.now();
        self.table.looked_at(look, now);
    }

    /// What is said of runs: whether they run, and the cpu time that they used, in milliseconds.
    fn used(&mut self) -> Vec<(RunStatus, Option<u64>)> {
        let events = self.table.take_events().into_iter();
        events.map(|it| (it.status, it.exit.usage.map(|usage| usage.cpu_time_ms))).collect()
    }
}

#[test]
fn what_a_run_uses_is_told_while_it_runs_and_with_its_end() {
    let mut world = running_world();
    world.look_at(&look(1, 14, "1"));
    world.look_at(&look(1, 14, "1"));
    assert_eq!(world.used(), [(RunStatus::Running, Some(4_000))], "the same again is no news");
    world.look_at(&look(1, 16, "2"));
    assert_eq!(world.used(), [(RunStatus::Running, Some(8_000))]);
    world.see(1, &ended("Succeeded", 0));
    assert_eq!(world.used(), [(RunStatus::Succeeded, Some(16_000))]);
    world.look_at(&look(1, 20, "9"));
    assert_eq!(world.used(), [], "it was told how it ended");
}

#[test]
fn it_is_asked_of_the_shards_whose_jobs_have_pods() {
    let mut world = world();
    assert!(world.table.shards().is_empty());
    world.start(1);
    assert!(world.table.shards().is_empty());
    world.see(1, &pending());
    assert_eq!(world.table.shards().into_iter().collect::<Vec<_>>(), [ShardId(0)]);
    world.look_at(&look(1, 14, "1"));
    assert_eq!(world.used(), [(RunStatus::Pending, None)], "it does not run yet");
}
