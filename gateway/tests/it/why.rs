//! Why a job does not run, over shards and leaders that answer what a test tells them to.

use std::sync::Arc;

use muster_api::bus::{
    self, ClassLine, JobPlace, PoolReply, PoolRequest, ShardReply, ShardRequest,
};
use muster_api::http::{Blocker, Job, PoolWhy};
use muster_api::shape::ShapeText;
use muster_core::resources::Resources;
use muster_core::shape::Shape;
use muster_gateway::Config;
use muster_runtime::tasks::{BoxError, Policy};

use crate::harness::{Harness, id};

fn job(state: &str) -> Job {
    let run = r#"{"attempt":1,"cluster":"c","node":"n","leasedAt":""}"#;
    let runs = if state == "queued" { "" } else { run };
    let json = format!(
        r#"{{"jobId":"{}","queue":"q","jobSet":"s","state":"{state}","priority":3,
        "submittedAt":"","resources":{{}},"runs":[{runs}]}}"#,
        id(0, 1)
    );
    serde_json::from_str(&json).unwrap()
}

/// A gateway whose shards have one job, in that state.
async fn with_job(state: &'static str) -> Harness {
    let script = move |_: u16, request: &ShardRequest| {
        Some(match request {
            ShardRequest::Job(_) => ShardReply::Job(Some(Box::new(job(state)))),
            ShardRequest::Place(_) => ShardReply::Place(Some(Box::new(JobPlace {
                shape: ShapeText(Arc::new(Shape::of_request(Resources::new()))),
                priority: 3,
                classes: vec![ClassLine { class: "default".into(), before: 2, same: 9, all: 20 }],
                ahead: (5, 5),
                held: Vec::new(),
            }))),
            other => panic!("{other:?}"),
        })
    };
    Harness::with(Config::default(), Arc::new(script)).await
}

/// A leader of the default pool that is asked about the job.
async fn with_leader(harness: &Harness) {
    let subject = bus::subject::pool_questions("default");
    let mut questions = harness.bus.subscribe(&subject, None).await.unwrap();
    let bus = Arc::clone(&harness.bus);
    harness.tasks.spawn_once("leader", Policy::DETACHED, move |_| async move {
        while let Some(message) = questions.next().await {
            let PoolRequest::Why(asked) = bus::decode(&message.payload).unwrap() else { panic!() };
            assert_eq!((asked.queue.as_str(), asked.place.ahead), ("q", 5));
            let blockers = vec![Blocker::NoRoom { nodes: 2 }];
            let answer = PoolReply::Why(Box::new(PoolWhy { blockers, ..PoolWhy::default() }));
            bus.respond(&message.reply.unwrap(), bus::encode(&answer)).await.unwrap();
        }
        Ok::<(), BoxError>(())
    });
}

#[tokio::test]
async fn without_a_leader_the_answer_says_so_and_where_the_job_stands() {
    let harness = with_job("queued").await;
    let got = harness.get(&format!("/api/v1/jobs/{}/why", id(0, 1))).await;
    let why = got.json();
    assert_eq!(got.status, 200, "{why}");
    assert_eq!(why["blockers"][0]["kind"], "noLeader");
    assert!(why["blockers"][0]["detail"].as_str().unwrap().contains("no responders"), "{why}");
    assert_eq!((&why["place"]["ahead"], &why["place"]["waiting"]), (&5.into(), &20.into()));
    assert_eq!(why["pool"], serde_json::Value::Null);
    assert!(why["summary"].as_str().unwrap().starts_with("it waits: nobody"), "{why}");
}

#[tokio::test]
async fn what_the_leader_says_is_in_the_answer() {
    let harness = with_job("queued").await;
    with_leader(&harness).await;
    let why = harness.get(&format!("/api/v1/jobs/{}/why", id(0, 1))).await.json();
    assert_eq!(why["blockers"], serde_json::json!([{ "kind": "noRoom", "nodes": 2 }]));
    assert_eq!(why["summary"], "it waits: none of 2 nodes that could hold it has room");
    assert!(why["pool"].is_object() && why["pool"]["blockers"].is_null(), "{why}");
}

#[tokio::test]
async fn a_job_that_does_not_wait_gets_a_plain_answer() {
    for (state, summary) in [
        ("leased", "it is on node `n` of cluster `c` and starts there"),
        ("running", "it runs"),
        ("succeeded", "it has succeeded"),
    ] {
        let harness = with_job(state).await;
        let why = harness.get(&format!("/api/v1/jobs/{}/why", id(0, 1))).await.json();
        assert_eq!((&why["state"], &why["summary"]), (&state.into(), &summary.into()));
    }
    let harness = Harness::start().await;
    let got = harness.get(&format!("/api/v1/jobs/{}/why", id(0, 1))).await;
    assert_eq!((got.status.as_u16(), got.code().as_str()), (404, "not_found"));
}
