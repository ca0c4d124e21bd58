//! Gangs: together or not at all.

use std::collections::BTreeSet;

use muster_tests::site::Site;
use serde_json::{Value, json};

use super::{
    counts, events_of, http, job, lines, queue, shown, submitted, until_count, until_state,
};

/// A member of the gang `g` that runs for so long.
fn member(prefix: &str, cardinality: u32, millis: u64) -> Value {
    let mut job = job(millis);
    job["annotations"][format!("{prefix}/gangId")] = "g".into();
    job["annotations"][format!("{prefix}/gangCardinality")] = cardinality.to_string().into();
    job
}

pub(crate) async fn a_gang_starts_with_its_last_member_on_one_cluster(site: &Site) {
    let http = http(site);
    queue(&http, "gang").await;
    let member = || member("muster.dev", 3, 3_600_000);
    let mut ids = submitted(&http, "gang", "s", &[member(), member()]).await;
    // What comes after them and is no member does not wait for them.
    let single = submitted(&http, "gang", "other", &[job(0)]).await;
    until_state(&http, &single[0], "succeeded").await;
    assert_eq!(counts(&http, "gang", "s").await.unwrap()["queued"], 2);
    ids.extend(submitted(&http, "gang", "s", &[member()]).await);
    until_count(&http, "gang", "s", "running", 3).await;
    let mut clusters = BTreeSet::new();
    for id in &ids {
        clusters.insert(shown(&http, id).await["runs"][0]["cluster"].as_str().unwrap().to_owned());
    }
    assert_eq!(clusters.len(), 1, "{clusters:?}");
    // Nobody joins a gang that runs.
    let path = "/api/v1/queues/gang/jobs?jobSet=s";
    let headers = [("content-type", "application/x-ndjson")];
    let answer = http.send(reqwest::Method::POST, path, &headers, lines(&[member()])).await;
    let text = answer.unwrap().text();
    assert!(text.contains("cannot be a member of gang `g`: the gang has started"), "{text}");
    let answer = http.post("/api/v1/cancel", &json!({ "jobIds": [ids[1]] })).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    until_count(&http, "gang", "s", "cancelled", 3).await;
    let events = events_of(&http, "gang", "s", None).await;
    let cancelled = events.iter().filter(|event| event["event"] == "cancelled");
    let why: BTreeSet<String> = cancelled.map(|event| event["reason"].to_string()).collect();
    assert!(why.iter().any(|why| why.contains("was cancelled with")), "{why:?}");
}

pub(crate) async fn a_gang_fails_with_its_first_member(site: &Site) {
    let http = http(site);
    queue(&http, "fails").await;
    let mut bad = member("armadaproject.io", 2, 0);
    bad["annotations"]["muster.dev/simulated-failure-rate"] = "1".into();
    bad["podSpec"]["containers"][0]["command"] = json!(["sh", "-c", "exit 3"]);
    let good = member("armadaproject.io", 2, 3_600_000);
    let ids = submitted(&http, "fails", "s", &[good, bad]).await;
    until_count(&http, "fails", "s", "failed", 2).await;
    let shown = until_state(&http, &ids[0], "failed").await;
    let exit = &shown["runs"][0]["exit"];
    assert!(shown.to_string().contains("GangFailed"), "{shown}");
    assert!(exit.is_null() || exit.to_string().contains(&ids[1]), "{shown}");
}
