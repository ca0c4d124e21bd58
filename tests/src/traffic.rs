//! Submissions that go on until they are told to stop, each followed by a read that has to see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use muster_client::Client;
use muster_loadtest::acknowledged::Acknowledged;
use muster_loadtest::submit::Progress;

use crate::deployment::submit_jobs;
use crate::wait::eventually;

/// Jobs of one submission: a few, so that there are many submissions.
const JOBS: u64 = 20;

/// Submissions into one job set of each of some queues, one after the other in each queue.
pub struct Traffic {
    client: Client,
    job_set: String,
    lanes: Vec<Lane>,
    stopped: AtomicBool,
}

/// One queue's.
struct Lane {
    queue: String,
    acknowledged: AtomicU64,
}

impl Traffic {
    /// None yet; see [`Traffic::run`].
    #[must_use]
    pub fn new(client: &Client, queues: &[String], job_set: &str) -> Self {
        let lane = |queue: &String| Lane { queue: queue.clone(), acknowledged: AtomicU64::new(0) };
        Self {
            client: client.clone(),
            job_set: job_set.to_owned(),
            lanes: queues.iter().map(lane).collect(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Submits into all queues until [`Traffic::stop`], and gives what was acknowledged.
    ///
    /// # Errors
    /// When a request fails for good, or a read does not see what was acknowledged before it.
    pub async fn run(&self) -> Result<Acknowledged> {
        let lanes = try_join_all(self.lanes.iter().map(|lane| self.run_lane(lane))).await?;
        Ok(lanes.into_iter().fold(Acknowledged::default(), |mut all, lane| {
            all.merge(lane);
            all
        }))
    }

    /// Lets what is under way come to its end, and begins nothing more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Jobs that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.acknowledged.load(Ordering::Relaxed)).sum()
    }

    /// Waits until so many more submissions were acknowledged in every queue.
    ///
    /// # Errors
    /// When they are not within `within`.
    pub async fn goes_on(&self, submissions: u64, within: Duration) -> Result<()> {
        let acknowledged = |lane: &Lane| lane.acknowledged.load(Ordering::Relaxed);
        let wanted = self.lanes.iter().map(|lane| acknowledged(lane) + submissions * JOBS);
        let wanted = wanted.collect::<Vec<_>>();
        eventually(within, "submissions go on in every queue", async || {
            for (lane, wanted) in self.lanes.iter().zip(&wanted) {
                let so_far = acknowledged(lane);
                ensure!(so_far >= *wanted, "{} has {so_far} of {wanted}", lane.queue);
            }
            Ok(())
        })
        .await
    }

    async fn run_lane(&self, lane: &Lane) -> Result<Acknowledged> {
        let mut all = Acknowledged::default();
        let queue = std::slice::from_ref(&lane.queue);
        while !self.stopped.load(Ordering::Relaxed) {
            let progress = Arc::new(Progress::default());
            all.merge(submit_jobs(&self.client, queue, &self.job_set, JOBS, progress).await?);
            let acknowledged = all.jobs();
            lane.acknowledged.store(acknowledged, Ordering::Relaxed);
            let seen = self.client.job_set(&lane.queue, &self.job_set).await?;
            let seen = seen.counts.values().sum::<u64>();
            ensure!(
                seen == acknowledged,
                "{} shows {seen} jobs, {acknowledged} are acknowledged",
                lane.queue
            );
        }
        Ok(all)
    }
}
