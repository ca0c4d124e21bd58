//! A client that knows several gateways: when it turns to the next one, and what it takes along.

use std::time::Duration;

use muster_api::http::ErrorCode;
use muster_client::{Client, Error, Follow, Options, Submitted};

use crate::server::{Reply, Server};
use crate::{THREE_ANSWERS, three_jobs};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";
const NO_QUEUES: &str = "{\"queues\":[]}";
/// Longer than any test of these may take.
const FOR_EVER: &str = "600";

/// Patient with one gateway for half a second, and with all of them for one round.
fn client(urls: &[&str]) -> Client {
    let options = Options {
        retries_max: 0,
        answer_timeout: Duration::from_millis(500),
        ..Options::default()
    };
    Client::new(&urls.join(","), options).unwrap()
}

fn unavailable() -> Reply {
    Reply::problem(503, ErrorCode::Unavailable).header("retry-after", FOR_EVER)
}

#[tokio::test]
async fn a_gateway_that_is_gone_gives_way_to_the_next_for_every_clone() {
    let server = Server::start(vec![Reply::ok(NO_QUEUES), Reply::ok(NO_QUEUES)]).await;
    let client = client(&[NOBODY, &server.url]);
    let clone = client.clone();
    client.queues().await.unwrap();
    assert_eq!(clone.base(), server.url);
    clone.queues().await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn an_unavailable_gateway_gives_way_at_once_and_the_last_one_to_the_first() {
    let one = Server::start(vec![unavailable(), Reply::ok(NO_QUEUES)]).await;
    let other = Server::start(vec![Reply::ok(NO_QUEUES), unavailable()]).await;
    let client = client(&[&one.url, &other.url]);
    client.queues().await.unwrap();
    client.queues().await.unwrap();
    assert_eq!((one.seen().len(), other.seen().len()), (2, 2));
    assert_eq!(client.base(), one.url);
}

#[tokio::test]
async fn an_overloaded_deployment_is_not_asked_elsewhere() {
    let overloaded = Reply::problem(429, ErrorCode::Overloaded);
    let one =
        Server::start(vec![overloaded.header("retry-after", "0"), Reply::ok(NO_QUEUES)]).await;
    let other = Server::start(Vec::new()).await;
    let options = Options { delay_first: Duration::from_millis(1), ..Options::default() };
    let client = Client::new(&format!("{},{}", one.url, other.url), options).unwrap();
    client.queues().await.unwrap();
    assert_eq!((one.seen().len(), other.seen().len()), (2, 0));
}

#[tokio::test]
async fn when_all_have_failed_the_error_is_that_of_the_last() {
    let server = Server::start(vec![unavailable()]).await;
    let error = client(&[NOBODY, &server.url]).queues().await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 503, .. }), "{error:?}");
    let error = client(&[NOBODY, "http://127.0.0.1:2"]).queues().await.unwrap_err();
    assert!(error.to_string().starts_with("http://127.0.0.1:2/"), "{error}");
}

#[tokio::test]
async fn a_submission_goes_on_with_the_next_gateway_under_its_key() {
    let one = Server::start(vec![Reply::cut_off("{\"jobId\":\"1\"}\n")]).await;
    let other = Server::start(vec![Reply::ok(THREE_ANSWERS)]).await;
    let submitted = client(&[&one.url, &other.url]).submit(&three_jobs()).await.unwrap();
    assert!(matches!(submitted, Submitted::Each(answers) if answers.len() == 3));
    let (first, again) = (&one.seen()[0], &other.seen()[0]);
    assert_eq!(first.target, again.target);
    assert_eq!(first.body, again.body);
    assert_eq!(first.headers["idempotency-key"], again.headers["idempotency-key"]);
}

#[tokio::test]
async fn a_gateway_that_falls_silent_is_left_before_and_in_the_middle_of_an_answer() {
    for said in ["", "{\"jobId\":\"1\"}\n"] {
        let one = Server::start(vec![Reply::silent(said)]).await;
        let other = Server::start(vec![Reply::ok(THREE_ANSWERS)]).await;
        client(&[&one.url, &other.url]).submit(&three_jobs()).await.unwrap();
        assert_eq!((one.seen().len(), other.seen().len()), (1, 1), "{said}");
    }
    let one = Server::start(vec![Reply::silent("")]).await;
    let other = Server::start(vec![Reply::ok(NO_QUEUES)]).await;
    client(&[&one.url, &other.url]).queues().await.unwrap();
}

#[tokio::test]
async fn events_go_on_at_the_next_gateway_behind_the_last_one() {
    let event = |cursor: &str| {
        format!(
            "{{\"cursor\":\"{cursor}\",\"jobId\":\"j\",\"event\":\"running\",\
             \"at\":\"2026-01-01T00:00:00.000Z\"}}\n"
        )
    };
    let one = Server::start(vec![Reply::silent(&event("1-0"))]).await;
    let other = Server::start(vec![Reply::cut_off(&event("2-0"))]).await;
    let third = Server::start(vec![Reply::ok(&event("3-0"))]).await;
    let client = client(&[&one.url, &other.url, &third.url]);
    let mut events = client.events("a", "s", None, Follow::Yes);
    for expected in ["1-0", "2-0", "3-0"] {
        assert_eq!(events.next().await.unwrap().unwrap().cursor, expected);
    }
    assert!(other.seen()[0].target.ends_with("&after=1-0"));
    assert!(third.seen()[0].target.ends_with("&after=2-0"));
}
