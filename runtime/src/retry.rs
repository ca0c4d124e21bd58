//! Retrying as data: a [`Policy`] says how long to wait between attempts and when to give up.

use std::time::Duration;

use crate::{config::HumanDuration, random::Random};

/// Exponential backoff with jitter.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The wait after the first failure.
    pub delay_first: HumanDuration,
    /// No wait is longer, before jitter.
    pub delay_max: HumanDuration,
    /// Each wait is this many times the one before.
    pub factor: f64,
    /// Each wait is made shorter or longer by up to this fraction.
    pub jitter: f64,
    /// How often to try again; `None` for ever.
    pub retries_max: Option<u32>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            delay_first: HumanDuration(Duration::from_millis(100)),
            delay_max: HumanDuration(Duration::from_secs(10)),
            factor: 2.0,
            jitter: 0.2,
            retries_max: None,
        }
    }
}

impl Policy {
    /// A policy of at most `retries_max` retries that otherwise is the default.
    #[must_use]
    pub fn at_most(retries_max: u32) -> Self {
        Self { retries_max: Some(retries_max), ..Self::default() }
    }

    /// The waits before the second attempt, the third, and so on; ends when to give up.
    #[must_use]
    pub fn delays(&self, random: Random) -> Delays {
        Delays { policy: self.clone(), random, base: self.delay_first.0, given: 0 }
    }
}

/// The waits of one series of attempts.
#[derive(Debug, Clone)]
pub struct Delays {
    policy: Policy,
    random: Random,
    base: Duration,
    given: u32,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.policy.retries_max.is_some_and(|max| self.given >= max) {
            return None;
        }
        self.given = self.given.saturating_add(1);
        let base = self.base.min(self.policy.delay_max.0);
        self.base = base.mul_f64(self.policy.factor.clamp(1.0, 100.0));
        Some(self.random.jitter(base, self.policy.jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_end() {
        let policy = Policy { jitter: 0.0, retries_max: Some(9), ..Policy::default() };
        let delays: Vec<u128> =
            policy.delays(Random::seeded(1)).map(|delay| delay.as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn jitter_spreads_delays() {
        let first = |seed| Policy::default().delays(Random::seeded(seed)).next();
        assert_ne!(first(1), first(2));
        assert_eq!(first(3), first(3));
    }
}
