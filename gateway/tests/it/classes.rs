//! Priority classes: set and shown, and what a submission may name.

use hyper::StatusCode;
use muster_api::batch::public::{Row, Writer};
use muster_core::control::PriorityClass;
use muster_core::limits::PRIORITY_CLASSES_MAX;
use muster_runtime::Random;
use muster_runtime::store::control::ControlStore;
use serde_json::{Value, json};

use crate::harness::{Got, Harness};

const LINES: &str = "application/x-ndjson";
const COLUMNS: &str = "application/vnd.apache.arrow.stream";
const URL: &str = "/api/v1/queues/a/jobs?jobSet=s";

fn spec(class: &str) -> String {
    json!({ "containers": [{}], "priorityClassName": class }).to_string()
}

fn job(class: &str) -> String {
    format!(r#"{{"podSpec":{}}}"#, spec(class))
}

/// The body of a submission of these classes in each form, with its content type.
fn bodies(classes: &[&str]) -> [(&'static str, Vec<u8>); 3] {
    let jobs: Vec<String> = classes.iter().map(|class| job(class)).collect();
    let mut writer = Writer::new();
    for class in classes {
        writer.push(&Row { pod_spec: &spec(class), ..Row::default() });
    }
    [
        (LINES, jobs.join("\n").into_bytes()),
        ("application/json", format!(r#"{{"jobs":[{}]}}"#, jobs.join(",")).into_bytes()),
        (COLUMNS, writer.finish().to_vec()),
    ]
}

/// The code of the first error of an answer, if there is one.
fn code(got: &Got) -> Option<String> {
    let text = got.text();
    let values = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut codes = values.filter_map(|value| {
        let code = value.get("code").or_else(|| value.get("error")?.get("code"))?;
        code.as_str().map(str::to_owned)
    });
    codes.next()
}

#[tokio::test]
async fn a_class_is_set_changed_shown_and_deleted() {
    let harness = Harness::start().await;
    let listed = harness.get("/api/v1/priority-classes").await.json();
    let built_in =
        json!({ "name": "default", "priority": 1000, "preemptible": false, "builtIn": true });
    assert_eq!(listed["priorityClasses"].as_array().unwrap().len(), 3);
    assert!(listed["priorityClasses"].as_array().unwrap().contains(&built_in), "{listed}");

    let url = "/api/v1/priority-classes/urgent";
    assert_eq!(harness.get(url).await.code(), "not_found");
    let got = harness.send("PUT", url, &[], r#"{"priority":-7,"preemptible":true}"#).await;
    let set = json!({ "name": "urgent", "priority": -7, "preemptible": true, "builtIn": false });
    assert_eq!(got.json(), set);
    assert_eq!(harness.get(url).await.json(), set);
    for bad in ["{}", r#"{"priority":1.5}"#, r#"{"priority":2147483648}"#, "[1,true]", "x"] {
        assert_eq!(harness.send("PUT", url, &[], bad).await.code(), "bad_request", "{bad}");
    }
    let bad = harness.send("PUT", "/api/v1/priority-classes/A", &[], r#"{"priority":1}"#).await;
    assert_eq!(bad.code(), "bad_request");
    assert_eq!(harness.send("DELETE", url, &[], "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(harness.send("DELETE", url, &[], "").await.code(), "not_found");

    // What is set for a built-in class can be taken away, the class cannot.
    let default = "/api/v1/priority-classes/default";
    harness.send("PUT", default, &[], r#"{"priority":5}"#).await;
    assert_eq!(harness.get(default).await.json()["priority"], 5);
    assert_eq!(harness.send("DELETE", default, &[], "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(harness.get(default).await.json(), built_in);
    assert_eq!(harness.send("DELETE", default, &[], "").await.code(), "not_found");
}

#[tokio::test]
async fn classes_are_set_up_to_their_limit_and_no_further() {
    let harness = Harness::start().await;
    for n in 0..=PRIORITY_CLASSES_MAX {
        let url = format!("/api/v1/priority-classes/c{n}");
        let got = harness.send("PUT", &url, &[], r#"{"priority":1}"#).await;
        assert_eq!(got.status == StatusCode::OK, n < PRIORITY_CLASSES_MAX, "{}", got.text());
    }
}

#[tokio::test]
async fn a_job_of_an_unknown_class_is_refused_in_every_form() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    for (kind, body) in bodies(&["armada-default", "default", "nothing"]) {
        let got = harness.post(URL, kind, body).await;
        assert_eq!(code(&got).as_deref(), Some("class_unknown"), "{kind}: {}", got.text());
        assert!(got.text().contains("there is no priority class `nothing`"), "{}", got.text());
        // A document is taken as a whole or not at all; lines and rows stand alone.
        let taken = if kind == "application/json" { 0 } else { 2 };
        assert_eq!(got.text().matches("\"jobId\"").count(), taken, "{kind}: {}", got.text());
    }
    assert_eq!(harness.submitted().len(), 4);
    harness.send("PUT", "/api/v1/priority-classes/nothing", &[], r#"{"priority":1}"#).await;
    for (kind, body) in bodies(&["nothing"]) {
        let got = harness.post(URL, kind, body).await;
        assert_eq!(code(&got), None, "{kind}: {}", got.text());
    }
    assert_eq!(harness.submitted().len(), 7);
}

#[tokio::test]
async fn a_class_that_another_gateway_set_is_known_at_once() {
    for (kind, body) in bodies(&["other"]) {
        let harness = Harness::start().await;
        harness.queue("a").await;
        // Its word of the change does not arrive.
        let other = ControlStore::new(harness.store.clone(), Random::seeded(2));
        other.load_latest().await.unwrap();
        let class = PriorityClass { priority: 1, preemptible: false };
        other.change(|control| control.with_class("other", class)).await.unwrap();
        let got = harness.post(URL, kind, body).await;
        assert_eq!(code(&got), None, "{kind}: {}", got.text());
        assert_eq!(harness.submitted().len(), 1);
    }
}

#[tokio::test]
async fn a_submission_of_many_unknown_classes_looks_once_for_newer_ones() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    let before = harness.store.requests();
    let body = format!("{}\n", job("nothing")).repeat(20_000);
    let got = harness.post(&format!("{URL}&ids=none"), LINES, body).await;
    assert_eq!(got.json()["rejected"], 20_000);
    assert_eq!(harness.store.requests().since(&before).total(), 1);
}
