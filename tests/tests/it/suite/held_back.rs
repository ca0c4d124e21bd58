//! Jobs that are queued and held back: by what they depend on, by the limit of their array, until
//! they are tried again.

use muster_tests::site::Site;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    NDJSON, cordoned, events_of, http, job, lines, post_lines, queue, shown, submitted,
    until_count, until_state, with,
};

pub(crate) async fn a_job_waits_for_others_and_is_cancelled_when_it_waits_in_vain(site: &Site) {
    let http = http(site);
    cordoned(&http, "after").await;
    let jobs = [
        with(job(0), json!({ "clientId": "first" })),
        with(job(0), json!({ "clientId": "then", "dependsOn": [{ "clientId": "first" }] })),
        with(job(0), json!({ "dependsOn": [{ "clientId": "then", "after": "failure" }] })),
    ];
    let ids = submitted(&http, "after", "s", &jobs).await;
    let held_back = shown(&http, &ids[1]).await["heldBack"].clone();
    let on = json!([{ "jobId": ids[0], "after": "success" }]);
    assert_eq!((&held_back["kind"], &held_back["dependsOn"]), (&json!("dependency"), &on));
    let detail = format!("waiting for job `{}` to succeed", ids[0]);
    assert_eq!(held_back["detail"], json!(detail));
    let why = http.get(&format!("/api/v1/jobs/{}/why", ids[1])).await.unwrap().json();
    let held_back = why["blockers"].as_array().unwrap().iter();
    let held_back = held_back.filter(|blocker| blocker["kind"] == "heldBack");
    assert_eq!(held_back.map(|by| &by["detail"]).collect::<Vec<_>>(), [&json!(detail)], "{why}");
    assert_eq!(shown(&http, &ids[0]).await["heldBack"], Value::Null);

    let unknown = with(job(0), json!({ "dependsOn": [{ "clientId": "nobody" }] }));
    let path = "/api/v1/queues/after/jobs?jobSet=s";
    let headers = [("content-type", NDJSON)];
    let answer = http.send(Method::POST, path, &headers, lines(&[unknown])).await.unwrap();
    assert_eq!(answer.problem(), (400, "dependency_unknown".into()));
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.starts_with("line 1: dependsOn: client id `nobody` is not known"), "{detail}");

    queue(&http, "after").await;
    let second = until_state(&http, &ids[1], "succeeded").await;
    let first = shown(&http, &ids[0]).await;
    assert!(second["runs"][0]["leasedAt"].as_str() >= first["finishedAt"].as_str(), "{second}");
    let third = until_state(&http, &ids[2], "cancelled").await;
    let reason = format!("it waited for job `{}` to fail, which succeeded", ids[1]);
    assert_eq!(third["reason"], json!(reason));
    // What has ended is known to those who come later.
    let late = with(job(0), json!({ "dependsOn": [{ "jobId": ids[1] }] }));
    let late = submitted(&http, "after", "s", &[late]).await.remove(0);
    until_state(&http, &late, "succeeded").await;
}

pub(crate) async fn an_array_runs_no_more_tasks_at_once_than_it_may(site: &Site) {
    let http = http(site);
    queue(&http, "array-limit").await;
    let array = with(job(50), json!({ "count": 8, "maxRunning": 2 }));
    submitted(&http, "array-limit", "s", &[array]).await;
    until_count(&http, "array-limit", "s", "succeeded", 8).await;
    let (mut held, mut most) = (0, 0);
    for event in events_of(&http, "array-limit", "s", None).await {
        match event["event"].as_str().unwrap() {
            "leased" => held += 1,
            "succeeded" | "requeued" => held -= 1,
            _ => {}
        }
        most = most.max(held);
    }
    assert!((1..=2).contains(&most), "{most} at once");
}

pub(crate) async fn a_job_is_tried_again_as_its_policy_or_its_queues_says(site: &Site) {
    let http = http(site);
    let rule = json!([{ "action": "retry", "limit": 1, "backoff": { "baseSeconds": 0.2 } }]);
    let path = "/api/v1/queues/retries";
    let made = http.put(path, &json!({ "retry": rule })).await.unwrap();
    assert_eq!((made.status, &made.json()["retry"][0]["limit"]), (200, &json!(1)));
    let annotations = json!({ "muster.dev/simulated-failure-rate": "1" });
    let mut fails = with(job(0), json!({ "annotations": annotations }));
    fails["podSpec"]["containers"][0]["command"] = json!(["false"]);
    let own = with(fails.clone(), json!({ "retry": [{ "exitCodes": [1], "action": "fail" }] }));
    let ids = submitted(&http, "retries", "s", &[fails, own]).await;
    let by_queue = until_state(&http, &ids[0], "failed").await;
    assert_eq!(by_queue["runs"].as_array().unwrap().len(), 2, "{by_queue}");
    assert_eq!(by_queue["runs"][1]["message"], "retries are used up, 1 of 1");
    let by_itself = until_state(&http, &ids[1], "failed").await;
    assert_eq!(by_itself["runs"].as_array().unwrap().len(), 1, "{by_itself}");
    let events = events_of(&http, "retries", "s", None).await;
    let requeued = events.iter().filter(|event| event["event"] == "requeued");
    assert_eq!(requeued.map(|event| event["jobId"].clone()).collect::<Vec<_>>(), [json!(ids[0])]);

    let bad = json!({ "retry": [{ "action": "retry", "limit": 0 }] });
    let answer = http.put(path, &bad).await.unwrap();
    assert_eq!(answer.problem(), (400, "bad_request".into()));
    let answer = post_lines(&http, "retries", "s", &[], lines(&[with(job(0), bad)])).await;
    assert_eq!(answer.lines().unwrap()[0]["error"]["code"], "invalid_job");
}
