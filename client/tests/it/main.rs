//! The client against a small server that loses, delays and refuses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod failover;
mod server;

use std::time::Duration;

use bytes::Bytes;
use muster_api::http::{ErrorCode, PriorityClassSettings, QueueSettings};
use muster_api::request::SubmitAnswer;
use muster_client::{
    Answers, Client, Compression, Error, Follow, Format, JobFilter, Options, Output, Selection,
    Submission, Submitted, compress,
};
use server::{Reply, Server};

fn client(server: &Server) -> Client {
    let delay_first = Duration::from_millis(1);
    let delay_max = Duration::from_millis(5);
    let options = Options { delay_first, delay_max, retries_max: 3, ..Options::default() };
    Client::new(&server.url, options).unwrap()
}

fn three_jobs() -> Submission {
    Submission {
        queue: "a".to_owned(),
        job_set: "s/1 ü".to_owned(),
        body: vec![Bytes::from_static(b"{}\n{}\n"), Bytes::from_static(b"{}\n")],
        ..Submission::default()
    }
}

const THREE_ANSWERS: &str = "{\"jobId\":\"1\"}\n\n{\"error\":{\"type\":\"about:blank\",\"title\":\"t\",\
     \"status\":400,\"code\":\"invalid_job\",\"detail\":\"no\"}}\r\n{\"jobId\":\"3\"}";

#[tokio::test]
async fn a_submission_is_sent_again_under_the_same_key_until_it_is_answered() {
    let server = Server::start(vec![
        Reply::problem(503, ErrorCode::Unavailable).header("retry-after", "0"),
        Reply::cut_off("{\"jobId\":\"1\"}\n"),
        Reply::ok(
            "{\"jobId\":\"1\"}\n{\"error\":{\"code\":\"overloaded\",\"detail\":\"later\"}}\n",
        ),
        Reply::ok(THREE_ANSWERS),
    ])
    .await;

    let submitted = client(&server).submit(&three_jobs()).await.unwrap();

    let Submitted::Each(answers) = submitted else { panic!("answers were asked for") };
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[2], SubmitAnswer::Accepted { job_id: "3".to_owned() });
    assert!(matches!(&answers[1],
        SubmitAnswer::Rejected { error } if error.code == ErrorCode::InvalidJob));
    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[0].target, "POST /api/v1/queues/a/jobs?jobSet=s%2F1+%C3%BC");
    assert_eq!(seen[0].body, b"{}\n{}\n{}\n");
    assert_eq!(seen[0].headers["content-type"], "application/x-ndjson");
    assert_eq!(seen[0].headers["idempotency-key"].len(), 32);
    for again in &seen[1..] {
        assert_eq!(again.headers["idempotency-key"], seen[0].headers["idempotency-key"]);
        assert_eq!(again.body, seen[0].body);
    }
}

#[tokio::test]
async fn a_refusal_is_not_repeated_and_keeps_its_code() {
    let server = Server::start(vec![Reply::problem(404, ErrorCode::QueueNotFound)]).await;
    let error = client(&server).submit(&three_jobs()).await.unwrap_err();
    assert!(error.is_not_found() && !error.is_unavailable());
    assert!(matches!(error, Error::Refused { problem, .. }
        if problem.code == ErrorCode::QueueNotFound));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn what_stays_unavailable_is_an_error_after_the_retries() {
    let overloaded = || Reply::problem(429, ErrorCode::Overloaded);
    let server = Server::start((0..9).map(|_| overloaded()).collect()).await;
    let error = client(&server).queues().await.unwrap_err();
    assert!(error.is_unavailable());
    assert_eq!(server.seen().len(), 4);

    let nobody =
        Client::new("http://127.0.0.1:1", Options { retries_max: 0, ..Options::default() });
    let error = nobody.unwrap().queues().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn compressed_bodies_summaries_and_arrow_say_what_they_are() {
    let server = Server::start(vec![Reply::ok("{\"accepted\":3,\"rejected\":0}")]).await;
    let body = b"{}\n".repeat(1000);
    for compression in [Compression::Gzip, Compression::Zstd] {
        assert!(compress(&body, compression).await.unwrap().len() < 100);
    }
    let submission = Submission {
        format: Format::Arrow,
        compression: Compression::Zstd,
        answers: Answers::Summary,
        key: Some("k".to_owned()),
        body: vec![compress(&body, Compression::Zstd).await.unwrap()],
        ..three_jobs()
    };
    let submitted = client(&server).submit(&submission).await.unwrap();
    assert!(matches!(submitted, Submitted::Summary(summary) if summary.accepted == 3));
    let seen = &server.seen()[0];
    assert!(seen.target.ends_with("&ids=none"));
    assert_eq!(seen.headers["content-encoding"], "zstd");
    assert_eq!(seen.headers["content-type"], "application/vnd.apache.arrow.stream");
    assert_eq!(seen.headers["idempotency-key"], "k");
}

#[tokio::test]
async fn a_stream_is_submitted_as_it_comes() {
    let server = Server::start(vec![Reply::ok(THREE_ANSWERS)]).await;
    let pieces =
        futures::stream::iter(vec![Ok(Bytes::from_static(b"{}\n")), Ok(Bytes::from("{}"))]);
    let submitted = client(&server).submit_stream(&three_jobs(), pieces).await.unwrap();
    assert!(matches!(submitted, Submitted::Each(answers) if answers.len() == 3));
    assert_eq!(server.seen()[0].body, b"{}\n{}");
    assert!(!server.seen()[0].headers.contains_key("idempotency-key"));
}

#[tokio::test]
async fn events_go_on_behind_the_last_one_after_a_lost_connection() {
    let event = |cursor: &str| {
        format!(
            "{{\"cursor\":\"{cursor}\",\"jobId\":\"j\",\"event\":\"running\",\
             \"at\":\"2026-01-01T00:00:00.000Z\"}}\n"
        )
    };
    let server = Server::start(vec![
        Reply::cut_off(&(event("1-0") + &event("1-1"))),
        Reply::problem(503, ErrorCode::Unavailable),
        Reply::ok("{\"cursor\":\"2-0\"}\n"),
        Reply::ok(&event("3-0")),
    ])
    .await;

    let mut events = client(&server).events("a", "s", None, Follow::Yes);
    for expected in ["1-0", "1-1", "3-0"] {
        assert_eq!(events.next().await.unwrap().unwrap().cursor, expected);
    }

    let targets: Vec<_> = server.seen().into_iter().map(|request| request.target).collect();
    let base = "GET /api/v1/queues/a/job-sets/s/events?watch=true";
    let expected =
        ["", "&after=1-1", "&after=1-1", "&after=2-0"].map(|rest| format!("{base}{rest}"));
    assert_eq!(targets, expected);
}

#[tokio::test]
async fn events_that_are_not_followed_end() {
    let server = Server::start(vec![Reply::ok("")]).await;
    let mut events = client(&server).events("a", "s", Some("1-1".to_owned()), Follow::No);
    assert_eq!(events.next().await.unwrap(), None);
    assert!(server.seen()[0].target.ends_with("watch=false&after=1-1"));
}

#[tokio::test]
async fn every_call_has_the_address_and_body_of_the_table() {
    let queue = "{\"name\":\"a\",\"weight\":2.0,\"labels\":{},\"cordoned\":false}";
    let class = "{\"name\":\"c\",\"priority\":1,\"preemptible\":true,\"builtIn\":false}";
    let set = "{\"queue\":\"a\",\"jobSet\":\"s\",\"counts\":{\"queued\":1}}";
    let applied = "{\"changed\":1,\"finished\":[],\"missing\":[]}";
    let server = Server::start(vec![
        Reply::ok(queue),
        Reply::ok(queue),
        Reply::ok("{\"queues\":[]}"),
        Reply::ok(""),
        Reply::ok("{\"priorityClasses\":[]}"),
        Reply::ok(class),
        Reply::ok(class),
        Reply::ok(""),
        Reply::ok(set),
        Reply::ok(&format!("{{\"jobSets\":[{set}]}}")),
        Reply::ok("{\"jobs\":[],\"cursor\":\"c\"}"),
        Reply::ok(applied),
        Reply::ok(applied),
        Reply::ok("{\"pools\":[]}"),
        Reply::ok("{\"clusters\":[]}"),
        Reply::ok("{\"cluster\":\"c\"}"),
        Reply::ok("{\"cluster\":\"c\",\"node\":\"n\"}"),
        Reply::ok(""),
        Reply::ok(""),
        Reply::ok(""),
        Reply::problem(404, ErrorCode::NotFound),
    ])
    .await;
    let client = client(&server);
    let settings = QueueSettings { weight: 2.0, ..QueueSettings::default() };
    client.put_queue("a", &settings).await.unwrap();
    client.queue("a").await.unwrap();
    client.queues().await.unwrap();
    client.delete_queue("a").await.unwrap();
    client.priority_classes().await.unwrap();
    client.priority_class("c").await.unwrap();
    let class = PriorityClassSettings { priority: 1, preemptible: true };
    client.put_priority_class("c", &class).await.unwrap();
    client.delete_priority_class("c").await.unwrap();
    client.job_set("a", "s/t").await.unwrap();
    client.job_sets("a", Some(5), Some("c")).await.unwrap();
    let filter = JobFilter {
        queue: Some("a".to_owned()),
        job_set: Some("s".to_owned()),
        states: vec!["queued".to_owned(), "running".to_owned()],
    };
    let page = client.jobs(&filter, 7, None).await.unwrap();
    assert_eq!(page.cursor.as_deref(), Some("c"));
    let ids = Selection::Ids(vec!["1".to_owned()]);
    client.cancel(ids.clone(), Some("why".to_owned())).await.unwrap();
    let set = Selection::JobSet { queue: "a".into(), job_set: "s".into(), states: Vec::new() };
    client.reprioritize(set, 3).await.unwrap();
    client.pools().await.unwrap();
    client.clusters().await.unwrap();
    client.cordon_cluster("c", Some("why".to_owned())).await.unwrap();
    client.cordon_node("c", "n", None).await.unwrap();
    client.uncordon_cluster("c").await.unwrap();
    client.uncordon_node("c", "n").await.unwrap();
    client.put_node_back("c", "n").await.unwrap();
    assert!(client.job("1", Output::StateAndSpec).await.unwrap_err().is_not_found());

    let seen = server.seen();
    let targets: Vec<_> = seen.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(
        targets,
        [
            "PUT /api/v1/queues/a",
            "GET /api/v1/queues/a",
            "GET /api/v1/queues",
            "DELETE /api/v1/queues/a",
            "GET /api/v1/priority-classes",
            "GET /api/v1/priority-classes/c",
            "PUT /api/v1/priority-classes/c",
            "DELETE /api/v1/priority-classes/c",
            "GET /api/v1/queues/a/job-sets/s%2Ft",
            "GET /api/v1/queues/a/job-sets?limit=5&cursor=c",
            "GET /api/v1/jobs?limit=7&queue=a&jobSet=s&state=queued%2Crunning",
            "POST /api/v1/cancel",
            "POST /api/v1/reprioritize",
            "GET /api/v1/pools",
            "GET /api/v1/clusters",
            "PUT /api/v1/clusters/c/cordon",
            "PUT /api/v1/clusters/c/nodes/n/cordon",
            "DELETE /api/v1/clusters/c/cordon",
            "DELETE /api/v1/clusters/c/nodes/n/cordon",
            "POST /api/v1/clusters/c/nodes/n/put-back",
            "GET /api/v1/jobs/1?spec=true",
        ]
    );
    assert_eq!(seen[11].body, br#"{"jobIds":["1"],"reason":"why"}"#);
    assert_eq!(seen[12].body, br#"{"queue":"a","jobSet":"s","priority":3}"#);
}
