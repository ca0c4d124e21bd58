//! The bus within one process: no threads, no wall clock, the same order every time.
//!
//! Messages reach subscribers in the order of subscription; the members of a group take turns.
//! Time-outs and key expiry follow tokio's clock, so paused time governs them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use tokio::sync::{mpsc, oneshot};

use super::{
    Bus, Error, KeyValue, Message, Options, PAYLOAD_HEADROOM_BYTES, ReplyTo, Subscription, subject,
};

mod bucket;

use bucket::Bucket;

/// The default payload limit: the same as of a NATS server with its default settings.
const PAYLOAD_BYTES_MAX: usize = (1 << 20) - PAYLOAD_HEADROOM_BYTES;

/// A bus in memory. Clones are the same bus.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    subscription_messages_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    subscribers: BTreeMap<u64, Subscriber>,
    /// How many messages each (pattern, group) has had, which says whose turn it is.
    turns: BTreeMap<(String, String), usize>,
    waiting: BTreeMap<String, oneshot::Sender<Bytes>>,
    buckets: BTreeMap<String, Arc<Bucket>>,
    messages_dropped: u64,
}

struct Subscriber {
    pattern: String,
    group: Option<String>,
    messages: mpsc::Sender<Message>,
}

/// Unsubscribes when the reader drops its subscription.
struct Registration {
    id: u64,
    shared: Arc<Shared>,
}

/// Forgets a request when its caller has gone, answered or not.
struct Waiting<'a> {
    inbox: String,
    shared: &'a Shared,
}

impl Memory {
    /// An empty bus.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let subscription_messages_max = options.subscription_messages_max.max(1);
        Self { shared: Arc::new(Shared { subscription_messages_max, state: Mutex::default() }) }
    }

    /// All buckets are empty and count their revisions anew, as after a server lost its data:
    /// for simulations. Subscriptions stand, as clients renew theirs when they connect again.
    pub fn lose_everything(&self) {
        for bucket in self.shared.lock().buckets.values() {
            bucket.lose_everything();
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(&Options::default())
    }
}

#[async_trait]
impl Bus for Memory {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), Error> {
        subject::check_subject(subject)?;
        check_payload(&payload)?;
        self.shared.lock().deliver(subject, &payload, None);
        Ok(())
    }

    async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        subject::check_subject(subject)?;
        check_payload(&payload)?;
        let (answer, waiting) = {
            let mut state = self.shared.lock();
            let inbox = format!("_INBOX.{}", state.take_id());
            let (sender, answer) = oneshot::channel();
            state.waiting.insert(inbox.clone(), sender);
            let reply = Some(ReplyTo(inbox.clone()));
            let is_heard = state.deliver(subject, &payload, reply);
            if !is_heard {
                state.waiting.remove(&inbox);
                return Err(Error::NoResponders { subject: subject.to_owned() });
            }
            (answer, Waiting { inbox, shared: &self.shared })
        };
        let answer = tokio::time::timeout(timeout, answer).await;
        drop(waiting);
        match answer {
            Ok(Ok(payload)) => Ok(payload),
            Ok(Err(_)) | Err(_) => Err(Error::Timeout { subject: subject.to_owned(), timeout }),
        }
    }

    async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscription, Error> {
        subject::check_pattern(subject, group)?;
        let (sender, receiver) = mpsc::channel(self.shared.subscription_messages_max);
        let mut state = self.shared.lock();
        let id = state.take_id();
        let subscriber = Subscriber {
            pattern: subject.to_owned(),
            group: group.map(str::to_owned),
            messages: sender,
        };
        state.subscribers.insert(id, subscriber);
        let registration = Registration { id, shared: Arc::clone(&self.shared) };
        let messages =
            stream::unfold((receiver, registration), |(mut receiver, registration)| async move {
                let message = receiver.recv().await?;
                Some((message, (receiver, registration)))
            });
        Ok(Subscription::new(messages))
    }

    async fn respond(&self, to: &ReplyTo, payload: Bytes) -> Result<(), Error> {
        check_payload(&payload)?;
        let waiting = self.shared.lock().waiting.remove(&to.0);
        if let Some(waiting) = waiting {
            // The requester may have stopped waiting at this very moment; then nobody wants it.
            let _ = waiting.send(payload);
        }
        Ok(())
    }

    async fn key_value(
        &self,
        bucket: &str,
        ttl: Option<Duration>,
    ) -> Result<Arc<dyn KeyValue>, Error> {
        subject::check_bucket(bucket)?;
        let mut state = self.shared.lock();
        let bucket = state
            .buckets
            .entry(bucket.to_owned())
            .or_insert_with(|| Arc::new(Bucket::new(PAYLOAD_BYTES_MAX)));
        bucket.set_ttl(ttl);
        let bucket: Arc<dyn KeyValue> = Arc::<Bucket>::clone(bucket);
        Ok(bucket)
    }

    fn payload_bytes_max(&self) -> usize {
        PAYLOAD_BYTES_MAX
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn messages_dropped(&self) -> u64 {
        self.shared.lock().messages_dropped
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

impl State {
    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Hands the message to whom it concerns; says whether there was anybody.
    fn deliver(&mut self, subject: &str, payload: &Bytes, reply: Option<ReplyTo>) -> bool {
        let mut chosen = Vec::new();
        let mut groups: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
        for (&id, subscriber) in &self.subscribers {
            if !subject::matches(&subscriber.pattern, subject) {
                continue;
            }
            match &subscriber.group {
                Some(group) => {
                    groups.entry((subscriber.pattern.clone(), group.clone())).or_default().push(id)
                }
                None => chosen.push(id),
            }
        }
        for (key, members) in groups {
            let turn = self.turns.entry(key).or_default();
            chosen.push(members[*turn % members.len()]);
            *turn = turn.wrapping_add(1);
        }
        for id in &chosen {
            let message = Message {
                subject: subject.to_owned(),
                payload: payload.clone(),
                reply: reply.clone(),
            };
            if self.subscribers[id].messages.try_send(message).is_err() {
                self.messages_dropped += 1;
            }
        }
        !chosen.is_empty()
    }

    fn unsubscribe(&mut self, id: u64) {
        let Some(gone) = self.subscribers.remove(&id) else { return };
        let Some(group) = gone.group else { return };
        let is_same = |other: &Subscriber| {
            other.group.as_ref() == Some(&group) && other.pattern == gone.pattern
        };
        if !self.subscribers.values().any(is_same) {
            self.turns.remove(&(gone.pattern, group));
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.lock().unsubscribe(self.id);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.inbox);
    }
}

fn check_payload(payload: &Bytes) -> Result<(), Error> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::PayloadTooLarge { bytes: payload.len(), limit: PAYLOAD_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
