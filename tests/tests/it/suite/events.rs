//! The events of a job set: in order, as lines and as Server-Sent Events, from any place on.

use anyhow::ensure;
use futures::StreamExt;
use muster_tests::http::Http;
use muster_tests::site::Site;
use muster_tests::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::{WAIT, column, counts, events_of, http, job, queue, submitted, until_count, with};

const SSE: (&str, &str) = ("accept", "text/event-stream");

/// The events in the frames of a stream, with the id of each frame checked against its event.
fn of_frames(text: &str) -> Vec<Value> {
    let frames = text.split("\n\n").filter(|frame| frame.starts_with("id: "));
    let events = frames.map(|frame| {
        let lines: Vec<&str> = frame.lines().collect();
        let event: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(lines[0], format!("id: {}", event["cursor"].as_str().unwrap()));
        assert_eq!(lines[1], format!("event: {}", event["event"].as_str().unwrap()));
        event
    });
    events.collect()
}

async fn frames(http: &Http, path: &str, after: Option<&str>) -> Vec<Value> {
    let last = after.map(|cursor| ("last-event-id", cursor));
    let headers: Vec<_> = [SSE].into_iter().chain(last).collect();
    let answer = http.send(Method::GET, path, &headers, "").await.unwrap();
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    of_frames(&answer.text())
}

pub(crate) async fn events_resume_from_any_cursor_as_lines_and_as_frames(site: &Site) {
    let http = http(site);
    queue(&http, "events").await;
    let failing = json!({
        "annotations": { "muster.dev/simulated-failure-rate": "1", "muster.dev/simulated-runtime": "1ms" },
        "podSpec": { "containers": [{ "command": ["false"] }] },
    });
    let jobs = [job(0), with(job(0), json!({ "count": 2 })), failing];
    submitted(&http, "events", "s", &jobs).await;
    // Another set of the queue, whose rows lie between and are not told.
    submitted(&http, "events", "t", &[job(0), job(0)]).await;
    until_count(&http, "events", "s", "failed", 1).await;
    until_count(&http, "events", "s", "succeeded", 3).await;
    until_count(&http, "events", "t", "succeeded", 2).await;

    let all = events_of(&http, "events", "s", None).await;
    let names = column(&all, "event");
    assert_eq!(names[..3], ["submitted", "submitted", "submitted"], "{names:?}");
    for (name, times) in [("leased", 4), ("running", 4), ("succeeded", 3), ("failed", 1)] {
        assert_eq!(names.iter().filter(|found| *found == name).count(), times, "{names:?}");
    }
    let cursors = column(&all, "cursor");
    let path = "/api/v1/queues/events/job-sets/s/events";
    assert_eq!(frames(&http, path, None).await, all);
    for (at, cursor) in cursors.iter().enumerate() {
        assert_eq!(events_of(&http, "events", "s", Some(cursor)).await, all[at + 1..], "{cursor}");
        assert_eq!(frames(&http, path, Some(cursor)).await, all[at + 1..], "{cursor}");
    }
}

pub(crate) async fn a_watch_tells_what_happens_as_it_happens(site: &Site) {
    let http = http(site);
    queue(&http, "watched").await;
    // It may begin before there is anything to watch.
    let path = "/api/v1/queues/watched/job-sets/s/events?watch=true";
    let watch = http.open(Method::GET, path, &[], "").await.unwrap();
    assert_eq!(watch.headers()["content-type"], "application/x-ndjson");
    let mut pieces = watch.bytes_stream();
    let id = submitted(&http, "watched", "s", &[job(0)]).await.remove(0);
    let mut text = String::new();
    let seen = async {
        while !text.contains("\"succeeded\"") {
            text += std::str::from_utf8(&pieces.next().await.unwrap().unwrap()).unwrap();
        }
    };
    tokio::time::timeout(WAIT, seen).await.unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    let events: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().all(|event| event["jobId"] == id.as_str()));
    let names = column(&events, "event");
    assert_eq!(names.first().map(String::as_str), Some("submitted"), "{names:?}");
    assert_eq!(names.last().map(String::as_str), Some("succeeded"), "{names:?}");
}

pub(crate) async fn many_events_come_in_pages_without_a_gap(site: &Site) {
    let http = http(site);
    super::cordoned(&http, "many-events").await;
    // More than a shard tells at once.
    for _ in 0..5 {
        submitted(&http, "many-events", "s", &vec![job(0); 500]).await;
    }
    let all = events_of(&http, "many-events", "s", None).await;
    assert_eq!(all.len(), 2500);
    let ids = column(&all, "jobId");
    assert!(ids.is_sorted_by(|one, other| one < other), "in order, each once");
    let rest = events_of(&http, "many-events", "s", all[1234]["cursor"].as_str()).await;
    assert_eq!(rest, all[1235..]);
    let body = json!({ "queue": "many-events", "jobSet": "s" });
    assert_eq!(http.post("/api/v1/cancel", &body).await.unwrap().json()["changed"], 2500);
    eventually(WAIT, "each cancellation is told", async || {
        let counts = counts(&http, "many-events", "s").await?;
        let told = events_of(&http, "many-events", "s", all[2499]["cursor"].as_str()).await;
        ensure!(counts["cancelled"] == 2500 && told.len() == 2500, "{counts}, {}", told.len());
        Ok(())
    })
    .await
    .unwrap();
}
