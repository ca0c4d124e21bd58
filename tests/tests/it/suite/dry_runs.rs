//! Submissions that are only tried out.

use anyhow::{Result, ensure};
use muster_tests::http::{Answer, Http};
use muster_tests::site::Site;
use muster_tests::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::command_line::{quiet, run};
use super::{NDJSON, WAIT, counts, http, job, lines, queue, submitted, with};

/// A job that asks for so many cpus.
fn asks(cpu: &str) -> Value {
    let mut job = job(0);
    job["podSpec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(cpu);
    job
}

async fn tried(http: &Http, queue: &str, kind: &str, body: String) -> Result<Answer> {
    let path = format!("/api/v1/queues/{queue}/jobs?jobSet=dry&dryRun=true");
    http.send(Method::POST, &path, &[("content-type", kind)], body).await
}

/// The kinds of jobs that an answer tells of, by what they ask for.
fn of<'a>(tried: &'a Value, cpu: &str) -> &'a Value {
    let shapes = tried["shapes"].as_array().unwrap();
    let mut of = shapes.iter().filter(|shape| shape["resources"]["cpu"] == cpu);
    of.next().unwrap_or_else(|| panic!("{cpu}: {tried}"))
}

pub(crate) async fn what_a_submission_would_come_to_is_told_and_nothing_is_written(site: &Site) {
    let http = http(site);
    let settings = json!({ "cordoned": true, "jobsQueuedMax": 5_000 });
    assert_eq!(http.put("/api/v1/queues/dry", &settings).await.unwrap().status, 200);
    submitted(&http, "dry", "s", &[with(job(0), json!({ "count": 7 }))]).await;
    let unknown = with(job(0), json!({ "nonsense": 1 }));
    let mut class = job(0);
    class["podSpec"]["priorityClassName"] = json!("dry-no-such");
    let array = with(asks("100000"), json!({ "count": 40 }));
    let body = lines(&[asks("10m"), unknown, array, asks("10m"), class]);
    // The leader has to know the clusters before it says where jobs could run.
    let told = eventually(WAIT, "a leader answers", async || {
        let answer = tried(&http, "dry", NDJSON, body.clone()).await?;
        let told = answer.json();
        ensure!(answer.status == 200, "{}", answer.text());
        ensure!(of(&told, "10m")["fitsEver"] == true, "{told}");
        Ok(told)
    })
    .await
    .unwrap();
    assert_eq!((&told["accepted"], &told["rejected"]), (&json!(3), &json!(2)), "{told}");
    let errors = told["errors"].as_array().unwrap();
    let errors = errors.iter().map(|error| (&error["line"], &error["error"]["code"]));
    let expected = [(&json!(2), &json!("invalid_job")), (&json!(5), &json!("class_unknown"))];
    assert_eq!(errors.collect::<Vec<_>>(), expected);
    let (small, large) = (of(&told, "10m"), of(&told, "100000"));
    assert_eq!((&small["jobs"], &small["ahead"]), (&json!(2), &json!(7)), "{told}");
    assert_eq!((&large["jobs"], &large["fitsEver"]), (&json!(40), &json!(false)), "{told}");
    assert_eq!(large["clusters"][0]["ruledOut"][0]["what"], "cpu", "{told}");
    // As many as may wait, and one more.
    let of_count = |count: u64| lines(&[with(job(0), json!({ "count": count }))]);
    let fits = tried(&http, "dry", NDJSON, of_count(4_993)).await.unwrap().json();
    assert_eq!((&fits["accepted"], &fits["rejected"]), (&json!(1), &json!(0)), "{fits}");
    let over = tried(&http, "dry", NDJSON, of_count(4_994)).await.unwrap().json();
    assert_eq!(over["errors"][0]["error"]["code"], "queue_full", "{over}");
    let document = json!({ "jobs": [job(0), job(0)] });
    let whole = tried(&http, "dry", "application/json", document.to_string()).await.unwrap();
    assert_eq!(whole.json()["accepted"], 2, "{}", whole.text());
    let missing = tried(&http, "dry-no-such", NDJSON, lines(&[job(0)])).await.unwrap();
    assert_eq!(missing.problem(), (404, "queue_not_found".to_owned()));
    let sets = http.get("/api/v1/queues/dry/job-sets").await.unwrap().json();
    assert_eq!(sets["jobSets"].as_array().unwrap().len(), 1, "nothing of `dry` is there: {sets}");
    assert_eq!(counts(&http, "dry", "s").await.unwrap()["queued"], 7);
}

pub(crate) async fn a_submission_is_tried_out_from_the_command_line(site: &Site) {
    let http = http(site);
    queue(&http, "dry-cli").await;
    let file = site.log_dir().join("dry.ndjson");
    std::fs::write(&file, lines(&[asks("10m"), asks("20m")])).unwrap();
    let line = format!("submit -q dry-cli -s s --dry-run {}", file.display());
    let output = run(site, &line);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("JOBS  POOL     CLASS    PRIORITY"), "{text}");
    let note = String::from_utf8(output.stderr).unwrap();
    assert!(note.contains("2 jobs would be accepted, 0 rejected"), "{note}");
    std::fs::write(&file, "{}\n").unwrap();
    let output = run(site, &format!("{line} -o json"));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &told["rejected"]), (Some(1), &json!(1)), "{told}");
    let listed = quiet(site, "list jobs --queue dry-cli -o json");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["jobs"], json!([]), "{listed}");
}
