//! The bus in memory beyond the contract: order, time, bounds.

use super::*;

use crate::bus::Change;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_slow_reader_loses_the_newest_and_it_is_counted() {
    let options = Options { subscription_messages_max: 2, ..Options::default() };
    let bus = Memory::new(&options);
    let mut slow = bus.subscribe("a", None).await.unwrap();
    for n in 0..5_u8 {
        bus.publish("a", vec![n].into()).await.unwrap();
    }
    assert_eq!(slow.next().await.unwrap().payload, vec![0]);
    assert_eq!(slow.next().await.unwrap().payload, vec![1]);
    assert_eq!(bus.messages_dropped(), 3);
}

#[tokio::test(start_paused = true)]
async fn members_of_a_group_take_turns() {
    let bus = Memory::default();
    let mut first = bus.subscribe("a.*", Some("g")).await.unwrap();
    let mut second = bus.subscribe("a.*", Some("g")).await.unwrap();
    for n in 0..4_u8 {
        bus.publish("a.x", vec![n].into()).await.unwrap();
    }
    for (subscription, expected) in [(&mut first, [0, 2]), (&mut second, [1, 3])] {
        for n in expected {
            assert_eq!(subscription.next().await.unwrap().payload, vec![n]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_leaves_nothing_behind() {
    let bus = Memory::default();
    let mut server = bus.subscribe("q", None).await.unwrap();
    let error = bus.request("q", Bytes::new(), SECOND).await.unwrap_err();
    assert_eq!(error, Error::Timeout { subject: "q".into(), timeout: SECOND });
    assert!(bus.shared.lock().waiting.is_empty());
    let reply = server.next().await.unwrap().reply.unwrap();
    bus.respond(&reply, Bytes::new()).await.unwrap();
    drop(server);
    assert!(bus.shared.lock().subscribers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_lags_is_reset() {
    let bucket = Memory::default().key_value("b", None).await.unwrap();
    let mut watch = bucket.watch().await.unwrap();
    assert_eq!(watch.next().await, Some(Change::Reset(vec![])));
    for n in 0..1000_u32 {
        bucket.put("k", n.to_string().into()).await.unwrap();
    }
    let Some(Change::Reset(entries)) = watch.next().await else { panic!("not reset") };
    assert_eq!((entries.len(), entries[0].value.as_ref()), (1, b"999".as_slice()));
    bucket.delete("k", None).await.unwrap();
    assert_eq!(watch.next().await, Some(Change::Delete { key: "k".into() }));
}

#[tokio::test(start_paused = true)]
async fn a_key_expires_exactly_at_its_age_and_a_write_keeps_it() {
    let bucket = Memory::default().key_value("b", Some(3 * SECOND)).await.unwrap();
    let mut watch = bucket.watch().await.unwrap();
    watch.next().await;
    bucket.put("k", "1".into()).await.unwrap();
    watch.next().await;
    tokio::time::advance(2 * SECOND).await;
    bucket.put("k", "2".into()).await.unwrap();
    watch.next().await;
    let written = tokio::time::Instant::now();
    assert_eq!(watch.next().await, Some(Change::Delete { key: "k".into() }));
    // Tokio's timer counts whole milliseconds.
    assert!(written.elapsed() - 3 * SECOND <= Duration::from_millis(1));
    bucket.create("k", "3".into()).await.unwrap();
}
