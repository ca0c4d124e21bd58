//! The table of pods, told and shown one thing after the other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_api::bus::{JobPayload, RunStatus};
use muster_core::id::{JobId, JobRef, ShardId};
use muster_core::resources::Resources;
use muster_core::shape::Shape;
use muster_core::time::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::backend::kubernetes::answer::Creation;
use crate::backend::kubernetes::labels;
use crate::backend::kubernetes::object;

mod ends;
mod expose;
mod usage;

const START: &str = "2026-01-01T00:00:10Z";
const END: &str = "2026-01-01T00:00:20Z";

/// A table and the time.
struct World {
    table: Table,
    seconds: u64,
}

fn key(n: u32) -> RunKey {
    RunKey { job: JobRef::task(JobId::new(Timestamp(1), ShardId(0), 1), n), attempt: 1 }
}

fn shape() -> Shape {
    Shape::of_request(Resources::new())
}

fn start(n: u32) -> Start {
    let payload = JobPayload {
        job: key(n).job.job,
        found: true,
        queue: "q".into(),
        job_set: "s".into(),
        namespace: "team".into(),
        count: Some(99),
        labels: Bytes::new(),
        annotations: Bytes::new(),
        network: Bytes::new(),
        pod_spec: Bytes::from_static(b"{}"),
    };
    let (shape, payload) = (Arc::new(shape()), Arc::new(payload));
    Start { key: key(n), node: "n1".into(), shape, payload }
}

fn pod(n: u32, status: &Value) -> object::Pod {
    let pod = json!({
        "metadata": {
            "name": labels::pod_name(key(n)),
            "namespace": "team",
            "uid": format!("uid-{n}"),
            "labels": labels::labels(key(n), "c", "q"),
            "annotations": labels::annotations("n1", &shape(), "q", "s"),
        },
        "spec": { "nodeName": "n1", "containers": [{ "name": "main" }],
            "terminationGracePeriodSeconds": 5 },
        "status": status,
    });
    serde_json::from_value(pod).unwrap()
}

fn pending() -> Value {
    json!({ "phase": "Pending" })
}

fn running() -> Value {
    json!({ "phase": "Running", "containerStatuses": [{ "name": "main",
        "state": { "running": { "startedAt": START } } }] })
}

fn ended(phase: &str, code: i32) -> Value {
    json!({ "phase": phase, "containerStatuses": [{ "name": "main", "state": { "terminated": {
        "exitCode": code, "startedAt": START, "finishedAt": END } } }] })
}

impl World {
    fn new(config: KubernetesConfig) -> Self {
        let mut world = Self { table: Table::new(config, "c".to_owned()), seconds: 0 };
        let now = world.now();
        assert!(world.table.adopt(now).is_empty());
        world
    }

    fn now(&self) -> Now {
        let at = i64::try_from(self.seconds).unwrap() * 1000;
        Now { wall: Timestamp(at), monotonic: Duration::from_secs(self.seconds) }
    }

    fn pass(&mut self, seconds: u64) {
        self.seconds += seconds;
        let now = self.now();
        self.table.on_time(now);
    }

    fn start(&mut self, n: u32) {
        let now = self.now();
        self.table.start(start(n), now);
    }

    fn stop(&mut self, n: u32) {
        let now = self.now();
        self.table.stop(key(n), Grace::OfPod, now);
    }

    fn settle(&mut self, n: u32) {
        let now = self.now();
        self.table.settle(key(n), now);
    }

    fn see(&mut self, n: u32, status: &Value) {
        let now = self.now();
        assert!(self.table.seen(&pod(n, status), now));
    }

    fn gone(&mut self, n: u32, status: &Value) {
        let now = self.now();
        self.table.gone(&pod(n, status), now);
    }

    fn created(&mut self, n: u32, creation: Creation, pod: Option<&object::Pod>) {
        let now = self.now();
        self.table.created(key(n), creation, pod, now);
    }

    fn looked(&mut self, n: u32, found: Found) {
        let now = self.now();
        self.table.looked(key(n), found, now);
    }

    fn removed(&mut self, n: u32, result: Result<Removed, String>) {
        let now = self.now();
        self.table.removed(key(n), result, now);
    }

    /// What is asked of the API server now, in words.
    fn calls(&mut self) -> Vec<String> {
        let mut calls = Vec::new();
        while let Some(call) = self.table.next_call() {
            calls.push(match call {
                Call::Create { key, .. } => format!("create {}", key.job.index.unwrap()),
                Call::CreateNamespace { namespace, .. } => format!("namespace {namespace}"),
                Call::Expose { key, .. } => format!("expose {}", key.job.index.unwrap()),
                Call::Bind { key, .. } => format!("bind {}", key.job.index.unwrap()),
                Call::Look { key, .. } => format!("look {}", key.job.index.unwrap()),
                Call::Happenings { key, .. } => format!("events {}", key.job.index.unwrap()),
                Call::Remove { key, grace, .. } => {
                    let grace = grace.map_or(String::new(), |grace| format!(" in {grace}"));
                    format!("remove {}{grace}", key.job.index.unwrap())
                }
            });
        }
        calls
    }

    /// What is said of runs, in words.
    fn said(&mut self) -> Vec<String> {
        let events = self.table.take_events();
        let word = |event: Event| {
            let reason = event.exit.reason.map_or(String::new(), |reason| format!(" {reason}"));
            format!("{} {:?}{reason}", event.key.job.index.unwrap(), event.status)
        };
        events.into_iter().map(word).collect()
    }
}

fn world() -> World {
    World::new(KubernetesConfig::default())
}

fn running_world() -> World {
    let mut world = world();
    world.start(1);
    assert_eq!(world.calls(), ["create 1"]);
    world.see(1, &running());
    assert_eq!(world.said(), ["1 Running"]);
    world
}

#[test]
fn a_run_is_created_once_and_said_to_be_pending_running_and_over() {
    let mut world = world();
    world.start(1);
    world.start(1);
    assert_eq!(world.calls(), ["create 1"]);
    world.created(1, Creation::Created, Some(&pod(1, &pending())));
    world.see(1, &pending());
    assert_eq!(world.said(), ["1 Pending"]);
    world.see(1, &running());
    world.see(1, &running());
    assert_eq!(world.said(), ["1 Running"]);
    world.see(1, &ended("Succeeded", 0));
    world.see(1, &ended("Succeeded", 0));
    assert_eq!(world.said(), ["1 Succeeded"]);
    assert!(world.calls().is_empty());
}

#[test]
fn of_a_run_that_was_over_before_it_was_seen_both_ends_are_said() {
    let mut world = world();
    world.start(1);
    world.see(1, &ended("Failed", 3));
    assert_eq!(world.said(), ["1 Running", "1 Failed Error"]);
    world.created(1, Creation::Created, Some(&pod(1, &pending())));
    assert!(world.said().is_empty(), "an answer that is older than the watch says nothing new");
}

#[test]
fn a_pod_of_its_name_that_is_there_already_is_the_run_s_own_or_somebody_else_s() {
    let mut world = world();
    for n in [1, 2, 3] {
        world.start(n);
    }
    assert_eq!(world.calls().len(), 3);
    for n in [1, 2, 3] {
        world.created(n, Creation::Exists, None);
    }
    assert_eq!(world.calls(), ["look 1", "look 2", "look 3"]);
    world.looked(1, Found::Pod(Box::new(pod(1, &running()))));
    let mut foreign = pod(2, &running());
    foreign.metadata.labels.clear();
    world.looked(2, Found::Pod(Box::new(foreign)));
    world.looked(3, Found::Nothing);
    assert_eq!(world.said(), ["1 Running", "2 Returned NameTaken"]);
    world.pass(1);
    assert_eq!(world.calls(), ["create 3"], "it went away in between");
}

#[test]
fn what_may_pass_is_tried_again_until_it_has_lasted_for_too_long() {
    let quota = || Creation::Later {
        message: "exceeded quota".to_owned(),
        is_of_pod: true,
        may_exist: false,
    };
    let mut world = world();
    world.start(1);
    let mut tries = 0;
    while world.said().is_empty() {
        assert_eq!(world.calls(), ["create 1"]);
        tries += 1;
        world.created(1, quota(), None);
        if world.table.events.is_empty() {
            world.pass(10);
        }
    }
    assert_eq!((tries, world.seconds), (13, 120));
    world.settle(1);
    assert_eq!(world.table.len(), 0);
}

#[test]
fn a_pod_that_is_given_up_is_looked_for_if_it_may_be_there() {
    let webhook = || Creation::Later {
        message: "failed calling webhook".to_owned(),
        is_of_pod: true,
        may_exist: true,
    };
    let mut world = world();
    for n in [1, 2] {
        world.start(n);
        world.calls();
        world.created(n, webhook(), None);
    }
    world.pass(120);
    assert_eq!(world.calls(), ["create 1", "create 2"]);
    for n in [1, 2] {
        world.created(n, webhook(), None);
    }
    assert_eq!(world.calls(), ["look 1", "look 2"]);
    world.looked(1, Found::Nothing);
    world.looked(2, Found::Pod(Box::new(pod(2, &running()))));
    assert_eq!(world.said(), ["1 Returned NotCreated", "2 Running"]);
}

#[test]
fn an_api_server_that_is_away_is_waited_for_without_end() {
    let away =
        || Creation::Later { message: "refused".to_owned(), is_of_pod: false, may_exist: true };
    let mut world = world();
    world.start(1);
    for _ in 0..99 {
        assert_eq!(world.calls(), ["create 1"]);
        world.created(1, away(), None);
        world.pass(10);
    }
    assert!(world.said().is_empty());
    assert_eq!(world.calls(), ["create 1"]);
    world.created(1, away(), None);
    world.stop(1);
    assert_eq!(world.calls(), ["look 1"], "an attempt may have succeeded unnoticed");
    world.looked(1, Found::Nothing);
    assert_eq!(world.said(), ["1 Returned Stopped"]);
}

#[test]
fn a_missing_namespace_fails_the_job_or_is_made() {
    let missing = || Creation::NoNamespace("namespaces \"team\" not found".to_owned());
    let mut failing = world();
    failing.start(1);
    failing.created(1, missing(), None);
    assert_eq!(failing.said(), ["1 Failed NamespaceMissing"]);
    let config = KubernetesConfig { create_namespaces: true, ..KubernetesConfig::default() };
    let mut making = World::new(config);
    making.start(1);
    assert_eq!(making.calls(), ["create 1"]);
    making.created(1, missing(), None);
    assert_eq!(making.calls(), ["namespace team"]);
    making.table.namespace_created(key(1), Ok(()), Now { ..making.now() });
    assert_eq!(making.calls(), ["create 1"]);
    making.created(1, missing(), None);
    assert_eq!(making.said(), ["1 Failed NamespaceMissing"], "it is made once only");
    let config = KubernetesConfig { namespaces: vec!["a*".into()], ..KubernetesConfig::default() };
    let mut choosy = World::new(config);
    choosy.start(1);
    assert_eq!(
        (choosy.calls().len(), choosy.said()),
        (0, vec!["1 Failed NamespaceForbidden".to_owned()])
    );
}

#[test]
fn a_run_that_is_stopped_is_over_when_its_pod_is() {
    let mut world = running_world();
    world.stop(1);
    world.stop(1);
    assert_eq!(world.calls(), ["remove 1"]);
    world.removed(1, Ok(Removed::Taken));
    assert!(world.said().is_empty());
    world.see(1, &ended("Failed", 143));
    assert_eq!(world.said(), ["1 Failed Stopped"]);
    world.gone(1, &ended("Failed", 143));
    assert!(world.said().is_empty());
    world.settle(1);
    assert_eq!(world.table.len(), 0);
}

#[test]
fn a_run_can_be_stopped_at_any_time_before_its_pod_is_there() {
    let mut world = world();
    world.start(1);
    world.stop(1);
    assert_eq!(world.said(), ["1 Returned Stopped"]);
    assert!(world.calls().is_empty());
    world.start(2);
    assert_eq!(world.calls(), ["create 2"]);
    world.stop(2);
    assert!(world.said().is_empty() && world.calls().is_empty(), "it may come to be");
    world.created(2, Creation::Created, Some(&pod(2, &pending())));
    assert_eq!(world.calls(), ["remove 2"]);
    world.removed(2, Ok(Removed::Taken));
    world.gone(2, &pending());
    assert_eq!(world.said(), ["2 Pending", "2 Returned Stopped"]);
}

#[test]
fn a_restart_finds_beginnings_and_ends_on_the_pods() {
    let mut world =
        World { table: Table::new(KubernetesConfig::default(), "c".into()), seconds: 0 };
    world.table.listing();
    world.see(1, &pending());
    world.see(2, &running());
    world.see(3, &ended("Failed", 3));
    world.table.listed();
    assert!(world.said().is_empty(), "nothing is said before the executor has asked");
    let now = world.now();
    let adopted = world.table.adopt(now);
    let of = |n: usize| (adopted[n].key, adopted[n].report.status, &*adopted[n].node);
    assert_eq!(of(0), (key(1), RunStatus::Pending, "n1"));
    assert_eq!(of(1), (key(2), RunStatus::Running, "n1"));
    assert_eq!(of(2), (key(3), RunStatus::Running, "n1"));
    assert_eq!(world.said(), ["3 Failed Error"]);
}

#[test]
fn what_a_list_does_not_name_is_looked_for_before_it_counts_as_gone() {
    let mut world = running_world();
    world.start(2);
    world.see(2, &running());
    world.said();
    world.table.listing();
    world.see(2, &running());
    world.table.listed();
    assert_eq!(world.calls().last().unwrap(), "look 1");
    world.looked(1, Found::Unknown("away".to_owned()));
    assert!(world.said().is_empty());
    world.looked(1, Found::Nothing);
    assert_eq!(world.said(), ["1 Lost Deleted"]);
}

#[test]
fn the_executor_binds_pods_where_that_is_its_task() {
    let config = KubernetesConfig { binding: Binding::Direct, ..KubernetesConfig::default() };
    let mut world = World::new(config);
    world.start(1);
    world.calls();
    let mut unbound = pod(1, &pending());
    unbound.spec.node_name.clear();
    unbound.spec.scheduler_name = "muster".to_owned();
    world.created(1, Creation::Created, Some(&unbound));
    assert_eq!(world.calls(), ["bind 1"]);
    let now = world.now();
    let refusal = Refusal { message: "away".to_owned(), is_final: false };
    world.table.bound(key(1), Err(refusal), now);
    assert_eq!(world.calls(), ["bind 1"]);
    let refusal = Refusal { message: "no such node".to_owned(), is_final: true };
    world.table.bound(key(1), Err(refusal), now);
    assert_eq!(world.calls(), ["remove 1"]);
    world.gone(1, &pending());
    assert_eq!(world.said(), ["1 Pending", "1 Returned NotBound"]);
}

#[test]
fn a_stale_answer_does_not_bring_a_pod_back() {
    let mut world = running_world();
    world.see(1, &ended("Succeeded", 0));
    world.looked(1, Found::Pod(Box::new(pod(1, &running()))));
    assert_eq!(world.said(), ["1 Succeeded"]);
    world.gone(1, &ended("Succeeded", 0));
    world.created(1, Creation::Created, Some(&pod(1, &pending())));
    assert!(world.said().is_empty() && world.calls().is_empty());
    world.settle(1);
    assert_eq!(world.table.len(), 0);
}
