//! The books of one shard's jobs: submitted, living, finished.

use std::collections::BTreeMap;

use muster_core::id::{JobId, JobRef, Position};
use muster_core::shard::Shard;

use super::{Report, ShardReport};
use crate::history::check::Place;

/// What is known of a job, tasks counted one by one.
#[derive(Debug, Default)]
struct Entry {
    /// Tasks, as far as a submission or a live array tells; 1 for a job.
    submitted: Option<u64>,
    live: u64,
    /// Finished and not noted as written to the history, where it may stand all the same.
    unnoted: u64,
    /// Rows of the history as ranges of tasks, ends not included; a job is task 0.
    rows: Vec<(u32, u32)>,
}

/// The books.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) report: ShardReport,
    jobs: BTreeMap<JobId, Entry>,
    /// The last log object that was read: later spans of the history are not looked at.
    pub(super) head: u64,
    /// Whether nothing was damaged that the accounts need.
    pub(super) is_whole: bool,
    /// The first day of which there is history.
    first_day: Option<i64>,
}

impl Ledger {
    pub(super) fn new(report: ShardReport) -> Self {
        Self { report, jobs: BTreeMap::new(), head: 0, is_whole: true, first_day: None }
    }

    /// A submission stands in the log.
    pub(super) fn submitted(&mut self, job: JobId, count: Option<u32>) {
        let count = u64::from(count.unwrap_or(1));
        self.report.submitted += count;
        self.jobs.entry(job).or_default().submitted = Some(count);
    }

    /// The state at the head of the log.
    pub(super) fn state(&mut self, state: &Shard) -> Vec<(JobId, Position)> {
        let mut payloads = Vec::new();
        for account in state.accounts() {
            let entry = self.jobs.entry(account.job).or_default();
            entry.submitted.get_or_insert(account.submitted);
            entry.live = account.live;
            self.report.live += account.live;
            payloads.push((account.job, account.spec));
        }
        for finished in state.finished() {
            self.jobs.entry(finished.job.job).or_default().unnoted += u64::from(finished.count);
        }
        payloads
    }

    /// Rows of one history object.
    pub(super) fn history(&mut self, place: Place, jobs: &[JobRef], is_signed: bool) {
        // What was written after the log was read.
        if place.span.through.sequence > self.head {
            return;
        }
        self.first_day = Some(self.first_day.map_or(place.day, |day| day.min(place.day)));
        self.report.history_objects += 1;
        self.report.history_unsigned += u64::from(!is_signed);
        self.report.history += jobs.len() as u64;
        for job in jobs {
            let index = job.index.unwrap_or(0);
            let rows = &mut self.jobs.entry(job.job).or_default().rows;
            match rows.last_mut() {
                Some((_, end)) if *end == index => *end += 1,
                _ => rows.push((index, index + 1)),
            }
        }
    }

    /// Whether each job is accounted for: history and live jobs are what was submitted.
    pub(super) fn settle(self, report: &mut Report) -> ShardReport {
        let place = format!("shards/{}", self.report.shard);
        for (id, mut entry) in self.jobs {
            entry.rows.sort_unstable();
            if let Some(pair) = entry.rows.windows(2).find(|pair| pair[0].1 > pair[1].0) {
                let twice = JobRef { job: id, index: Some(pair[1].0) };
                report.find(&place, format!("job `{twice}` stands in the history twice"));
            }
            // Without its submission nothing is known of how many there are; without the whole log,
            // nothing of which of them live.
            let Some(submitted) = entry.submitted.filter(|_| self.is_whole) else { continue };
            let rows: u64 = entry.rows.iter().map(|(from, end)| u64::from(end - from)).sum();
            let (least, most) = (rows + entry.live, rows + entry.live + entry.unnoted);
            // Days of the history go while tasks of the same array still live.
            let may_have_gone = self.first_day.is_some_and(|day| id.submitted_at().days() < day);
            if least > submitted || (most < submitted && !(may_have_gone && rows + entry.live > 0))
            {
                report.find(
                    &place,
                    format!(
                        "of job `{id}` {submitted} were submitted, {} live, {rows} are in the \
                         history, {} are on the way there",
                        entry.live, entry.unnoted
                    ),
                );
            }
        }
        self.report
    }
}
