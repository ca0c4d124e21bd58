//! The local back end: processes of this machine, how they end and what they print.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::StreamExt;
use muster_runtime::clock::Clock;
use muster_tests::http::Http;
use muster_tests::site::Site;
use muster_tests::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::{WAIT, http, job, queue, submitted, until_state, with};

/// A job that runs a script, in which `$$` means what it means to a shell: in a pod spec it stands
/// for one dollar.
fn script(text: &str) -> Value {
    let mut job = job(0);
    let text = text.replace("$$", "$$$$");
    job["podSpec"]["containers"][0]["command"] = json!(["sh", "-c", text]);
    job
}

/// The same with more fields of the pod spec.
fn with_spec(mut job: Value, fields: Value) -> Value {
    let fields = fields.as_object().unwrap().clone();
    job["podSpec"].as_object_mut().unwrap().extend(fields);
    job
}

async fn one(http: &Http, name: &str, job: Value) -> String {
    queue(http, name).await;
    submitted(http, name, "s", &[job]).await.remove(0)
}

async fn output(http: &Http, id: &str) -> String {
    let answer = http.get(&format!("/api/v1/jobs/{id}/logs")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

/// Waits until a job has printed a line with a number in it, and gives the number.
async fn printed(http: &Http, id: &str) -> u32 {
    eventually(WAIT, "it prints a number", async || {
        let answer = http.get(&format!("/api/v1/jobs/{id}/logs")).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        answer.text().lines().next().context("nothing yet")?.parse().context("no number")
    })
    .await
    .unwrap()
}

/// Whether a process lives; one that has ended and was not waited for does not.
fn lives(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z')
}

async fn until_gone(process: u32) {
    eventually(WAIT, &format!("process {process} ends"), async || {
        ensure!(!lives(process), "it lives");
        Ok(())
    })
    .await
    .unwrap();
}

pub(crate) async fn exit_codes_and_signals_are_reported(site: &Site) {
    let http = http(site);
    let id = one(&http, "local-exit", script("echo out; echo err >&2; exit 3")).await;
    let failed = until_state(&http, &id, "failed").await;
    assert_eq!(
        (&failed["runs"][0]["exitCode"], &failed["runs"][0]["signal"]),
        (&json!(3), &Value::Null)
    );
    let text = output(&http, &id).await;
    assert!(text.contains("out\n") && text.contains("err\n"), "{text}");
    let id = one(&http, "local-exit", script("kill -SEGV $$")).await;
    let failed = until_state(&http, &id, "failed").await;
    assert_eq!(
        (&failed["runs"][0]["exitCode"], &failed["runs"][0]["signal"]),
        (&Value::Null, &json!(11))
    );
    let id = one(&http, "local-exit", script("exit 0")).await;
    let done = until_state(&http, &id, "succeeded").await;
    assert_eq!(done["runs"][0]["exitCode"], 0);
}

pub(crate) async fn a_deadline_ends_the_whole_process_group(site: &Site) {
    let http = http(site);
    let text = script("sleep 300 & echo $!; wait");
    let job = with_spec(text, json!({ "activeDeadlineSeconds": 1 }));
    let id = one(&http, "local-deadline", job).await;
    let child = printed(&http, &id).await;
    let failed = until_state(&http, &id, "failed").await;
    assert_eq!(failed["runs"][0]["reason"], "DeadlineExceeded", "{failed}");
    until_gone(child).await;
}

pub(crate) async fn a_cancelled_process_is_told_and_then_killed(site: &Site) {
    let http = http(site);
    let polite = "trap 'echo told; exit 0' TERM; echo $$; while :; do sleep 0.05; done";
    let stubborn = "trap '' TERM; echo $$; while :; do sleep 0.05; done";
    let grace = |seconds: u32| json!({ "terminationGracePeriodSeconds": seconds });
    let polite = one(&http, "local-cancel", with_spec(script(polite), grace(30))).await;
    let stubborn = one(&http, "local-cancel", with_spec(script(stubborn), grace(1))).await;
    let (told, deaf) = (printed(&http, &polite).await, printed(&http, &stubborn).await);
    let clock = Clock::system();
    let began = clock.monotonic();
    let body = json!({ "jobIds": [polite, stubborn] });
    assert_eq!(http.post("/api/v1/cancel", &body).await.unwrap().json()["changed"], 2);
    until_gone(told).await;
    assert!(clock.monotonic() - began < Duration::from_secs(20), "it need not wait for the end");
    until_gone(deaf).await;
    assert!(clock.monotonic() - began >= Duration::from_millis(900), "it has its grace period");
    for id in [&polite, &stubborn] {
        until_state(&http, id, "cancelled").await;
    }
    let text = output(&http, &polite).await;
    assert!(text.ends_with("told\n"), "{text}");
}

pub(crate) async fn output_is_followed_until_the_run_ends(site: &Site) {
    let http = http(site);
    let gate = site.log_dir().join("gate");
    let text =
        format!("echo first; while ! [ -e {0} ]; do sleep 0.02; done; echo last", gate.display());
    let id = one(&http, "local-logs", script(&text)).await;
    until_state(&http, &id, "running").await;
    let path = format!("/api/v1/jobs/{id}/logs?follow=true");
    let mut pieces = http.open(Method::GET, &path, &[], "").await.unwrap().bytes_stream();
    let mut text = String::new();
    let first = async {
        while !text.contains("first\n") {
            text += std::str::from_utf8(&pieces.next().await.unwrap().unwrap()).unwrap();
        }
    };
    tokio::time::timeout(WAIT, first).await.unwrap();
    assert_eq!(output(&http, &id).await, "first\n", "without following it ends with what there is");
    std::fs::write(&gate, "").unwrap();
    let rest = async {
        while let Some(piece) = pieces.next().await {
            text += std::str::from_utf8(&piece.unwrap()).unwrap();
        }
    };
    tokio::time::timeout(WAIT, rest).await.unwrap();
    assert_eq!(text, "first\nlast\n");
}

pub(crate) async fn what_cannot_run_here_is_refused_with_a_reason(site: &Site) {
    let http = http(site);
    let spec = |containers: Value| json!({ "podSpec": { "containers": containers } });
    let cases = [
        (spec(json!([{ "image": "busybox" }])), "NoCommand"),
        (spec(json!([{ "command": ["true"] }, { "command": ["true"] }])), "Unsupported"),
        (spec(json!([{ "command": ["/no/such/program"] }])), ""),
    ];
    for (job, reason) in cases {
        let id = one(&http, "local-refused", job).await;
        let failed = until_state(&http, &id, "failed").await;
        let run = &failed["runs"][0];
        assert!(run["message"].as_str().is_some_and(|message| !message.is_empty()), "{failed}");
        if !reason.is_empty() {
            assert_eq!(run["reason"], reason, "{failed}");
        }
    }
}

pub(crate) async fn a_task_knows_its_number_and_a_job_its_names(site: &Site) {
    let http = http(site);
    let text = "echo $MUSTER_ARRAY_INDEX $MUSTER_QUEUE $MUSTER_JOB_SET $MUSTER_ATTEMPT $OWN; echo $MUSTER_JOB_ID";
    let mut job = with(script(text), json!({ "count": 3 }));
    job["podSpec"]["containers"][0]["env"] =
        json!([{ "name": "OWN", "value": "$(MUSTER_QUEUE)!" }]);
    let id = one(&http, "local-env", job).await;
    until_state(&http, &id, "succeeded").await;
    for index in 0..3 {
        let task = format!("{id}-{index}");
        let expected = format!("{index} local-env s 1 local-env!\n{task}\n");
        assert_eq!(output(&http, &task).await, expected);
    }
    let whole = http.get(&format!("/api/v1/jobs/{id}/logs")).await.unwrap();
    assert_eq!(whole.problem(), (404, "logs_unavailable".into()));
    super::cordoned(&http, "local-never").await;
    let never = submitted(&http, "local-never", "s", &[super::job(0)]).await.remove(0);
    let never = http.get(&format!("/api/v1/jobs/{never}/logs")).await.unwrap();
    assert_eq!(never.problem(), (404, "logs_unavailable".into()));
}
