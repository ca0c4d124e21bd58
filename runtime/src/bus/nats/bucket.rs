//! A key-value bucket in JetStream: one value per key, kept in files, dropped by age.
//!
//! Reads go to the stream's leader, so that they see what was written before.

use std::{sync::Arc, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{
        self, ErrorCode,
        consumer::{DeliverPolicy, ReplayPolicy, push},
        context::GetStreamErrorKind,
        kv::{self, UpdateErrorKind},
        stream::{LastRawMessageErrorKind, StorageType},
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use super::{Link, describe, following};
use crate::bus::{Entry, Error, KeyValue, Watch, subject};

/// The silence after which a listing is started over, as keys may have expired under it.
const LISTING_SILENCE_MAX: Duration = Duration::from_secs(1);
/// How often a listing is started over.
const LISTING_RETRIES_MAX: usize = 3;

pub(super) struct Bucket {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    jetstream: jetstream::Context,
    pub(super) link: Link,
    config: kv::Config,
    store: kv::Store,
}

/// The newest message of a key.
enum Newest {
    Nothing,
    Removed { revision: u64 },
    Live(Entry),
}

/// A failed operation, before it is known whether the bucket itself is gone.
enum Failed {
    Final(Error),
    PerhapsGone(String),
}

impl Bucket {
    pub(super) async fn open(
        jetstream: jetstream::Context,
        link: Link,
        name: &str,
        ttl: Option<Duration>,
        replicas: usize,
    ) -> Result<Self, Error> {
        let config = kv::Config {
            bucket: name.to_owned(),
            history: 1,
            max_age: ttl.unwrap_or_default(),
            storage: StorageType::File,
            num_replicas: replicas,
            ..kv::Config::default()
        };
        let store = open_store(&jetstream, &config).await?;
        Ok(Self { inner: Arc::new(Inner { jetstream, link, config, store }) })
    }
}

#[async_trait]
impl KeyValue for Bucket {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.inner.get(key).await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.inner.check(key, &value)?;
        self.inner
            .run(|| async {
                let put = self.inner.store.put(key, value.clone()).await;
                put.map_err(|error| Failed::PerhapsGone(describe(&error)))
            })
            .await
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.inner.check(key, &value)?;
        self.inner.run(|| self.inner.create(key, &value)).await
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        self.inner.check(key, &value)?;
        let conflict = || Error::Conflict { key: key.to_owned(), revision };
        if revision == 0 {
            // To the server that would mean a key without a value.
            return Err(conflict());
        }
        self.inner
            .run(|| async {
                let update = self.inner.store.update(key, value.clone(), revision).await;
                update.map_err(|error| classify(&error, conflict))
            })
            .await
    }

    async fn delete(&self, key: &str, revision: Option<u64>) -> Result<(), Error> {
        let Some(live) = self.inner.get(key).await? else {
            return match revision {
                Some(revision) => Err(Error::Conflict { key: key.to_owned(), revision }),
                None => Ok(()),
            };
        };
        let conflict =
            || Error::Conflict { key: key.to_owned(), revision: revision.unwrap_or(live.revision) };
        self.inner
            .run(|| async {
                let delete = self.inner.store.delete_expect_revision(key, revision).await;
                delete.map_err(|error| classify(&error, conflict))
            })
            .await
    }

    async fn entries(&self) -> Result<Vec<Entry>, Error> {
        let (entries, _) = self.inner.list().await?;
        Ok(entries)
    }

    async fn watch(&self) -> Result<Watch, Error> {
        self.inner.link.check_connected()?;
        Ok(following::follow(Arc::clone(&self.inner)))
    }
}

impl Inner {
    pub(super) fn ttl(&self) -> Option<Duration> {
        Some(self.config.max_age).filter(|age| !age.is_zero())
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        subject::check_key(key)?;
        let newest = self.run(|| self.newest(key)).await?;
        Ok(match newest {
            Newest::Live(entry) => Some(entry),
            Newest::Removed { .. } | Newest::Nothing => None,
        })
    }

    /// All live entries by key, and the stream of messages that follow them.
    pub(super) async fn list(&self) -> Result<(Vec<Entry>, push::Ordered), Error> {
        self.run(|| async {
            for _ in 0..LISTING_RETRIES_MAX {
                if let Some(listing) = self.try_list().await? {
                    return Ok(listing);
                }
            }
            let timeout = LISTING_SILENCE_MAX;
            Err(Failed::Final(Error::Timeout { subject: self.config.bucket.clone(), timeout }))
        })
        .await
    }

    /// Makes an entry of a message of the stream; `Err` is the key of one that removes it.
    pub(super) fn read(&self, message: &jetstream::Message) -> Option<Result<Entry, String>> {
        let key = message.subject.strip_prefix(&self.store.prefix)?.to_owned();
        if message.headers.as_ref().is_some_and(is_removal) {
            return Some(Err(key));
        }
        let revision = message.info().ok()?.stream_sequence;
        Some(Ok(Entry { key, value: message.payload.clone(), revision }))
    }

    fn check(&self, key: &str, value: &Bytes) -> Result<(), Error> {
        subject::check_key(key)?;
        self.link.check_payload(value)
    }

    /// Runs an operation; if the bucket turns out to be gone, creates it and runs it once more.
    async fn run<T, F>(&self, operation: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        self.link.check_connected()?;
        let timeout = self.link.operation_timeout;
        let limited = async || {
            tokio::time::timeout(timeout, operation()).await.unwrap_or_else(|_| {
                let subject = self.config.bucket.clone();
                Err(Failed::Final(Error::Timeout { subject, timeout }))
            })
        };
        let reason = match limited().await {
            Ok(result) => return Ok(result),
            Err(Failed::Final(error)) => return Err(error),
            Err(Failed::PerhapsGone(reason)) => reason,
        };
        if !is_gone(&self.jetstream, &self.store.stream_name).await? {
            return Err(Error::Unavailable(reason));
        }
        tracing::warn!(bucket = self.config.bucket, "bucket is gone and is created again");
        open_store(&self.jetstream, &self.config).await?;
        limited().await.map_err(|failed| match failed {
            Failed::Final(error) => error,
            Failed::PerhapsGone(reason) => Error::Unavailable(reason),
        })
    }

    async fn create(&self, key: &str, value: &Bytes) -> Result<u64, Failed> {
        let exists = || Error::Exists { key: key.to_owned() };
        let mut expected = 0;
        // A removed key is written over its tombstone, and may expire while that is tried.
        for _ in 0..2 {
            match self.store.update(key, value.clone(), expected).await {
                Ok(revision) => return Ok(revision),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(Failed::PerhapsGone(describe(&error))),
            }
            expected = match self.newest(key).await? {
                Newest::Live(_) => return Err(Failed::Final(exists())),
                Newest::Removed { revision } => revision,
                Newest::Nothing => 0,
            };
        }
        let last = self.store.update(key, value.clone(), expected).await;
        last.map_err(|error| classify(&error, exists))
    }

    async fn newest(&self, key: &str) -> Result<Newest, Failed> {
        let subject = format!("{}{key}", self.store.prefix);
        match self.store.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) if is_removal(&message.headers) => {
                Ok(Newest::Removed { revision: message.sequence })
            }
            Ok(message) => Ok(Newest::Live(Entry {
                key: key.to_owned(),
                value: message.payload,
                revision: message.sequence,
            })),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                Ok(Newest::Nothing)
            }
            Err(error) => Err(Failed::PerhapsGone(describe(&error))),
        }
    }

    /// `None` when the listing stalled.
    async fn try_list(&self) -> Result<Option<(Vec<Entry>, push::Ordered)>, Failed> {
        let gone = |error: &dyn std::error::Error| Failed::PerhapsGone(describe(error));
        let consumer = push::OrderedConfig {
            deliver_subject: self.link.client.new_inbox(),
            description: Some("bucket listing".to_owned()),
            filter_subject: format!("{}>", self.store.prefix),
            replay_policy: ReplayPolicy::Instant,
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..push::OrderedConfig::default()
        };
        let consumer =
            self.store.stream.create_consumer(consumer).await.map_err(|error| gone(&error))?;
        let mut pending = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await.map_err(|error| gone(&error))?;
        let mut entries = Vec::new();
        while pending > 0 {
            let Ok(message) = tokio::time::timeout(LISTING_SILENCE_MAX, messages.next()).await
            else {
                return Ok(None);
            };
            let Some(message) = message else { return Ok(None) };
            let message = message.map_err(|error| gone(&error))?;
            pending = message.info().map_or(pending, |info| info.pending);
            if let Some(Ok(entry)) = self.read(&message) {
                entries.push(entry);
            }
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key).then(b.revision.cmp(&a.revision)));
        // A key written during the listing comes twice; the newest stands first.
        entries.dedup_by(|later, first| later.key == first.key);
        Ok(Some((entries, messages)))
    }
}

async fn open_store(
    jetstream: &jetstream::Context,
    config: &kv::Config,
) -> Result<kv::Store, Error> {
    let unavailable = |error: &dyn std::error::Error| {
        Error::Unavailable(format!("cannot open bucket `{}`: {}", config.bucket, describe(error)))
    };
    if is_gone(jetstream, &format!("KV_{}", config.bucket)).await? {
        let store = jetstream.create_key_value(config.clone()).await;
        // Another process may have created it in between, with other settings.
        if let Ok(store) = store {
            return Ok(store);
        }
    }
    let store = jetstream
        .get_key_value(config.bucket.as_str())
        .await
        .map_err(|error| unavailable(&error))?;
    let current = &store.stream.cached_info().config;
    if current.max_age == config.max_age && current.num_replicas == config.num_replicas {
        return Ok(store);
    }
    jetstream.update_key_value(config.clone()).await.map_err(|error| unavailable(&error))
}

async fn is_gone(jetstream: &jetstream::Context, stream: &str) -> Result<bool, Error> {
    match jetstream.get_stream(stream).await {
        Ok(_) => Ok(false),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(inner)
                if inner.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(true)
            }
            GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::InvalidStreamName
            | GetStreamErrorKind::JetStream(_) => Err(Error::Unavailable(describe(&error))),
        },
    }
}

fn is_removal(headers: &HeaderMap) -> bool {
    let operation = headers.get("KV-Operation").map(|value| value.as_str());
    matches!(operation, Some("DEL" | "PURGE")) || headers.get("Nats-Marker-Reason").is_some()
}

fn classify(error: &kv::UpdateError, mismatch: impl FnOnce() -> Error) -> Failed {
    match error.kind() {
        UpdateErrorKind::WrongLastRevision => Failed::Final(mismatch()),
        UpdateErrorKind::InvalidKey | UpdateErrorKind::TimedOut | UpdateErrorKind::Other => {
            Failed::PerhapsGone(describe(error))
        }
    }
}
