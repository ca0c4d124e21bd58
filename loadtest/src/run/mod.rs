//! Running a scenario: requests leave when the scenario says so, and are measured from then.
//! Watchers follow the events of every job set, a sampler the shares of the pool.

mod arrivals;
mod watchers;

use std::sync::Arc;
use std::time::Duration;

use muster_api::http::QueueSettings;
use muster_client::{Client, Error};
use muster_runtime::clock::Clock;
use muster_runtime::random::Random;
use muster_runtime::tasks::Supervisor;
use serde::{Deserialize, Serialize};

use crate::acknowledged::Acknowledged;
use crate::audit;
use crate::latency::Percentiles;
use crate::scenario::Scenario;
pub use watchers::Live;

/// How long watchers may take to end.
const WATCHERS_END: Duration = Duration::from_secs(5);
const DRAIN_POLL: Duration = Duration::from_millis(500);

/// How a scenario went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The scenario.
    pub scenario: Scenario,
    /// The deployment's URL.
    pub url: String,
    /// How long jobs arrived.
    pub arrival_seconds: f64,
    /// How long it took after that until nothing lived any more.
    pub drain_seconds: f64,
    /// Requests that were due.
    pub requests: u64,
    /// Requests that failed for good.
    pub failed_requests: u64,
    /// Records that were acknowledged.
    pub accepted: u64,
    /// Records that were refused.
    pub rejected: u64,
    /// From when a request was due to the end of its answer.
    pub submit_latency: Percentiles,
    /// From a job's submission to its first lease, by the deployment's clock.
    pub lease_latency: Percentiles,
    /// From a job's submission to its end, by the deployment's clock.
    pub finish_latency: Percentiles,
    /// Jobs in each second since the start.
    pub seconds: Vec<Second>,
    /// Shares over time.
    pub shares: Vec<ShareSample>,
    /// What the audit found.
    pub audit: audit::Report,
}

impl Report {
    /// Whether all is well: every request was answered, every job taken, and the audit has nothing
    /// to say.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failed_requests == 0 && self.rejected == 0 && self.audit.passed()
    }
}

/// What happened in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Records acknowledged.
    pub submitted: u64,
    /// Jobs leased.
    pub leased: u64,
    /// Jobs ended.
    pub finished: u64,
}

/// One queue's share at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareSample {
    /// Seconds since the start.
    pub at: f64,
    /// The queue.
    pub queue: String,
    /// Its ideal share, 0 to 1.
    pub ideal: f64,
    /// The one it had.
    pub actual: f64,
}

/// Runs it, waits until all has ended (at most as long as the scenario says), audits. Gives what
/// was acknowledged, too.
///
/// # Errors
/// Those of calls without which nothing can be said: a request that fails is part of the report.
pub async fn run(
    client: &Client,
    clock: &Clock,
    scenario: Scenario,
    live: Arc<Live>,
) -> Result<(Report, Acknowledged), Error> {
    let random = Random::seeded(scenario.seed);
    // Every run has job sets of its own, whatever the seed.
    let job_set = format!("{}-{:08x}", scenario.job_set, Random::from_os().u64() as u32);
    for queue in &scenario.queues {
        let settings = QueueSettings { weight: queue.weight, ..QueueSettings::default() };
        client.put_queue(&queue.name, &settings).await?;
    }
    let tasks = Supervisor::new(Random::from_os());
    let began = clock.monotonic();
    live.start(clock.now());
    watchers::start(&tasks, client, clock, &scenario, &job_set, &live);

    let sent = arrivals::send(client, clock, &scenario, &job_set, random, &live).await;
    let arrived = clock.monotonic();
    drain(client, clock, &sent.acknowledged, scenario.drain.0).await?;
    let drained = clock.monotonic();

    let audit = audit::audit(client, clock, sent.acknowledged.clone(), Duration::ZERO).await?;
    live.settle(clock, audit.events, WATCHERS_END).await;
    // What the watchers saw is kept; only their ends could fail.
    let _ = tasks.shutdown(WATCHERS_END).await;
    let seen = live.take();
    let report = Report {
        scenario,
        url: client.base().to_owned(),
        arrival_seconds: (arrived - began).as_secs_f64(),
        drain_seconds: (drained - arrived).as_secs_f64(),
        requests: sent.requests,
        failed_requests: sent.failed_requests,
        accepted: seen.accepted,
        rejected: seen.rejected,
        submit_latency: seen.submit_latency.percentiles(),
        lease_latency: seen.lease_latency.percentiles(),
        finish_latency: seen.finish_latency.percentiles(),
        seconds: seen.seconds,
        shares: seen.shares,
        audit,
    };
    Ok((report, sent.acknowledged))
}

async fn drain(
    client: &Client,
    clock: &Clock,
    acknowledged: &Acknowledged,
    within: Duration,
) -> Result<(), Error> {
    let deadline = clock.monotonic() + within;
    for (queue, name) in acknowledged.job_sets.keys() {
        loop {
            let alive = match client.job_set(queue, name).await {
                Ok(counts) => audit::live(&counts),
                Err(error) if error.is_not_found() => 0,
                Err(error) => return Err(error),
            };
            if alive == 0 || clock.monotonic() >= deadline {
                break;
            }
            clock.sleep(DRAIN_POLL).await;
        }
    }
    Ok(())
}
