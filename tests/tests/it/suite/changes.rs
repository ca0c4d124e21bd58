//! Cancelling and giving another priority: by ids, by job set, in some states only.

use anyhow::ensure;
use muster_tests::site::Site;
use muster_tests::wait::eventually;
use serde_json::{Value, json};

use super::{
    WAIT, cordoned, counts, events_of, http, job, queue, shown, submitted, until_count, until_state,
};

/// An id that no job has, on a shard that exists.
fn nobody(id: &str) -> String {
    let mut other = id.to_owned();
    other.replace_range(20.., "zzzzzz");
    other
}

pub(crate) async fn jobs_are_cancelled_by_id(site: &Site) {
    let http = http(site);
    cordoned(&http, "cancel-a").await;
    cordoned(&http, "cancel-b").await;
    let a = submitted(&http, "cancel-a", "s", &[job(0), job(0)]).await;
    let b = submitted(&http, "cancel-b", "s", &[job(0)]).await;
    let named = json!([a[0], b[0], nobody(&a[0])]);
    let body = json!({ "jobIds": named, "reason": "a mistake" });
    let applied = http.post("/api/v1/cancel", &body).await.unwrap().json();
    assert_eq!((&applied["changed"], &applied["missing"]), (&json!(2), &json!([nobody(&a[0])])));
    let cancelled = shown(&http, &b[0]).await;
    assert_eq!(
        (&cancelled["state"], &cancelled["reason"]),
        (&json!("cancelled"), &json!("a mistake"))
    );
    assert!(cancelled["finishedAt"].is_string() && cancelled["runs"] == json!([]));
    let again = http.post("/api/v1/cancel", &json!({ "jobIds": [a[0]] })).await.unwrap().json();
    assert_eq!((&again["changed"], &again["finished"]), (&json!(0), &json!([a[0]])));
    assert_eq!(shown(&http, &a[1]).await["state"], "queued");
}

pub(crate) async fn a_job_set_is_cancelled_in_the_states_named(site: &Site) {
    let http = http(site);
    queue(&http, "cancel-set").await;
    let running = submitted(&http, "cancel-set", "s", &vec![job(120_000); 3]).await;
    until_count(&http, "cancel-set", "s", "running", 3).await;
    cordoned(&http, "cancel-set").await;
    // A round that began before may still take from the queue; what it took is not queued any more.
    submitted(&http, "cancel-set", "s", &vec![job(120_000); 4]).await;
    let of = |states: &[&str]| json!({ "queue": "cancel-set", "jobSet": "s", "states": states });
    let applied = http.post("/api/v1/cancel", &of(&["queued"])).await.unwrap().json();
    let queued = applied["changed"].as_u64().unwrap();
    assert!(queued <= 4, "{applied}");
    for id in &running {
        assert_eq!(shown(&http, id).await["state"], "running");
    }
    let applied = http.post("/api/v1/cancel", &of(&[])).await.unwrap().json();
    assert_eq!(applied["changed"], 7 - queued, "every live one");
    assert_eq!(counts(&http, "cancel-set", "s").await.unwrap()["cancelled"], 7);
    assert_eq!(http.post("/api/v1/cancel", &of(&[])).await.unwrap().json()["changed"], 0);
    eventually(WAIT, "the clusters have stopped the runs", async || {
        let clusters = http.get("/api/v1/pools/default/shares").await?.json();
        let queues = clusters["queues"].as_array().cloned().unwrap_or_default();
        let held = queues.iter().find(|queue| queue["queue"] == "cancel-set");
        ensure!(held.is_none_or(|queue| queue["running"] == 0), "{held:?}");
        Ok(())
    })
    .await
    .unwrap();
}

pub(crate) async fn jobs_are_reprioritized_by_id_and_by_job_set(site: &Site) {
    let http = http(site);
    cordoned(&http, "priorities").await;
    let jobs: Vec<Value> =
        (0..4).map(|n| super::with(job(0), json!({ "priority": 10 + n }))).collect();
    let ids = submitted(&http, "priorities", "s", &jobs).await;
    let body = json!({ "jobIds": [ids[3], nobody(&ids[0])], "priority": 1 });
    let applied = http.post("/api/v1/reprioritize", &body).await.unwrap().json();
    assert_eq!((&applied["changed"], &applied["missing"]), (&json!(1), &json!([nobody(&ids[0])])));
    assert_eq!(shown(&http, &ids[3]).await["priority"], 1);
    let body = json!({ "queue": "priorities", "jobSet": "s", "priority": 77 });
    let applied = http.post("/api/v1/reprioritize", &body).await.unwrap().json();
    assert_eq!(applied["changed"], 4);
    for id in &ids {
        assert_eq!(shown(&http, id).await["priority"], 77);
    }
    let events = events_of(&http, "priorities", "s", None).await;
    let told: Vec<_> = events.iter().filter(|event| event["event"] == "reprioritized").collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert_eq!(told[0]["priority"], 1);
    let body =
        json!({ "queue": "priorities", "jobSet": "s", "states": ["running"], "priority": 5 });
    assert_eq!(http.post("/api/v1/reprioritize", &body).await.unwrap().json()["changed"], 0);
    let done = json!({ "jobIds": [ids[0]] });
    assert_eq!(http.post("/api/v1/cancel", &done).await.unwrap().json()["changed"], 1);
    let body = json!({ "jobIds": [ids[0]], "priority": 5 });
    let applied = http.post("/api/v1/reprioritize", &body).await.unwrap().json();
    assert_eq!((&applied["changed"], &applied["finished"]), (&json!(0), &json!([ids[0]])));
}

pub(crate) async fn jobs_that_fit_nowhere_wait_and_hold_nobody_up(site: &Site) {
    let http = http(site);
    cordoned(&http, "nowhere").await;
    let nowhere = |priority: u32| {
        let mut job = super::with(job(50), json!({ "priority": priority }));
        job["podSpec"]["nodeSelector"] = json!({ "nobody": "has-it" });
        job
    };
    let ids = submitted(&http, "nowhere", "s", &[nowhere(5), nowhere(1), nowhere(3)]).await;
    queue(&http, "nowhere").await;
    let later = submitted(&http, "nowhere", "t", &[job(0)]).await.remove(0);
    until_state(&http, &later, "succeeded").await;
    for id in &ids {
        assert_eq!(shown(&http, id).await["state"], "queued");
    }
    let body = json!({ "queue": "nowhere", "jobSet": "s" });
    assert_eq!(http.post("/api/v1/cancel", &body).await.unwrap().json()["changed"], 3);
}
