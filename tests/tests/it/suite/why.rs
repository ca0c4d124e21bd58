//! What is said of jobs that do not run.

use anyhow::{Result, ensure};
use muster_tests::http::Http;
use muster_tests::site::Site;
use muster_tests::wait::eventually;
use serde_json::{Value, json};

use super::command_line::{quiet, run};
use super::{WAIT, cordoned, http, job, queue, submitted, until_state, with};

/// A job that asks for that.
fn asks(cpu: &str, more: Value) -> Value {
    let mut job = job(60_000);
    job["podSpec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(cpu);
    job["podSpec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job
}

/// Why the job does not run, once that is so.
async fn until_why(http: &Http, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(WAIT, &format!("{id} is explained"), async || -> Result<Value> {
        let answer = http.get(&format!("/api/v1/jobs/{id}/why")).await?;
        let why = answer.json();
        ensure!(answer.status == 200 && holds(&why), "{}", answer.text());
        Ok(why)
    })
    .await
    .unwrap()
}

/// Whether it is kept by that, before all else.
fn is_kept_by(why: &Value, kind: &str) -> bool {
    why["blockers"][0]["kind"] == kind
}

pub(crate) async fn a_job_that_could_never_run_is_told_what_nodes_lack(site: &Site) {
    let http = http(site);
    queue(&http, "why-never").await;
    let selector = json!({ "nodeSelector": { "no-such": "label" } });
    let jobs = [asks("100000", json!({})), asks("10m", selector)];
    let ids = submitted(&http, "why-never", "s", &jobs).await;
    let why = until_why(&http, &ids[0], |why| is_kept_by(why, "neverFits")).await;
    let clusters = why["pool"]["clusters"].as_array().unwrap();
    assert!(!clusters.is_empty(), "{why}");
    for cluster in clusters {
        let ruled_out = &cluster["ruledOut"][0];
        assert_eq!((&ruled_out["reason"], &ruled_out["what"]), (&"tooSmall".into(), &"cpu".into()));
        assert_eq!(ruled_out["nodes"], cluster["nodes"]);
    }
    assert!(why["summary"].as_str().unwrap().contains("could ever hold it ("), "{why}");
    assert!(why["pool"]["estimate"]["seconds"].is_null(), "{why}");
    let why = until_why(&http, &ids[1], |why| is_kept_by(why, "neverFits")).await;
    assert_eq!(why["pool"]["clusters"][0]["ruledOut"][0]["what"], "no-such=label", "{why}");
    assert_eq!((&why["place"]["ahead"], &why["place"]["waiting"]), (&1.into(), &2.into()));
    let cancelled = json!({ "jobIds": [ids[0]] });
    assert_eq!(http.post("/api/v1/cancel", &cancelled).await.unwrap().status, 200);
    let why = until_why(&http, &ids[0], |why| why["state"] == "cancelled").await;
    assert_eq!((&why["summary"], &why["blockers"]), (&"it was cancelled".into(), &json!([])));
    assert_eq!(http.get("/api/v1/jobs/nothing/why").await.unwrap().status, 404);
}

pub(crate) async fn what_is_set_for_a_queue_is_named_with_its_figures(site: &Site) {
    let http = http(site);
    cordoned(&http, "why-set").await;
    let ids = submitted(&http, "why-set", "s", &[asks("20m", json!({}))]).await;
    until_why(&http, &ids[0], |why| is_kept_by(why, "queueCordoned")).await;
    let settings = json!({ "limits": [{ "resources": { "cpu": "15m" } }] });
    assert_eq!(http.put("/api/v1/queues/why-set", &settings).await.unwrap().status, 200);
    let why = until_why(&http, &ids[0], |why| is_kept_by(why, "limit")).await;
    let expected = json!({
        "kind": "limit", "resource": "cpu", "limit": "15m", "held": "0", "requested": "20m",
    });
    assert_eq!(why["blockers"][0], expected, "{why}");
    assert_eq!(http.put("/api/v1/queues/why-set", &json!({})).await.unwrap().status, 200);
    // Without what was named it runs.
    let running = until_state(&http, &ids[0], "running").await;
    let why = until_why(&http, &ids[0], |why| why["state"] == "running").await;
    assert_eq!((&why["summary"], &running["jobId"]), (&"it runs".into(), &why["jobId"]));
    let nowhere = json!({ "nodeSelector": { "muster.dev/pool": "nowhere" } });
    let ids = submitted(&http, "why-set", "s", &[asks("20m", nowhere)]).await;
    let why = until_why(&http, &ids[0], |why| is_kept_by(why, "noLeader")).await;
    assert_eq!((&why["place"]["pool"], &why["place"]["ahead"]), (&"nowhere".into(), &0.into()));
}

pub(crate) async fn a_task_in_the_middle_of_an_array_knows_its_place(site: &Site) {
    let http = http(site);
    cordoned(&http, "why-array").await;
    let array = with(job(0), json!({ "count": 1_000 }));
    let ids = submitted(&http, "why-array", "s", &[job(0), array]).await;
    let task = format!("{}-500", ids[1]);
    let why = until_why(&http, &task, |why| is_kept_by(why, "queueCordoned")).await;
    assert_eq!((&why["place"]["ahead"], &why["place"]["waiting"]), (&501.into(), &1_001.into()));
    let whole = until_why(&http, &ids[1], |why| is_kept_by(why, "queueCordoned")).await;
    assert_eq!(whole["place"]["ahead"], 1);
    let mut blockers = whole["blockers"].as_array().unwrap().iter();
    let line = blockers.find(|blocker| blocker["kind"] == "line").unwrap();
    assert_eq!(line["jobs"], 1, "{whole}");
}

pub(crate) async fn what_keeps_a_job_is_told_on_the_command_line(site: &Site) {
    let http = http(site);
    queue(&http, "why-cli").await;
    let ids = submitted(&http, "why-cli", "s", &[asks("100000", json!({}))]).await;
    until_why(&http, &ids[0], |why| is_kept_by(why, "neverFits")).await;
    let shown = quiet(site, &format!("why {} -o json", ids[0]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(is_kept_by(&shown, "neverFits"), "{shown}");
    let text = quiet(site, &format!("why {}", ids[0]));
    assert!(text.contains("it waits: no node of pool `default` could ever hold it"), "{text}");
    assert!(text.contains("CLUSTER") && text.contains("tooSmall cpu"), "{text}");
    assert_eq!(run(site, "why nothing").status.code(), Some(3));
}
