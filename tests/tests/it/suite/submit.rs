//! Submissions: three formats, three codings, ids or a summary, all or nothing, keys.

use bytes::Bytes;
use muster_api::batch::public::{Row, Writer};
use muster_client::{Compression, compress};
use muster_tests::http::{Answer, Http};
use muster_tests::site::Site;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    NDJSON, cordoned, counts, http, ids, job, lines, post_lines, queue, shown, submitted,
    until_count, with,
};

const ARROW: &str = "application/vnd.apache.arrow.stream";
const JSON: &str = "application/json";

/// The jobs as a body of that type.
fn body(kind: &str, jobs: &[Value]) -> Bytes {
    match kind {
        NDJSON => lines(jobs).into(),
        JSON => json!({ "jobs": jobs }).to_string().into(),
        ARROW => {
            let mut writer = Writer::new();
            for job in jobs {
                let (spec, annotations) =
                    (job["podSpec"].to_string(), job["annotations"].to_string());
                writer.push(&Row {
                    client_id: job["clientId"].as_str(),
                    priority: job["priority"].as_u64().map_or(0, |priority| priority as u32),
                    annotations: Some(&annotations),
                    pod_spec: &spec,
                    ..Row::default()
                });
            }
            writer.finish()
        }
        other => panic!("{other}"),
    }
}

async fn post(http: &Http, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
    http.send(Method::POST, path, headers, body).await.unwrap()
}

/// The ids of an answer in either form.
fn all_ids(kind: &str, answer: &Answer) -> Vec<String> {
    match kind {
        JSON => super::column(answer.json()["jobs"].as_array().unwrap(), "jobId"),
        _ => ids(answer),
    }
}

pub(crate) async fn every_format_and_coding_is_taken_with_ids_and_without(site: &Site) {
    let http = http(site);
    queue(&http, "formats").await;
    let jobs: Vec<Value> = (0..3).map(|n| with(job(0), json!({ "priority": n }))).collect();
    let path = "/api/v1/queues/formats/jobs?jobSet=s";
    let mut last = String::new();
    for kind in [NDJSON, JSON, ARROW] {
        let plain = body(kind, &jobs);
        for coding in [None, Some(Compression::Gzip), Some(Compression::Zstd)] {
            let mut headers = vec![("content-type", kind)];
            let sent = compress(&plain, coding.unwrap_or_default()).await.unwrap();
            match coding {
                Some(Compression::Gzip) => headers.push(("content-encoding", "gzip")),
                Some(Compression::Zstd) => headers.push(("content-encoding", "zstd")),
                Some(Compression::None) | None => {}
            }
            let answer = post(&http, path, &headers, sent.clone()).await;
            assert_eq!(answer.status, 200, "{kind} {coding:?}: {}", answer.text());
            let ids = all_ids(kind, &answer);
            assert_eq!(ids.len(), 3, "{kind} {coding:?}: {}", answer.text());
            assert!(ids.is_sorted() && ids[0] > last, "ids rise: {last} {ids:?}");
            last.clone_from(&ids[2]);
            assert_eq!(shown(&http, &ids[1]).await["priority"], 1);
            let answer = post(&http, &format!("{path}&ids=none"), &headers, sent).await;
            let expected = json!({ "accepted": 3, "rejected": 0 });
            assert_eq!(answer.json(), expected, "{kind} {coding:?}");
        }
    }
    until_count(&http, "formats", "s", "succeeded", 3 * 3 * 2 * 3).await;
}

pub(crate) async fn lines_stand_alone_and_a_document_stands_whole(site: &Site) {
    let http = http(site);
    cordoned(&http, "whole").await;
    let text = format!("{}\n\n{{\"podSpec\":{{}}}}\nnonsense\n{}", job(0), job(0));
    let answer = post_lines(&http, "whole", "lines", &[], text.clone()).await;
    let found = answer.lines().unwrap();
    assert_eq!(found.len(), 4, "{}", answer.text());
    assert!(found[0]["jobId"].is_string() && found[3]["jobId"].is_string());
    for line in &found[1..3] {
        assert_eq!(line["error"]["code"], "invalid_job", "{line}");
    }
    assert_eq!(counts(&http, "whole", "lines").await.unwrap()["queued"], 2);
    let path = "/api/v1/queues/whole/jobs?jobSet=lines&ids=none";
    let answer = post(&http, path, &[("content-type", NDJSON)], text.into()).await.json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(2)));
    assert_eq!(answer["errors"][0]["line"], 3, "{answer}");
    assert_eq!(answer["errors"][1]["line"], 4, "{answer}");

    let path = "/api/v1/queues/whole/jobs";
    let bad = json!({ "jobSet": "document", "jobs": [job(0), { "podSpec": {} }, job(0)] });
    let answer = http.post(path, &bad).await.unwrap();
    assert_eq!(answer.problem(), (400, "invalid_job".into()));
    assert!(
        answer.json()["detail"].as_str().unwrap().starts_with("jobs[1]: "),
        "{}",
        answer.text()
    );
    let nothing = http.get("/api/v1/queues/whole/job-sets/document").await.unwrap();
    assert_eq!(nothing.problem(), (404, "not_found".into()));
    let good = json!({ "jobSet": "document", "jobs": [job(0), job(0)] });
    assert_eq!(http.post(path, &good).await.unwrap().json()["jobs"].as_array().unwrap().len(), 2);
    assert_eq!(counts(&http, "whole", "document").await.unwrap()["queued"], 2);
}

pub(crate) async fn the_same_key_means_the_same_jobs(site: &Site) {
    let (http, other) = (http(site), site.other_http().unwrap());
    cordoned(&http, "keys").await;
    cordoned(&http, "keys-too").await;
    let key = [("idempotency-key", "k-1")];
    let first = ids(&post_lines(&http, "keys", "s", &key, lines(&[job(0), job(1)])).await);
    let again = ids(&post_lines(&other, "keys", "s", &key, lines(&[job(0), job(1)])).await);
    assert_eq!(first, again);
    // What was cut off the first time comes with the second.
    let more = ids(&post_lines(&other, "keys", "s", &key, lines(&[job(0), job(1), job(2)])).await);
    assert_eq!(more[..2], first[..]);
    assert!(more[2] > first[1]);
    let elsewhere = ids(&post_lines(&http, "keys-too", "s", &key, lines(&[job(0)])).await);
    assert_ne!(elsewhere[0], first[0], "the same key in another queue is another one");
    let unnamed = submitted(&http, "keys", "s", &[job(0)]).await;
    assert!(!more.contains(&unnamed[0]));
    assert_eq!(counts(&http, "keys", "s").await.unwrap()["queued"], 4);

    let document = body(JSON, &[job(0), job(1)]);
    let headers = [("content-type", JSON), ("idempotency-key", "k-2")];
    let path = "/api/v1/queues/keys/jobs?jobSet=d";
    let one = all_ids(JSON, &post(&http, path, &headers, document.clone()).await);
    assert_eq!(one, all_ids(JSON, &post(&other, path, &headers, document).await));
    assert_eq!(counts(&http, "keys", "d").await.unwrap()["queued"], 2);
}

pub(crate) async fn a_client_id_stands_for_one_job_of_its_queue(site: &Site) {
    let http = http(site);
    cordoned(&http, "client-ids").await;
    cordoned(&http, "client-ids-too").await;
    let named = |name: &str| with(job(0), json!({ "clientId": name }));
    let jobs = [named("a"), named("b"), named("a")];
    let first = submitted(&http, "client-ids", "s", &jobs).await;
    assert_eq!(first[0], first[2]);
    assert_ne!(first[0], first[1]);
    let again = submitted(&http, "client-ids", "other", &[named("b"), named("c")]).await;
    assert_eq!(again[0], first[1]);
    let elsewhere = submitted(&http, "client-ids-too", "s", &[named("a")]).await;
    assert_ne!(elsewhere[0], first[0]);
    assert_eq!(counts(&http, "client-ids", "s").await.unwrap()["queued"], 2);
    assert_eq!(shown(&http, &first[1]).await["clientId"], "b");
}
