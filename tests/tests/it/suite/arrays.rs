//! Arrays: one record that stands for many jobs, and each of them like a job.

use muster_tests::site::Site;
use serde_json::json;

use super::{
    column, cordoned, counts, events_of, http, job, queue, shown, submitted, until_count,
    until_state, with,
};

pub(crate) async fn a_task_is_read_cancelled_and_followed_like_a_job(site: &Site) {
    let http = http(site);
    cordoned(&http, "arrays").await;
    let array = with(job(0), json!({ "count": 5, "priority": 3 }));
    let id = submitted(&http, "arrays", "s", &[array]).await.remove(0);
    let whole = shown(&http, &id).await;
    assert_eq!((&whole["state"], &whole["count"]), (&json!("queued"), &json!(5)));
    assert_eq!(whole["counts"]["queued"], 5);
    let task = shown(&http, &format!("{id}-4")).await;
    assert_eq!((&task["state"], &task["priority"]), (&json!("queued"), &json!(3)));
    for bad in ["5", "x", "-1", "04"] {
        let answer = http.get(&format!("/api/v1/jobs/{id}-{bad}")).await.unwrap();
        assert_eq!(answer.problem(), (404, "not_found".into()), "{bad}");
    }
    assert_eq!(counts(&http, "arrays", "s").await.unwrap()["queued"], 5, "one by one");

    let body =
        json!({ "jobIds": [format!("{id}-1"), format!("{id}-9")], "reason": "not this one" });
    let applied = http.post("/api/v1/cancel", &body).await.unwrap().json();
    assert_eq!(applied["changed"], 1, "{applied}");
    assert_eq!(applied["missing"], json!([format!("{id}-9")]));
    let task = shown(&http, &format!("{id}-1")).await;
    assert_eq!((&task["state"], &task["reason"]), (&json!("cancelled"), &json!("not this one")));
    assert_eq!(shown(&http, &id).await["counts"]["cancelled"], 1);

    queue(&http, "arrays").await;
    until_count(&http, "arrays", "s", "succeeded", 4).await;
    let whole = shown(&http, &id).await;
    assert_eq!(whole["counts"]["succeeded"], 4);
    assert_eq!(whole["state"], "cancelled", "the worst that befell a task");
    let task = until_state(&http, &format!("{id}-0"), "succeeded").await;
    assert_eq!(task["runs"].as_array().unwrap().len(), 1);
    let events = events_of(&http, "arrays", "s", None).await;
    let of = |name: &str, job: &str| {
        events.iter().filter(|event| event["event"] == name && event["jobId"] == job).count()
    };
    assert_eq!(of("submitted", &id), 1);
    assert_eq!(events[0]["count"], 5);
    for index in [0, 2, 3, 4] {
        assert_eq!(of("succeeded", &format!("{id}-{index}")), 1, "{events:?}");
    }
    assert_eq!(of("cancelled", &format!("{id}-1")), 1);
}

pub(crate) async fn an_array_is_changed_and_cancelled_as_a_whole(site: &Site) {
    let http = http(site);
    cordoned(&http, "arrays-whole").await;
    let array = with(job(0), json!({ "count": 20_000 }));
    let id = submitted(&http, "arrays-whole", "s", &[array]).await.remove(0);
    let body = json!({ "jobIds": [id], "priority": 9 });
    let applied = http.post("/api/v1/reprioritize", &body).await.unwrap().json();
    assert_eq!(applied["changed"], 20_000, "{applied}");
    assert_eq!(shown(&http, &format!("{id}-19999")).await["priority"], 9);
    let body = json!({ "jobIds": [format!("{id}-7")] });
    assert_eq!(http.post("/api/v1/cancel", &body).await.unwrap().json()["changed"], 1);
    let applied = http.post("/api/v1/cancel", &json!({ "jobIds": [id] })).await.unwrap().json();
    assert_eq!(applied["changed"], 19_999, "{applied}");
    assert_eq!(counts(&http, "arrays-whole", "s").await.unwrap()["cancelled"], 20_000);
    assert_eq!(shown(&http, &id).await["state"], "cancelled");
    let events = events_of(&http, "arrays-whole", "s", None).await;
    let cancelled: u64 = events
        .iter()
        .filter(|event| event["event"] == "cancelled")
        .map(|event| event["count"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(cancelled, 20_000);
    assert!(events.len() < 10, "not an event for each: {:?}", column(&events, "event"));
}
