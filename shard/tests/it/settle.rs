//! The beginning of a leader.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_api::bus::{self, Offers, subject};
use muster_core::id::ShardId;
use muster_core::route::shard_of_queue;
use muster_runtime::Bus;
use muster_runtime::bus::memory::Memory;
use muster_runtime::config::HumanDuration;

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

    let offers = Offers {
        shard: 1,
        owner: "another".into(),
        epoch: 1,
        version: 1,
        previous: 0,
        full: true,
        shapes: vec![],
        queues: vec![],
    };
    bus.publish(subject::OFFERS, bus::encode(&offers)).await.unwrap();
    assert_eq!(player.leases(10).await.leases.len(), 1);
}
