//! When the next commit may begin: in the mean one in each commit interval, since each one costs
//! a request to the store. A commit that somebody waits for may go ahead of its turn while few
//! others have, so that nobody waits for the interval on a shard with little to do.
//!
//! This is the generic cell rate algorithm (ITU-T I.371): `turn` is its theoretical arrival time.

use std::time::Duration;

/// Commits that may have gone ahead of their turn.
const AHEAD_MAX: u32 = 4;

/// A timer wakes up to so much later than it was asked to. A commit is begun by as much before its
/// turn, so that nobody waits for the commit interval and the timer.
const TIMER_LATENESS: Duration = Duration::from_millis(1);

/// The pace of a shard's commits.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When the next commit has its turn.
    turn: Duration,
}

impl Pace {
    /// At most one commit in `interval`, in the mean.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, turn: Duration::ZERO }
    }

    /// When the next commit may begin.
    pub(super) fn due(&self, is_urgent: bool) -> Duration {
        let ahead = if is_urgent { self.interval * AHEAD_MAX } else { Duration::ZERO };
        self.turn.saturating_sub(ahead.max(self.interval.min(TIMER_LATENESS)))
    }

    /// Takes note of a commit that begins.
    pub(super) fn begin(&mut self, now: Duration) {
        self.turn = self.turn.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    /// Begins a commit as soon as it may, from `now` on; tells when that was.
    fn commit(pace: &mut Pace, now: Duration, is_urgent: bool) -> Duration {
        let at = pace.due(is_urgent).max(now);
        pace.begin(at);
        at
    }

    #[test]
    fn the_first_commit_is_due_at_once_and_the_next_one_an_interval_later() {
        let mut pace = Pace::new(INTERVAL);
        assert_eq!(commit(&mut pace, ms(5000), false), ms(5000));
        assert_eq!(pace.due(false), ms(5100) - TIMER_LATENESS);
    }

    #[test]
    fn few_urgent_commits_go_ahead_and_the_mean_stays() {
        let mut pace = Pace::new(INTERVAL);
        let begun = (0..20).map(|_| commit(&mut pace, ms(5000), true)).collect::<Vec<_>>();
        let at_once = begun.iter().filter(|at| **at == ms(5000)).count();
        assert_eq!(at_once, AHEAD_MAX as usize + 1);
        assert_eq!(begun[19], ms(5000) + INTERVAL * (20 - 1 - AHEAD_MAX));
        // What is not urgent lets those that went ahead come to their turn first.
        assert_eq!(pace.due(false), ms(5000) + INTERVAL * 20 - TIMER_LATENESS);
    }

    #[test]
    fn what_went_ahead_is_forgotten_after_a_pause() {
        let mut pace = Pace::new(INTERVAL);
        for _ in 0..10 {
            commit(&mut pace, ms(0), true);
        }
        assert_eq!(commit(&mut pace, ms(9000), true), ms(9000));
        assert_eq!(commit(&mut pace, ms(9000), true), ms(9000));
    }

    #[test]
    fn without_an_interval_a_commit_is_always_due() {
        let mut pace = Pace::new(Duration::ZERO);
        pace.begin(ms(7));
        assert!(pace.due(false) <= ms(7) && pace.due(true) <= ms(7));
    }
}
