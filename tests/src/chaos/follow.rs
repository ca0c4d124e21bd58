//! Watches the events of a job set while everything fails, and holds what came to what is there in
//! the end: nothing missing, nothing twice, the same order.

use std::time::Duration;

use anyhow::{Result, ensure};
use muster_api::http::Event;
use muster_client::{Client, Follow};
use muster_runtime::clock::Clock;
use tokio::sync::Mutex;

use crate::wait::eventually;

/// The job set is not known before its first job, and nobody may be there to ask.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a watcher may take to have seen everything once nothing happens any more.
const SETTLES: Duration = Duration::from_secs(300);

/// A watcher of one job set.
#[derive(Debug)]
pub(super) struct Follower {
    client: Client,
    queue: String,
    job_set: String,
    clock: Clock,
    seen: Mutex<Vec<Seen>>,
}

/// What of an event has to agree.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    cursor: String,
    job: String,
    event: String,
    attempt: Option<u32>,
}

impl From<Event> for Seen {
    fn from(event: Event) -> Self {
        let Event { cursor, job_id, event, attempt, .. } = event;
        Self { cursor, job: job_id, event, attempt }
    }
}

impl Follower {
    /// One that has seen nothing.
    pub(super) fn new(client: Client, queue: &str, job_set: &str, clock: &Clock) -> Self {
        let (queue, job_set) = (queue.to_owned(), job_set.to_owned());
        Self { client, queue, job_set, clock: clock.clone(), seen: Mutex::default() }
    }

    /// Watches for ever.
    ///
    /// # Errors
    /// What the deployment refuses for good.
    pub(super) async fn run(&self) -> Result<()> {
        let mut events = self.client.events(&self.queue, &self.job_set, None, Follow::Yes);
        loop {
            match events.next().await {
                Ok(Some(event)) => self.seen.lock().await.push(event.into()),
                Ok(None) => {}
                Err(error) if error.is_not_found() || error.is_unavailable() => {
                    self.clock.sleep_until(self.clock.monotonic() + AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Holds what it saw to the whole list, once nothing happens any more; gives the number of
    /// events.
    ///
    /// # Errors
    /// When they differ.
    pub(super) async fn check(&self) -> Result<u64> {
        let mut all = Vec::new();
        let mut events = self.client.events(&self.queue, &self.job_set, None, Follow::No);
        while let Some(event) = events.next().await? {
            all.push(Seen::from(event));
        }
        let (queue, job_set) = (&self.queue, &self.job_set);
        eventually(SETTLES, &format!("the watcher of {queue}/{job_set} sees all"), async || {
            let seen = self.seen.lock().await.len();
            ensure!(seen >= all.len(), "it saw {seen} of {}", all.len());
            Ok(())
        })
        .await?;
        let seen = self.seen.lock().await;
        let differs = seen.iter().zip(&all).position(|(seen, listed)| seen != listed);
        if let Some(at) = differs {
            let (seen, listed) = (&seen[at], &all[at]);
            anyhow::bail!("event {at} of {queue}/{job_set} was {seen:?}, and is {listed:?}");
        }
        let extra = seen.len() - all.len();
        ensure!(extra == 0, "the watcher of {queue}/{job_set} saw {extra} events too many");
        Ok(all.len() as u64)
    }
}
