//! A key-value bucket in memory. Expired keys are swept whenever somebody looks, and by watchers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use tokio::{sync::broadcast, time::Instant};

use crate::bus::{Change, Entry, Error, KeyValue, Watch, subject};

/// Changes that a watcher may lag behind before it gets a `Reset` instead.
const WATCH_CHANGES_MAX: usize = 256;

pub(super) struct Bucket {
    inner: Arc<Inner>,
}

struct Inner {
    value_bytes_max: usize,
    state: Mutex<State>,
}

struct State {
    ttl: Option<Duration>,
    revision: u64,
    live: BTreeMap<String, Live>,
    changes: broadcast::Sender<Change>,
}

struct Live {
    value: Bytes,
    revision: u64,
    written: Instant,
}

struct Watcher {
    inner: Arc<Inner>,
    /// `None` when the next thing to tell is a `Reset`.
    changes: Option<broadcast::Receiver<Change>>,
}

impl Bucket {
    pub(super) fn new(value_bytes_max: usize) -> Self {
        let changes = broadcast::Sender::new(WATCH_CHANGES_MAX);
        let state = State { ttl: None, revision: 0, live: BTreeMap::new(), changes };
        Self { inner: Arc::new(Inner { value_bytes_max, state: Mutex::new(state) }) }
    }

    /// Takes `ttl` for all keys, also those that are there: the last to open the bucket decides.
    pub(super) fn set_ttl(&self, ttl: Option<Duration>) {
        self.inner.lock().ttl = ttl;
    }

    /// Begins anew; watchers are told by a `Reset`.
    pub(super) fn lose_everything(&self) {
        let mut state = self.inner.lock();
        state.revision = 0;
        state.live.clear();
        // The old watchers find theirs closed.
        state.changes = broadcast::Sender::new(WATCH_CHANGES_MAX);
    }

    fn write(
        &self,
        key: &str,
        value: Bytes,
        check: impl FnOnce(Option<u64>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        subject::check_key(key)?;
        let limit = self.inner.value_bytes_max;
        if value.len() > limit {
            return Err(Error::PayloadTooLarge { bytes: value.len(), limit });
        }
        let mut state = self.inner.lock();
        check(state.live.get(key).map(|live| live.revision))?;
        state.revision += 1;
        let revision = state.revision;
        let live = Live { value: value.clone(), revision, written: Instant::now() };
        state.live.insert(key.to_owned(), live);
        state.tell(Change::Put(Entry { key: key.to_owned(), value, revision }));
        Ok(revision)
    }
}

#[async_trait]
impl KeyValue for Bucket {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        subject::check_key(key)?;
        let state = self.inner.lock();
        Ok(state.live.get(key).map(|live| live.entry(key)))
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.write(key, value, |_| Ok(()))
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.write(key, value, |live| match live {
            Some(_) => Err(Error::Exists { key: key.to_owned() }),
            None => Ok(()),
        })
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        self.write(key, value, |live| match live {
            Some(live) if live == revision => Ok(()),
            Some(_) | None => Err(Error::Conflict { key: key.to_owned(), revision }),
        })
    }

    async fn delete(&self, key: &str, revision: Option<u64>) -> Result<(), Error> {
        subject::check_key(key)?;
        let mut state = self.inner.lock();
        let live = state.live.get(key).map(|live| live.revision);
        if let Some(revision) = revision
            && live != Some(revision)
        {
            return Err(Error::Conflict { key: key.to_owned(), revision });
        }
        if live.is_some() {
            state.revision += 1;
            state.live.remove(key);
            state.tell(Change::Delete { key: key.to_owned() });
        }
        Ok(())
    }

    async fn entries(&self) -> Result<Vec<Entry>, Error> {
        Ok(self.inner.lock().entries())
    }

    async fn watch(&self) -> Result<Watch, Error> {
        let watcher = Watcher { inner: Arc::clone(&self.inner), changes: None };
        Ok(Watch::new(stream::unfold(watcher, |mut watcher| async move {
            let change = watcher.next().await;
            Some((change, watcher))
        })))
    }
}

impl Inner {
    /// The state without what has expired.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("no code panics while it holds this lock");
        state.sweep(Instant::now());
        state
    }
}

impl State {
    fn sweep(&mut self, now: Instant) {
        let Some(ttl) = self.ttl else { return };
        let is_expired = |live: &Live| now.duration_since(live.written) >= ttl;
        let expired: Vec<String> = self
            .live
            .iter()
            .filter(|(_, live)| is_expired(live))
            .map(|(key, _)| key.clone())
            .collect();
        for key in expired {
            self.live.remove(&key);
            self.tell(Change::Delete { key });
        }
    }

    fn next_expiry(&self) -> Option<Instant> {
        let ttl = self.ttl?;
        self.live.values().map(|live| live.written + ttl).min()
    }

    fn entries(&self) -> Vec<Entry> {
        self.live.iter().map(|(key, live)| live.entry(key)).collect()
    }

    fn tell(&self, change: Change) {
        // An error means that nobody watches.
        let _ = self.changes.send(change);
    }
}

impl Live {
    fn entry(&self, key: &str) -> Entry {
        Entry { key: key.to_owned(), value: self.value.clone(), revision: self.revision }
    }
}

impl Watcher {
    async fn next(&mut self) -> Change {
        loop {
            let Some(changes) = self.changes.as_mut() else {
                let state = self.inner.lock();
                self.changes = Some(state.changes.subscribe());
                return Change::Reset(state.entries());
            };
            let expiry = self.inner.lock().next_expiry();
            let sweep = async {
                match expiry {
                    Some(expiry) => tokio::time::sleep_until(expiry).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                change = changes.recv() => match change {
                    Ok(change) => return change,
                    // Lagged, or closed because the bucket was lost.
                    Err(_) => self.changes = None,
                },
                () = sweep => {}
            }
        }
    }
}
