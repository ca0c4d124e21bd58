//! What queues used in the past, with less weight the longer ago it was: what a queue that used
//! much is charged beside what it holds. No IO, no clock.
//!
//! The usage of a resource is the mean of what was held of it, weighted by 2^(-age / half-life):
//! who holds so much all the time has so much usage. It is what Slurm's multifactor priority and
//! HTCondor's user priority decay by.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_api::{convert, http};
use muster_core::Name;
use muster_core::quantity::Quantity;
use muster_core::resources::Resources;
use muster_core::time::Timestamp;

use super::table::Table;

/// A weight of 1, in thousandths.
pub(super) const WHOLE: u64 = 1_000;
/// Below so much of what the smallest unit of a resource is, usage is none.
const LEAST: f64 = 0.5;

/// The usage of each queue of a pool by resource, in nano-units.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Usage {
    queues: BTreeMap<Name, BTreeMap<Name, f64>>,
    /// When it was so; none before the first look.
    at: Option<Timestamp>,
}

impl Usage {
    /// What a leader before published.
    pub(super) fn published(pool: &http::Pool) -> Self {
        let amounts = |share: &http::QueueShare| {
            let used = convert::resources(&share.decayed_usage);
            used.iter().map(|(name, amount)| (Arc::clone(name), nanos(amount))).collect()
        };
        let queues = pool.queues.iter().filter(|share| !share.decayed_usage.is_empty());
        let queues = queues.map(|share| (Name::from(&*share.queue), amounts(share))).collect();
        Self { queues, at: http::time_from_text(&pool.at) }
    }

    /// Time went on to `now`, in which queues held what they hold.
    pub(super) fn advance(&mut self, table: &Table, now: Timestamp, half_life: Duration) {
        let Some(before) = self.at.replace(now) else { return };
        // A clock that went back tells of no time that passed.
        let passed = now.since(before).as_secs_f64();
        if passed <= 0.0 || half_life.is_zero() {
            return;
        }
        let kept = (-passed / half_life.as_secs_f64()).exp2();
        for used in self.queues.values_mut() {
            used.values_mut().for_each(|amount| *amount *= kept);
        }
        for (name, queue) in &table.queues {
            let mut held = queue.holds.iter().peekable();
            if held.peek().is_none() {
                continue;
            }
            let used = self.queues.entry(Arc::clone(name)).or_default();
            for (resource, amount) in held {
                *used.entry(Arc::clone(resource)).or_default() += nanos(amount) * (1.0 - kept);
            }
        }
        self.queues.retain(|_, used| {
            used.retain(|_, amount| *amount >= LEAST);
            !used.is_empty()
        });
    }

    /// The queues that have any.
    pub(super) fn queues(&self) -> impl Iterator<Item = &Name> {
        self.queues.keys()
    }

    /// The usage of a queue, times a weight in thousandths.
    pub(super) fn of(&self, queue: &str, weight_millis: u64) -> Resources {
        let used = self.queues.get(queue).into_iter().flatten();
        #[expect(clippy::cast_precision_loss, reason = "a weight of at most 10^6 thousandths")]
        let weight = weight_millis as f64 / 1_000.0;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float becomes the nearest that fits"
        )]
        let times = |amount: &f64| Quantity::from_nanos((amount * weight).round() as i128);
        let times = |amount: &f64| times(amount).unwrap_or_default();
        used.map(|(resource, amount)| (Arc::clone(resource), times(amount))).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "usage is an estimate by nature")]
fn nanos(amount: Quantity) -> f64 {
    amount.nanos() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn cpus(cpu: i64) -> Resources {
        [("cpu".into(), Quantity::from_units(cpu))].into_iter().collect()
    }

    fn holding(cpu: i64) -> Table {
        let mut table = Table::new("default");
        table.queues.entry("q".into()).or_default().holds = cpus(cpu);
        table
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp(hours * 3_600_000)
    }

    fn used(usage: &Usage) -> f64 {
        nanos(usage.of("q", 1_000).get("cpu")) / 1e9
    }

    #[test]
    fn usage_is_halved_in_each_half_life_and_goes_to_what_is_held_all_the_time() {
        let mut usage = Usage::default();
        usage.advance(&holding(8), at(0), HOUR);
        assert_eq!(used(&usage), 0.0, "no time passed");
        usage.advance(&holding(8), at(1), HOUR);
        assert_eq!(used(&usage), 4.0);
        usage.advance(&holding(8), at(2), HOUR);
        assert_eq!(used(&usage), 6.0);
        usage.advance(&holding(8), at(60), HOUR);
        assert!((used(&usage) - 8.0).abs() < 1e-6);
        usage.advance(&Table::new("default"), at(61), HOUR);
        usage.advance(&Table::new("default"), at(62), HOUR);
        assert!((used(&usage) - 2.0).abs() < 1e-6);
        assert_eq!(usage.of("q", 500).get("cpu"), Quantity::from_units(1));
        usage.advance(&Table::new("default"), at(200), HOUR);
        assert_eq!(usage, Usage { queues: BTreeMap::new(), at: Some(at(200)) }, "it is forgotten");
    }

    #[test]
    fn in_how_many_steps_time_passes_makes_no_difference() {
        let (mut once, mut often) = (Usage::default(), Usage::default());
        once.advance(&holding(5), at(0), HOUR);
        often.advance(&holding(5), at(0), HOUR);
        once.advance(&holding(5), at(3), HOUR);
        for minute in 1..=180 {
            often.advance(&holding(5), Timestamp(minute * 60_000), HOUR);
        }
        assert!((used(&once) - used(&often)).abs() < 1e-6);
    }

    #[test]
    fn a_clock_that_goes_back_takes_nothing_and_gives_nothing() {
        let share = http::QueueShare {
            queue: "q".into(),
            decayed_usage: convert::quantities(&cpus(4)),
            ..http::QueueShare::default()
        };
        let time = http::time_text(at(5));
        let mut usage = Usage::published(&http::Pool {
            queues: vec![share],
            at: time,
            ..http::Pool::default()
        });
        usage.advance(&holding(8), at(3), HOUR);
        assert_eq!(used(&usage), 4.0);
        usage.advance(&holding(8), at(4), HOUR);
        assert_eq!(used(&usage), 6.0);
    }
}
