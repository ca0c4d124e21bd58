//! Every limit that can be reached over HTTP in reasonable time: taken at it, refused one past it.

use std::time::Duration;

use muster_client::{Compression, compress};
use muster_core::limits;
use muster_runtime::clock::Clock;
use muster_tests::http::{Answer, Http};
use muster_tests::site::Site;
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{NDJSON, WAIT, cordoned, counts, http, ids, job, post_lines, with};

/// The default of `gateway.header_timeout`, below which no site is.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// What sites have, and some more.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(60);

/// What became of one job: its id or the code of its refusal.
async fn outcome(http: &Http, job: &Value) -> String {
    outcome_of_line(http, job.to_string()).await
}

async fn outcome_of_line(http: &Http, line: String) -> String {
    let answer = post_lines(http, "limits", "s", &[], line).await.lines().unwrap().remove(0);
    match answer["jobId"].as_str() {
        Some(_) => "taken".to_owned(),
        None => answer["error"]["code"].as_str().unwrap().to_owned(),
    }
}

/// A job of so many bytes.
fn sized(bytes: usize) -> String {
    let empty = r#"{"podSpec":{"containers":[{"image":""}]}}"#;
    let filler = "x".repeat(bytes - empty.len());
    empty.replace(r#""image":"""#, &format!(r#""image":"{filler}""#))
}

fn object(entries: usize, entry: impl Fn(usize) -> (String, Value)) -> Value {
    Value::Object((0..entries).map(entry).collect::<Map<_, _>>())
}

pub(crate) async fn a_job_is_taken_at_each_limit_and_refused_one_past_it(site: &Site) {
    let http = http(site);
    cordoned(&http, "limits").await;
    let spec = |fields: Value| {
        let mut job = job(0);
        job["podSpec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        job
    };
    let resources = |count: usize| {
        let mut job = job(0);
        // Two more are there already.
        let requests = object(count - 2, |n| (format!("example.com/r{n}"), json!("1")));
        let all = &mut job["podSpec"]["containers"][0]["resources"]["requests"];
        all.as_object_mut().unwrap().extend(requests.as_object().unwrap().clone());
        job
    };
    let selector =
        |count| spec(json!({ "nodeSelector": object(count, |n| (format!("l{n}"), json!("")))}));
    let tolerations = |count| {
        let all: Vec<_> = (0..count).map(|n| json!({ "key": format!("k{n}") })).collect();
        spec(json!({ "tolerations": all }))
    };
    let grace = |seconds| spec(json!({ "terminationGracePeriodSeconds": seconds }));
    let client_id = |bytes| with(job(0), json!({ "clientId": "c".repeat(bytes) }));
    let count = |count| with(job(0), json!({ "count": count }));
    let cases: Vec<(&str, Value, Value)> = vec![
        (
            "resources",
            resources(limits::RESOURCES_PER_JOB_MAX),
            resources(limits::RESOURCES_PER_JOB_MAX + 1),
        ),
        ("selector", selector(limits::NODE_SELECTOR_MAX), selector(limits::NODE_SELECTOR_MAX + 1)),
        (
            "tolerations",
            tolerations(limits::TOLERATIONS_MAX),
            tolerations(limits::TOLERATIONS_MAX + 1),
        ),
        (
            "grace",
            grace(limits::GRACE_PERIOD_SECONDS_MAX),
            grace(limits::GRACE_PERIOD_SECONDS_MAX + 1),
        ),
        (
            "client id",
            client_id(limits::CLIENT_ID_BYTES_MAX),
            client_id(limits::CLIENT_ID_BYTES_MAX + 1),
        ),
        ("count", count(limits::ARRAY_COUNT_MAX), count(limits::ARRAY_COUNT_MAX + 1)),
        ("no tasks", count(1), count(0)),
        (
            "deadline",
            spec(json!({ "activeDeadlineSeconds": 1 })),
            spec(json!({ "activeDeadlineSeconds": 0 })),
        ),
    ];
    for (what, at, past) in cases {
        assert_eq!(outcome(&http, &at).await, "taken", "{what} at its limit");
        assert_eq!(outcome(&http, &past).await, "invalid_job", "{what} past its limit");
    }

    assert_eq!(outcome_of_line(&http, sized(limits::JOB_BYTES_MAX)).await, "taken");
    assert_eq!(outcome_of_line(&http, sized(limits::JOB_BYTES_MAX + 1)).await, "payload_too_large");
    let padded = |bytes: usize| {
        let job = sized(limits::JOB_BYTES_MAX);
        " ".repeat(bytes - job.len()) + &job
    };
    assert_eq!(outcome_of_line(&http, padded(limits::LINE_BYTES_MAX)).await, "taken");
    // What follows a line that is too long is read as if nothing had been.
    let text = format!("{}\n{}\n", padded(limits::LINE_BYTES_MAX + 1), job(0));
    let answer = post_lines(&http, "limits", "s", &[], text).await;
    assert_eq!(answer.lines().unwrap()[0]["error"]["code"], "payload_too_large");
    assert_eq!(ids(&answer).len(), 1);
    // Left as they are: cancelled, each task of the large array would become a row of the history.
}

pub(crate) async fn names_and_keys_are_taken_at_their_limits(site: &Site) {
    let http = http(site);
    cordoned(&http, "limits-names").await;
    let name = |bytes: usize| format!("/api/v1/queues/{}", "q".repeat(bytes));
    let status = |answer: Answer| (answer.status, answer.problem().1);
    let put = async |path: String, body: Value| status(http.put(&path, &body).await.unwrap());
    let (ok, bad) = ((200, String::new()), (400, "bad_request".to_owned()));
    assert_eq!(put(name(limits::QUEUE_NAME_BYTES_MAX), json!({ "cordoned": true })).await, ok);
    assert_eq!(put(name(limits::QUEUE_NAME_BYTES_MAX + 1), json!({})).await, bad);
    let labelled = |count| json!({ "labels": object(count, |n| (format!("l{n}"), json!("v"))) });
    let path = || "/api/v1/queues/limits-labels".to_owned();
    assert_eq!(put(path(), labelled(limits::QUEUE_LABELS_MAX)).await, ok);
    assert_eq!(put(path(), labelled(limits::QUEUE_LABELS_MAX + 1)).await, bad);
    for (weight, expected) in [(0.001, &ok), (1e6, &ok), (0.0004, &bad), (1_000_001.0, &bad)] {
        assert_eq!(put(path(), json!({ "weight": weight })).await, *expected, "{weight}");
    }

    let submit = async |job_set: &str, key: &str| {
        let path = format!("/api/v1/queues/limits-names/jobs?jobSet={job_set}");
        let headers = [("content-type", NDJSON), ("idempotency-key", key)];
        status(http.send(Method::POST, &path, &headers, job(0).to_string()).await.unwrap())
    };
    let long = |bytes: usize| "s".repeat(bytes);
    let set = long(limits::JOB_SET_NAME_BYTES_MAX);
    assert_eq!(submit(&set, "k").await, ok);
    assert_eq!(counts(&http, "limits-names", &set).await.unwrap()["queued"], 1);
    assert_eq!(submit(&long(limits::JOB_SET_NAME_BYTES_MAX + 1), "k").await, bad);
    assert_eq!(submit("s", &long(limits::IDEMPOTENCY_KEY_BYTES_MAX)).await, ok);
    assert_eq!(submit("s", &long(limits::IDEMPOTENCY_KEY_BYTES_MAX + 1)).await, bad);
    let cancel = async |reason: usize| {
        let body = json!({ "queue": "limits-names", "jobSet": "s", "reason": long(reason) });
        status(http.post("/api/v1/cancel", &body).await.unwrap())
    };
    assert_eq!(cancel(limits::REASON_BYTES_MAX).await, ok);
    assert_eq!(cancel(limits::REASON_BYTES_MAX + 1).await, bad);
}

pub(crate) async fn a_document_and_a_page_hold_ten_thousand_jobs(site: &Site) {
    let http = http(site);
    cordoned(&http, "limits-page").await;
    let job: Value = json!({ "podSpec": { "containers": [{}] } });
    let path = "/api/v1/queues/limits-page/jobs?jobSet=s";
    let of = |jobs: usize| json!({ "jobs": vec![job.clone(); jobs] });
    let past = http.post(path, &of(limits::JOBS_PER_JSON_MAX + 1)).await.unwrap();
    assert_eq!(past.problem(), (413, "payload_too_large".into()));
    let taken = http.post(path, &of(limits::JOBS_PER_JSON_MAX)).await.unwrap();
    let taken = super::column(taken.json()["jobs"].as_array().unwrap(), "jobId");
    assert_eq!(taken.len(), limits::JOBS_PER_JSON_MAX);

    // A page of that size is more than the bus carries at once.
    let list = |limit: usize| format!("/api/v1/jobs?queue=limits-page&limit={limit}");
    let page = http.get(&list(limits::PAGE_SIZE_MAX)).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.text());
    let page = page.json();
    assert_eq!(super::column(page["jobs"].as_array().unwrap(), "jobId"), taken);
    assert!(page["cursor"].is_null(), "{}", page["cursor"]);
    for bad in [0, limits::PAGE_SIZE_MAX + 1] {
        assert_eq!(http.get(&list(bad)).await.unwrap().problem(), (400, "bad_request".into()));
    }
    let default = http.get("/api/v1/jobs?queue=limits-page").await.unwrap().json();
    assert_eq!(default["jobs"].as_array().unwrap().len(), limits::PAGE_SIZE_DEFAULT);

    let named = |ids: &[String]| json!({ "jobIds": ids, "priority": 5 });
    let all = http.post("/api/v1/reprioritize", &named(&taken)).await.unwrap();
    assert_eq!(all.json()["changed"], limits::IDS_PER_REQUEST_MAX, "{}", all.text());
    let more = [&taken[..], &taken[..1]].concat();
    let past = http.post("/api/v1/reprioritize", &named(&more)).await.unwrap();
    assert_eq!(past.problem(), (413, "payload_too_large".into()));
    let cancel = json!({ "queue": "limits-page", "jobSet": "s" });
    assert_eq!(http.post("/api/v1/cancel", &cancel).await.unwrap().json()["changed"], 10_000);
    let finished =
        http.get(&format!("{}&state=cancelled", list(limits::PAGE_SIZE_MAX))).await.unwrap();
    assert_eq!(finished.json()["jobs"].as_array().unwrap().len(), limits::PAGE_SIZE_MAX);
}

pub(crate) async fn a_page_of_job_sets_with_long_names_comes_whole(site: &Site) {
    let http = http(site);
    cordoned(&http, "limits-sets").await;
    let name = |n: usize| format!("{n:04}{}", "é".repeat(limits::JOB_SET_NAME_BYTES_MAX / 2 - 2));
    let line = job(0).to_string();
    // More than a mebibyte of names.
    let sets = 1_100;
    let submissions = (0..sets).map(|n| {
        let path = format!("/api/v1/queues/limits-sets/jobs?jobSet={}", name(n));
        let (http, line) = (http.clone(), line.clone());
        async move { http.send(Method::POST, &path, &[("content-type", NDJSON)], line).await }
    });
    let submissions = futures::stream::iter(submissions);
    let answers: Vec<_> =
        futures::StreamExt::collect(futures::StreamExt::buffered(submissions, 32)).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().status == 200));
    let path = format!("/api/v1/queues/limits-sets/job-sets?limit={}", limits::PAGE_SIZE_MAX);
    let page = http.get(&path).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.text());
    let page = page.json();
    let found = super::column(page["jobSets"].as_array().unwrap(), "jobSet");
    assert_eq!(found, (0..sets).map(name).collect::<Vec<_>>());
    assert!(page["cursor"].is_null());
}

pub(crate) async fn bodies_are_read_up_to_their_limits(site: &Site) {
    let http = http(site);
    cordoned(&http, "limits-body").await;
    let document = |bytes: usize| {
        let text = json!({ "jobs": [job(0)] }).to_string();
        let padding = " ".repeat(bytes - text.len());
        padding + &text
    };
    let path = "/api/v1/queues/limits-body/jobs?jobSet=s";
    let headers = [("content-type", "application/json")];
    let at = document(limits::JSON_BODY_BYTES_MAX);
    let taken = http.send(Method::POST, path, &headers, at).await.unwrap();
    assert_eq!(taken.status, 200, "{}", taken.text());
    // What counts is what comes out of the compression.
    let past = document(limits::JSON_BODY_BYTES_MAX + 1);
    let small = compress(past.as_bytes(), Compression::Zstd).await.unwrap();
    assert!(small.len() < 100_000);
    let headers = [("content-type", "application/json"), ("content-encoding", "zstd")];
    let refused = http.send(Method::POST, path, &headers, small).await.unwrap();
    assert_eq!(refused.problem(), (413, "payload_too_large".into()));

    // Of lines, empty ones count as well.
    let lines = |count: u64| {
        let empty = "\n".repeat(usize::try_from(count - 1).unwrap());
        empty + &job(0).to_string()
    };
    let headers = [("content-type", NDJSON), ("content-encoding", "zstd")];
    for (count, accepted) in
        [(limits::JOBS_PER_REQUEST_MAX, 1), (limits::JOBS_PER_REQUEST_MAX + 1, 0)]
    {
        let body = compress(lines(count).as_bytes(), Compression::Zstd).await.unwrap();
        let path = format!("{path}&ids=none");
        let answer = http.send(Method::POST, &path, &headers, body).await.unwrap().json();
        assert_eq!(answer["accepted"], accepted, "{answer}");
        if accepted == 0 {
            assert_eq!(answer["errors"][0]["error"]["code"], "payload_too_large", "{answer}");
        }
    }
    assert_eq!(counts(&http, "limits-body", "s").await.unwrap()["queued"], 2);
    let long = json!({ "jobIds": ["x".repeat(2 * 1024 * 1024)] });
    let refused = http.post("/api/v1/cancel", &long).await.unwrap();
    assert_eq!(refused.problem(), (413, "payload_too_large".into()));
}

pub(crate) async fn a_client_that_sends_half_its_headers_is_cut_off(site: &Site) {
    let http = http(site);
    let address = site.url().replace("http://", "");
    let clock = Clock::system();
    // The gateway counts from when it has the connection, however late it is written to here.
    let began = clock.monotonic();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
    let mut rest = Vec::new();
    let cut_off = async {
        // Closed or reset: either way it is over.
        let _ = tokio::time::timeout(CUT_OFF_WITHIN, stream.read_to_end(&mut rest))
            .await
            .expect("it is cut off");
        clock.monotonic() - began
    };
    let served = async {
        for _ in 0..5 {
            assert_eq!(http.get("/health/live").await.unwrap().status, 200);
        }
    };
    let (after, ()) = tokio::join!(cut_off, served);
    assert!(after >= HEADER_TIMEOUT, "not before its time: {after:?}");
    // Nothing was answered as if it had been a request.
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    let mut whole = TcpStream::connect(&address).await.unwrap();
    whole
        .write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    rest.clear();
    tokio::time::timeout(WAIT, whole.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200"));
}
