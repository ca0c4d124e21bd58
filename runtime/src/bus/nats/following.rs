//! Watching a bucket: a listing, then the messages after it, and a new listing after any gap.
//!
//! The server does not announce that a key expired, so a key that was not written for its age is
//! asked for. A slow periodic listing finds whatever else was missed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::jetstream::{self, consumer::push};
use futures::{StreamExt, stream};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::bucket::Inner;
use crate::bus::{Change, Entry, Watch};

/// How often everything is listed again, change or no change.
const RELIST_INTERVAL: Duration = Duration::from_secs(60);
/// The wait after a listing failed, and before a key that should have expired is asked for again.
const RETRY_DELAY: Duration = Duration::from_millis(250);

struct Following {
    bucket: Arc<Inner>,
    breaks: watch::Receiver<u64>,
    /// What the reader was told.
    known: BTreeMap<String, Known>,
    /// `None` when a listing is due.
    messages: Option<push::Ordered>,
    /// The reader has to be told everything, whether or not it looks different.
    is_reset_due: bool,
    relist_at: Instant,
}

struct Known {
    revision: u64,
    expires: Option<Instant>,
}

/// The changes of `bucket` from its present state on.
pub(super) fn follow(bucket: Arc<Inner>) -> Watch {
    let breaks = bucket.link.breaks.clone();
    let following = Following {
        bucket,
        breaks,
        known: BTreeMap::new(),
        messages: None,
        is_reset_due: true,
        relist_at: Instant::now(),
    };
    Watch::new(stream::unfold(following, |mut following| async move {
        let change = following.next().await;
        Some((change, following))
    }))
}

impl Following {
    async fn next(&mut self) -> Change {
        loop {
            let Some(messages) = self.messages.as_mut() else {
                match self.list().await {
                    Some(change) => return change,
                    None => continue,
                }
            };
            let due = self.known.iter().filter_map(|(key, known)| Some((known.expires?, key)));
            let due = due.min().map(|(at, key)| (at, key.clone()));
            tokio::select! {
                biased;
                // An error means that the connection is gone for good; the listing will say so.
                _ = self.breaks.changed() => {
                    self.is_reset_due = true;
                    self.messages = None;
                }
                () = sleep_until(self.relist_at) => self.messages = None,
                key = overdue(due) => {
                    if let Some(change) = self.check_expired(key).await {
                        return change;
                    }
                }
                message = messages.next() => {
                    if let Some(change) = self.on_message(message) {
                        return change;
                    }
                }
            }
        }
    }

    /// Lists the bucket; gives a change if the reader has to know.
    async fn list(&mut self) -> Option<Change> {
        self.breaks.mark_unchanged();
        let (entries, messages) = match self.bucket.list().await {
            Ok(listing) => listing,
            Err(error) => {
                tracing::debug!(%error, "bucket cannot be listed, trying again");
                sleep(RETRY_DELAY).await;
                return None;
            }
        };
        self.messages = Some(messages);
        self.relist_at = Instant::now() + RELIST_INTERVAL;
        let is_same = entries.len() == self.known.len()
            && entries.iter().all(|entry| self.is_known(&entry.key, entry.revision));
        if is_same && !self.is_reset_due {
            return None;
        }
        self.is_reset_due = false;
        let mut known = BTreeMap::new();
        for entry in &entries {
            let before = self.known.remove(&entry.key);
            let same = before.filter(|before| before.revision == entry.revision);
            let known_now = same.unwrap_or_else(|| self.known_now(entry.revision));
            known.insert(entry.key.clone(), known_now);
        }
        self.known = known;
        Some(Change::Reset(entries))
    }

    fn on_message<E>(&mut self, message: Option<Result<jetstream::Message, E>>) -> Option<Change> {
        let Some(Ok(message)) = message else {
            self.messages = None;
            return None;
        };
        match self.bucket.read(&message)? {
            Ok(entry) => self.on_entry(entry),
            Err(key) => {
                self.known.remove(&key)?;
                Some(Change::Delete { key })
            }
        }
    }

    fn on_entry(&mut self, entry: Entry) -> Option<Change> {
        if self.is_known(&entry.key, entry.revision) {
            return None;
        }
        self.known.insert(entry.key.clone(), self.known_now(entry.revision));
        Some(Change::Put(entry))
    }

    async fn check_expired(&mut self, key: String) -> Option<Change> {
        match self.bucket.get(&key).await {
            Ok(None) => {
                self.known.remove(&key);
                return Some(Change::Delete { key });
            }
            Ok(Some(entry)) if !self.is_known(&key, entry.revision) => return self.on_entry(entry),
            // It lives on at the server, or the server cannot be asked.
            Ok(Some(_)) | Err(_) => {}
        }
        if let Some(known) = self.known.get_mut(&key) {
            known.expires = Some(Instant::now() + RETRY_DELAY);
        }
        None
    }

    fn is_known(&self, key: &str, revision: u64) -> bool {
        self.known.get(key).is_some_and(|known| known.revision == revision)
    }

    fn known_now(&self, revision: u64) -> Known {
        Known { revision, expires: self.bucket.ttl().map(|ttl| Instant::now() + ttl) }
    }
}

/// Waits for the moment, then gives the key.
async fn overdue(due: Option<(Instant, String)>) -> String {
    match due {
        Some((at, key)) => {
            sleep_until(at).await;
            key
        }
        None => std::future::pending().await,
    }
}
