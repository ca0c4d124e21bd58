//! Holds a deployment to what it has acknowledged: every job is there exactly once and has ended,
//! once; no two attempts at one job overlapped; nothing is there that nobody submitted.

mod ledger;
pub mod runs;

use std::time::Duration;

use muster_api::http::JobSet as Counts;
use muster_client::{Client, Error, Follow, JobFilter};
use muster_core::job::JobState;
use muster_runtime::clock::Clock;
use serde::{Deserialize, Serialize};

use crate::acknowledged::{Acknowledged, JobSet};
use ledger::Ledger;

/// Jobs asked for at once.
const PAGE_SIZE: usize = 1000;
/// How often the counts are read while jobs are still alive.
const DRAIN_POLL: Duration = Duration::from_millis(500);
/// Findings that are named; the rest are counted.
pub const FINDINGS_NAMED: usize = 20;

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Job sets looked at.
    pub job_sets: u64,
    /// Jobs that were acknowledged, tasks one by one.
    pub acknowledged: u64,
    /// Acknowledged records that were found in the listings.
    pub found: u64,
    /// Events read.
    pub events: u64,
    /// Records that were sent and never answered.
    pub unanswered: u64,
    /// Records found that were not acknowledged: at most as many as were not answered.
    pub unacknowledged: u64,
    /// Runs that executors wrote down themselves, if their diaries were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<u64>,
    /// Jobs that were acknowledged and are not there; part of the findings.
    #[serde(default)]
    pub lost: u64,
    /// How often something was there, ended, or was started more than once; part of the findings.
    #[serde(default)]
    pub repeated: u64,
    /// How many things are wrong.
    pub findings: u64,
    /// The first of them.
    pub named: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The queue.
    pub queue: String,
    /// The job set.
    pub job_set: String,
    /// The job, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// What is wrong.
    pub what: String,
}

impl Report {
    /// Whether all is well.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings == 0
    }

    /// A few lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let mut text = format!(
            "audit {verdict}: {} jobs in {} job sets acknowledged, {} records found, {} events read, \
             {} records unanswered, {} unacknowledged, {} findings\n",
            self.acknowledged,
            self.job_sets,
            self.found,
            self.events,
            self.unanswered,
            self.unacknowledged,
            self.findings
        );
        if let Some(recorded) = self.recorded {
            text += &format!("  {recorded} runs by the executors' own records\n");
        }
        for finding in &self.named {
            let id = finding.job_id.as_deref().unwrap_or("-");
            text += &format!("  {}/{} {id}: {}\n", finding.queue, finding.job_set, finding.what);
        }
        if self.findings > self.named.len() as u64 {
            text += &format!("  and {} more\n", self.findings - self.named.len() as u64);
        }
        text
    }

    /// Adds what the clusters' own diaries say.
    pub fn take_runs(&mut self, runs: &runs::Runs) {
        self.recorded = Some(self.recorded.unwrap_or_default() + runs.count());
        for (job_id, what) in runs.findings() {
            self.findings += 1;
            self.repeated += 1;
            if self.named.len() < FINDINGS_NAMED {
                let (queue, job_set) = ("-".to_owned(), "-".to_owned());
                self.named.push(Finding { queue, job_set, job_id: Some(job_id), what });
            }
        }
    }

    fn take(&mut self, queue: &str, job_set: &str, ledger: ledger::Result) {
        self.job_sets += 1;
        self.found += ledger.found;
        self.events += ledger.events;
        self.unacknowledged += ledger.unacknowledged;
        self.lost += ledger.lost;
        self.repeated += ledger.repeated;
        self.findings += ledger.findings;
        for (job_id, what) in ledger.named {
            if self.named.len() < FINDINGS_NAMED {
                let (queue, job_set) = (queue.to_owned(), job_set.to_owned());
                self.named.push(Finding { queue, job_set, job_id, what });
            }
        }
    }
}

/// Waits until nothing lives (at most `drain`), then looks at everything.
///
/// # Errors
/// Those of the calls.
pub async fn audit(
    client: &Client,
    clock: &Clock,
    acknowledged: Acknowledged,
    drain: Duration,
) -> Result<Report, Error> {
    let mut report = Report { acknowledged: acknowledged.jobs(), ..Report::default() };
    let deadline = clock.monotonic() + drain;
    for ((queue, name), job_set) in acknowledged.job_sets {
        report.unanswered += job_set.unanswered;
        let result = audit_job_set(client, clock, (&queue, &name), job_set, deadline).await?;
        report.take(&queue, &name, result);
    }
    Ok(report)
}

async fn audit_job_set(
    client: &Client,
    clock: &Clock,
    (queue, name): (&str, &str),
    job_set: JobSet,
    deadline: Duration,
) -> Result<ledger::Result, Error> {
    let mut ledger = Ledger::new(job_set);
    match drained(client, clock, queue, name, deadline).await {
        Ok(counts) => ledger.see_counts(&counts.counts),
        // A job set without a job is not known.
        Err(error) if error.is_not_found() => return Ok(ledger.finish()),
        Err(error) => return Err(error),
    }
    let (queue_filter, job_set) = (Some(queue.to_owned()), Some(name.to_owned()));
    let filter = JobFilter { queue: queue_filter, job_set, states: Vec::new() };
    let mut cursor = None;
    loop {
        let page = client.jobs(&filter, PAGE_SIZE, cursor.as_deref()).await?;
        page.jobs.iter().for_each(|job| ledger.see_job(job));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let mut events = client.events(queue, name, None, Follow::No);
    while let Some(event) = events.next().await? {
        ledger.see_event(&event);
    }
    Ok(ledger.finish())
}

/// The counts when nothing lives any more, or at the deadline.
async fn drained(
    client: &Client,
    clock: &Clock,
    queue: &str,
    name: &str,
    deadline: Duration,
) -> Result<Counts, Error> {
    loop {
        let counts = client.job_set(queue, name).await?;
        if live(&counts) == 0 || clock.monotonic() >= deadline {
            return Ok(counts);
        }
        clock.sleep(DRAIN_POLL).await;
    }
}

/// Jobs that have not ended.
#[must_use]
pub fn live(job_set: &Counts) -> u64 {
    let is_live = |name: &str| JobState::from_name(name).is_none_or(|state| !state.is_final());
    job_set.counts.iter().filter(|(name, _)| is_live(name)).map(|(_, count)| count).sum()
}
