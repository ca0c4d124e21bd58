//! The bus as each process sees it: the in-memory bus with a network in front that delays, loses,
//! doubles, reorders and cuts.
//!
//! A message carries its sender in front of its payload, so that two processes can be kept from
//! hearing each other although the bus hears both.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt as _;
use muster_runtime::bus::memory::Memory;
use muster_runtime::bus::{Bus, Entry, Error, KeyValue, Message, ReplyTo, Subscription, Watch};
use tokio::sync::oneshot;

use crate::background::spawn;
use crate::faults::{Faults, Peer};
use crate::trace::{Trace, note};

/// How long a key-value operation waits for an answer.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages that are late to one subscriber at a time.
const LATE_MAX: usize = 10_000;

const SENDER_BYTES: usize = 2;

/// One process's connection to the bus.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) peer: Peer,
    pub(crate) bus: Memory,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
}

impl Endpoint {
    fn check(&self) -> Result<(), Error> {
        if self.faults.has_bus(self.peer) {
            Ok(())
        } else {
            Err(Error::Unavailable("the connection is down".to_owned()))
        }
    }

    fn envelope(&self, payload: &Bytes) -> Bytes {
        let mut envelope = BytesMut::with_capacity(SENDER_BYTES + payload.len());
        envelope.put_u16(self.peer.0);
        envelope.put_slice(payload);
        envelope.freeze()
    }

    /// The payload, if it is from somebody this process hears.
    fn open(&self, mut envelope: Bytes) -> Option<Bytes> {
        let payload = envelope.split_off(SENDER_BYTES);
        let sender = Peer(u16::from_be_bytes([envelope[0], envelope[1]]));
        (self.faults.has_bus(self.peer) && self.faults.hears(sender, self.peer)).then_some(payload)
    }

    /// Sends a request on its way; nothing comes back when it or its answer is lost.
    fn send_request(
        &self,
        subject: &str,
        envelope: &Bytes,
        timeout: Duration,
        answer: Option<oneshot::Sender<Result<Bytes, Error>>>,
    ) {
        let (this, subject, envelope) = (self.clone(), subject.to_owned(), envelope.clone());
        spawn(async move {
            tokio::time::sleep(this.faults.delay()).await;
            let reply = this.bus.request(&subject, envelope, timeout).await;
            let Some(answer) = answer else { return };
            if matches!(reply, Err(Error::NoResponders { .. })) {
                tokio::time::sleep(this.faults.delay()).await;
            }
            // Who asked may have given up.
            let _ = answer.send(reply);
        });
    }
}

#[async_trait]
impl Bus for Endpoint {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), Error> {
        self.check()?;
        note!(self.trace, "p{} publishes {subject} ({} B)", self.peer.0, payload.len());
        let copies = if self.faults.message_is_doubled() { 2 } else { 1 };
        for _ in 0..copies {
            let (bus, subject) = (self.bus.clone(), subject.to_owned());
            let (envelope, delay) = (self.envelope(&payload), self.faults.delay());
            spawn(async move {
                tokio::time::sleep(delay).await;
                bus.publish(&subject, envelope).await
            });
        }
        Ok(())
    }

    async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        self.check()?;
        note!(self.trace, "p{} asks {subject} ({} B)", self.peer.0, payload.len());
        let envelope = self.envelope(&payload);
        let (sender, answer) = oneshot::channel();
        self.send_request(subject, &envelope, timeout, Some(sender));
        if self.faults.message_is_doubled() {
            // The second one may come when the first has long been answered.
            let (this, subject, lag) = (self.clone(), subject.to_owned(), self.faults.lag());
            let envelope = envelope.clone();
            spawn(async move {
                tokio::time::sleep(lag).await;
                this.send_request(&subject, &envelope, timeout, None);
            });
        }
        let answer = async {
            match answer.await {
                Ok(Ok(envelope)) => match self.open(envelope) {
                    Some(payload) => Ok(payload),
                    None => std::future::pending().await,
                },
                Ok(Err(error)) => Err(error),
                Err(_) => std::future::pending().await,
            }
        };
        let late = || Error::Timeout { subject: subject.to_owned(), timeout };
        tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| Err(late()))
    }

    async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscription, Error> {
        self.check()?;
        let messages = self.bus.subscribe(subject, group).await?;
        let this = self.clone();
        // Of those who listen to the same subject, one may hear a message late, or not at all.
        let arriving = messages.map(move |message| {
            let this = this.clone();
            async move {
                let Message { subject, payload, reply } = message;
                if this.faults.message_is_lost() {
                    return None;
                }
                if let Some(delay) = this.faults.lateness() {
                    tokio::time::sleep(delay).await;
                }
                this.open(payload).map(|payload| Message { subject, payload, reply })
            }
        });
        let heard = arriving.buffer_unordered(LATE_MAX);
        Ok(Subscription::new(heard.filter_map(std::future::ready)))
    }

    async fn respond(&self, to: &ReplyTo, payload: Bytes) -> Result<(), Error> {
        self.check()?;
        note!(self.trace, "p{} answers {} ({} B)", self.peer.0, to.0, payload.len());
        if self.faults.message_is_lost() {
            return Ok(());
        }
        let (bus, to) = (self.bus.clone(), to.clone());
        let (envelope, delay) = (self.envelope(&payload), self.faults.delay());
        spawn(async move {
            tokio::time::sleep(delay).await;
            bus.respond(&to, envelope).await
        });
        Ok(())
    }

    async fn key_value(
        &self,
        bucket: &str,
        ttl: Option<Duration>,
    ) -> Result<Arc<dyn KeyValue>, Error> {
        self.check()?;
        let inner = self.bus.key_value(bucket, ttl).await?;
        Ok(Arc::new(BucketEndpoint { endpoint: self.clone(), inner }))
    }

    fn payload_bytes_max(&self) -> usize {
        self.bus.payload_bytes_max() - SENDER_BYTES
    }

    fn is_connected(&self) -> bool {
        self.faults.has_bus(self.peer)
    }

    fn messages_dropped(&self) -> u64 {
        self.bus.messages_dropped()
    }
}

/// One process's handle of a bucket.
struct BucketEndpoint {
    endpoint: Endpoint,
    inner: Arc<dyn KeyValue>,
}

impl BucketEndpoint {
    /// Carries out an operation across the network: it, or its answer, may be lost.
    async fn across<T, F>(
        &self,
        what: &str,
        operation: impl FnOnce(Arc<dyn KeyValue>) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.endpoint.check()?;
        let Endpoint { peer, faults, trace, .. } = self.endpoint.clone();
        let (sender, answer) = oneshot::channel();
        let operation = operation(Arc::clone(&self.inner));
        let name = what.to_owned();
        spawn(async move {
            tokio::time::sleep(faults.delay()).await;
            if faults.message_is_lost() || !faults.has_buckets(peer) {
                return;
            }
            let result = operation.await;
            note!(trace, "p{} key-value {name}: {}", peer.0, outcome(&result));
            tokio::time::sleep(faults.delay()).await;
            if !faults.message_is_lost() && faults.has_buckets(peer) {
                // Who asked may have gone.
                let _ = sender.send(result);
            }
        });
        let heard = async {
            match answer.await {
                Ok(result) => result,
                Err(_) => std::future::pending().await,
            }
        };
        let late = || Error::Timeout { subject: what.to_owned(), timeout: OPERATION_TIMEOUT };
        tokio::time::timeout(OPERATION_TIMEOUT, heard).await.unwrap_or_else(|_| Err(late()))
    }
}

fn outcome<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(Error::Exists { .. }) => "exists",
        Err(Error::Conflict { .. }) => "conflict",
        Err(_) => "failed",
    }
}

#[async_trait]
impl KeyValue for BucketEndpoint {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let name = key.to_owned();
        self.across(key, |inner| async move { inner.get(&name).await }).await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        let name = key.to_owned();
        self.across(key, |inner| async move { inner.put(&name, value).await }).await
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        let name = key.to_owned();
        self.across(key, |inner| async move { inner.create(&name, value).await }).await
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        let name = key.to_owned();
        self.across(key, |inner| async move { inner.update(&name, value, revision).await }).await
    }

    async fn delete(&self, key: &str, revision: Option<u64>) -> Result<(), Error> {
        let name = key.to_owned();
        self.across(key, |inner| async move { inner.delete(&name, revision).await }).await
    }

    async fn entries(&self) -> Result<Vec<Entry>, Error> {
        self.across("entries", |inner| async move { inner.entries().await }).await
    }

    async fn watch(&self) -> Result<Watch, Error> {
        self.endpoint.check()?;
        self.inner.watch().await
    }
}
