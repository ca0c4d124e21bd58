//! The one source of time. Everything that asks for the time is given a [`Clock`].
//!
//! All sleeping and measuring follows tokio's clock, so a test that pauses it is in control.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_core::time::Timestamp;
use tokio::time::Instant;

/// Tells the time. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
    wall: Wall,
}

#[derive(Debug, Clone)]
enum Wall {
    System,
    StartedAt {
        start: Timestamp,
        /// Milliseconds by which it was set forward (or, below zero, back) since.
        set_by: Arc<AtomicI64>,
    },
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { origin: Instant::now(), wall: Wall::System }
    }

    /// A clock that shows `start` at first and then runs with tokio's time, which a test or a
    /// simulation can pause and advance.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        let wall = Wall::StartedAt { start, set_by: Arc::default() };
        Self { origin: Instant::now(), wall }
    }

    /// Sets the time of day forward (or, below zero, back) by `millis`, for all clones; the
    /// monotonic clock runs on. The machine's clock stays as it is: nobody but a test or a
    /// simulation has a reason to set it.
    pub fn set_by(&self, millis: i64) {
        match &self.wall {
            Wall::System => {}
            Wall::StartedAt { set_by, .. } => {
                set_by.fetch_add(millis, Ordering::Relaxed);
            }
        }
    }

    /// The time of day. It may jump when the machine's clock is set: compare it with other
    /// processes' times, and measure with [`Clock::monotonic`].
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.wall {
            Wall::System => system_now(),
            Wall::StartedAt { start, set_by } => {
                let shown = start.plus(self.monotonic());
                Timestamp(shown.0.saturating_add(set_by.load(Ordering::Relaxed)))
            }
        }
    }

    /// Time since this clock was made (clones share that moment). Never runs backwards.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Waits until [`Clock::monotonic`] reads `moment`; returns at once if it has passed.
    pub async fn sleep_until(&self, moment: Duration) {
        tokio::time::sleep_until(self.origin + moment).await;
    }
}

/// Tells how long the machine takes for something, also where the [`Clock`] is held still: for
/// measuring work, and never for deciding anything.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    began: std::time::Instant,
}

impl Stopwatch {
    /// Begins to measure.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub fn start() -> Self {
        Self { began: std::time::Instant::now() }
    }

    /// How long it has been.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
fn system_now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the machine's clock must not be set before 1970");
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_started_clock_follows_paused_time() {
        let clock = Clock::starting_at(Timestamp(1_000));
        clock.sleep(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), Timestamp(3_000));
        assert_eq!(clock.clone().monotonic(), Duration::from_secs(2));
        clock.sleep_until(Duration::from_secs(1)).await;
        assert_eq!(clock.monotonic(), Duration::from_secs(2));
        clock.sleep_until(Duration::from_secs(5)).await;
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
        clock.clone().set_by(-2_000);
        assert_eq!((clock.now(), clock.monotonic()), (Timestamp(4_000), Duration::from_secs(5)));
    }

    #[test]
    fn the_system_clock_is_past_2020() {
        assert!(Clock::system().now() > Timestamp(1_577_836_800_000));
    }
}
