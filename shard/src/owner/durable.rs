//! How far the log is durable, for all who wait for it.
//!
//! Waiters wake in the order in which they began to wait. (tokio's `watch` wakes them in a random
//! order, and a simulation could not be repeated.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// Says how far the log is durable; when it is dropped the shard is no longer owned.
#[derive(Debug)]
pub(super) struct Durable {
    shared: Arc<Shared>,
}

/// Waits for more. Clones wait on their own.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sequence: AtomicU64,
    is_gone: AtomicBool,
    changed: Notify,
}

/// The shard is no longer owned: nothing more becomes durable here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Durable {
    pub(super) fn new(sequence: u64) -> Self {
        let (sequence, is_gone) = (AtomicU64::new(sequence), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { sequence, is_gone, changed: Notify::new() }) }
    }

    /// The last sequence that is durable.
    pub(super) fn get(&self) -> u64 {
        self.shared.sequence.load(Ordering::Acquire)
    }

    /// The next commit is durable.
    pub(super) fn advance(&self, sequence: u64) {
        self.shared.sequence.store(sequence, Ordering::Release);
        self.shared.changed.notify_waiters();
    }

    pub(super) fn waiter(&self) -> Waiter {
        Waiter { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.shared.is_gone.store(true, Ordering::Release);
        self.shared.changed.notify_waiters();
    }
}

impl Waiter {
    /// The last sequence that is durable.
    pub(super) fn get(&self) -> u64 {
        self.shared.sequence.load(Ordering::Acquire)
    }

    /// Waits until `sequence` is durable.
    pub(super) async fn reach(&self, sequence: u64) -> Result<(), Gone> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change falls between.
            changed.as_mut().enable();
            if self.get() >= sequence {
                return Ok(());
            }
            if self.shared.is_gone.load(Ordering::Acquire) {
                return Err(Gone);
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn waiters_wake_in_order_and_learn_that_it_is_gone() {
        let durable = Durable::new(3);
        assert_eq!(durable.waiter().reach(3).await, Ok(()));
        let woken = Mutex::new(Vec::new());
        let wait = async |number: u64| {
            let reached = durable.waiter().reach(4).await;
            woken.lock().unwrap().push((number, reached));
        };
        let advance = async { durable.advance(4) };
        let waiting = futures::future::join_all((0..40).map(wait));
        futures::future::join(waiting, advance).await;
        let expected: Vec<_> = (0..40).map(|number| (number, Ok(()))).collect();
        assert_eq!(*woken.lock().unwrap(), expected);
        let waiter = durable.waiter();
        drop(durable);
        assert_eq!((waiter.reach(4).await, waiter.reach(5).await), (Ok(()), Err(Gone)));
    }
}
