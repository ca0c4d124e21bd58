//! What came of it, as text.

use std::fmt::Write as _;
use std::time::Duration;

use muster_loadtest::audit;

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Jobs of the five queues, tasks of arrays one by one.
    pub jobs: u64,
    /// Jobs that were there to hold nodes, be preempted, lost or cancelled.
    pub others: u64,
    /// Jobs of one cpu that a cluster has room for.
    pub slots: usize,
    /// Runs that made room for others.
    pub preempted: u64,
    /// Runs that were tried again or given up, and waited again.
    pub requeued: u64,
    /// From the submission of the first of the jobs to the end of the last.
    pub took: Duration,
    /// What was done, and when.
    pub steps: Vec<(Duration, String)>,
    /// The audit.
    pub audit: audit::Report,
    /// What else was not as promised.
    pub findings: Vec<String>,
}

impl Report {
    /// Whether every promise was kept.
    pub fn passed(&self) -> bool {
        self.findings.is_empty() && self.audit.passed() && self.audit.unacknowledged == 0
    }

    /// A page for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (at, step) in &self.steps {
            writeln!(text, "{:7.1} s  {step}", at.as_secs_f64())
                .expect("a string takes everything");
        }
        let seconds = self.took.as_secs_f64();
        let verdict = if self.passed() { "every promise was kept" } else { "BROKEN" };
        write!(
            text,
            "{} jobs of five queues on two clusters of {} cpus in {seconds:.0} s ({:.0} a second), \
             {} others; {} runs preempted, {} queued again\n{}",
            self.jobs,
            self.slots,
            self.jobs as f64 / seconds.max(1e-9),
            self.others,
            self.preempted,
            self.requeued,
            self.audit.text(),
        )
        .expect("a string takes everything");
        for finding in &self.findings {
            writeln!(text, "  {finding}").expect("a string takes everything");
        }
        text + verdict + "\n"
    }
}
