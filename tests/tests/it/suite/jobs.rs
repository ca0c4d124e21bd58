//! Jobs as they are shown: byte for byte, page by page, from memory and from the history.

use std::path::Path;

use anyhow::{Context, ensure};
use muster_tests::http::Http;
use muster_tests::site::Site;
use muster_tests::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    NDJSON, WAIT, column, cordoned, http, ids, job, post_lines, queue, submitted, until_state,
};

/// A pod spec that says less than it has bytes: white space, an unknown field, numbers that no
/// machine type holds, escapes, a name twice.
const ODD_SPEC: &str = concat!(
    "{ \"containers\" :[\t{\"name\":\"m\",\"command\":[\"true\"] ,\"resources\":",
    "{\"requests\":{\"cpu\":0.010,\"memory\":\"1Mi\"}}} ],  \"unheardOf\": 12345678901234567890123.000e+5 ,",
    "\"é\\u00e9\\/\":\"\\ud83d\\ude00\", \"big\":18446744073709551617, \"twice\":1,\"twice\":2 }"
);
const ODD_LABELS: &str = "{ \"z\" : \"1\",\"a\":\"\\u0041\" }";

async fn whole(http: &Http, id: &str) -> String {
    let answer = http.get(&format!("/api/v1/jobs/{id}?spec=true")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

pub(crate) async fn a_pod_spec_comes_back_byte_for_byte(site: &Site) {
    let http = http(site);
    queue(&http, "faithful").await;
    let line = format!("{{\"labels\":{ODD_LABELS},\"podSpec\":{ODD_SPEC}}}\n");
    let by_line = ids(&post_lines(&http, "faithful", "s", &[], line).await);
    // A document may hold line ends, too.
    let spread = ODD_SPEC.replace(", ", ",\r\n\n ");
    let document = format!("{{\"jobSet\":\"s\",\"jobs\":[ {{\"podSpec\": {spread} }} ]}}");
    let headers = [("content-type", "application/json")];
    let path = "/api/v1/queues/faithful/jobs";
    let answer = http.send(Method::POST, path, &headers, document).await.unwrap().json();
    let by_document = answer["jobs"][0]["jobId"].as_str().unwrap().to_owned();
    let mut rows = muster_api::batch::public::Writer::new();
    let row = muster_api::batch::public::Row { pod_spec: &spread, ..Default::default() };
    rows.push(&row);
    let headers = [("content-type", "application/vnd.apache.arrow.stream")];
    let path = "/api/v1/queues/faithful/jobs?jobSet=s";
    let by_row = ids(&http.send(Method::POST, path, &headers, rows.finish()).await.unwrap());

    for state in ["queued", "succeeded"] {
        let text = whole(&http, &by_line[0]).await;
        assert!(text.contains(&format!("\"podSpec\":{ODD_SPEC}")), "{text}");
        assert!(text.contains(&format!("\"labels\":{ODD_LABELS}")), "{text}");
        for id in [&by_document, &by_row[0]] {
            let text = whole(&http, id).await;
            assert!(text.contains(&format!("\"podSpec\":{spread}")), "{state}: {text}");
        }
        until_state(&http, &by_line[0], "succeeded").await;
        until_state(&http, &by_document, "succeeded").await;
        until_state(&http, &by_row[0], "succeeded").await;
    }
    assert!(super::shown(&http, &by_row[0]).await.get("spec").is_none(), "only on request");
}

async fn pages(http: &Http, query: &str, limit: usize) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/jobs?{query}&limit={limit}{cursor}");
        let answer = http.get(&path).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        let jobs = page["jobs"].as_array().unwrap();
        assert!(jobs.len() <= limit, "{} of {limit}", jobs.len());
        found.extend(column(jobs, "jobId"));
        match page["cursor"].as_str() {
            Some(place) => cursor = format!("&cursor={place}"),
            None => return found,
        }
    }
}

pub(crate) async fn listings_show_every_job_once_page_by_page(site: &Site) {
    let http = http(site);
    let mut mine = Vec::new();
    // Queues of different shards, so that pages of several have to be merged.
    for name in ["listed-a", "listed-b", "listed-c"] {
        cordoned(&http, name).await;
        for job_set in ["s", "t"] {
            let jobs: Vec<Value> = (0..7).map(|_| job(0)).collect();
            mine.extend(submitted(&http, name, job_set, &jobs).await);
        }
    }
    let body = json!({ "jobIds": [mine[0], mine[3]] });
    assert_eq!(http.post("/api/v1/cancel", &body).await.unwrap().json()["changed"], 2);
    for limit in [1, 5, 14, 100] {
        assert_eq!(pages(&http, "queue=listed-a", limit).await, mine[..14], "limit {limit}");
    }
    assert_eq!(pages(&http, "queue=listed-b&jobSet=t", 3).await, mine[21..28]);
    let cancelled = pages(&http, "queue=listed-a&state=cancelled", 1).await;
    assert_eq!(cancelled, [mine[0].clone(), mine[3].clone()]);
    let live = pages(&http, "queue=listed-a&jobSet=s&state=queued,running", 2).await;
    assert_eq!(live.len(), 5);
    // Of all queues, merged from pages of every shard; others cancel jobs meanwhile, too.
    let all = pages(&http, "state=cancelled", 5_000).await;
    let places: Vec<_> =
        all.iter().map(|id| id.parse::<muster_core::id::JobRef>().unwrap()).collect();
    assert!(places.is_sorted_by(|one, other| one < other), "in order, each once");
    assert!(all.contains(&mine[0]) && all.contains(&mine[3]) && !all.contains(&mine[1]));
    assert!(pages(&http, "queue=nobody", 5).await.is_empty());
}

pub(crate) async fn job_sets_are_listed_with_their_counts(site: &Site) {
    let http = http(site);
    cordoned(&http, "sets").await;
    for number in 0..5 {
        submitted(&http, "sets", &format!("s-{number}"), &vec![job(0); number + 1]).await;
    }
    let path = "/api/v1/queues/sets/job-sets";
    let first = http.get(&format!("{path}?limit=3")).await.unwrap().json();
    assert_eq!(column(first["jobSets"].as_array().unwrap(), "jobSet"), ["s-0", "s-1", "s-2"]);
    let cursor = first["cursor"].as_str().unwrap();
    let second = http.get(&format!("{path}?limit=3&cursor={cursor}")).await.unwrap().json();
    assert_eq!(column(second["jobSets"].as_array().unwrap(), "jobSet"), ["s-3", "s-4"]);
    assert!(second["cursor"].is_null());
    assert_eq!(second["jobSets"][1]["counts"]["queued"], 5);
    let one = http.get(&format!("{path}/s-4")).await.unwrap().json();
    assert_eq!(one, second["jobSets"][1]);
    let states: Vec<&str> = one["counts"].as_object().unwrap().keys().map(String::as_str).collect();
    let all = ["cancelled", "failed", "leased", "pending", "queued", "running", "succeeded"];
    assert_eq!(states, all, "every state is named");
    let missing = http.get(&format!("{path}/nothing")).await.unwrap();
    assert_eq!(missing.problem(), (404, "not_found".into()));
}

/// Whether the history has an object with the job in it: its name says from which job to which.
fn is_in_history(directory: &Path, id: &str) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return is_in_history(&path, id);
        }
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let is_history = path.components().any(|part| part.as_os_str() == "history");
        let mut parts = name.rsplit('-');
        let (last, first) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        is_history && (first..=last).contains(&id)
    })
}

pub(crate) async fn a_finished_job_is_shown_from_memory_and_from_the_history(site: &Site) {
    let http = http(site);
    queue(&http, "finished").await;
    let submitted = submitted(&http, "finished", "s", &[job(0), job(0)]).await;
    let mut from_memory = Vec::new();
    for id in &submitted {
        from_memory.push(until_state(&http, id, "succeeded").await);
    }
    let job = &from_memory[0];
    assert_eq!((&job["queue"], &job["jobSet"]), (&json!("finished"), &json!("s")));
    let run = &job["runs"][0];
    assert_eq!((&run["attempt"], &run["exitCode"]), (&json!(1), &json!(0)), "{run}");
    let times = [&job["submittedAt"], &run["leasedAt"], &run["startedAt"], &run["endedAt"]];
    let times = times.map(|time| time.as_str().unwrap().to_owned());
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(job["finishedAt"], run["endedAt"]);
    assert!(run["cluster"].is_string() && run["node"].is_string());

    let store = site.store_dir();
    eventually(WAIT, "the jobs are in the history", async || {
        ensure!(submitted.iter().all(|id| is_in_history(&store, id)), "not yet");
        Ok(())
    })
    .await
    .unwrap();
    // Until its note is durable a job is in both places; either way it is shown the same, once.
    eventually(WAIT, "the jobs are shown as before", async || {
        for (id, before) in submitted.iter().zip(&from_memory) {
            let now = http.get(&format!("/api/v1/jobs/{id}")).await?.json();
            ensure!(now == *before, "{now} is not {before}");
        }
        let listed = http.get("/api/v1/jobs?queue=finished&state=succeeded").await?.json();
        let listed = listed["jobs"].as_array().context("no jobs")?.clone();
        ensure!(listed == from_memory, "{listed:?}");
        Ok(())
    })
    .await
    .unwrap();
}

pub(crate) async fn what_is_submitted_is_shown_at_once_by_any_gateway(site: &Site) {
    let (http, other) = (http(site), site.other_http().unwrap());
    cordoned(&http, "at-once").await;
    for number in 0..10 {
        let line = format!("{}\n", job(0));
        let path = "/api/v1/queues/at-once/jobs?jobSet=s";
        let headers = [("content-type", NDJSON)];
        let id = ids(&http.send(Method::POST, path, &headers, line).await.unwrap()).remove(0);
        assert_eq!(super::shown(&other, &id).await["state"], "queued");
        let counts = super::counts(&other, "at-once", "s").await.unwrap();
        assert_eq!(counts["queued"], number + 1);
        assert!(
            super::column(&super::events_of(&other, "at-once", "s", None).await, "jobId")
                .contains(&id)
        );
    }
}
