//! Jobs that make room for others: of higher classes, and of queues below their fair share.

use std::collections::BTreeSet;

use anyhow::ensure;
use muster_tests::http::Http;
use muster_tests::site::{Cluster, Site};
use muster_tests::wait::eventually;
use serde_json::{Value, json};

use super::{
    WAIT, counts, events_of, http, job, queue, shown, submitted, until_count, until_state,
};

/// Jobs of four cpus that the site's clusters hold at a time.
fn slots(site: &Site) -> u64 {
    match site.cluster() {
        Cluster::Local => 16 / 4,
        Cluster::Simulated => 2 * 20 * 16 / 4,
    }
}

/// A job of that class that asks for four cpus and runs for so long.
fn wide(class: &str, millis: u64) -> Value {
    let mut job = job(millis);
    job["podSpec"]["priorityClassName"] = class.into();
    job["podSpec"]["containers"][0]["resources"]["requests"]["cpu"] = "4".into();
    job
}

/// So many jobs that run until they are stopped.
fn endless(class: &str, jobs: u64) -> Vec<Value> {
    (0..jobs).map(|_| wide(class, 3_600_000)).collect()
}

async fn class(http: &Http, name: &str, priority: i32, preemptible: bool) {
    let settings = json!({ "priority": priority, "preemptible": preemptible });
    let path = format!("/api/v1/priority-classes/{name}");
    assert_eq!(http.put(&path, &settings).await.unwrap().status, 200);
}

/// The jobs of a job set that were preempted, as often as they were.
async fn preempted(http: &Http, queue: &str) -> Vec<Value> {
    let events = events_of(http, queue, "s", None).await;
    events.into_iter().filter(|event| event["event"] == "preempted").collect()
}

async fn cancelled(http: &Http, queue: &str) {
    let body = json!({ "queue": queue, "jobSet": "s" });
    assert_eq!(http.post("/api/v1/cancel", &body).await.unwrap().status, 200);
    eventually(WAIT, &format!("nothing of {queue} runs"), async || {
        let counts = counts(http, queue, "s").await?;
        ensure!(counts["running"] == 0 && counts["queued"] == 0, "{counts}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Processes of runs outlive their executor: none is to be left behind.
async fn no_pod_is_left(http: &Http) {
    eventually(WAIT, "no pod is left", async || {
        let clusters = http.get("/api/v1/clusters").await?.json();
        let runs = clusters["clusters"].as_array().unwrap().iter().map(|cluster| &cluster["runs"]);
        ensure!(runs.into_iter().all(|runs| *runs == 0), "{clusters}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Every attempt was leased once, and none while another was believed in.
async fn assert_once(http: &Http, queue: &str) {
    let mut leased = BTreeSet::new();
    for event in events_of(http, queue, "s", None).await {
        if event["event"] == "leased" {
            let job = event["jobId"].as_str().unwrap().to_owned();
            let attempt = event["attempt"].as_u64().unwrap();
            assert!(attempt == 1 || leased.contains(&(job.clone(), attempt - 1)), "{event}");
            assert!(leased.insert((job, attempt)), "twice: {event}");
        }
    }
}

pub(crate) async fn a_job_of_a_higher_class_takes_the_room_of_the_youngest(site: &Site) {
    let (http, slots) = (http(site), slots(site));
    class(&http, "filler", 10, true).await;
    class(&http, "urgent", 5_000, false).await;
    queue(&http, "fills").await;
    queue(&http, "hurries").await;
    let first = submitted(&http, "fills", "s", &endless("filler", slots - 2)).await;
    until_count(&http, "fills", "s", "running", slots - 2).await;
    let last = submitted(&http, "fills", "s", &endless("filler", 2)).await;
    until_count(&http, "fills", "s", "running", slots).await;
    let urgent =
        submitted(&http, "hurries", "s", &[wide("urgent", 500), wide("urgent", 500)]).await;
    for id in &urgent {
        let done = until_state(&http, id, "succeeded").await;
        assert_eq!(done["runs"].as_array().unwrap().len(), 1, "{done}");
    }
    // What made room runs again when that is free again, and nobody else had to go.
    until_count(&http, "fills", "s", "running", slots).await;
    let gone = preempted(&http, "fills").await;
    let jobs: BTreeSet<&str> = gone.iter().filter_map(|event| event["jobId"].as_str()).collect();
    assert_eq!((jobs.len(), gone.len()), (2, 2), "{gone:?}");
    if site.cluster() == Cluster::Local {
        // On one node; of many, not all are compared.
        assert_eq!(jobs, last.iter().map(String::as_str).collect());
        assert_eq!(shown(&http, &first[0]).await["runs"].as_array().unwrap().len(), 1);
    }
    let again = shown(&http, gone[0]["jobId"].as_str().unwrap()).await;
    let runs = again["runs"].as_array().unwrap();
    assert_eq!((runs.len(), &runs[1]["attempt"]), (2, &json!(2)), "{again}");
    assert_eq!(runs[0]["reason"], "Preempted", "{again}");
    assert_eq!(runs[0]["message"], "for a job of class `urgent` of queue `hurries`");
    assert_once(&http, "fills").await;
    cancelled(&http, "fills").await;
    no_pod_is_left(&http).await;
}

pub(crate) async fn a_queue_gets_its_share_from_one_that_has_more_and_no_more(site: &Site) {
    let (http, slots) = (http(site), slots(site));
    class(&http, "filler", 10, true).await;
    class(&http, "urgent", 5_000, false).await;
    for name in ["was-first", "came-later", "asks-once"] {
        queue(&http, name).await;
    }
    submitted(&http, "was-first", "s", &endless("filler", slots)).await;
    until_count(&http, "was-first", "s", "running", slots).await;
    submitted(&http, "came-later", "s", &endless("filler", slots)).await;
    until_count(&http, "came-later", "s", "running", slots / 2).await;
    until_count(&http, "was-first", "s", "running", slots / 2).await;
    // Room is made once more, for somebody else: who has its share asked again in vain.
    let urgent = submitted(&http, "asks-once", "s", &[wide("urgent", 500)]).await.remove(0);
    until_state(&http, &urgent, "succeeded").await;
    let share = |gone: &Value| gone["message"].as_str().unwrap().contains("fair share");
    let lost = preempted(&http, "was-first").await;
    assert_eq!(lost.iter().filter(|event| share(event)).count() as u64, slots / 2);
    let lost_later = preempted(&http, "came-later").await;
    assert_eq!(lost_later.iter().filter(|event| share(event)).count(), 0);
    assert_eq!((lost.len() + lost_later.len()) as u64, slots / 2 + 1);
    for name in ["was-first", "came-later"] {
        assert_once(&http, name).await;
    }
    cancelled(&http, "was-first").await;
    cancelled(&http, "came-later").await;
    no_pod_is_left(&http).await;
}
