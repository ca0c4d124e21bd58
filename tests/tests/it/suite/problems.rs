//! What is refused, with which status and code: every refusal is a problem document.

use muster_tests::site::Site;
use reqwest::Method;

use super::{NDJSON, cordoned, http, job};

/// Method, path, content type, body, status, code.
type Case = (Method, &'static str, &'static str, &'static str, u16, &'static str);

const JSON: &str = "application/json";
const ARROW: &str = "application/vnd.apache.arrow.stream";

fn cases() -> Vec<Case> {
    let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
    let bad = "bad_request";
    vec![
        (get.clone(), "/", "", "", 404, "not_found"),
        (get.clone(), "/api/v2/queues", "", "", 404, "not_found"),
        (Method::PATCH, "/api/v1/queues/bad", "", "", 405, "method_not_allowed"),
        (Method::DELETE, "/api/v1/jobs", "", "", 405, "method_not_allowed"),
        (put.clone(), "/api/v1/queues/a%20b", JSON, "{}", 400, bad),
        (put.clone(), "/api/v1/queues/-a", JSON, "{}", 400, bad),
        (put.clone(), "/api/v1/queues/a%2F%2Fb", JSON, "{}", 400, bad),
        (put.clone(), "/api/v1/queues/bad", JSON, "{\"weight\":0}", 400, bad),
        (put.clone(), "/api/v1/queues/bad", JSON, "{\"weight\":-1}", 400, bad),
        (put.clone(), "/api/v1/queues/bad", JSON, "{\"weight\":\"1\"}", 400, bad),
        (put.clone(), "/api/v1/queues/bad", JSON, "{\"wait\":1}", 400, bad),
        (put.clone(), "/api/v1/queues/bad", JSON, "{\"labels\":{\"a\":1}}", 400, bad),
        (put, "/api/v1/queues/bad", JSON, "", 400, bad),
        (post.clone(), "/api/v1/queues/nobody/jobs?jobSet=s", NDJSON, "{}", 404, "queue_not_found"),
        (post.clone(), "/api/v1/queues/bad/jobs", NDJSON, "{}", 400, bad),
        (post.clone(), "/api/v1/queues/bad/jobs?jobSet=", NDJSON, "{}", 400, bad),
        (post.clone(), "/api/v1/queues/bad/jobs?jobSet=a%00b", NDJSON, "{}", 400, bad),
        (post.clone(), "/api/v1/queues/bad/jobs?jobSet=s&ids=some", NDJSON, "{}", 400, bad),
        (post.clone(), "/api/v1/queues/bad/jobs?jobset=s", NDJSON, "{}", 400, bad),
        (
            post.clone(),
            "/api/v1/queues/bad/jobs?jobSet=s",
            "text/plain",
            "{}",
            415,
            "unsupported_media_type",
        ),
        (post.clone(), "/api/v1/queues/bad/jobs?jobSet=s", "", "{}", 415, "unsupported_media_type"),
        (post.clone(), "/api/v1/queues/bad/jobs?jobSet=s", JSON, "{\"jobs\":[]}", 400, bad),
        (post.clone(), "/api/v1/queues/bad/jobs?jobSet=s", JSON, "{\"jobs\":{}}", 400, bad),
        (post.clone(), "/api/v1/queues/bad/jobs?jobSet=s", JSON, "{\"job\":[{}]}", 400, bad),
        (
            post.clone(),
            "/api/v1/queues/bad/jobs?jobSet=s",
            JSON,
            "{\"jobs\":[{}]}",
            400,
            "invalid_job",
        ),
        (get.clone(), "/api/v1/jobs/nonsense", "", "", 404, "not_found"),
        (get.clone(), "/api/v1/jobs/01m85475ba001k7j7xtxrfrqf3", "", "", 404, "not_found"),
        (get.clone(), "/api/v1/jobs/01m85475ba001k7j7xtxrfrqf3/logs", "", "", 404, "not_found"),
        (get.clone(), "/api/v1/jobs?limit=x", "", "", 400, bad),
        (get.clone(), "/api/v1/jobs?limit=-1", "", "", 400, bad),
        (get.clone(), "/api/v1/jobs?cursor=x", "", "", 400, bad),
        (get.clone(), "/api/v1/jobs?state=asleep", "", "", 400, bad),
        (get.clone(), "/api/v1/jobs?jobSet=s", "", "", 400, bad),
        (get.clone(), "/api/v1/jobs?colour=red", "", "", 400, bad),
        (get.clone(), "/api/v1/queues/bad/job-sets/none", "", "", 404, "not_found"),
        (get.clone(), "/api/v1/queues/bad/job-sets/s/events?after=x", "", "", 400, bad),
        (get, "/api/v1/queues/bad/job-sets/s/events?watch=maybe", "", "", 400, bad),
        (post.clone(), "/api/v1/cancel", JSON, "{}", 400, bad),
        (post.clone(), "/api/v1/cancel", JSON, "[]", 400, bad),
        (post.clone(), "/api/v1/cancel", JSON, "{\"queue\":\"bad\"}", 400, bad),
        (post.clone(), "/api/v1/cancel", JSON, "{\"jobIds\":[\"x\"]}", 400, bad),
        (
            post.clone(),
            "/api/v1/cancel",
            JSON,
            "{\"queue\":\"bad\",\"jobSet\":\"s\",\"states\":[\"x\"]}",
            400,
            bad,
        ),
        (
            post.clone(),
            "/api/v1/cancel",
            JSON,
            "{\"queue\":\"bad\",\"jobSet\":\"s\",\"jobIds\":[\"x\"]}",
            400,
            bad,
        ),
        (
            post.clone(),
            "/api/v1/reprioritize",
            JSON,
            "{\"queue\":\"bad\",\"jobSet\":\"s\"}",
            400,
            bad,
        ),
        (
            post,
            "/api/v1/reprioritize",
            JSON,
            "{\"queue\":\"bad\",\"jobSet\":\"s\",\"priority\":-1}",
            400,
            bad,
        ),
    ]
}

pub(crate) async fn what_is_wrong_is_a_problem_with_a_code(site: &Site) {
    let http = http(site);
    cordoned(&http, "bad").await;
    let mut wrong = Vec::new();
    for (method, path, kind, body, status, code) in cases() {
        let headers = [("content-type", kind)];
        let headers = if kind.is_empty() { &headers[..0] } else { &headers[..] };
        let answer = http.send(method.clone(), path, headers, body).await.unwrap();
        let shown = answer.json();
        let is_whole = shown["status"] == status
            && ["title", "detail"].iter().all(|field| shown[field].is_string());
        if answer.problem() != (status, code.to_owned()) || !is_whole {
            wrong.push(format!("{method} {path} {body}: {} {}", answer.status, answer.text()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Nothing of it has left a trace.
    let sets = http.get("/api/v1/queues/bad/job-sets").await.unwrap().json();
    assert_eq!(sets["jobSets"].as_array().unwrap().len(), 0);
}

pub(crate) async fn a_body_that_is_no_stream_of_columns_is_refused(site: &Site) {
    let http = http(site);
    cordoned(&http, "bad-columns").await;
    let path = "/api/v1/queues/bad-columns/jobs?jobSet=s";
    let headers = [("content-type", ARROW)];
    let whole = {
        let mut writer = muster_api::batch::public::Writer::new();
        let spec = job(0)["podSpec"].to_string();
        writer.push(&muster_api::batch::public::Row { pod_spec: &spec, ..Default::default() });
        writer.finish()
    };
    for body in [b"nonsense".to_vec(), whole[..whole.len() / 2].to_vec()] {
        let answer = http.send(Method::POST, path, &headers, body).await.unwrap();
        assert!(answer.text().contains("\"bad_request\""), "{}", answer.text());
    }
    let headers = [("content-type", NDJSON), ("content-encoding", "br")];
    let answer = http.send(Method::POST, path, &headers, "{}").await.unwrap();
    assert_eq!(answer.problem(), (415, "unsupported_media_type".into()));
    let headers = [("content-type", NDJSON), ("content-encoding", "gzip")];
    let answer = http.send(Method::POST, path, &headers, "this is not gzip").await.unwrap();
    assert!(answer.text().contains("\"bad_request\""), "{}", answer.text());
}
