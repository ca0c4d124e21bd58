//! Submissions: lines, limits, answers in order, keys, bodies that break off.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use hyper::StatusCode;
use muster_api::batch::public::{Row, Writer};
use muster_api::bus::{ShardReply, ShardRequest, subject};
use muster_api::http::{ErrorCode, Problem};
use muster_core::control::Control;
use muster_core::id::ShardId;
use muster_core::limits::{
    BODY_BYTES_MAX, JOBS_PER_COMMAND_MAX, JOBS_PER_JSON_MAX, JSON_BODY_BYTES_MAX,
};
use muster_core::route::shard_of_queue;
use muster_gateway::Config;
use muster_runtime::Random;
use muster_runtime::config::{ByteSize, HumanDuration};
use muster_runtime::store::control::ControlStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Harness, Script, gzip, id, take, zstd};

const LINES: &str = "application/x-ndjson";
const JOB: &str = r#"{"podSpec":{"containers":[{}]}}"#;
const URL: &str = "/api/v1/queues/a/jobs?jobSet=s";

fn shard() -> u16 {
    shard_of_queue("a", 4).0
}

#[tokio::test]
async fn every_line_is_answered_in_order_and_good_ones_stand() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    let got = harness.post(URL, LINES, format!("{JOB}\n\nnot a job\n{JOB}")).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.headers["content-type"], LINES);
    let lines = got.lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["jobId"], id(shard(), 0).to_string());
    assert_eq!(lines[1]["error"]["code"], "invalid_job");
    assert_eq!(lines[2]["jobId"], id(shard(), 3).to_string());
    assert_eq!(harness.submitted().iter().map(|job| job.line).collect::<Vec<_>>(), [0, 3]);
}

#[tokio::test]
async fn a_summary_counts_and_lists_refusals() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    let body = format!("{}nonsense\n", format!("{JOB}\n").repeat(5000));
    let got = harness.post(&format!("{URL}&ids=none"), LINES, body).await;
    let summary = got.json();
    assert_eq!((&summary["accepted"], &summary["rejected"]), (&5000.into(), &1.into()));
    assert_eq!(summary["errors"][0]["line"], 5001);
    assert!(harness.seen().len() >= 2, "a command has a limit");
    assert_eq!(harness.submitted().len(), 5000);
    let metrics = harness.get("/metrics").await;
    for expected in
        ["muster_gateway_jobs_accepted_total 5000", "muster_gateway_jobs_rejected_total 1"]
    {
        assert!(metrics.text().contains(expected), "{}", metrics.text());
    }
}

#[tokio::test]
async fn a_summary_always_tells_of_an_error_that_passes() {
    // A client that does not hear of it takes the rest for kept.
    let script = |_: u16, _: &ShardRequest| {
        Some(ShardReply::Error(Problem::new(ErrorCode::Unavailable, "moving")))
    };
    let write_timeout = HumanDuration::millis(150);
    let config = Config { write_timeout, ..Config::default() };
    let harness = Harness::with(config, Arc::new(script)).await;
    harness.queue("a").await;
    // So many that they are answered before the job behind them, and more than are listed.
    let body = format!("{}{JOB}\n", "nonsense\n".repeat(JOBS_PER_COMMAND_MAX));
    let summary = harness.post(&format!("{URL}&ids=none"), LINES, body).await.json();
    assert_eq!(summary["rejected"], JOBS_PER_COMMAND_MAX + 1, "{summary}");
    let last = summary["errors"].as_array().unwrap().last().unwrap();
    assert_eq!(last["line"], JOBS_PER_COMMAND_MAX + 1, "{last}");
    assert_eq!(last["error"]["code"], "unavailable", "{last}");
}

#[tokio::test]
async fn compressed_bodies_are_read() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    let body = format!("{JOB}\n").repeat(3);
    for (coding, bytes) in [("gzip", gzip(&body)), ("zstd", zstd(&body))] {
        let headers = [("content-type", LINES), ("content-encoding", coding)];
        let got = harness.send("POST", URL, &headers, bytes.clone()).await;
        assert_eq!(got.lines().len(), 3, "{coding}");
        // Half of it: an error, whatever else.
        let got = harness.send("POST", URL, &headers, bytes[..bytes.len() / 2].to_vec()).await;
        assert!(got.text().contains("cannot be read to its end"), "{coding}: {}", got.text());
    }
    let headers = [("content-type", LINES), ("content-encoding", "br")];
    let got = harness.send("POST", URL, &headers, "").await;
    assert_eq!(got.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_body_that_is_cut_leaves_its_whole_lines_and_nothing_of_the_half_one() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    let mut stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
    let head = format!(
        "POST {URL} HTTP/1.1\r\nhost: x\r\ncontent-type: {LINES}\r\ncontent-length: 100000\r\n\r\n"
    );
    // The half line would be a job of its own.
    stream.write_all(format!("{head}{JOB}\n{JOB}\n{JOB}").as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(stream);
    harness.cancel.cancel();
    harness.tasks.shutdown(std::time::Duration::from_secs(10)).await.unwrap();
    assert_eq!(harness.submitted().len(), 2);
}

#[tokio::test]
async fn a_document_is_taken_whole_or_not_at_all() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    let url = "/api/v1/queues/a/jobs";
    let of = |jobs: &str| format!(r#"{{"jobSet":"s","jobs":[{jobs}]}}"#);
    let got = harness.post(url, "application/json", of(&format!("{JOB},{JOB}"))).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.text());
    assert_eq!(got.json()["jobs"][1]["jobId"], id(shard(), 1).to_string());
    let summary = format!("{url}?ids=none");
    let got = harness.post(&summary, "application/json", of(&format!("{JOB},{JOB}"))).await;
    assert_eq!(got.text(), r#"{"accepted":2,"rejected":0}"#);
    let got = harness.post(url, "application/json", of(&format!("{JOB},{{}}"))).await;
    assert_eq!((got.status, &*got.code()), (StatusCode::BAD_REQUEST, "invalid_job"));
    assert_eq!(got.json()["detail"], "jobs[1]: podSpec: a job has one");
    assert_eq!(harness.submitted().len(), 4);
    assert_eq!(harness.post(url, "application/json", of("")).await.code(), "bad_request");
}

#[tokio::test]
async fn a_document_is_taken_at_the_limits_and_refused_one_past_them() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    let of = |jobs: usize| format!(r#"{{"jobs":[{}]}}"#, vec![JOB; jobs].join(","));
    let got = harness.post(URL, "application/json", of(JOBS_PER_JSON_MAX)).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.text());
    assert_eq!(got.json()["jobs"].as_array().unwrap().len(), JOBS_PER_JSON_MAX);
    let got = harness.post(URL, "application/json", of(JOBS_PER_JSON_MAX + 1)).await;
    assert_eq!((got.status, &*got.code()), (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"));
    let got = harness.post(URL, "application/json", " ".repeat(JSON_BODY_BYTES_MAX + 1)).await;
    assert_eq!(got.code(), "payload_too_large");
    // More than the bus carries at once.
    let big = format!(r#"{{"podSpec":{{"containers":[{{"args":["{}"]}}]}}}}"#, "x".repeat(60_000));
    let body = format!(r#"{{"jobs":[{}]}}"#, vec![big; 20].join(","));
    let got = harness.post(URL, "application/json", body).await;
    assert_eq!(got.code(), "payload_too_large");
    assert!(got.text().contains("all or nothing"), "{}", got.text());
}

/// Sends so many bytes of a JSON body of 64 MiB and no more; gives the status when one comes.
async fn sent_in_part(harness: &Harness, kind: &str, part: &[u8]) -> String {
    let stream = TcpStream::connect(harness.address).await.unwrap();
    let (mut answers, mut requests) = stream.into_split();
    let head = format!(
        "POST {URL} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n\
         content-length: {JSON_BODY_BYTES_MAX}\r\n\r\n"
    );
    let send = async {
        requests.write_all(head.as_bytes()).await.unwrap();
        // An answer before the end of the body may end the connection.
        let _ = requests.write_all(part).await;
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let refused = async {
        while !String::from_utf8_lossy(&answer).contains("overloaded") {
            assert!(answers.read_buf(&mut answer).await.unwrap() > 0, "it ended");
        }
    };
    tokio::select! {
        () = send => {}
        () = refused => {}
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn bodies_held_whole_count_as_they_come_and_never_block_each_other_for_good() {
    const PART: usize = 7 * 1024 * 1024;
    let config = Config { submit_bytes_max: ByteSize::mib(16), ..Config::default() };
    let harness =
        Harness::with(config, Arc::new(|shard, request| Some(take(shard, request)))).await;
    harness.queue("a").await;
    // Two that together want more than there is, and of which none comes to its end.
    let part = " ".repeat(PART);
    let json = "application/json";
    let answer = tokio::select! {
        answer = sent_in_part(&harness, json, part.as_bytes()) => answer,
        answer = sent_in_part(&harness, json, part.as_bytes()) => answer,
    };
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    // What they held is free again.
    let body = format!("{part}{{\"jobs\":[{JOB}]}}");
    let got = harness.post(URL, json, body).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.text());
}

#[tokio::test]
async fn batches_of_columns_count_as_they_come_and_never_block_each_other_for_good() {
    let config = Config { submit_bytes_max: ByteSize::mib(16), ..Config::default() };
    let harness =
        Harness::with(config, Arc::new(|shard, request| Some(take(shard, request)))).await;
    harness.queue("a").await;
    let spec = format!("{{\"containers\":[{{\"name\":\"{}\"}}]}}", "m".repeat(50_000));
    let mut rows = Writer::new();
    (0..400).for_each(|_| rows.push(&Row { pod_spec: &spec, ..Row::default() }));
    let batch = rows.finish();
    // Of one batch, without its end.
    let part = &batch[..12 * 1024 * 1024];
    let arrow = "application/vnd.apache.arrow.stream";
    let answer = tokio::select! {
        answer = sent_in_part(&harness, arrow, part) => answer,
        answer = sent_in_part(&harness, arrow, part) => answer,
    };
    // The answer has begun by then; its line says so.
    assert!(answer.contains("{\"error\":{\"code\":\"overloaded\""), "{answer}");
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_and_no_further() {
    const FRAME: u64 = 64 * 1024 * 1024;
    let harness = Harness::start().await;
    harness.queue("a").await;
    let last = format!("\n{JOB}\n");
    let frame = zstd(&"x".repeat(usize::try_from(FRAME).unwrap()));
    for (bytes, accepted) in [(BODY_BYTES_MAX, 1), (BODY_BYTES_MAX + 1, 0)] {
        // One long line, and a job behind it. Frames of zstd may follow each other.
        let long = bytes - last.len() as u64;
        let mut body = frame.repeat(usize::try_from(long / FRAME).unwrap());
        let rest = "x".repeat(usize::try_from(long % FRAME).unwrap());
        body.extend(zstd(&(rest + &last)));
        let headers = [("content-type", LINES), ("content-encoding", "zstd")];
        let url = format!("{URL}&ids=none");
        let summary = harness.send("POST", &url, &headers, body).await.json();
        assert_eq!(summary["accepted"], accepted, "{summary}");
        // The long line is refused in both; the body in one.
        let last = summary["errors"].as_array().unwrap().last().unwrap();
        assert_eq!(last["error"]["code"], "payload_too_large", "{summary}");
        let detail = last["error"]["detail"].as_str().unwrap();
        let is_refused = detail == "the body has more than 4294967296 bytes, which is the limit";
        assert_eq!(is_refused, accepted == 0, "{summary}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_submission_has_its_status() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    let cases = [
        ("/api/v1/queues/b/jobs?jobSet=s", LINES, 404, "queue_not_found"),
        ("/api/v1/queues/a/jobs", LINES, 400, "bad_request"),
        ("/api/v1/queues/a/jobs?jobSet=s&ids=some", LINES, 400, "bad_request"),
        ("/api/v1/queues/a/jobs?jobSet=s&x=y", LINES, 400, "bad_request"),
        (URL, "text/plain", 415, "unsupported_media_type"),
        (URL, "application/json", 400, "bad_request"),
    ];
    for (url, kind, status, code) in cases {
        let got = harness.post(url, kind, JOB).await;
        assert_eq!((got.status.as_u16(), &*got.code()), (status, code), "{url} {kind}");
        assert_eq!(got.headers["content-type"], "application/problem+json");
    }
    assert!(harness.submitted().is_empty());
}

#[tokio::test]
async fn a_shard_that_hears_badly_gets_the_same_command_again() {
    let deaf = AtomicU32::new(2);
    let script = move |shard: u16, request: &ShardRequest| {
        let is_deaf = deaf.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match is_deaf {
            Ok(_) => Some(ShardReply::Error(Problem::new(ErrorCode::Unavailable, "moving"))),
            Err(_) => Some(take(shard, request)),
        }
    };
    let harness = Harness::with(Config::default(), Arc::new(script)).await;
    harness.queue("a").await;
    let headers = [("content-type", LINES), ("idempotency-key", "k")];
    let got = harness.send("POST", URL, &headers, JOB).await;
    assert_eq!(got.lines()[0]["jobId"], id(shard(), 0).to_string());
    let commands: Vec<_> = harness
        .seen()
        .into_iter()
        .map(|(_, request)| match request {
            ShardRequest::Submit(submit) => (submit.command, submit.key),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(commands.len(), 3);
    assert!(commands.iter().all(|command| *command == commands[0] && command.1.is_some()));
}

#[tokio::test]
async fn a_command_that_an_owner_took_to_its_sleep_goes_to_the_next_one() {
    // Sooner than a request without an answer is sent again for that alone.
    let config = Config { write_timeout: HumanDuration::secs(9), ..Config::default() };
    let is_asleep = Arc::new(AtomicBool::new(true));
    let sleeps = Arc::clone(&is_asleep);
    let script = move |shard: u16, request: &ShardRequest| {
        (!sleeps.load(Ordering::SeqCst)).then(|| take(shard, request))
    };
    let harness = Harness::with(config, Arc::new(script)).await;
    harness.queue("a").await;
    let moving = async {
        while harness.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        is_asleep.store(false, Ordering::SeqCst);
        let owner = subject::owner(ShardId(shard()));
        harness.bus.publish(&owner, Bytes::new()).await.unwrap();
    };
    let (got, ()) = tokio::join!(harness.post(URL, LINES, JOB), moving);
    assert_eq!(got.lines()[0]["jobId"], id(shard(), 0).to_string(), "{}", got.text());
    let command = |(_, request): (u16, ShardRequest)| match request {
        ShardRequest::Submit(submit) => submit.command,
        other => panic!("{other:?}"),
    };
    let commands: Vec<_> = harness.seen().into_iter().map(command).collect();
    assert_eq!(commands, [commands[0]; 2]);
}

/// A shard that closed every incarnation of the queue below this one.
fn closed_below(incarnation: u64) -> Script {
    Arc::new(move |shard, request| match request {
        ShardRequest::Submit(submit) if submit.incarnation < incarnation => {
            Some(ShardReply::Error(Problem::new(ErrorCode::QueueNotFound, "deleted")))
        }
        other => Some(take(shard, other)),
    })
}

#[tokio::test]
async fn a_queue_made_anew_by_another_gateway_takes_jobs_at_once() {
    let harness = Harness::with(Config::default(), closed_below(3)).await;
    harness.queue("a").await;
    // Its word of the change does not arrive.
    let other = ControlStore::new(harness.store.clone(), Random::seeded(2));
    other.load_latest().await.unwrap();
    let queue = other.view().latest().queues["a"].clone();
    let deleted = |control: &Control| Ok::<_, Infallible>(control.without_queue("a").unwrap());
    other.change(deleted).await.unwrap();
    other.change(|control| control.with_queue("a", queue.clone())).await.unwrap();
    for _ in 0..2 {
        let got = harness.post(URL, LINES, JOB).await;
        assert_eq!(got.lines()[0]["jobId"], id(shard(), 0).to_string());
    }
    let incarnations = harness.seen().into_iter().map(|(_, request)| match request {
        ShardRequest::Submit(submit) => submit.incarnation,
        other => panic!("{other:?}"),
    });
    assert_eq!(incarnations.collect::<Vec<_>>(), [1, 3, 3]);
}

#[tokio::test]
async fn a_queue_whose_deletion_was_not_finished_is_gone_when_a_job_meets_it() {
    let harness = Harness::with(Config::default(), closed_below(u64::MAX)).await;
    harness.queue("a").await;
    let got = harness.post(URL, LINES, JOB).await;
    assert!(got.text().contains("queue_not_found"), "{}", got.text());
    let got = harness.get("/api/v1/queues/a").await;
    assert_eq!(got.status, StatusCode::NOT_FOUND, "{}", got.text());
}

#[tokio::test]
async fn a_shard_that_cannot_follow_makes_the_client_wait() {
    for (code, status) in [(ErrorCode::Unavailable, 503), (ErrorCode::Overloaded, 429)] {
        let config = Config { write_timeout: HumanDuration::millis(300), ..Config::default() };
        let script =
            move |_: u16, _: &ShardRequest| Some(ShardReply::Error(Problem::new(code, "later")));
        let harness = Harness::with(config, Arc::new(script)).await;
        harness.queue("a").await;
        for url in [URL.to_owned(), format!("{URL}&ids=none")] {
            let got = harness.post(&url, LINES, JOB).await;
            assert_eq!(got.status.as_u16(), status);
            assert_eq!(got.headers["retry-after"], "1");
        }
    }
}

#[tokio::test]
async fn too_many_submissions_at_once_are_refused() {
    let config = Config { submissions_max: 1, ..Config::default() };
    let harness =
        Harness::with(config, Arc::new(|shard, request| Some(take(shard, request)))).await;
    harness.queue("a").await;
    let mut stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
    let head = format!(
        "POST {URL} HTTP/1.1\r\nhost: x\r\ncontent-type: {LINES}\r\ncontent-length: 100000\r\n\r\n"
    );
    stream.write_all(format!("{head}{JOB}\n").as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    let got = harness.post(URL, LINES, JOB).await;
    assert_eq!((got.status.as_u16(), &*got.code()), (429, "overloaded"));
    assert_eq!(got.headers["retry-after"], "1");
}

/// Begins a submission, sends one job of it and nothing more; answers have begun.
async fn stalled(harness: &Harness) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
    let head = format!(
        "POST {URL} HTTP/1.1\r\nhost: x\r\ncontent-type: {LINES}\r\ncontent-length: 100000\r\n\r\n"
    );
    stream.write_all(format!("{head}{JOB}\n").as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

async fn rest(mut stream: tokio::net::TcpStream) -> String {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    String::from_utf8(rest).unwrap()
}

#[tokio::test]
async fn a_stalled_upload_does_not_keep_the_gateway_from_stopping() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    let stream = stalled(&harness).await;
    harness.cancel.cancel();
    let text = rest(stream).await;
    assert!(text.contains(&id(shard(), 0).to_string()), "{text}");
    assert!(text.contains(r#""code":"unavailable""#), "{text}");
    harness.tasks.shutdown(std::time::Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_client_that_sends_nothing_more_loses_its_place() {
    let body_timeout = HumanDuration::millis(300);
    let config = Config { submissions_max: 1, body_timeout, ..Config::default() };
    let harness =
        Harness::with(config, Arc::new(|shard, request| Some(take(shard, request)))).await;
    harness.queue("a").await;
    let text = rest(stalled(&harness).await).await;
    assert!(text.contains("nothing came for 300ms"), "{text}");
    assert_eq!(harness.post(URL, LINES, JOB).await.status, StatusCode::OK);
    assert_eq!(harness.submitted().len(), 2);
}

#[tokio::test]
async fn a_request_that_outlasts_the_time_to_drain_is_cut_off() {
    let drain_timeout = HumanDuration::millis(200);
    let read_timeout = HumanDuration::secs(60);
    let config = Config { drain_timeout, read_timeout, ..Config::default() };
    // The shard never answers.
    let harness = Harness::with(config, Arc::new(|_, _| None)).await;
    let mut stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
    let request = format!("GET /api/v1/jobs/{} HTTP/1.1\r\nhost: x\r\n\r\n", id(0, 0));
    stream.write_all(request.as_bytes()).await.unwrap();
    while harness.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    harness.cancel.cancel();
    harness.tasks.shutdown(std::time::Duration::from_secs(10)).await.unwrap();
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn an_array_in_place_of_an_object_is_refused() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    let got = harness.post(URL, "application/json", format!(r#" ["s",[{JOB}]]"#)).await;
    assert_eq!(&*got.code(), "bad_request");
    for settings in ["[]", "[5]"] {
        let got = harness.send("PUT", "/api/v1/queues/a", &[], settings).await;
        assert_eq!(&*got.code(), "bad_request", "{settings}");
    }
    assert!(harness.submitted().is_empty());
}

#[tokio::test]
async fn what_is_no_arrow_stream_is_refused() {
    let harness = Harness::start().await;
    harness.queue("a").await;
    let got = harness.post(URL, "application/vnd.apache.arrow.stream", vec![7; 100]).await;
    assert_eq!(got.lines()[0]["error"]["code"], "bad_request");
}
