//! Queues: made, changed, listed, kept from leasing, deleted.

use anyhow::ensure;
use muster_tests::http::Http;
use muster_tests::site::Site;
use muster_tests::wait::eventually;
use serde_json::{Value, json};

use super::{
    WAIT, column, cordoned, counts, events_of, http, job, queue, shown, submitted, until_state,
};

pub(crate) async fn a_queue_is_made_changed_listed_and_deleted(site: &Site) {
    let (http, other) = (http(site), site.other_http().unwrap());
    let path = "/api/v1/queues/made%2Fa.b";
    assert_eq!(http.get(path).await.unwrap().problem(), (404, "queue_not_found".into()));
    let settings = json!({ "weight": 2.5, "labels": { "team": "é x" } });
    let expected = json!({ "name": "made/a.b", "weight": 2.5, "labels": { "team": "é x" }, "cordoned": false });
    assert_eq!(http.put(path, &settings).await.unwrap().json(), expected);
    assert_eq!(other.get(path).await.unwrap().json(), expected, "any gateway shows it at once");

    // A change is the whole of the settings: what is left out has its default.
    let changed = json!({ "name": "made/a.b", "weight": 1.0, "labels": {}, "cordoned": true });
    assert_eq!(other.put(path, &json!({ "cordoned": true })).await.unwrap().json(), changed);
    queue(&http, "made-too").await;
    let listed = http.get("/api/v1/queues").await.unwrap().json();
    let listed = listed["queues"].as_array().unwrap();
    assert!(listed.contains(&changed), "{listed:?}");
    let names = column(listed, "name");
    assert!(names.is_sorted() && names.contains(&"made-too".to_owned()), "{names:?}");

    assert_eq!(other.delete(path).await.unwrap().status, 204);
    assert_eq!(http.get(path).await.unwrap().problem(), (404, "queue_not_found".into()));
    assert_eq!(http.delete(path).await.unwrap().problem(), (404, "queue_not_found".into()));
}

pub(crate) async fn a_queue_takes_no_more_jobs_than_may_wait_in_it(site: &Site) {
    let http = http(site);
    let path = "/api/v1/queues/limited";
    let settings = json!({
        "weight": 1.0, "labels": {}, "cordoned": true,
        "limits": [{ "class": "default", "pool": "gpu", "resources": { "cpu": "100", "memory": "12.5%" } }],
        "jobsQueuedMax": 3, "rate": { "perSecond": 0.5, "burst": 2 },
    });
    let shown = http.put(path, &settings).await.unwrap().json();
    assert_eq!(shown, super::with(settings.clone(), json!({ "name": "limited" })));
    assert_eq!(http.get(path).await.unwrap().json(), shown);
    for wrong in [
        json!({ "limits": [{ "resources": {} }] }),
        json!({ "limits": [{ "resources": { "cpu": "101%" } }] }),
        json!({ "limits": [{ "resources": { "cpu": "-1" } }] }),
        json!({ "limits": [{ "place": "x", "resources": { "cpu": "1" } }] }),
        json!({ "jobsQueuedMax": -1 }),
        json!({ "rate": { "perSecond": 0, "burst": 1 } }),
        json!({ "rate": { "perSecond": 1, "burst": 0 } }),
    ] {
        let refused = http.put(path, &wrong).await.unwrap();
        assert_eq!(refused.problem(), (400, "bad_request".into()), "{wrong}");
    }

    submitted(&http, "limited", "s", &[job(0), job(0)]).await;
    let whole = json!({ "jobSet": "s", "jobs": [job(0), job(0)] });
    let path = "/api/v1/queues/limited/jobs";
    let refused = http.post(path, &whole).await.unwrap();
    assert_eq!(refused.problem(), (409, "queue_full".into()));
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("2 jobs wait in queue `limited` and 2 more"), "{detail}");
    assert!(detail.ends_with("limit is 3"), "{detail}");
    assert_eq!(counts(&http, "limited", "s").await.unwrap()["queued"], 2, "nothing is half taken");
    submitted(&http, "limited", "s", &[job(0)]).await;
    // More may wait as soon as the shard's owner has heard of it.
    queue(&http, "limited").await;
    eventually(WAIT, "more jobs may wait", async || {
        let taken = http.post(path, &whole).await?;
        ensure!(taken.status == 200, "{}", taken.text());
        Ok(())
    })
    .await
    .unwrap();
}

/// How many of a queue's jobs clusters held at most, by the order of its events.
async fn held_at_most(http: &Http, queue: &str, is_counted: impl Fn(&str) -> bool) -> i64 {
    let (mut held, mut most) = (0, 0);
    for event in events_of(http, queue, "s", None).await {
        if is_counted(event["jobId"].as_str().unwrap()) {
            held += match event["event"].as_str().unwrap() {
                "leased" => 1,
                "succeeded" => -1,
                _ => 0,
            };
        }
        most = most.max(held);
    }
    most
}

pub(crate) async fn a_queue_holds_no_more_than_its_limits_leave(site: &Site) {
    let http = http(site);
    let class = json!({ "priority": 1000, "preemptible": false });
    assert_eq!(http.put("/api/v1/priority-classes/narrower", &class).await.unwrap().status, 200);
    let settings = json!({ "limits": [
        { "resources": { "cpu": "30m" } },
        { "class": "narrower", "resources": { "memory": "1Mi" } },
        { "pool": "another", "resources": { "cpu": "0" } },
    ] });
    assert_eq!(http.put("/api/v1/queues/narrow", &settings).await.unwrap().status, 200);
    // Jobs of 10m cpu and 1Mi of memory: three fit the one limit, of the class one the other.
    let mut narrower = job(200);
    narrower["podSpec"]["priorityClassName"] = "narrower".into();
    let jobs =
        [job(200), narrower.clone(), job(200), narrower.clone(), job(200), job(200), narrower];
    let ids = submitted(&http, "narrow", "s", &jobs).await;
    for id in &ids {
        until_state(&http, id, "succeeded").await;
    }
    let of_class = [&ids[1], &ids[3], &ids[6]];
    assert_eq!(held_at_most(&http, "narrow", |_| true).await, 3);
    assert_eq!(held_at_most(&http, "narrow", |id| of_class.iter().any(|o| *o == id)).await, 1);
}

pub(crate) async fn a_queues_jobs_are_placed_no_faster_than_its_rate(site: &Site) {
    let http = http(site);
    let settings = json!({ "rate": { "perSecond": 4, "burst": 2 } });
    assert_eq!(http.put("/api/v1/queues/steady", &settings).await.unwrap().status, 200);
    let ids = submitted(&http, "steady", "s", &[0; 6].map(job)).await;
    for id in &ids {
        until_state(&http, id, "succeeded").await;
    }
    let leased = events_of(&http, "steady", "s", None).await.into_iter();
    let leased = leased.filter(|event| event["event"] == "leased");
    let times: Vec<i64> = leased.map(|event| millis(&event["at"])).collect();
    // Two at once and the other four a quarter of a second each; they are leased some time after it
    // was decided.
    let took = times.iter().max().unwrap() - times.iter().min().unwrap();
    assert!(took >= 800, "six jobs within {took} ms");
}

fn millis(at: &Value) -> i64 {
    let at: jiff::Timestamp = at.as_str().unwrap().parse().unwrap();
    at.as_millisecond()
}

pub(crate) async fn a_queue_with_live_jobs_is_not_deleted(site: &Site) {
    let http = http(site);
    cordoned(&http, "in-use").await;
    let id = submitted(&http, "in-use", "s", &[job(0)]).await.remove(0);
    let path = "/api/v1/queues/in-use";
    assert_eq!(http.delete(path).await.unwrap().problem(), (409, "queue_in_use".into()));
    assert_eq!(http.get(path).await.unwrap().status, 200);
    let cancelled = http.post("/api/v1/cancel", &json!({ "jobIds": [id] })).await.unwrap();
    assert_eq!(cancelled.json()["changed"], 1);
    assert_eq!(http.delete(path).await.unwrap().status, 204);

    // Its jobs can still be read, and another queue of the name starts with nothing that lives.
    assert_eq!(shown(&http, &id).await["state"], "cancelled");
    let other = site.other_http().unwrap();
    let refused = other
        .send(
            reqwest::Method::POST,
            "/api/v1/queues/in-use/jobs?jobSet=s",
            &[("content-type", super::NDJSON)],
            super::lines(&[job(0)]),
        )
        .await
        .unwrap();
    assert_eq!(refused.problem(), (404, "queue_not_found".into()));
    queue(&http, "in-use").await;
    let again = submitted(&http, "in-use", "s", &[job(0)]).await.remove(0);
    until_state(&http, &again, "succeeded").await;
}

pub(crate) async fn a_cordoned_queue_keeps_its_jobs(site: &Site) {
    let http = http(site);
    cordoned(&http, "cordoned").await;
    queue(&http, "open").await;
    submitted(&http, "cordoned", "s", &[job(0), job(0), job(0)]).await;
    // What came later to another queue has run, and these have not.
    let later = submitted(&http, "open", "s", &[job(0)]).await.remove(0);
    until_state(&http, &later, "succeeded").await;
    assert_eq!(counts(&http, "cordoned", "s").await.unwrap()["queued"], 3);
    queue(&http, "cordoned").await;
    eventually(WAIT, "the jobs run once their queue is open", async || {
        let counts = counts(&http, "cordoned", "s").await?;
        ensure!(counts["succeeded"] == 3, "{counts}");
        Ok(())
    })
    .await
    .unwrap();
}
