//! The pods of a simulated cluster and what happens to them when, without IO or clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::{Exit, RunStatus};
use muster_core::Name;
use muster_core::id::run_digest;
use muster_core::shape::Shape;
use muster_core::time::Timestamp;
use muster_runtime::Random;

use super::RunTime;
use crate::backend::{Adopted, Event, Start};
use crate::config::SimulatedConfig;
use crate::runs::RunKey;

/// The annotation that says how long a job's pod runs.
const RUNTIME_ANNOTATION: &str = "muster.dev/simulated-runtime";
/// The annotation that says which part of a job's pods fail.
const FAILURE_RATE_ANNOTATION: &str = "muster.dev/simulated-failure-rate";
/// Settled pods whose output can still be read.
const SETTLED_PODS_MAX: usize = 10_000;

/// A pod.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) node: Name,
    pub(super) shape: Arc<Shape>,
    pub(super) running_at: Timestamp,
    pub(super) ends_at: Timestamp,
    pub(super) phase: PodPhase,
    pub(super) exit: Exit,
}

/// How far a pod has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// All pods.
pub(super) struct Pods {
    pub(super) pods: BTreeMap<RunKey, Pod>,
    timers: BinaryHeap<Reverse<(Timestamp, RunKey)>>,
    settled: VecDeque<RunKey>,
    settled_texts: BTreeMap<RunKey, String>,
    start_delay: Duration,
    runtime: RunTime,
    failure_rate: f64,
    seed: u64,
}

impl Pods {
    pub(super) fn new(config: &SimulatedConfig) -> Self {
        Self {
            pods: BTreeMap::new(),
            timers: BinaryHeap::new(),
            settled: VecDeque::new(),
            settled_texts: BTreeMap::new(),
            start_delay: config.start_delay.0,
            runtime: config.runtime,
            failure_rate: config.failure_rate,
            seed: config.seed,
        }
    }

    /// Puts a pod of an earlier process back.
    pub(super) fn restore(&mut self, key: RunKey, pod: Pod) {
        self.schedule(key, &pod);
        self.pods.insert(key, pod);
    }

    /// All pods that were not settled.
    pub(super) fn adopted(&self) -> Vec<Adopted> {
        let adopted = |(key, pod): (&RunKey, &Pod)| {
            let (node, shape) = (pod.node.clone(), Arc::clone(&pod.shape));
            Adopted { key: *key, node, shape, report: pod.event(*key).into_report() }
        };
        self.pods.iter().map(adopted).collect()
    }

    /// Creates a pod.
    pub(super) fn start(&mut self, start: Start, now: Timestamp) -> Event {
        let Start { key, node, shape, payload } = start;
        let random = Random::seeded(self.seed ^ run_digest(key.job, key.attempt));
        let annotations: BTreeMap<String, String> =
            serde_json::from_slice(&payload.annotations).unwrap_or_default();
        let annotation = |name: &str| annotations.get(name);
        let runtime = annotation(RUNTIME_ANNOTATION).and_then(|text| text.parse().ok());
        let rate = annotation(FAILURE_RATE_ANNOTATION).and_then(|text| text.parse().ok());
        let runtime = runtime.unwrap_or(self.runtime).draw(&random);
        let is_failing = random.unit() < rate.unwrap_or(self.failure_rate);
        let running_at = now.plus(self.start_delay);
        let exit = if is_failing { exit(1, "Error") } else { exit(0, "Completed") };
        let pod = Pod {
            node,
            shape,
            running_at,
            ends_at: running_at.plus(runtime),
            phase: PodPhase::Pending,
            exit,
        };
        let event = Event { at: now, ..pod.event(key) };
        self.restore(key, pod);
        event
    }

    /// Ends a pod at once, if it has not ended.
    pub(super) fn stop(&mut self, key: RunKey, now: Timestamp) -> Option<Event> {
        let pod = self.pods.get_mut(&key).filter(|pod| !pod.is_over())?;
        pod.phase = PodPhase::Failed;
        pod.ends_at = now;
        pod.exit = Exit { code: None, signal: Some(15), ..exit(0, "Stopped") };
        Some(pod.event(key))
    }

    /// Drops a pod, except for its output.
    pub(super) fn settle(&mut self, key: RunKey) {
        let Some((text, _)) = self.output(key) else { return };
        if self.pods.remove(&key).is_none() {
            return;
        }
        self.settled_texts.insert(key, text);
        self.settled.push_back(key);
        if self.settled.len() > SETTLED_PODS_MAX
            && let Some(oldest) = self.settled.pop_front()
        {
            self.settled_texts.remove(&oldest);
        }
    }

    /// When something happens next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// What has happened by `now`, at most `max` of it.
    pub(super) fn fire(&mut self, now: Timestamp, max: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < max && self.due().is_some_and(|at| at <= now) {
            let Some(Reverse((at, key))) = self.timers.pop() else { break };
            // A pod that was stopped or settled has left its timer behind.
            let Some(pod) = self.pods.get_mut(&key) else { continue };
            match pod.phase {
                PodPhase::Pending if pod.running_at == at => {
                    pod.phase = PodPhase::Running;
                    self.timers.push(Reverse((pod.ends_at, key)));
                }
                PodPhase::Running if pod.ends_at == at => {
                    let is_good = pod.exit.code == Some(0);
                    pod.phase = if is_good { PodPhase::Succeeded } else { PodPhase::Failed };
                }
                PodPhase::Pending | PodPhase::Running | PodPhase::Succeeded | PodPhase::Failed => {
                    continue;
                }
            }
            events.push(pod.event(key));
        }
        events
    }

    /// A short text in place of output, and whether it is all.
    pub(super) fn output(&self, key: RunKey) -> Option<(String, bool)> {
        if let Some(text) = self.settled_texts.get(&key) {
            return Some((text.clone(), true));
        }
        let pod = self.pods.get(&key)?;
        let mut text = String::new();
        if pod.phase != PodPhase::Pending {
            let RunKey { job, attempt } = key;
            text = format!("simulated run {attempt} of {job} on node {}\n", pod.node);
        }
        if let (true, Some(reason)) = (pod.is_over(), &pod.exit.reason) {
            text.extend(["ended: ", reason, "\n"]);
        }
        Some((text, pod.is_over()))
    }

    fn schedule(&mut self, key: RunKey, pod: &Pod) {
        match pod.phase {
            PodPhase::Pending => self.timers.push(Reverse((pod.running_at, key))),
            PodPhase::Running => self.timers.push(Reverse((pod.ends_at, key))),
            PodPhase::Succeeded | PodPhase::Failed => {}
        }
    }
}

impl Pod {
    fn is_over(&self) -> bool {
        match self.phase {
            PodPhase::Pending | PodPhase::Running => false,
            PodPhase::Succeeded | PodPhase::Failed => true,
        }
    }

    fn event(&self, key: RunKey) -> Event {
        let (status, at) = match self.phase {
            PodPhase::Pending => (RunStatus::Pending, self.running_at),
            PodPhase::Running => (RunStatus::Running, self.running_at),
            PodPhase::Succeeded => (RunStatus::Succeeded, self.ends_at),
            PodPhase::Failed => (RunStatus::Failed, self.ends_at),
        };
        let exit = if self.is_over() { self.exit.clone() } else { Exit::default() };
        Event { key, status, at, exit, addresses: Vec::new() }
    }
}

fn exit(code: i32, reason: &str) -> Exit {
    Exit { code: Some(code), reason: Some(reason.to_owned()), ..Exit::default() }
}
