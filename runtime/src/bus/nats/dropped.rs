//! Messages that were dropped because their readers were slow: counted one by one, and told once a
//! second at most of each subscription, with how many they were.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    random::Random,
    tasks::{Policy, Supervisor},
};

/// How long nothing more is told of a subscription.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Where dropped messages are counted. What is left to be told is told when it is dropped.
pub(super) struct Dropped {
    counts: Arc<Mutex<Counts>>,
    news: watch::Sender<()>,
}

/// What is counted and was not told yet.
#[derive(Debug, Default)]
struct Counts {
    by_subscription: BTreeMap<u64, Count>,
}

#[derive(Debug, Default)]
struct Count {
    untold: u64,
    told_at: Option<Instant>,
}

impl Dropped {
    /// Starts the task that tells; it ends when what is returned is dropped.
    pub(super) fn start() -> Self {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (news, heard) = watch::channel(());
        let telling = tell(Arc::clone(&counts), heard);
        // Nothing of it is started again, at whatever moment.
        let supervisor = Supervisor::new(Random::seeded(0));
        supervisor.spawn_once("bus-dropped", Policy::DETACHED, |_| async {
            telling.await;
            Ok::<(), std::convert::Infallible>(())
        });
        Self { counts, news }
    }

    /// A message for a subscription was dropped.
    pub(super) fn add(&self, subscription: u64) {
        if lock(&self.counts).add(subscription) {
            self.news.send_replace(());
        }
    }
}

impl Counts {
    /// Counts a message; says whether it is the first to be told of its subscription.
    fn add(&mut self, subscription: u64) -> bool {
        let count = self.by_subscription.entry(subscription).or_default();
        count.untold += 1;
        count.untold == 1
    }

    /// How many are to be told of which subscriptions; and when something is the next time.
    fn due(&mut self, now: Instant) -> (Vec<(u64, u64)>, Option<Instant>) {
        // Of whom nothing is left to be told and nothing was, nothing is known.
        self.by_subscription.retain(|_, count| count.untold > 0 || count.rests_at(now));
        let mut due = Vec::new();
        for (subscription, count) in &mut self.by_subscription {
            if count.untold > 0 && !count.rests_at(now) {
                due.push((*subscription, std::mem::take(&mut count.untold)));
                count.told_at = Some(now);
            }
        }
        let waiting = self.by_subscription.values().filter(|count| count.untold > 0);
        let next = waiting.filter_map(|count| Some(count.told_at? + TELL_INTERVAL)).min();
        (due, next)
    }

    /// All that was not told.
    fn rest(&mut self) -> Vec<(u64, u64)> {
        let all = std::mem::take(&mut self.by_subscription).into_iter();
        all.map(|(subscription, count)| (subscription, count.untold))
            .filter(|(_, untold)| *untold > 0)
            .collect()
    }
}

impl Count {
    /// Whether something was told so shortly before that nothing is now.
    fn rests_at(&self, now: Instant) -> bool {
        self.told_at.is_some_and(|at| now < at + TELL_INTERVAL)
    }
}

async fn tell(counts: Arc<Mutex<Counts>>, mut heard: watch::Receiver<()>) {
    loop {
        let (due, next) = lock(&counts).due(Instant::now());
        due.into_iter().for_each(tell_one);
        let second = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            news = heard.changed() => if news.is_err() { break },
            () = second => {}
        }
    }
    let rest = lock(&counts).rest();
    rest.into_iter().for_each(tell_one);
}

fn tell_one((subscription, messages): (u64, u64)) {
    tracing::warn!(subscription, messages, "reader is slow, messages dropped");
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_subscription_one_line_a_second_is_told_and_no_message_is_left_out() {
        let mut counts = Counts::default();
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(counts.due(at(0)), (vec![], None));
        assert!(counts.add(7));
        assert_eq!(counts.due(at(0)), (vec![(7, 1)], None), "the first at once");
        // Ten thousand a second, for two and a half.
        let mut told = vec![1];
        for millis in 1..2_500 {
            for message in 0..10 {
                let is_first = counts.add(7);
                assert!(!is_first || message == 0);
            }
            let (due, next) = counts.due(at(millis));
            assert!(due.is_empty() || millis % 1_000 == 0, "{due:?} after {millis} ms");
            assert!(next.is_none_or(|next| next == at((millis / 1_000 + 1) * 1_000)));
            told.extend(due.into_iter().map(|(_, messages)| messages));
        }
        assert_eq!(told, [1, 10_000, 10_000]);
        // Another one has a second of its own.
        assert!(counts.add(8));
        assert_eq!(counts.due(at(2_500)), (vec![(8, 1)], Some(at(3_000))));
        assert!(counts.add(8));
        assert_eq!(counts.rest(), [(7, 4_990), (8, 1)]);
        assert_eq!(counts.rest(), []);
    }

    #[test]
    fn what_is_told_late_is_told_once_and_forgotten_when_there_is_no_more() {
        let mut counts = Counts::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        counts.add(7);
        counts.due(at(0));
        counts.add(7);
        assert_eq!(counts.due(at(9)), (vec![(7, 1)], None));
        assert_eq!(counts.by_subscription.len(), 1);
        assert_eq!(counts.due(at(10)), (vec![], None));
        assert!(counts.by_subscription.is_empty());
    }
}
