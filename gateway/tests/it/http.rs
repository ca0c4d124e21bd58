//! What every route answers, errors and limits included.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hyper::StatusCode;
use muster_api::bus::{LogsReply, ShardReply, ShardRequest, Target, encode, pool_parts, subject};
use muster_api::http::{
    Cluster, ErrorCode, Event, EventPage, Job, JobPage, JobSet, JobSetPage, Pool, Problem,
    QueueShare, Run,
};
use muster_core::limits::{IDS_PER_REQUEST_MAX, PAGE_SIZE_MAX, REASON_BYTES_MAX};
use muster_core::route::shard_of_queue;
use muster_gateway::Config;
use muster_runtime::tasks::{BoxError, Policy};

use crate::harness::{Harness, id, take};

const JSON: &str = "application/json";

#[tokio::test]
async fn a_queue_is_made_changed_shown_and_deleted() {
    let harness = Harness::start().await;
    let url = "/api/v1/queues/team%2Fa";
    assert_eq!(harness.get(url).await.code(), "queue_not_found");
    let body = r#"{"weight":2.5,"labels":{"x":"y"},"cordoned":true}"#;
    let got = harness.send("PUT", url, &[], body).await;
    assert_eq!(got.json()["weight"], 2.5);
    let got = harness.get(url).await;
    assert_eq!(got.json()["name"], "team/a");
    assert_eq!(harness.get("/api/v1/queues").await.json()["queues"][0]["cordoned"], true);
    for bad in [r#"{"weight":0}"#, r#"{"wait":1}"#, "x"] {
        assert_eq!(harness.send("PUT", url, &[], bad).await.code(), "bad_request", "{bad}");
    }
    let got = harness.send("DELETE", url, &[], "").await;
    assert_eq!(got.status, StatusCode::NO_CONTENT);
    assert_eq!(harness.get(url).await.status, StatusCode::NOT_FOUND);
    let [(shard, ShardRequest::CloseQueue(close))] = &harness.seen()[..] else {
        panic!("{:?}", harness.seen())
    };
    assert_eq!((*shard, &*close.queue), (shard_of_queue("team/a", 4).0, "team/a"));
}

#[tokio::test]
async fn a_queue_with_live_jobs_stays() {
    let script = |_: u16, _: &ShardRequest| {
        Some(ShardReply::Error(Problem::new(ErrorCode::QueueInUse, "queue `a` has 3 live jobs")))
    };
    let harness = Harness::with(Config::default(), Arc::new(script)).await;
    harness.queue("a").await;
    let got = harness.send("DELETE", "/api/v1/queues/a", &[], "").await;
    assert_eq!((got.status.as_u16(), &*got.code()), (409, "queue_in_use"));
    assert_eq!(harness.get("/api/v1/queues/a").await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_with_a_code() {
    let harness = Harness::start().await;
    let cases = [
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("PATCH", "/api/v1/queues/a", 405, "method_not_allowed"),
        ("DELETE", "/api/v1/jobs", 405, "method_not_allowed"),
        ("GET", "/api/v1/jobs/nonsense", 404, "not_found"),
        ("GET", "/api/v1/jobs?limit=0", 400, "bad_request"),
        ("GET", "/api/v1/jobs?limit=10001", 400, "bad_request"),
        ("GET", "/api/v1/jobs?cursor=x", 400, "bad_request"),
        ("GET", "/api/v1/jobs?state=sleeping", 400, "bad_request"),
        ("GET", "/api/v1/jobs?jobSet=s", 400, "bad_request"),
        ("GET", "/api/v1/queues/a/job-sets/s", 404, "not_found"),
        ("GET", "/api/v1/queues/a/job-sets/s/events?after=x", 400, "bad_request"),
        ("GET", "/api/v1/pools/p/shares", 404, "not_found"),
    ];
    for (method, path, status, code) in cases {
        let got = harness.send(method, path, &[], "").await;
        assert_eq!((got.status.as_u16(), &*got.code()), (status, code), "{method} {path}");
        assert_eq!(got.headers["content-type"], "application/problem+json");
        assert_eq!(got.json()["status"], status);
    }
    let got = harness.get(&format!("/api/v1/jobs?limit={PAGE_SIZE_MAX}")).await;
    assert_eq!(got.status, StatusCode::OK);
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let harness = Harness::start().await;
    let got = harness.send("GET", "/health/live", &[("x-request-id", "mine-1")], "").await;
    assert_eq!(got.headers["x-request-id"], "mine-1");
    let got = harness.get("/api/v1/nothing").await;
    assert_eq!(got.headers["x-request-id"].len(), 32);
}

#[tokio::test]
async fn health_metrics_and_the_document_are_served() {
    let harness = Harness::start().await;
    for prefix in ["", "/api/v1"] {
        for path in ["/health/live", "/health/ready"] {
            assert_eq!(harness.get(&[prefix, path].concat()).await.json()["status"], "ok");
        }
        let metrics = harness.get(&[prefix, "/metrics"].concat()).await;
        let line =
            r#"muster_gateway_requests_total{method="GET",route="/health/live",status="200"}"#;
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }
    assert_eq!(harness.get("/api/v1/openapi.json").await.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn jobs_named_by_id_are_cancelled_by_their_shards() {
    let harness = Harness::start().await;
    let ids =
        format!(r#"{{"jobIds":["{}","{}-3","{}"],"reason":"no"}}"#, id(1, 1), id(2, 1), id(900, 1));
    let got = harness.post("/api/v1/cancel", JSON, ids).await;
    assert_eq!(got.json()["changed"], 2);
    assert_eq!(got.json()["missing"][0], id(900, 1).to_string());
    let mut shards: Vec<u16> = harness.seen().iter().map(|(shard, _)| *shard).collect();
    shards.sort_unstable();
    assert_eq!(shards, [1, 2]);
}

#[tokio::test]
async fn a_job_set_is_reprioritized_by_the_shard_of_its_queue() {
    let harness = Harness::start().await;
    let body = r#"{"queue":"a","jobSet":"s","priority":7}"#;
    assert_eq!(harness.post("/api/v1/reprioritize", JSON, body).await.json()["changed"], 1);
    let [(shard, ShardRequest::Reprioritize(request))] = &harness.seen()[..] else { panic!() };
    assert_eq!((*shard, request.priority), (shard_of_queue("a", 4).0, 7));
    let Target::JobSet { states, .. } = &request.target else { panic!() };
    assert_eq!(*states, ["queued", "leased", "pending", "running"]);
}

#[tokio::test]
async fn changes_are_taken_at_the_limits_and_refused_one_past_them() {
    let harness = Harness::start().await;
    let ids = |n: usize| {
        let ids: Vec<String> = (0..n as u64).map(|n| format!("\"{}\"", id(0, n))).collect();
        format!(r#"{{"jobIds":[{}]}}"#, ids.join(","))
    };
    let url = "/api/v1/cancel";
    let got = harness.post(url, JSON, ids(IDS_PER_REQUEST_MAX)).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.text());
    assert_eq!(
        harness.post(url, JSON, ids(IDS_PER_REQUEST_MAX + 1)).await.code(),
        "payload_too_large"
    );
    let reason = |n: usize| format!(r#"{{"queue":"a","jobSet":"s","reason":"{}"}}"#, "r".repeat(n));
    assert_eq!(harness.post(url, JSON, reason(REASON_BYTES_MAX)).await.status, StatusCode::OK);
    assert_eq!(harness.post(url, JSON, reason(REASON_BYTES_MAX + 1)).await.code(), "bad_request");
    for bad in ["{}", r#"{"queue":"a"}"#, r#"{"jobIds":["x"]}"#] {
        assert_eq!(harness.post(url, JSON, bad).await.code(), "bad_request", "{bad}");
    }
}

/// Five jobs and five job sets, told two at a time.
fn pieces(_: u16, request: &ShardRequest) -> Option<ShardReply> {
    let names = (0..5).map(|n| format!("s{n}"));
    Some(match request {
        ShardRequest::Jobs(list) => {
            let all =
                (0..5).map(|n| id(0, n)).filter(|job| list.after.is_none_or(|a| *job > a.job));
            let all: Vec<Job> =
                all.map(|id| Job { job_id: id.to_string(), ..job_with_run() }).collect();
            let jobs = all[..all.len().min(list.limit).min(2)].to_vec();
            let last = jobs.last().map(|job| job.job_id.clone());
            ShardReply::Jobs(JobPage { cursor: last.filter(|_| jobs.len() < all.len()), jobs })
        }
        ShardRequest::JobSets(list) => {
            let after = list.after.clone().unwrap_or_default();
            let all: Vec<String> = names.filter(|name| *name > after).collect();
            let few = &all[..all.len().min(list.limit).min(2)];
            let cursor = few.last().filter(|_| few.len() < all.len()).cloned();
            let set = |name: &String| JobSet {
                queue: list.queue.clone(),
                job_set: name.clone(),
                counts: Default::default(),
            };
            ShardReply::JobSets(JobSetPage { job_sets: few.iter().map(set).collect(), cursor })
        }
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn a_page_is_as_large_as_asked_for_whatever_the_bus_carries() {
    let harness = Harness::with(Config::default(), Arc::new(pieces)).await;
    for (path, field) in [("jobs?queue=a&", "jobs"), ("queues/a/job-sets?", "jobSets")] {
        let get = async |query: &str| harness.get(&format!("/api/v1/{path}{query}")).await.json();
        let all = get("limit=100").await;
        assert_eq!(all[field].as_array().unwrap().len(), 5, "{all}");
        assert!(all["cursor"].is_null(), "{all}");
        let first = get("limit=3").await;
        assert_eq!(first[field].as_array().unwrap()[..], all[field].as_array().unwrap()[..3]);
        let cursor = first["cursor"].as_str().unwrap();
        let rest = get(&format!("limit=3&cursor={cursor}")).await;
        assert_eq!(rest[field].as_array().unwrap()[..], all[field].as_array().unwrap()[3..]);
        assert!(rest["cursor"].is_null(), "{rest}");
    }
}

fn event(n: u64) -> Event {
    let text = format!(r#"{{"cursor":"{n}-0","jobId":"j","event":"running","at":"t"}}"#);
    serde_json::from_str(&text).unwrap()
}

/// Events 1 to 5 in pages of two, with a change of owner in between.
fn events() -> impl Fn(u16, &ShardRequest) -> Option<ShardReply> + Send + Sync {
    let asked = AtomicU32::new(0);
    move |_, request| {
        let ShardRequest::Events(request) = request else { panic!("{request:?}") };
        if asked.fetch_add(1, Ordering::SeqCst) == 1 {
            return Some(ShardReply::Error(Problem::new(ErrorCode::Unavailable, "moving")));
        }
        let after = request.after.map_or(0, |cursor| cursor.0.sequence);
        let events: Vec<Event> = (after + 1..=5).take(2).map(event).collect();
        let cursor = events.last().map(|event| event.cursor.clone());
        let more = cursor.as_deref().is_some_and(|cursor| cursor != "5-0");
        if events.is_empty() && request.wait_ms > 0 {
            return None;
        }
        Some(ShardReply::Events(EventPage { events, cursor, more }))
    }
}

#[tokio::test]
async fn events_are_read_to_their_end_across_a_change_of_owner() {
    let harness = Harness::with(Config::default(), Arc::new(events())).await;
    let url = "/api/v1/queues/a/job-sets/s/events";
    let cursors: Vec<String> = harness
        .get(url)
        .await
        .lines()
        .iter()
        .map(|event| event["cursor"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(cursors, ["1-0", "2-0", "3-0", "4-0", "5-0"]);
    let got = harness.get(&format!("{url}?after=3-0")).await;
    assert_eq!(got.lines().len(), 2);
    let headers = [("accept", "text/event-stream"), ("last-event-id", "4-0")];
    let got = harness.send("GET", url, &headers, "").await;
    assert_eq!(got.headers["content-type"], "text/event-stream");
    assert!(got.text().starts_with("id: 5-0\nevent: running\ndata: {"), "{}", got.text());
    assert!(got.text().ends_with("}\n\n"));
}

#[tokio::test]
async fn a_watch_ends_when_the_gateway_drains() {
    let harness = Harness::with(Config::default(), Arc::new(events())).await;
    let watch = harness.get("/api/v1/queues/a/job-sets/s/events?watch=true");
    let stop = async {
        let all_seen = async {
            while harness.seen().len() < 5 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all_seen).await.expect("it goes on asking");
        harness.cancel.cancel();
    };
    let (got, ()) = tokio::join!(watch, stop);
    assert_eq!(got.lines().len(), 5);
    harness.tasks.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn pools_and_clusters_are_those_of_the_leaders() {
    let harness = Harness::start().await;
    assert_eq!(harness.get("/api/v1/pools").await.json()["pools"].as_array().unwrap().len(), 0);
    let pools = harness.bus.key_value(subject::POOLS_BUCKET, None).await.unwrap();
    for name in ["b", "a"] {
        let cluster =
            Cluster { name: format!("c-{name}"), pool: name.to_owned(), ..Cluster::default() };
        let pool = Pool { name: name.to_owned(), clusters: vec![cluster], ..Pool::default() };
        pools.put(name, serde_json::to_vec(&pool).unwrap().into()).await.unwrap();
    }
    assert_eq!(harness.get("/api/v1/pools").await.json()["pools"][1]["name"], "b");
    assert_eq!(harness.get("/api/v1/pools/a/shares").await.json()["name"], "a");
    assert_eq!(harness.get("/api/v1/clusters").await.json()["clusters"][0]["name"], "c-a");
}

#[tokio::test]
async fn a_pool_of_more_queues_than_one_value_holds_is_shown_whole() {
    let harness = Harness::start().await;
    let pools = harness.bus.key_value(subject::POOLS_BUCKET, None).await.unwrap();
    let queue = |n| QueueShare { queue: format!("queue-{n:0>200}"), ..QueueShare::default() };
    let queues = (0..5_000).map(queue).collect();
    let pool = Pool { name: "a".into(), queues, ..Pool::default() };
    let parts = pool_parts(pool, harness.bus.payload_bytes_max());
    assert!(parts.len() > 1);
    for (key, value) in parts {
        pools.put(&key, value.into()).await.unwrap();
    }
    let got = harness.get("/api/v1/pools").await.json();
    assert_eq!(got["pools"].as_array().unwrap().len(), 1);
    assert_eq!(got["pools"][0]["queues"].as_array().unwrap().len(), 5_000);
}

fn job_with_run() -> Job {
    let run = Run {
        attempt: 2,
        cluster: "c".to_owned(),
        node: "n".to_owned(),
        leased_at: String::new(),
        started_at: None,
        addresses: Vec::new(),
        ended_at: None,
        exit_code: None,
        signal: None,
        reason: None,
        message: None,
        memory_peak_bytes: None,
        cpu_time_ms: None,
    };
    let text = format!(
        r#"{{"jobId":"{}","queue":"a","jobSet":"s","state":"running","priority":0,
        "submittedAt":"","resources":{{}},"runs":[]}}"#,
        id(0, 1)
    );
    let mut job: Job = serde_json::from_str(&text).unwrap();
    job.runs.push(run);
    job
}

#[tokio::test]
async fn logs_are_fetched_piece_by_piece_from_the_cluster_of_the_run() {
    let script = |shard: u16, request: &ShardRequest| match request {
        ShardRequest::Job(_) => Some(ShardReply::Job(Some(Box::new(job_with_run())))),
        other => Some(take(shard, other)),
    };
    let harness = Harness::with(Config::default(), Arc::new(script)).await;
    let url = format!("/api/v1/jobs/{}/logs", id(0, 1));
    assert_eq!(harness.get(&url).await.code(), "logs_unavailable");
    let mut requests = harness.bus.subscribe(&subject::cluster_logs("c"), None).await.unwrap();
    let bus = Arc::clone(&harness.bus);
    harness.tasks.spawn_once("logs", Policy::DETACHED, move |_| async move {
        while let Some(message) = requests.next().await {
            let request: muster_api::bus::GetLogs =
                muster_api::bus::decode(&message.payload).unwrap();
            assert_eq!(request.attempt, 2);
            let output = b"one\ntwo\n";
            let from = usize::try_from(request.offset).unwrap();
            let data = output[from..(from + 4).min(output.len())].to_vec().into();
            let end = from + 4 >= output.len();
            let reply = encode(&LogsReply::Piece { data, end });
            bus.respond(&message.reply.unwrap(), reply).await.unwrap();
        }
        Ok::<(), BoxError>(())
    });
    for url in [url.clone(), format!("{url}?follow=true")] {
        let got = harness.get(&url).await;
        assert_eq!(got.text(), "one\ntwo\n");
        assert!(got.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    }
    assert_eq!(harness.get(&format!("{url}?attempt=1")).await.code(), "logs_unavailable");
}

#[test]
fn every_setting_has_its_explanation() {
    let Ok(toml) = serde_json::to_value(Config::default()) else { panic!() };
    let docs = Config::docs();
    for key in toml.as_object().unwrap().keys() {
        assert!(docs.iter().any(|doc| doc.key == key), "{key}");
    }
    assert_eq!(docs.len(), toml.as_object().unwrap().len());
    let mut problems = muster_runtime::config::Problems::default();
    Config::default().validate(&mut problems);
    assert!(problems.list().is_empty());
    let listen = "0.0.0.0:8080".parse().unwrap();
    Config { listen, ..Config::default() }.validate(&mut problems);
    assert_eq!(problems.list().len(), 1);
}

#[tokio::test]
async fn clusters_and_nodes_are_cordoned_shown_and_uncordoned() {
    let harness = Harness::start().await;
    let (cluster, node) = ("/api/v1/clusters/c/cordon", "/api/v1/clusters/c/nodes/n.1/cordon");
    let got = harness.send("PUT", node, &[], r#"{"reason":"disk"}"#).await;
    let of_node = serde_json::json!({ "cluster": "c", "node": "n.1", "reason": "disk" });
    assert_eq!(got.json(), of_node);
    let got = harness.send("PUT", cluster, &[], "{}").await;
    assert_eq!(got.json(), serde_json::json!({ "cluster": "c" }));
    let shown = harness.get("/api/v1/clusters").await.json();
    assert_eq!(shown["cordons"], serde_json::json!([{ "cluster": "c" }, of_node]));
    for (path, bad) in [
        (node, r#"{"reason":""}"#),
        (node, r#"{"why":"x"}"#),
        ("/api/v1/clusters/a.b/cordon", "{}"),
    ] {
        let got = harness.send("PUT", path, &[], bad).await;
        assert_eq!(got.code(), "bad_request", "{path} {bad}");
    }
    for path in [cluster, node] {
        assert_eq!(harness.send("DELETE", path, &[], "").await.status, StatusCode::NO_CONTENT);
        assert_eq!(harness.send("DELETE", path, &[], "").await.code(), "not_found", "{path}");
    }
    let shown = harness.get("/api/v1/clusters").await.json();
    assert_eq!(shown.get("cordons"), None, "{shown}");
    let back = "/api/v1/clusters/c/nodes/n.1/put-back";
    assert_eq!(harness.send("POST", back, &[], "").await.status, StatusCode::NO_CONTENT);
    let bad = "/api/v1/clusters/c%20c/nodes/n.1/put-back";
    assert_eq!(harness.send("POST", bad, &[], "").await.code(), "bad_request");
}
