//! CPU work off the async threads, with a bound: at most so many pieces run at once, the others
//! wait for their turn. For work of more than about 500 µs (encoding, compression, parsing).

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Runs blocking work. Clones share the permits.
#[derive(Debug, Clone)]
pub struct Blocking {
    permits: Arc<Semaphore>,
    threads: Threads,
}

/// Where the work runs.
#[derive(Debug, Clone, Copy)]
enum Threads {
    /// On tokio's blocking threads.
    Blocking,
    /// On the thread that asks.
    Own,
}

/// The work panicked, or the process is shutting down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It panicked.
    #[error("blocking work panicked: {reason}")]
    Panicked {
        /// What it said.
        reason: String,
    },
    /// The runtime ended before it could run.
    #[error("blocking work was cancelled")]
    Cancelled,
}

impl Blocking {
    /// At most `permits` pieces of work at once (at least one).
    #[must_use]
    pub fn new(permits: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(permits.max(1))), threads: Threads::Blocking }
    }

    /// Work runs on the thread that asks, between two turns of the other tasks: for a simulation,
    /// which must not depend on how long threads take.
    #[must_use]
    pub fn inline() -> Self {
        Self { permits: Arc::new(Semaphore::new(1)), threads: Threads::Own }
    }

    /// As many pieces at once as the machine has cores.
    #[must_use]
    pub fn per_core() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }

    /// Waits for a permit, then runs `work` on a blocking thread. Dropping the future before the
    /// work has started cancels it; afterwards it runs to its end.
    pub async fn run<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let permit =
            Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        if let Threads::Own = self.threads {
            return run_here(work).await;
        }
        #[expect(clippy::disallowed_methods, reason = "this is where the bound is kept")]
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        task.await.map_err(|error| match error.try_into_panic() {
            Ok(panic) => Error::Panicked { reason: crate::tasks::panic_text(&*panic) },
            Err(_) => Error::Cancelled,
        })
    }
}

async fn run_here<T>(work: impl FnOnce() -> T) -> Result<T, Error> {
    tokio::task::yield_now().await;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    tokio::task::yield_now().await;
    result.map_err(|panic| Error::Panicked { reason: crate::tasks::panic_text(&*panic) })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn no_more_pieces_run_than_there_are_permits() {
        let (blocking, running) = (Blocking::new(2), Arc::new(AtomicUsize::new(0)));
        let pieces = (0..16).map(|_| {
            let running = Arc::clone(&running);
            blocking.run(move || {
                let at_once = running.fetch_add(1, Ordering::SeqCst) + 1;
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                at_once
            })
        });
        for at_once in futures::future::join_all(pieces).await {
            assert!(at_once.unwrap() <= 2);
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_gives_its_permit_back() {
        for blocking in [Blocking::new(1), Blocking::inline()] {
            for _ in 0..2 {
                let error = blocking.run(|| panic!("too much")).await.unwrap_err();
                assert_eq!(error, Error::Panicked { reason: "too much".to_owned() });
            }
            assert_eq!(blocking.run(|| 7).await, Ok(7));
        }
    }
}
