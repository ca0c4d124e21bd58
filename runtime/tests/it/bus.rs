//! Both adapters keep the contract; the real one also survives its server.

use std::{sync::Arc, time::Duration};

use muster_runtime::{
    Bus,
    bus::{self, Change, Error, Options, memory::Memory},
    testing::{NatsServer, bus_contract},
};
use tokio::{io::AsyncWriteExt, net::TcpListener};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn memory_keeps_the_contract() {
    bus_contract(Arc::new(Memory::default())).await;
}

#[tokio::test]
async fn nats_keeps_the_contract() {
    let server = NatsServer::start().await.unwrap();
    let bus = bus::open(&server.url(), &Options::default()).await.unwrap();
    bus_contract(bus).await;
}

#[tokio::test]
async fn calls_fail_at_once_while_the_server_is_away_and_work_when_it_is_back() {
    let mut server = NatsServer::start().await.unwrap();
    let bus = bus::open(&server.url(), &Options::default()).await.unwrap();
    let bucket = bus.key_value("b", None).await.unwrap();
    bucket.put("k", "1".into()).await.unwrap();
    let mut subscription = bus.subscribe("s", None).await.unwrap();
    let waiting = bus.request("s", "?".into(), 10 * SOON);
    let kill = async {
        subscription.next().await.unwrap();
        server.kill();
    };
    let (answer, ()) = tokio::time::timeout(SOON, async { tokio::join!(waiting, kill) })
        .await
        .expect("a request in flight fails when the connection breaks");
    assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");

    assert!(!bus.is_connected());
    let is_unavailable = |error: Error| matches!(error, Error::Unavailable(_));
    assert!(is_unavailable(bus.publish("s", "1".into()).await.unwrap_err()));
    assert!(is_unavailable(bus.request("s", "1".into(), SOON).await.unwrap_err()));
    assert!(is_unavailable(bucket.get("k").await.unwrap_err()));

    server.restart().await.unwrap();
    connected(&*bus).await;
    assert_eq!(bucket.get("k").await.unwrap().unwrap().value, "1");
    // The subscription is renewed by the client some time after it is connected.
    let answered = async {
        while bus.request("s", "2".into(), Duration::from_millis(50)).await
            == Err(Error::NoResponders { subject: "s".to_owned() })
        {}
    };
    tokio::time::timeout(SOON, answered).await.unwrap();
    assert_eq!(subscription.next().await.unwrap().payload, "2");
}

#[tokio::test]
async fn buckets_are_created_again_after_the_server_lost_everything() {
    let mut server = NatsServer::start().await.unwrap();
    let bus = bus::open(&server.url(), &Options::default()).await.unwrap();
    let mut buckets = Vec::new();
    for name in ["get", "put", "create", "update", "delete", "entries"] {
        let bucket = bus.key_value(name, Some(SOON)).await.unwrap();
        bucket.put("k", "old".into()).await.unwrap();
        buckets.push(bucket);
    }
    let watched = bus.key_value("watched", None).await.unwrap();
    watched.put("k", "old".into()).await.unwrap();
    let mut watch = watched.watch().await.unwrap();
    assert!(matches!(watch.next().await, Some(Change::Reset(entries)) if entries.len() == 1));

    server.kill();
    server.wipe().unwrap();
    server.restart().await.unwrap();
    connected(&*bus).await;

    let [get, put, create, update, delete, entries] = &buckets[..] else { panic!() };
    assert_eq!(get.get("k").await.unwrap(), None);
    assert_eq!(put.put("k", "new".into()).await.unwrap(), 1);
    assert_eq!(create.create("k", "new".into()).await.unwrap(), 1);
    assert!(matches!(update.update("k", "new".into(), 1).await, Err(Error::Conflict { .. })));
    delete.delete("k", None).await.unwrap();
    assert_eq!(entries.entries().await.unwrap(), []);
    watched.put("k", "new".into()).await.unwrap();
    let told = async {
        loop {
            match watch.next().await.unwrap() {
                Change::Reset(entries) if entries.iter().any(|e| e.value == "new") => break,
                Change::Put(entry) if entry.value == "new" => break,
                Change::Reset(_) | Change::Put(_) | Change::Delete { .. } => {}
            }
        }
    };
    tokio::time::timeout(SOON, told).await.expect("the watch goes on in the new bucket");
}

#[tokio::test]
async fn an_address_that_leads_nowhere_is_an_error() {
    let options = Options { connect_timeout: Duration::ZERO, ..Options::default() };
    let error = bus::open("nats://127.0.0.1:1", &options).await.err().unwrap();
    assert!(error.is_retryable(), "{error}");
    for bad in ["http://x", "nats://", "memory"] {
        let error = bus::open(bad, &options).await.err().unwrap();
        assert!(matches!(error, Error::InvalidUrl { .. }), "{bad}: {error}");
    }
}

#[tokio::test]
async fn an_old_server_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let info = r#"{"server_id":"old","version":"2.9.10","max_payload":1048576,"proto":1}"#;
        stream.write_all(format!("INFO {info}\r\nPONG\r\n").as_bytes()).await.unwrap();
        // Until the client hangs up.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let options = Options::default();
    let error = tokio::select! {
        result = bus::open(&url, &options) => result.err().unwrap(),
        ended = serve => panic!("the client hung up: {ended:?}"),
    };
    let expected = Error::ServerTooOld { version: "2.9.10".to_owned(), required: "2.10.0" };
    assert_eq!(error, expected);
}

async fn connected(bus: &dyn Bus) {
    let wait = async {
        while !bus.is_connected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("the bus connects again");
}
