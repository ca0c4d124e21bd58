//! Two workers at one bucket, and what the bus may do to it: whoever takes a lease answers only
//! once nobody else can trust it.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use bytes::Bytes;
use muster_core::time::Timestamp;
use muster_runtime::Bus;
use muster_runtime::bus::memory::Memory;
use muster_runtime::bus::{Options, Watch};

use super::*;

const TTL: Duration = Duration::from_secs(4);
const NAME: &str = "shard.0";

async fn bucket() -> Arc<dyn KeyValue> {
    Memory::default().key_value("leases", Some(TTL * KEPT_TTLS)).await.unwrap()
}

fn worker(name: &str, bucket: &Arc<dyn KeyValue>, clock: &Clock) -> Leases {
    Leases::new(Arc::clone(bucket), clock.clone(), name.to_owned(), TTL)
}

async fn take(leases: &mut Leases) -> Won {
    leases.take(NAME).await.unwrap().expect("it can be had")
}

/// Renews, and gives what was lost.
async fn renewed(leases: &mut Leases) -> Vec<String> {
    leases.renew().await.unwrap();
    leases.take_lost()
}

/// Whether the winner may answer at a moment at which the other still might.
async fn both_answer(clock: &Clock, won: &Won, other: &Trust) -> bool {
    clock.sleep_until(won.clear_at).await;
    other.holds()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_watched_run_out_is_taken_without_a_further_wait() {
    let (clock, bucket) = (Clock::system(), bucket().await);
    let (mut old, mut new) = (worker("old", &bucket, &clock), worker("new", &bucket, &clock));
    let held = take(&mut old).await.trust;
    for _ in 0..10 {
        clock.sleep(TTL / 5).await;
        assert_eq!(renewed(&mut old).await, Vec::<String>::new());
        new.renew().await.unwrap();
        assert!(held.holds() && !new.should_take(NAME));
        assert!(new.take(NAME).await.unwrap().is_none());
    }
    // The old worker falls silent.
    let silent_at = clock.monotonic();
    while !new.should_take(NAME) {
        clock.sleep(TTL / 5).await;
        new.renew().await.unwrap();
        assert!(clock.monotonic() - silent_at < TTL * 4, "it never runs out");
    }
    assert!(!held.holds());
    let won = take(&mut new).await;
    assert!(won.clear_at <= clock.monotonic() && won.trust.holds());
    // It wakes, and finds that it has nothing.
    assert_eq!(renewed(&mut old).await, [NAME]);
    assert!(!held.holds());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_nobody_saw_keeps_a_lease_from_being_taken() {
    let (clock, bucket) = (Clock::system(), bucket().await);
    let (mut old, mut new) = (worker("old", &bucket, &clock), worker("new", &bucket, &clock));
    let held = take(&mut old).await.trust;
    new.renew().await.unwrap();
    clock.sleep(TTL * 2).await;
    old.renew().await.unwrap();
    assert!(new.take(NAME).await.unwrap().is_none());
    assert!(held.holds());
}

#[tokio::test(start_paused = true)]
async fn after_a_key_was_deleted_early_nobody_answers_beside_its_holder() {
    let (clock, bucket) = (Clock::system(), bucket().await);
    let (mut old, mut new) = (worker("old", &bucket, &clock), worker("new", &bucket, &clock));
    clock.sleep(TTL * 3).await;
    let held = take(&mut old).await.trust;
    new.renew().await.unwrap();
    clock.sleep(TTL - TTL / 10).await;
    // A renewal that the new worker does not see, and then the server forgets the key.
    old.renew().await.unwrap();
    bucket.delete(NAME, None).await.unwrap();
    new.renew().await.unwrap();
    let won = take(&mut new).await;
    assert!(held.holds());
    assert!(!both_answer(&clock, &won, &held).await);
}

#[tokio::test(start_paused = true)]
async fn after_the_bucket_was_wiped_nobody_answers_beside_the_old_holder() {
    let (clock, first) = (Clock::system(), bucket().await);
    let (mut old, mut new) = (worker("old", &first, &clock), worker("new", &first, &clock));
    let held = take(&mut old).await.trust;
    new.renew().await.unwrap();
    clock.sleep(TTL * 3).await;
    old.renew().await.unwrap();
    // Others have written to the new bucket more than was written to the old one.
    let second = bucket().await;
    for _ in 0..50 {
        second.put("worker.other", new.value()).await.unwrap();
    }
    (old.bucket, new.bucket) = (Arc::clone(&second), second);
    new.renew().await.unwrap();
    let won = take(&mut new).await;
    assert!(held.holds());
    assert!(!both_answer(&clock, &won, &held).await);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_never_saw_the_key_waits_as_long() {
    let (clock, bucket) = (Clock::system(), bucket().await);
    let mut old = worker("old", &bucket, &clock);
    let held = take(&mut old).await.trust;
    clock.sleep(TTL / 2).await;
    old.renew().await.unwrap();
    bucket.delete(NAME, None).await.unwrap();
    // It has been there for long, and looks at the bucket for the first time.
    let mut new = worker("new", &bucket, &clock);
    new.started = Duration::ZERO;
    let won = take(&mut new).await;
    assert!(held.holds());
    assert!(!both_answer(&clock, &won, &held).await);
}

#[tokio::test(start_paused = true)]
async fn a_number_that_two_buckets_have_in_common_does_not_take_a_lease_back() {
    let (clock, first) = (Clock::system(), bucket().await);
    let (mut old, mut new) = (worker("old", &first, &clock), worker("new", &first, &clock));
    let held = take(&mut old).await.trust;
    let second = bucket().await;
    (old.bucket, new.bucket) = (Arc::clone(&second), second);
    let won = take(&mut new).await;
    assert_eq!(old.held[NAME].revision, new.held[NAME].revision);
    assert_eq!(renewed(&mut old).await, [NAME]);
    assert!(!held.holds() && won.trust.holds());
    assert_eq!(renewed(&mut new).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_silent_worker_is_not_waited_for_although_its_key_is_still_there() {
    let (clock, bucket) = (Clock::system(), bucket().await);
    let (mut old, mut new) = (worker("old", &bucket, &clock), worker("new", &bucket, &clock));
    old.renew().await.unwrap();
    new.renew().await.unwrap();
    let names: Vec<String> = (0..32).map(|n| format!("shard.{n}")).collect();
    let to_take = |leases: &Leases| names.iter().filter(|n| leases.should_take(n)).count();
    let shared = to_take(&new);
    assert!(shared > 0 && shared < names.len());
    while to_take(&new) < names.len() {
        clock.sleep(TTL / 5).await;
        new.renew().await.unwrap();
        assert!(clock.monotonic() < TTL * 2, "the old worker still counts");
    }
    assert!(bucket.get("worker.old").await.unwrap().is_some());
}

/// A bucket that can be kept from listing.
struct Unlisted {
    bucket: Arc<dyn KeyValue>,
    fails: AtomicBool,
}

/// A bucket that is lost and made anew right before the next update of the lease.
struct Lost {
    bucket: Mutex<Arc<dyn KeyValue>>,
    next: Mutex<Option<Arc<dyn KeyValue>>>,
}

impl Lost {
    fn new(bucket: Arc<dyn KeyValue>) -> Arc<Self> {
        Arc::new(Self { bucket: Mutex::new(bucket), next: Mutex::new(None) })
    }

    fn bucket(&self) -> Arc<dyn KeyValue> {
        Arc::clone(&self.bucket.lock().unwrap())
    }
}

#[async_trait]
impl KeyValue for Lost {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.bucket().get(key).await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.bucket().put(key, value).await
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.bucket().create(key, value).await
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        if let Some(next) = self.next.lock().unwrap().take_if(|_| key == NAME) {
            *self.bucket.lock().unwrap() = next;
        }
        self.bucket().update(key, value, revision).await
    }

    async fn delete(&self, key: &str, revision: Option<u64>) -> Result<(), Error> {
        self.bucket().delete(key, revision).await
    }

    async fn entries(&self) -> Result<Vec<Entry>, Error> {
        self.bucket().entries().await
    }

    async fn watch(&self) -> Result<Watch, Error> {
        self.bucket().watch().await
    }
}

/// A bucket in which the lease is `holder`'s, at a revision of choice.
async fn bucket_with_lease_at(holder: &Leases, revision: u64) -> Arc<dyn KeyValue> {
    let bucket = bucket().await;
    while bucket.put("worker.other", holder.value()).await.unwrap() + 1 < revision {}
    assert_eq!(bucket.put(NAME, holder.value()).await.unwrap(), revision);
    bucket
}

#[tokio::test(start_paused = true)]
async fn a_number_that_comes_again_while_a_lease_is_renewed_proves_nothing() {
    let (clock, first) = (Clock::system(), bucket().await);
    let lost = Lost::new(Arc::clone(&first));
    let (mut old, new) = (worker("old", &first, &clock), worker("new", &first, &clock));
    old.bucket = lost.clone();
    old.renew().await.unwrap();
    let held = take(&mut old).await.trust;
    assert_eq!(renewed(&mut old).await, Vec::<String>::new());
    // Between its look and its renewal the bucket is lost, and another takes the lease.
    let second = bucket_with_lease_at(&new, old.held[NAME].revision).await;
    *lost.next.lock().unwrap() = Some(Arc::clone(&second));
    assert_eq!(renewed(&mut old).await, [NAME]);
    assert!(!held.holds());
}

#[tokio::test(start_paused = true)]
async fn a_number_that_comes_again_while_a_lease_is_taken_is_waited_for() {
    let (clock, first) = (Clock::system(), bucket().await);
    let lost = Lost::new(Arc::clone(&first));
    let (mut silent, mut new) = (worker("silent", &first, &clock), worker("new", &first, &clock));
    let third = worker("third", &first, &clock);
    new.bucket = lost.clone();
    silent.renew().await.unwrap();
    take(&mut silent).await;
    new.renew().await.unwrap();
    clock.sleep(TTL * 2).await;
    new.renew().await.unwrap();
    assert!(new.should_take(NAME));
    // The lease was watched run out; then the bucket is lost, and a third takes the lease.
    let revision = new.seen[NAME].revision;
    *lost.next.lock().unwrap() = Some(bucket_with_lease_at(&third, revision).await);
    let held = Trust::new(&clock, clock.monotonic() + TTL);
    let won = take(&mut new).await;
    assert!(held.holds());
    assert!(!both_answer(&clock, &won, &held).await);
}

#[async_trait]
impl KeyValue for Unlisted {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.bucket.get(key).await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.bucket.put(key, value).await
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.bucket.create(key, value).await
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        self.bucket.update(key, value, revision).await
    }

    async fn delete(&self, key: &str, revision: Option<u64>) -> Result<(), Error> {
        self.bucket.delete(key, revision).await
    }

    async fn entries(&self) -> Result<Vec<Entry>, Error> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(Error::Unavailable("it does not list".to_owned()));
        }
        self.bucket.entries().await
    }

    async fn watch(&self) -> Result<Watch, Error> {
        self.bucket.watch().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_took_is_lost_also_when_leases_cannot_be_listed() {
    let bus = Memory::new(&Options::default());
    let bucket = bus.key_value("leases", Some(TTL * KEPT_TTLS)).await.unwrap();
    let unlisted = Arc::new(Unlisted { bucket: bucket.clone(), fails: AtomicBool::new(false) });
    let clock = Clock::starting_at(Timestamp(0));
    let mut sleeper = Leases::new(unlisted.clone(), clock.clone(), "sleeper".into(), TTL);
    let mut other = Leases::new(bucket, clock.clone(), "other".into(), TTL);
    sleeper.renew().await.unwrap();
    let won = sleeper.take(NAME).await.unwrap().unwrap();
    sleeper.renew().await.unwrap();
    assert_eq!(sleeper.take_lost(), Vec::<String>::new());
    other.renew().await.unwrap();

    clock.sleep(TTL * 2).await;
    other.renew().await.unwrap();
    assert!(!won.trust.holds());
    assert!(other.take(NAME).await.unwrap().is_some());
    unlisted.fails.store(true, Ordering::Relaxed);
    assert!(sleeper.renew().await.is_err());
    assert_eq!(sleeper.take_lost(), [NAME]);
    assert!(!won.trust.holds() && sleeper.held().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pool_moves_to_the_worker_that_is_to_have_it_only_where_that_spreads_pools() {
    let (clock, bucket) = (Clock::system(), bucket().await);
    let names = ["shard.0", "pool.a", "pool.b"];
    // One that is to have all of them.
    let chosen = |name: &String| {
        let all = |lease: &&str| {
            muster_core::route::worker_of_lease(lease, ["old", name]) == Some(name.as_str())
        };
        names.iter().all(all)
    };
    let new = (0..).map(|number| format!("new{number}")).find(chosen).unwrap();
    let (mut old, mut new) = (worker("old", &bucket, &clock), worker(&new, &bucket, &clock));
    for name in names {
        old.take(name).await.unwrap().unwrap();
    }
    for _ in 0..10 {
        clock.sleep(TTL / 5).await;
        old.renew().await.unwrap();
        new.renew().await.unwrap();
    }
    let given = |old: &Leases| names.map(|name| old.should_give(name));
    assert_eq!(given(&old), [true, true, true]);
    old.give_back("pool.a").await.unwrap();
    new.renew().await.unwrap();
    assert!(new.should_take("pool.a"));
    new.take("pool.a").await.unwrap().unwrap();
    old.renew().await.unwrap();
    assert_eq!(given(&old), [true, false, false]);
}
