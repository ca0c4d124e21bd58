//! The seam between processes: publish, request and reply, queue groups, and key-value buckets.
//!
//! Two adapters stand behind [`Bus`]: [`memory`] (one process: `muster up`, tests, simulation) and
//! [`nats`] (a NATS server with JetStream). Both pass the same contract suite. Nothing on the bus
//! is the truth: it may lose every message and every bucket without an acknowledged job being lost.
//! Delivery is at most once; a caller that hears nothing asks again under the same command id.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};

mod error;
pub mod memory;
pub mod nats;
mod subject;

pub use error::Error;
pub use subject::{is_valid_key, is_valid_subject, matches, token};

/// Messages that one subscription holds for a slow reader before further ones are dropped.
pub const SUBSCRIPTION_MESSAGES_MAX: usize = 1024;

/// Room left below the server's payload limit for protocol headers, in bytes.
pub const PAYLOAD_HEADROOM_BYTES: usize = 4096;

/// A way to send messages between roles. Cheap to share as `Arc<dyn Bus>`.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Sends `payload` to every subscriber of `subject` (one of each group). Nobody listening is
    /// no error. `Ok` means handed to the transport, not delivered.
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), Error>;

    /// Sends `payload` and waits for one answer. Fails with [`Error::NoResponders`] at once when
    /// nobody subscribes, and with [`Error::Timeout`] when no answer came within `timeout`; the
    /// request may have been carried out in the latter case.
    async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Error>;

    /// Receives what is sent to `subject` (`*` stands for one token, a final `>` for one or more).
    /// Of the subscribers that name the same `group` one gets each message. The subscription is
    /// active when this returns, and survives reconnects.
    async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscription, Error>;

    /// Answers a request. An answer nobody waits for any more is dropped silently.
    async fn respond(&self, to: &ReplyTo, payload: Bytes) -> Result<(), Error>;

    /// Opens the key-value bucket `bucket`, created if missing. With `ttl`, a key disappears that
    /// long after it was last written. Bucket names are letters, digits, `-` and `_`.
    async fn key_value(
        &self,
        bucket: &str,
        ttl: Option<Duration>,
    ) -> Result<Arc<dyn KeyValue>, Error>;

    /// The largest payload that a message or value may have, in bytes.
    fn payload_bytes_max(&self) -> usize;

    /// Whether messages can be sent at this moment.
    fn is_connected(&self) -> bool;

    /// How many received messages were dropped because their readers were slow, since the start.
    /// Over NATS that includes changes for a slow [`Watch`], which catches up by itself.
    fn messages_dropped(&self) -> u64;
}

/// A bucket of keys with values and revisions. A bucket that the server lost is created again,
/// empty, on the next call; revisions then start over, so a revision is worth nothing as a fence.
/// Keys are letters, digits and `-/_=.` (see [`is_valid_key`]).
#[async_trait]
pub trait KeyValue: Send + Sync + 'static {
    /// The live entry of `key`.
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error>;

    /// Writes `key` whatever it holds; gives the new revision.
    async fn put(&self, key: &str, value: Bytes) -> Result<u64, Error>;

    /// Writes `key` if it has no live entry (never written, deleted or expired); otherwise
    /// [`Error::Exists`].
    async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error>;

    /// Writes `key` if its live entry has `revision`; otherwise [`Error::Conflict`].
    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error>;

    /// Removes `key`, if `revision` is given only when that is its live revision (otherwise
    /// [`Error::Conflict`]). Without a revision, removing a missing key is no error.
    async fn delete(&self, key: &str, revision: Option<u64>) -> Result<(), Error>;

    /// All live entries, sorted by key.
    async fn entries(&self) -> Result<Vec<Entry>, Error>;

    /// Follows the bucket: first a [`Change::Reset`] with all that lives, then each change. After
    /// any gap (lag, reconnect, lost bucket) another `Reset`. Changes of one key that come fast
    /// may be folded into the last. An expired key is reported as deleted, possibly late.
    async fn watch(&self) -> Result<Watch, Error>;
}

/// One key of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// What was last written.
    pub value: Bytes,
    /// Rises with every write to the bucket.
    pub revision: u64,
}

/// What a [`Watch`] reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These are all live entries, sorted by key: whatever was known before is void.
    Reset(Vec<Entry>),
    /// A key was written.
    Put(Entry),
    /// A key was deleted or has expired.
    Delete {
        /// The key that is gone.
        key: String,
    },
}

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The subject it was sent to.
    pub subject: String,
    /// What was sent.
    pub payload: Bytes,
    /// Where the sender waits for an answer, if it does.
    pub reply: Option<ReplyTo>,
}

/// The address of a waiting requester. Can be kept, and answered later by any process on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTo(pub String);

/// The messages of one subscription. Dropping it unsubscribes.
pub struct Subscription {
    messages: BoxStream<'static, Message>,
}

impl Subscription {
    /// A subscription over what an adapter receives.
    pub fn new(messages: impl Stream<Item = Message> + Send + 'static) -> Self {
        Self { messages: messages.boxed() }
    }

    /// The next message; `None` when the bus is closed for good. Cancel safe.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.next().await
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(
        mut self: Pin<&mut Self>,
        ctx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Message>> {
        self.messages.poll_next_unpin(ctx)
    }
}

/// The changes of one bucket. Dropping it ends the watch.
pub struct Watch {
    changes: BoxStream<'static, Change>,
}

impl Watch {
    /// A watch over what an adapter is told.
    pub fn new(changes: impl Stream<Item = Change> + Send + 'static) -> Self {
        Self { changes: changes.boxed() }
    }

    /// The next change; `None` when the bus is closed for good. Cancel safe.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.next().await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// How to open a bus; the fields that an adapter has no use for are ignored.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name under which the server lists this connection.
    pub name: String,
    /// Copies that a NATS cluster keeps of each key-value bucket.
    pub replicas: usize,
    /// Messages held for one slow reader before further ones are dropped.
    pub subscription_messages_max: usize,
    /// How long [`open`] keeps trying to reach a server before it fails.
    pub connect_timeout: Duration,
    /// How long one key-value operation may take.
    pub operation_timeout: Duration,
    /// A file of root certificates (PEM) to trust in place of the system's, for TLS.
    pub tls_ca_file: Option<std::path::PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "muster".to_owned(),
            replicas: 1,
            subscription_messages_max: SUBSCRIPTION_MESSAGES_MAX,
            connect_timeout: Duration::from_secs(10),
            operation_timeout: Duration::from_secs(5),
            tls_ca_file: None,
        }
    }
}

/// Whether `url` is one that [`open`] takes.
///
/// # Errors
/// [`Error::InvalidUrl`], when it is not.
pub fn check_url(url: &str) -> Result<(), Error> {
    match url.split_once("://") {
        Some(("memory", "")) => Ok(()),
        Some(("nats" | "tls", _)) => nats::check_url(url),
        // The address may hold a password, so only its scheme is repeated.
        Some((scheme, _)) => Err(Error::InvalidUrl {
            reason: format!("scheme `{scheme}` is not `memory`, `nats` or `tls`"),
        }),
        None => Err(Error::InvalidUrl { reason: "it has no scheme".to_owned() }),
    }
}

/// Opens the bus at `url`: `memory://` (a new one with each call), or
/// `nats://host:port[,host2:port...]` (`tls://` with TLS; `nats://user:password@host` and
/// `nats://token@host` authenticate).
pub async fn open(url: &str, options: &Options) -> Result<Arc<dyn Bus>, Error> {
    check_url(url)?;
    if url.starts_with("memory:") {
        return Ok(Arc::new(memory::Memory::new(options)));
    }
    Ok(Arc::new(nats::Nats::connect(url, options).await?))
}
