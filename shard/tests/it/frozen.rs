//! A worker that does not learn that its leases ran out, as one that sleeps: the bus carries
//! messages, and the bucket of leases does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use muster_api::bus::{self, ListJobSets, ShardRequest, subject};
use muster_core::id::ShardId;
use muster_runtime::Bus;
use muster_runtime::bus::memory::Memory;
use muster_runtime::bus::{Entry, Error, KeyValue, ReplyTo, Subscription, Watch};
use tokio::sync::watch;

use crate::site::{Player, Site, job};

/// Longer than a lease.
const SLEEP: Duration = Duration::from_secs(10);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A bus whose bucket of leases can be kept from answering.
struct Freezing {
    bus: Memory,
    frozen: watch::Sender<bool>,
    /// Whether no bucket can be opened.
    closed: AtomicBool,
    /// Whether it stops answering as soon as a lease was created.
    at_creation: bool,
}

struct Bucket {
    bucket: Arc<dyn KeyValue>,
    frozen: watch::Sender<bool>,
    at_creation: bool,
}

impl Bucket {
    async fn thawed(&self) -> &dyn KeyValue {
        let mut frozen = self.frozen.subscribe();
        frozen.wait_for(|frozen| !frozen).await.expect("the bus outlives its buckets");
        &*self.bucket
    }
}

#[async_trait]
impl Bus for Freezing {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), Error> {
        self.bus.publish(subject, payload).await
    }

    async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        self.bus.request(subject, payload, timeout).await
    }

    async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscription, Error> {
        self.bus.subscribe(subject, group).await
    }

    async fn respond(&self, to: &ReplyTo, payload: Bytes) -> Result<(), Error> {
        self.bus.respond(to, payload).await
    }

    async fn key_value(
        &self,
        bucket: &str,
        ttl: Option<Duration>,
    ) -> Result<Arc<dyn KeyValue>, Error> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::Unavailable("there is no leader".to_owned()));
        }
        let is_of_leases = bucket == subject::LEASES_BUCKET;
        let bucket = self.bus.key_value(bucket, ttl).await?;
        if !is_of_leases {
            return Ok(bucket);
        }
        let (frozen, at_creation) = (self.frozen.clone(), self.at_creation);
        Ok(Arc::new(Bucket { bucket, frozen, at_creation }))
    }

    fn payload_bytes_max(&self) -> usize {
        self.bus.payload_bytes_max()
    }

    fn is_connected(&self) -> bool {
        self.bus.is_connected()
    }

    fn messages_dropped(&self) -> u64 {
        self.bus.messages_dropped()
    }
}

#[async_trait]
impl KeyValue for Bucket {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.thawed().await.get(key).await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.thawed().await.put(key, value).await
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        let revision = self.thawed().await.create(key, value).await?;
        if self.at_creation {
            self.frozen.send_replace(true);
        }
        Ok(revision)
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        self.thawed().await.update(key, value, revision).await
    }

    async fn delete(&self, key: &str, revision: Option<u64>) -> Result<(), Error> {
        self.thawed().await.delete(key, revision).await
    }

    async fn entries(&self) -> Result<Vec<Entry>, Error> {
        self.thawed().await.entries().await
    }

    async fn watch(&self) -> Result<Watch, Error> {
        self.thawed().await.watch().await
    }
}

fn freezing(at_creation: bool) -> Arc<Freezing> {
    let (bus, frozen) = (Memory::default(), watch::Sender::new(false));
    Arc::new(Freezing { bus, frozen, closed: AtomicBool::new(false), at_creation })
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_lease_ran_out_unnoticed_answers_neither_reads_nor_commands() {
    let bus = freezing(false);
    let site = Site::start_on(bus.clone(), 1).await;
    let first = site.submit("q", "set", 1, vec![job(0)]).await;
    bus.frozen.send_replace(true);
    site.clock.sleep(SLEEP).await;

    let read = ListJobSets { queue: "q".into(), only: Some("set".into()), after: None, limit: 1 };
    for request in [ShardRequest::JobSets(read), Site::submission("q", "set", 2, &[job(0)])] {
        let to = subject::shard(ShardId(0));
        let answer = bus.request(&to, bus::encode(&request), PATIENCE).await;
        // It listens, for it does not know; it knows that it does not know.
        assert!(matches!(answer, Err(Error::Timeout { .. })), "{answer:?}");
    }

    bus.frozen.send_replace(false);
    assert_eq!(site.counts("q", "set").await["queued"], 1, "the command was not carried out");
    assert_eq!(site.submit("q", "set", 1, vec![job(0)]).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_ran_out_unnoticed_leads_no_more() {
    let bus = freezing(false);
    let site = Site::start_on(bus.clone(), 1).await;
    let mut player = Player::new(&site, 8);
    while player.ask(1, Duration::from_secs(1)).await.is_none() {
        site.clock.sleep(Duration::from_millis(100)).await;
    }
    bus.frozen.send_replace(true);
    site.clock.sleep(SLEEP).await;
    // It may learn of it by this question, which it lets go then.
    player.ask(1, Duration::from_secs(1)).await;
    assert!(player.ask(1, Duration::from_secs(1)).await.is_none(), "another may lead by now");

    bus.frozen.send_replace(false);
    site.submit("q", "set", 1, vec![job(0)]).await;
    assert_eq!(player.leases(1).await.leases.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_answers_nothing_before_it_knows_that_its_lease_outlived_its_fence() {
    let bus = freezing(true);
    let site = Site::start_on(bus.clone(), 1).await;
    let objects = site.store.objects();
    while objects.list(None).try_collect::<Vec<_>>().await.unwrap().is_empty() {
        site.clock.sleep(Duration::from_millis(1)).await;
    }
    // The fence stands, and the lease was taken a moment ago; whether another has it by now, nobody
    // can say.
    site.clock.sleep(Duration::from_secs(1)).await;
    let request = bus::encode(&Site::submission("q", "set", 1, &[job(0)]));
    let answer = bus.request(&subject::shard(ShardId(0)), request, PATIENCE).await;
    assert!(
        matches!(answer, Err(Error::NoResponders { .. } | Error::Timeout { .. })),
        "{answer:?}"
    );

    bus.frozen.send_replace(false);
    site.submit("q", "set", 1, vec![job(0)]).await;
    assert_eq!(site.counts("q", "set").await["queued"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_starts_while_the_bus_has_no_buckets_waits_for_them() {
    let bus = freezing(false);
    bus.closed.store(true, Ordering::Relaxed);
    let site = Site::start_on(bus.clone(), 1).await;
    site.clock.sleep(SLEEP).await;
    bus.closed.store(false, Ordering::Relaxed);
    site.submit("q", "set", 1, vec![job(0)]).await;
    assert_eq!(site.counts("q", "set").await["queued"], 1);
}
