//! Who waits for an answer of a shard hears when the shard has another owner: the one before may be
//! asleep, and with it every request that it was sent.
//!
//! A new owner says so on the bus when it begins to answer. That may be lost: nobody waits for it
//! alone.

use std::future::Future;
use std::sync::Arc;

use muster_api::bus::subject;
use muster_core::id::ShardId;
use tokio::sync::Notify;

use crate::bus::Message;

/// The changes of owners, as far as they were heard of. Clones are the same.
#[derive(Debug, Clone)]
pub struct Owners {
    /// Of each shard. Wakes in the order in which they wait, so that the same happens again in a
    /// simulation: a watch channel wakes in any.
    changes: Arc<[Arc<Notify>]>,
}

impl Owners {
    /// None heard of yet.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self { changes: (0..shards).map(|_| Arc::default()).collect() }
    }

    /// Takes in what was said on [`subject::OWNERS`]; gives the shard that has another owner.
    pub fn heard(&self, message: &Message) -> Option<ShardId> {
        let shard = subject::owned_shard(&message.subject)?;
        self.changes.get(usize::from(shard.0))?.notify_waiters();
        Some(shard)
    }

    /// Ends when the shard has another owner than when this was called.
    pub fn change(&self, shard: ShardId) -> impl Future<Output = ()> + Send + use<> {
        let change = self.changes.get(usize::from(shard.0)).cloned().map(Notify::notified_owned);
        async move {
            match change {
                Some(change) => change.await,
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::FutureExt;

    #[test]
    fn those_who_waited_before_a_change_hear_of_it_and_others_do_not() {
        let owners = Owners::new(2);
        let said = |subject: String| Message { subject, payload: Bytes::new(), reply: None };
        let before = owners.change(ShardId(1));
        let elsewhere = owners.change(ShardId(0));
        assert_eq!(owners.heard(&said(subject::owner(ShardId(1)))), Some(ShardId(1)));
        let after = owners.change(ShardId(1));
        assert!(before.now_or_never().is_some());
        assert!(elsewhere.now_or_never().is_none() && after.now_or_never().is_none());
        for other in [subject::owner(ShardId(2)), subject::shard(ShardId(0))] {
            assert_eq!(owners.heard(&said(other)), None);
        }
    }
}
