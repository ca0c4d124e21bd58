//! The beginning of a leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_api::bus::{self, Offers, PoolOffer, QueueOffer, subject};
use muster_core::id::ShardId;
use muster_core::route::shard_of_queue;
use muster_runtime::Bus;
use muster_runtime::bus::memory::Memory;
use muster_runtime::config::HumanDuration;
use muster_shard::Config;

use crate::site::{Player, Site, job};

#[tokio::test(start_paused = true)]
async fn a_new_leader_leases_nothing_before_every_shard_has_told_what_waits() {
    let bus: Arc<dyn Bus> = Arc::new(Memory::default());
    let leases = bus.key_value(subject::LEASES_BUCKET, None).await.unwrap();
    leases.create("shard.1", Bytes::from_static(b"another")).await.unwrap();
    let mut site = Site::new(Arc::clone(&bus), 2);
    site.start_worker(|config| config.lease_ttl = HumanDuration::secs(1_000)).await;
    let mut queues = (0..12).map(|number| format!("q{number}"));
    let queue = queues.find(|queue| shard_of_queue(queue, 2) == ShardId(0)).unwrap();
    site.submit(&queue, "set", 1, vec![job(0)]).await;

    let mut player = Player::new(&site, 8);
    let mut answers = 0;
    while answers < 3 {
        match player.ask(10, Duration::from_secs(5)).await {
            Some(answer) => {
                assert_eq!(answer.leases.len(), 0, "shard 1 may have what goes before it");
                answers += 1;
            }
            // Nobody leads yet.
            None => site.clock.sleep(Duration::from_millis(100)).await,
        }
    }

    tell(&bus, &[]).await;
    assert_eq!(player.leases(10).await.leases.len(), 1);
}

/// Another shard, number 1 of 2, tells everything: queues that want so many cpus.
async fn tell(bus: &Arc<dyn Bus>, queues: &[(&str, u64)]) {
    let queue = |(queue, cpus): &(&str, u64)| QueueOffer {
        queue: (*queue).to_owned(),
        further: false,
        pools: vec![PoolOffer {
            pool: "default".into(),
            heads: vec![],
            waiting: *cpus,
            demand: [("cpu".to_owned(), cpus.to_string())].into(),
            held: 0,
            holds: BTreeMap::new(),
        }],
    };
    let offers = Offers {
        shard: 1,
        owner: "another".into(),
        epoch: 1,
        version: 1,
        previous: 0,
        full: true,
        shapes: vec![],
        queues: queues.iter().map(queue).collect(),
    };
    bus.publish(subject::OFFERS, bus::encode(&offers)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_follows_on_another_keeps_the_shares_of_queues_that_it_has_not_heard_of() {
    let bus: Arc<dyn Bus> = Arc::new(Memory::default());
    let leases = bus.key_value(subject::LEASES_BUCKET, None).await.unwrap();
    leases.create("shard.1", Bytes::from_static(b"another")).await.unwrap();
    let mut site = Site::new(Arc::clone(&bus), 2);
    // Nobody else takes the other shard over meanwhile.
    let patient = |config: &mut Config| config.lease_ttl = HumanDuration::secs(20);
    site.start_worker(patient).await;
    let of_shard = |shard: u16| {
        let mut queues = (0..12).map(|number| format!("q{number}"));
        queues.find(|queue| shard_of_queue(queue, 2) == ShardId(shard)).unwrap()
    };
    let (here, away) = (of_shard(0), of_shard(1));
    site.submit(&here, "set", 1, (0..20).map(job).collect()).await;

    // A first leader knows both, and tells of them.
    tell(&bus, &[(&away, 20)]).await;
    let pools = bus.key_value(subject::POOLS_BUCKET, None).await.unwrap();
    let knows_both = async || {
        let entries = pools.entries().await.unwrap();
        entries.iter().any(|entry| {
            let text = String::from_utf8_lossy(&entry.value);
            text.contains(&here) && text.contains(&away)
        })
    };
    let mut player = Player::new(&site, 0);
    while !knows_both().await {
        if player.ask(1, Duration::from_secs(1)).await.is_none() {
            site.clock.sleep(Duration::from_millis(100)).await;
        }
        tell(&bus, &[(&away, 20)]).await;
    }

    site.kill().await;
    site.wipe_leases().await;
    leases.create("shard.1", Bytes::from_static(b"another")).await.unwrap();
    site.start_worker(patient).await;
    // The next one has heard of one shard of two: its queue gets half of what there is.
    let mut player = Player::new(&site, 8);
    assert_eq!(player.leases(20).await.leases.len(), 4);
    player.has(4, 0);
    // It tells of both, or who leads after it would not know of the other.
    let of_this = async || {
        let entries = pools.entries().await.unwrap();
        let text = entries.iter().map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        text.collect::<String>()
    };
    while !of_this().await.contains("\"cpu\":\"8\"") {
        site.clock.sleep(Duration::from_millis(100)).await;
    }
    assert!(knows_both().await);
    let more = player.ask(20, Duration::from_secs(5)).await;
    assert!(more.is_none_or(|answer| answer.leases.is_empty()));
    // For a while: then nobody is waited for any more.
    site.clock.sleep(Duration::from_secs(1_000)).await;
    assert_eq!(player.leases(20).await.leases.len(), 4);
}
