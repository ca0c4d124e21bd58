//! What the queues have, measured while all of them are busy.

use std::time::Duration;

use muster_api::http::Pool;
use muster_client::Client;

use super::SETTLE;

/// How far a queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct QueueProgress {
    pub(super) queued: u64,
    pub(super) running: u64,
    pub(super) succeeded: u64,
    /// Succeeded or not.
    pub(super) finished: u64,
    /// Its part of what the queues hold, 0 to 1.
    pub(super) share: f64,
}

/// Reads the counts of each queue's job set.
pub(super) async fn progress(
    client: &Client,
    queues: &[(&str, u32)],
    job_set: &str,
) -> anyhow::Result<Vec<QueueProgress>> {
    let mut progress = Vec::with_capacity(queues.len());
    for (queue, _) in queues {
        let counts = client.job_set(queue, job_set).await?.counts;
        let sum = |states: &[&str]| states.iter().filter_map(|state| counts.get(*state)).sum();
        progress.push(QueueProgress {
            queued: sum(&["queued"]),
            running: sum(&["leased", "pending", "running"]),
            succeeded: sum(&["succeeded"]),
            finished: sum(&["succeeded", "failed", "cancelled"]),
            share: 0.0,
        });
    }
    Ok(progress)
}

/// Measurements. A share is a queue's part of what all of them hold together: what stands idle
/// between two jobs belongs to nobody.
#[derive(Debug)]
pub(super) struct Shares {
    sums: Vec<f64>,
    samples: usize,
    latest: Vec<f64>,
    /// When the last measurement was made, by the pool's clock.
    last_at: String,
    busy_since: Option<Duration>,
}

impl Shares {
    pub(super) fn new(queues: usize) -> Self {
        Self {
            sums: vec![0.0; queues],
            samples: 0,
            latest: vec![0.0; queues],
            last_at: String::new(),
            busy_since: None,
        }
    }

    /// Looks at the pool as it is at `now`.
    pub(super) fn take(&mut self, now: Duration, pool: &Pool, queues: &[(&str, u32)]) {
        let found: Vec<_> = queues
            .iter()
            .map(|(name, _)| pool.queues.iter().find(|queue| queue.queue == *name))
            .collect();
        let held = |at: usize| found[at].map_or(0.0, |queue| queue.actual_share);
        let sum: f64 = (0..queues.len()).map(held).sum();
        self.latest =
            (0..queues.len()).map(|at| if sum > 0.0 { held(at) / sum } else { 0.0 }).collect();

        let all_wait = found.iter().all(|queue| queue.is_some_and(|queue| queue.queued > 0));
        if !all_wait || sum <= 0.0 {
            self.busy_since = None;
            return;
        }
        let since = *self.busy_since.get_or_insert(now);
        if now - since >= SETTLE && pool.at != self.last_at {
            self.last_at.clone_from(&pool.at);
            let latest = std::mem::take(&mut self.latest);
            self.add(&latest);
            self.latest = latest;
        }
    }

    pub(super) fn add(&mut self, shares: &[f64]) {
        for (sum, share) in self.sums.iter_mut().zip(shares) {
            *sum += share;
        }
        self.samples += 1;
    }

    pub(super) fn latest(&self) -> &[f64] {
        &self.latest
    }

    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// The mean share of each queue.
    pub(super) fn means(&self) -> Vec<f64> {
        let samples = self.samples.max(1) as f64;
        self.sums.iter().map(|sum| sum / samples).collect()
    }
}

#[cfg(test)]
mod tests {
    use muster_api::http::QueueShare;

    use super::*;

    fn pool(at: &str, queues: &[(&str, u64, f64)]) -> Pool {
        let queues = queues.iter().map(|(queue, queued, actual_share)| QueueShare {
            queue: (*queue).to_owned(),
            queued: *queued,
            actual_share: *actual_share,
            ..QueueShare::default()
        });
        Pool { at: at.to_owned(), queues: queues.collect(), ..Pool::default() }
    }

    #[test]
    fn only_new_snapshots_with_every_queue_waiting_count() {
        let names = [("a", 1), ("b", 3)];
        let mut shares = Shares::new(2);
        let busy = |at| pool(at, &[("a", 5, 0.2), ("b", 5, 0.6)]);
        shares.take(Duration::ZERO, &busy("1"), &names);
        assert_eq!(shares.samples(), 0, "it has to settle first");
        shares.take(SETTLE, &busy("2"), &names);
        shares.take(SETTLE, &busy("2"), &names);
        assert_eq!(shares.samples(), 1);
        shares.take(2 * SETTLE, &pool("3", &[("a", 0, 0.2), ("b", 5, 0.6)]), &names);
        shares.take(2 * SETTLE, &pool("4", &[("b", 5, 0.6)]), &names);
        assert_eq!(shares.samples(), 1);
        let means = shares.means();
        assert!((means[0] - 0.25).abs() < 1e-9 && (means[1] - 0.75).abs() < 1e-9);
        assert_eq!(shares.latest(), [0.0, 1.0]);
    }
}
