//! The bus of a simulation: the one in memory, on which what shards offer to leaders can be held
//! back for a moment.
//!
//! What comes at one moment of a scenario comes one job set after the other, and a leader would
//! give everything away to the first one before it hears of the next. So offers wait until all has
//! come.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use muster_api::bus::subject;
use muster_runtime::bus::memory::Memory;
use muster_runtime::bus::{Bus, Error, KeyValue, ReplyTo, Subscription};

/// A bus whose offers can be held. Clones are the same bus.
#[derive(Clone, Default)]
pub(crate) struct Holding {
    inner: Memory,
    /// What was held, while it is.
    held: Arc<Mutex<Option<Vec<Bytes>>>>,
}

impl Holding {
    /// Holds offers from now on.
    pub(crate) fn hold(&self) {
        self.held().get_or_insert_default();
    }

    /// Sends what was held, and everything from now on.
    pub(crate) async fn release(&self) -> Result<(), Error> {
        let held = self.held().take();
        for offers in held.into_iter().flatten() {
            self.inner.publish(subject::OFFERS, offers).await?;
        }
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Option<Vec<Bytes>>> {
        self.held.lock().expect("no code panics while it holds this lock")
    }
}

#[async_trait]
impl Bus for Holding {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), Error> {
        if subject == subject::OFFERS
            && let Some(held) = self.held().as_mut()
        {
            held.push(payload);
            return Ok(());
        }
        self.inner.publish(subject, payload).await
    }

    async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        self.inner.request(subject, payload, timeout).await
    }

    async fn respond(&self, to: &ReplyTo, payload: Bytes) -> Result<(), Error> {
        self.inner.respond(to, payload).await
    }

    async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscription, Error> {
        self.inner.subscribe(subject, group).await
    }

    async fn key_value(
        &self,
        bucket: &str,
        ttl: Option<Duration>,
    ) -> Result<Arc<dyn KeyValue>, Error> {
        self.inner.key_value(bucket, ttl).await
    }

    fn payload_bytes_max(&self) -> usize {
        self.inner.payload_bytes_max()
    }

    fn is_connected(&self) -> bool {
        self.inner.is_connected()
    }

    fn messages_dropped(&self) -> u64 {
        self.inner.messages_dropped()
    }
}
