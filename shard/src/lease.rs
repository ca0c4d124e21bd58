//! Leases on the bus: who owns which shard, who leads which pool.
//!
//! A lease is a key of a bucket. The holder writes it anew often, and trusts it for the time-out
//! only, by its own monotonic clock and counted from before it asked. So a key that stays at one
//! revision for longer than the time-out, by the clock of whoever watches it, has nobody who trusts
//! it. Such a key is taken by comparing and swapping that very revision: its holder may yet wake,
//! but cannot renew what was taken.
//!
//! A key that is missing proves nothing: it may have been given back, but also deleted, expired by
//! a server's clock that was set, or lost with its bucket. Whoever takes that has to assume that
//! somebody renewed it at the last moment, unless the log says that it was given up.
//!
//! Revisions tell apart what is written to one bucket. In a bucket that was lost and made anew they
//! begin again, and one that is known from before may come again for something else. So each worker
//! has a key of its own, the sign, which nobody else writes: as long as it can be swapped, the
//! bucket is the one in which it was written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_api::bus::{self, Holder};
use muster_core::mutant::{self, Mutant};
use muster_runtime::Clock;
use muster_runtime::bus::{Entry, Error, KeyValue};
use tokio::sync::{mpsc, oneshot};

#[cfg(test)]
mod tests;

/// How long the bucket keeps a key that is not written again, in lease times: longer than anybody
/// needs to see that it is not. Expiry by the server only tidies up.
pub(crate) const KEPT_TTLS: u32 = 5;
/// Clocks may run apart by one part in this many.
const DRIFT: u32 = 20;

/// Until when a holder may trust its lease. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    clock: Clock,
    /// Milliseconds of the monotonic clock; 0 means no longer.
    until_ms: Arc<AtomicU64>,
}

impl Trust {
    fn new(clock: &Clock, until: Duration) -> Self {
        let trust = Self { clock: clock.clone(), until_ms: Arc::new(AtomicU64::new(0)) };
        trust.extend(until);
        trust
    }

    fn extend(&self, until: Duration) {
        let millis = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until_ms.store(millis, Ordering::Release);
    }

    fn end(&self) {
        self.until_ms.store(0, Ordering::Release);
    }

    /// Whether the lease certainly holds at this moment.
    pub(crate) fn holds(&self) -> bool {
        let until_ms = self.until_ms.load(Ordering::Acquire);
        if mutant::is(Mutant::TrustsForEver) {
            return until_ms > 0;
        }
        self.clock.monotonic().as_millis() < u128::from(until_ms)
    }
}

/// What is known of a key that somebody else wrote.
#[derive(Debug, Clone)]
struct Seen {
    worker: String,
    revision: u64,
    /// When this revision was first seen: it was written before.
    at: Duration,
    /// Whether the key is still there.
    live: bool,
}

/// Another worker.
#[derive(Debug, Clone)]
struct Peer {
    /// Since when it is known to live.
    since: Duration,
    revision: u64,
    /// When this revision of its key was first seen.
    at: Duration,
}

/// A lease that this worker holds.
#[derive(Debug)]
struct Held {
    revision: u64,
    trust: Trust,
}

/// The leases of one worker.
pub(crate) struct Leases {
    bucket: Arc<dyn KeyValue>,
    clock: Clock,
    worker: String,
    ttl: Duration,
    held: BTreeMap<String, Held>,
    seen: BTreeMap<String, Seen>,
    /// Workers that live.
    workers: BTreeMap<String, Peer>,
    /// The revision of this worker's own key.
    sign: Option<u64>,
    started: Duration,
}

/// An owner's question whether its lease is still its own, to be answered by a renewal that begins
/// after it.
pub(crate) struct Ask {
    pub(crate) lease: String,
    pub(crate) answer: oneshot::Sender<()>,
}

/// Asks that for one lease.
pub(crate) struct Asker {
    pub(crate) lease: String,
    pub(crate) asks: mpsc::Sender<Ask>,
}

impl Asker {
    /// Returns once the lease was renewed by a renewal that began after this call: nobody had taken
    /// it when this was called. Never returns when it was lost.
    pub(crate) async fn renewed(&self) {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { lease: self.lease.clone(), answer };
        if self.asks.send(ask).await.is_err() || answered.await.is_err() {
            std::future::pending().await
        }
    }
}

/// A lease that was just won.
pub(crate) struct Won {
    pub(crate) trust: Trust,
    /// When, by the monotonic clock, every earlier holder has certainly stopped trusting its lease.
    pub(crate) clear_at: Duration,
}

/// Whether a lease is that of a pool.
fn is_of_pool(name: &str) -> bool {
    name.starts_with("pool.")
}

impl Leases {
    pub(crate) fn new(
        bucket: Arc<dyn KeyValue>,
        clock: Clock,
        worker: String,
        ttl: Duration,
    ) -> Self {
        let started = clock.monotonic();
        let (held, seen, workers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { bucket, clock, worker, ttl, held, seen, workers, sign: None, started }
    }

    /// How long after its last renewal nobody trusts a lease any more, by any clock.
    fn patience(&self) -> Duration {
        self.ttl + self.ttl / DRIFT
    }

    fn value(&self) -> bytes::Bytes {
        bus::encode(&Holder { worker: self.worker.clone() })
    }

    /// Says that this worker lives, looks at all leases, and renews its own. What it lost,
    /// [`Leases::take_lost`] tells, also where this failed halfway.
    pub(crate) async fn renew(&mut self) -> Result<(), Error> {
        let is_same = self.swap_sign().await?;
        if !is_same {
            self.seen.clear();
            self.sign = Some(self.bucket.put(&self.sign_key(), self.value()).await?);
        }
        let entries = self.bucket.entries().await?;
        let mut lost = self.look(&entries);
        if !is_same {
            lost.extend(self.held_elsewhere(&entries));
        }
        let value = self.value();
        let mut renewed = Vec::new();
        for (name, held) in &mut self.held {
            if lost.contains(name) {
                held.trust.end();
                continue;
            }
            let before = self.clock.monotonic();
            match self.bucket.update(name, value.clone(), held.revision).await {
                Ok(revision) => {
                    held.revision = revision;
                    renewed.push((held.trust.clone(), before + self.ttl));
                }
                Err(Error::Conflict { .. }) => held.trust.end(),
                Err(error) => return Err(error),
            }
        }
        if !renewed.is_empty() && !self.swap_sign().await? {
            renewed.into_iter().for_each(|(trust, _)| trust.end());
            return Ok(());
        }
        renewed.into_iter().for_each(|(trust, until)| trust.extend(until));
        Ok(())
    }

    fn sign_key(&self) -> String {
        format!("worker.{}", self.worker)
    }

    /// Whether the bucket is still the one that this worker's own key was written to. If not, or if
    /// that key was lost for another reason, nothing that is known of the bucket counts any more.
    async fn swap_sign(&mut self) -> Result<bool, Error> {
        let Some(revision) = self.sign else { return Ok(false) };
        match self.bucket.update(&self.sign_key(), self.value(), revision).await {
            Ok(revision) => {
                self.sign = Some(revision);
                Ok(true)
            }
            Err(Error::Conflict { .. }) => {
                self.sign = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Leases held here of which the bucket says otherwise.
    fn held_elsewhere(&self, entries: &[Entry]) -> Vec<String> {
        let is_there = |name: &String, held: &Held| {
            entries.iter().any(|entry| {
                let holder = bus::decode::<Holder>(&entry.value);
                let is_own = holder.is_ok_and(|holder| holder.worker == self.worker);
                entry.key == *name && entry.revision == held.revision && is_own
            })
        };
        let lost = self.held.iter().filter(|(name, held)| !is_there(name, held));
        lost.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a lease is held and trusted.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.held.get(name).is_some_and(|held| held.trust.holds())
    }

    /// Leases that are trusted no more: another worker has them, or they ran out because the bus
    /// could not be reached or this process slept.
    pub(crate) fn take_lost(&mut self) -> Vec<String> {
        let lost = self.held.iter().filter(|(_, held)| !held.trust.holds());
        let lost: Vec<String> = lost.map(|(name, _)| name.clone()).collect();
        for name in &lost {
            self.held.remove(name);
        }
        lost
    }

    /// Takes in who holds what. Returns own leases that somebody else holds: in a bucket that was
    /// lost and is new, the number of another's revision may happen to be the one held here, and a
    /// renewal would take the lease from it.
    fn look(&mut self, entries: &[Entry]) -> Vec<String> {
        let now = self.clock.monotonic();
        for seen in self.seen.values_mut() {
            seen.live = false;
        }
        let mut workers = BTreeMap::new();
        let mut lost = Vec::new();
        for entry in entries {
            let Ok(holder) = bus::decode::<Holder>(&entry.value) else {
                tracing::warn!(key = %entry.key, "a lease's value cannot be read");
                continue;
            };
            if entry.key.starts_with("worker.") {
                let fresh = Peer { since: now, revision: entry.revision, at: now };
                let mut peer = self.workers.get(&holder.worker).cloned().unwrap_or(fresh);
                if peer.revision != entry.revision {
                    (peer.revision, peer.at) = (entry.revision, now);
                }
                workers.insert(holder.worker, peer);
                continue;
            }
            if holder.worker != self.worker && self.held.contains_key(&entry.key) {
                lost.push(entry.key.clone());
            }
            let fresh = || Seen {
                worker: holder.worker.clone(),
                revision: entry.revision,
                at: now,
                live: true,
            };
            let seen = self.seen.entry(entry.key.clone()).or_insert_with(fresh);
            if seen.revision != entry.revision || seen.worker != holder.worker {
                *seen = fresh();
            }
            seen.live = true;
        }
        self.workers = workers;
        lost
    }

    /// Whether this worker should try to take a lease: nobody trusts it or nobody has it, and this
    /// worker is the one to have it, or who is does not seem to want it.
    pub(crate) fn should_take(&self, name: &str) -> bool {
        if self.held.contains_key(name) {
            return false;
        }
        let now = self.clock.monotonic();
        let preferred = self.preferred(name) == Some(self.worker.as_str());
        match self.seen.get(name) {
            Some(seen) if seen.live && !self.is_stale(seen.at) => false,
            Some(seen) => preferred || now.saturating_sub(seen.at) > self.ttl * 3,
            None => preferred || now.saturating_sub(self.started) > self.ttl * 2,
        }
    }

    /// Whether what was first seen then, and is the same still, is trusted by nobody.
    fn is_stale(&self, at: Duration) -> bool {
        self.clock.monotonic().saturating_sub(at) > self.patience()
    }

    /// Whether another worker, that has been there for a while, is the one to have a lease held
    /// here.
    pub(crate) fn should_give(&self, name: &str) -> bool {
        let Some(preferred) = self.preferred(name) else { return false };
        let since = self.workers.get(preferred).map(|peer| peer.since);
        let settled = |at: Duration| self.clock.monotonic().saturating_sub(at) > self.ttl;
        let is_worth_it = !is_of_pool(name) || self.evens_out(preferred);
        preferred != self.worker && since.is_some_and(settled) && is_worth_it
    }

    /// Whether pools are spread more evenly if another worker has one of those held here. Else they
    /// stay: who begins to lead a pool knows nothing of it for a while.
    fn evens_out(&self, other: &str) -> bool {
        let own = self.held.keys().filter(|name| is_of_pool(name)).count();
        let seen = self.seen.iter().filter(|(name, _)| is_of_pool(name));
        own > seen.filter(|(_, seen)| seen.live && seen.worker == other).count() + 1
    }

    fn preferred(&self, name: &str) -> Option<&str> {
        let live = self.workers.iter().filter(|(_, peer)| !self.is_stale(peer.at));
        let mut workers: Vec<&str> = live.map(|(worker, _)| worker.as_str()).collect();
        if !workers.contains(&self.worker.as_str()) {
            workers.push(&self.worker);
        }
        let chosen = muster_core::route::worker_of_lease(name, workers)?;
        if chosen == self.worker {
            Some(&self.worker)
        } else {
            Some(self.workers.get_key_value(chosen)?.0)
        }
    }

    /// Tries to take a lease.
    pub(crate) async fn take(&mut self, name: &str) -> Result<Option<Won>, Error> {
        let watched = self.seen.get(name).filter(|seen| seen.live && self.is_stale(seen.at));
        let watched = watched.map(|seen| (seen.revision, seen.at));
        let before = self.clock.monotonic();
        let written = match watched {
            Some((revision, _)) => self.bucket.update(name, self.value(), revision).await,
            None => self.bucket.create(name, self.value()).await,
        };
        let revision = match written {
            Ok(revision) => revision,
            Err(Error::Exists { .. } | Error::Conflict { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Whoever held it can have renewed it until it was taken, unless the swap shows that nobody
        // did: of a key of the bucket in which it was watched.
        // Where that cannot be learned the lease is held all the same, with the longer wait.
        let is_proof = watched.is_some() && matches!(self.swap_sign().await, Ok(true));
        let watched = watched.filter(|_| is_proof);
        let renewed_before = watched.map_or_else(|| self.clock.monotonic(), |(_, at)| at);
        let trust = Trust::new(&self.clock, before + self.ttl);
        self.held.insert(name.to_owned(), Held { revision, trust: trust.clone() });
        Ok(Some(Won { trust, clear_at: renewed_before + self.patience() }))
    }

    /// Stops trusting a lease without giving it away: what it stood for has ended by itself.
    pub(crate) fn abandon(&mut self, name: &str) -> Option<u64> {
        let held = self.held.remove(name)?;
        held.trust.end();
        Some(held.revision)
    }

    /// Gives a lease back, so that another may take it at once.
    pub(crate) async fn give_back(&mut self, name: &str) -> Result<(), Error> {
        let Some(revision) = self.abandon(name) else { return Ok(()) };
        match self.bucket.delete(name, Some(revision)).await {
            Ok(()) | Err(Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says that this worker is gone.
    pub(crate) async fn leave(&mut self) -> Result<(), Error> {
        self.bucket.delete(&self.sign_key(), None).await
    }

    /// Names of the leases held.
    pub(crate) fn held(&self) -> Vec<String> {
        self.held.keys().cloned().collect()
    }
}
