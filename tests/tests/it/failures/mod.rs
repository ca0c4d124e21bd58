//! The failure matrix of docs/ARCHITECTURE.md on the whole system: roles as processes, a real bus,
//! a real store, and load on it while something fails. Each test ends with the audit of everything
//! that was acknowledged.

mod bus;
mod kills;
mod leader;
mod sleeper;
mod store;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_api::http::Job;
use muster_client::{Client, JobFilter};
use muster_loadtest::acknowledged::Acknowledged;
use muster_tests::pods::Pod;
use muster_tests::wait::eventually;

use crate::deployment::WAIT;

/// Jobs of a job set in a state, all queues together.
async fn count(client: &Client, queues: &[String], job_set: &str, state: &str) -> Result<u64> {
    let mut count = 0;
    for queue in queues {
        let counts = client.job_set(queue, job_set).await?.counts;
        count += counts.get(state).copied().unwrap_or_default();
    }
    Ok(count)
}

/// Waits until so many jobs of a job set are in a state.
async fn until_count(
    client: &Client,
    queues: &[String],
    job_set: &str,
    state: &str,
    at_least: u64,
) {
    eventually(WAIT, &format!("{at_least} jobs are {state}"), async || {
        let found = count(client, queues, job_set, state).await?;
        ensure!(found >= at_least, "{found} are");
        Ok(())
    })
    .await
    .unwrap();
}

/// Every job of a job set.
async fn jobs(client: &Client, queues: &[String], job_set: &str) -> Result<Vec<Job>> {
    let mut all = Vec::new();
    for queue in queues {
        let (queue, job_set) = (Some(queue.clone()), Some(job_set.to_owned()));
        let filter = JobFilter { queue, job_set, states: Vec::new() };
        let mut cursor = None;
        loop {
            let page = client.jobs(&filter, 1000, cursor.as_deref()).await?;
            all.extend(page.jobs);
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(all)
}

/// Holds jobs to having succeeded in one run: whatever failed meanwhile, the run was not lost.
async fn check_first_runs_succeeded(
    client: &Client,
    queues: &[String],
    job_set: &str,
    acknowledged: &Acknowledged,
) -> Result<()> {
    let all = jobs(client, queues, job_set).await?;
    ensure!(all.len() as u64 == acknowledged.jobs(), "{} jobs are listed", all.len());
    for job in all {
        let runs = &job.runs;
        ensure!(job.state == "succeeded" && runs.len() == 1, "{} {runs:?}", job.job_id);
    }
    Ok(())
}

/// Holds runs that were under way at some moment to having brought their jobs to their end.
async fn check_runs_succeeded(
    client: &Client,
    queues: &[String],
    job_set: &str,
    pods: &[Pod],
) -> Result<()> {
    let all = jobs(client, queues, job_set).await?;
    let all = all.iter().map(|job| (job.job_id.as_str(), job)).collect::<BTreeMap<_, _>>();
    for Pod { job, attempt, .. } in pods {
        let job = all.get(job.as_str()).with_context(|| format!("{job} is not listed"))?;
        let last = job.runs.last().map(|run| run.attempt);
        ensure!(
            job.state == "succeeded" && last == Some(*attempt),
            "{} is {}, and its last run {last:?} instead of {attempt}",
            job.job_id,
            job.state,
        );
    }
    Ok(())
}

/// Long enough that runs are under way whenever a test looks, with time to spare.
const LONG: Duration = Duration::from_secs(10);
