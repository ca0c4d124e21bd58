//! What every adapter of the bus promises. Run it against the one in memory and against the real
//! one: what is tested over the first then holds for the second.

#![expect(clippy::unwrap_used, reason = "a contract suite is test code")]

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::bus::{Bus, Change, Entry, Error, KeyValue, Watch};

/// How long anything that has to happen may take.
const SOON: Duration = Duration::from_secs(10);
/// The age at which keys expire in the checks about that.
const TTL: Duration = Duration::from_millis(1_500);

/// Checks the whole contract on a bus that nobody else uses.
///
/// # Panics
/// With the first promise that is broken.
pub async fn bus_contract(bus: Arc<dyn Bus>) {
    assert!(bus.is_connected());
    publish_reaches_every_subscriber_and_one_of_each_group(&*bus).await;
    dropping_a_subscription_ends_it(&*bus).await;
    requests_are_answered(&*bus).await;
    bad_names_and_large_payloads_are_refused(&*bus).await;
    keys_are_written_by_compare_and_set(&*bus).await;
    only_one_of_many_creators_wins(&bus).await;
    keys_expire_and_can_be_created_again(&*bus).await;
    assert_eq!(bus.messages_dropped(), 0);
    watches_tell_of_every_key(&*bus).await;
    watches_tell_of_expired_keys(&*bus).await;
}

async fn publish_reaches_every_subscriber_and_one_of_each_group(bus: &dyn Bus) {
    let mut exact = bus.subscribe("c.pub.a", None).await.unwrap();
    let mut star = bus.subscribe("c.pub.*", None).await.unwrap();
    let mut rest = bus.subscribe("c.pub.>", None).await.unwrap();
    let group = Some("g");
    let one = bus.subscribe("c.pub.*", group).await.unwrap();
    let two = bus.subscribe("c.pub.*", group).await.unwrap();
    for n in 0..20_u8 {
        bus.publish("c.pub.a", vec![n].into()).await.unwrap();
    }
    bus.publish("c.pub.b", "end".into()).await.unwrap();
    for n in 0..20_u8 {
        for subscription in [&mut exact, &mut star, &mut rest] {
            let message = soon(subscription.next()).await.unwrap();
            assert_eq!((message.subject.as_str(), &message.payload[..]), ("c.pub.a", &[n][..]));
            assert_eq!(message.reply, None);
        }
    }
    assert_eq!(soon(star.next()).await.unwrap().subject, "c.pub.b");
    let mut both = futures::stream::select(one, two);
    let mut seen = Vec::new();
    while seen.len() < 21 {
        seen.push(soon(futures::StreamExt::next(&mut both)).await.unwrap().payload);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 21, "each message went to one member of the group");
    bus.publish("c.pub.nobody.hears", Bytes::new()).await.unwrap();
}

async fn dropping_a_subscription_ends_it(bus: &dyn Bus) {
    drop(bus.subscribe("c.drop", None).await.unwrap());
    eventually(async || {
        let answer = bus.request("c.drop", Bytes::new(), Duration::from_millis(50)).await;
        matches!(answer, Err(Error::NoResponders { .. }))
    })
    .await;
}

async fn requests_are_answered(bus: &dyn Bus) {
    let error = soon(bus.request("c.req", "?".into(), 10 * SOON)).await.unwrap_err();
    assert_eq!(error, Error::NoResponders { subject: "c.req".to_owned() });

    let mut server = bus.subscribe("c.req", Some("servers")).await.unwrap();
    let serve = async {
        for _ in 0..2 {
            let message = soon(server.next()).await.unwrap();
            let reply = message.reply.expect("a request says where to answer");
            bus.respond(&reply, message.payload).await.unwrap();
        }
    };
    let (one, two, ()) = tokio::join!(
        bus.request("c.req", "1".into(), SOON),
        bus.request("c.req", "2".into(), SOON),
        serve
    );
    assert_eq!((one.unwrap(), two.unwrap()), ("1".into(), "2".into()));

    let timeout = Duration::from_millis(100);
    let error = bus.request("c.req", "ignored".into(), timeout).await.unwrap_err();
    assert_eq!(error, Error::Timeout { subject: "c.req".to_owned(), timeout });
    let late = soon(server.next()).await.unwrap().reply.unwrap();
    bus.respond(&late, "too late".into()).await.unwrap();
}

async fn bad_names_and_large_payloads_are_refused(bus: &dyn Bus) {
    let is_invalid = |error: Error| matches!(error, Error::InvalidName { .. });
    for subject in ["", "a..b", "a b", "a.*", "a.>"] {
        assert!(is_invalid(bus.publish(subject, Bytes::new()).await.unwrap_err()), "{subject}");
        assert!(is_invalid(bus.request(subject, Bytes::new(), SOON).await.unwrap_err()));
    }
    assert!(is_invalid(bus.subscribe("a.>.b", None).await.unwrap_err()));
    assert!(is_invalid(bus.subscribe("a", Some("")).await.unwrap_err()));
    assert!(bus.key_value("a.b", None).await.is_err());

    let limit = bus.payload_bytes_max();
    let mut subscription = bus.subscribe("c.size", None).await.unwrap();
    bus.publish("c.size", vec![1; limit].into()).await.unwrap();
    assert_eq!(soon(subscription.next()).await.unwrap().payload.len(), limit);
    let error = bus.publish("c.size", vec![1; limit + 1].into()).await.unwrap_err();
    assert_eq!(error, Error::PayloadTooLarge { bytes: limit + 1, limit });
    let bucket = bus.key_value("c-size", None).await.unwrap();
    bucket.put("k", vec![1; limit].into()).await.unwrap();
    assert_eq!(bucket.put("k", vec![1; limit + 1].into()).await.unwrap_err(), error);
}

async fn keys_are_written_by_compare_and_set(bus: &dyn Bus) {
    let bucket = bus.key_value("c-cas", None).await.unwrap();
    let same = bus.key_value("c-cas", None).await.unwrap();
    let exists = |key: &str| Error::Exists { key: key.to_owned() };
    let conflict = |revision| Error::Conflict { key: "a.b".to_owned(), revision };

    assert_eq!(bucket.get("a.b").await.unwrap(), None);
    assert_eq!(bucket.entries().await.unwrap(), []);
    let first = bucket.create("a.b", "1".into()).await.unwrap();
    assert_eq!(same.create("a.b", "2".into()).await.unwrap_err(), exists("a.b"));
    let second = same.update("a.b", "2".into(), first).await.unwrap();
    assert!(second > first);
    assert_eq!(bucket.update("a.b", "3".into(), first).await.unwrap_err(), conflict(first));
    assert_eq!(bucket.delete("a.b", Some(first)).await.unwrap_err(), conflict(first));
    let entry = Entry { key: "a.b".to_owned(), value: "2".into(), revision: second };
    assert_eq!(bucket.get("a.b").await.unwrap(), Some(entry.clone()));

    let other = bucket.put("a", "x".into()).await.unwrap();
    let earlier = Entry { key: "a".to_owned(), value: "x".into(), revision: other };
    assert_eq!(same.entries().await.unwrap(), [earlier.clone(), entry]);

    bucket.delete("a.b", Some(second)).await.unwrap();
    bucket.delete("a.b", None).await.unwrap();
    assert_eq!(bucket.get("a.b").await.unwrap(), None);
    assert_eq!(bucket.update("a.b", "4".into(), second).await.unwrap_err(), conflict(second));
    assert_eq!(bucket.update("a.b", "4".into(), 0).await.unwrap_err(), conflict(0));
    assert_eq!(bucket.delete("a.b", Some(second)).await.unwrap_err(), conflict(second));
    assert_eq!(same.entries().await.unwrap(), [earlier]);
    let again = bucket.create("a.b", "5".into()).await.unwrap();
    assert!(again > second);
    assert!(matches!(bucket.put("no spaces", Bytes::new()).await, Err(Error::InvalidName { .. })));
}

async fn only_one_of_many_creators_wins(bus: &Arc<dyn Bus>) {
    let bucket = bus.key_value("c-race", None).await.unwrap();
    for round in 0..10 {
        let key = format!("key-{round}");
        let creators = (0..16).map(|n: u32| bucket.create(&key, n.to_string().into()));
        let results = futures::future::join_all(creators).await;
        let is_winner = |result: &&Result<u64, Error>| result.is_ok();
        assert_eq!(results.iter().filter(is_winner).count(), 1, "{results:?}");
    }
}

async fn keys_expire_and_can_be_created_again(bus: &dyn Bus) {
    let bucket = bus.key_value("c-age", Some(TTL)).await.unwrap();
    let first = bucket.create("k", "1".into()).await.unwrap();
    expire(&*bucket, "k").await;
    assert_eq!(bucket.entries().await.unwrap(), []);
    let error = bucket.update("k", "2".into(), first).await.unwrap_err();
    assert_eq!(error, Error::Conflict { key: "k".to_owned(), revision: first });
    bucket.create("k", "2".into()).await.unwrap();
    assert!(matches!(bucket.create("k", "3".into()).await, Err(Error::Exists { .. })));
    bucket.delete("k", None).await.unwrap();
    bucket.create("k", "4".into()).await.unwrap();
}

async fn watches_tell_of_every_key(bus: &dyn Bus) {
    let bucket = bus.key_value("c-watch", None).await.unwrap();
    let mut watch = bucket.watch().await.unwrap();
    assert_eq!(soon(watch.next()).await, Some(Change::Reset(vec![])));
    let revision = bucket.put("a", "1".into()).await.unwrap();
    let entry = Entry { key: "a".to_owned(), value: "1".into(), revision };
    assert_eq!(soon(watch.next()).await, Some(Change::Put(entry.clone())));
    let mut later = bucket.watch().await.unwrap();
    assert_eq!(soon(later.next()).await, Some(Change::Reset(vec![entry])));
    bucket.delete("a", None).await.unwrap();
    for watch in [&mut watch, &mut later] {
        assert_eq!(soon(watch.next()).await, Some(Change::Delete { key: "a".to_owned() }));
    }
    for n in 0..2000_u32 {
        bucket.put(&format!("k{}", n % 10), n.to_string().into()).await.unwrap();
    }
    let mut seen = std::collections::BTreeMap::new();
    while seen.values().map(|value: &Bytes| value.len()).sum::<usize>() < 40 || seen["k9"] != "1999"
    {
        apply(&mut seen, &mut watch).await;
    }
    let expected: Vec<Bytes> = (1990..2000).map(|n: u32| n.to_string().into()).collect();
    assert_eq!(seen.into_values().collect::<Vec<_>>(), expected);
}

async fn watches_tell_of_expired_keys(bus: &dyn Bus) {
    let bucket = bus.key_value("c-watch-age", Some(TTL)).await.unwrap();
    let mut watch = bucket.watch().await.unwrap();
    assert_eq!(soon(watch.next()).await, Some(Change::Reset(vec![])));
    bucket.put("k", "1".into()).await.unwrap();
    assert!(matches!(soon(watch.next()).await, Some(Change::Put(_))));
    assert_eq!(soon(watch.next()).await, Some(Change::Delete { key: "k".to_owned() }));
}

async fn apply(seen: &mut std::collections::BTreeMap<String, Bytes>, watch: &mut Watch) {
    match soon(watch.next()).await.unwrap() {
        Change::Reset(entries) => {
            *seen = entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
        }
        Change::Put(entry) => {
            seen.insert(entry.key, entry.value);
        }
        Change::Delete { key } => {
            seen.remove(&key);
        }
    }
}

async fn expire(bucket: &dyn KeyValue, key: &str) {
    let written = tokio::time::Instant::now();
    eventually(async || bucket.get(key).await.unwrap().is_none()).await;
    assert!(written.elapsed() > TTL / 2, "the key was gone after {:?}", written.elapsed());
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it has to happen soon")
}

async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(poll).await;
}
