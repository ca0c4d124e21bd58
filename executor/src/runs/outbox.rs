//! What a shard is still to be told: of each run that it started, if it did, and its newest status;
//! and the one message that waits for its answer. Bounded by the number of runs.

use std::collections::{BTreeMap, VecDeque};

use muster_api::bus::{Report, RunStatus};
use muster_core::id::CommandId;

use super::{RunKey, is_final};
use crate::limits;

/// Bytes of a report without its texts, generously.
const REPORT_BYTES: usize = 200;
/// Bytes of an address without its text.
const ADDRESS_BYTES: usize = 24;

/// Reports to one shard.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    order: VecDeque<RunKey>,
    /// One report of each run, or two: that it runs, and how it ended.
    unsent: BTreeMap<RunKey, Vec<Report>>,
    in_flight: Option<(CommandId, Vec<Report>)>,
}

impl Outbox {
    /// Takes a report in. It replaces what was not sent of the same run, but for the beginning when
    /// this is the end: without it nobody would know that the run ran, and from when on.
    pub(super) fn push(&mut self, key: RunKey, report: Report) {
        let waiting = self.unsent.entry(key).or_default();
        if waiting.is_empty() {
            self.order.push_back(key);
        }
        if is_final(report.status) {
            waiting.retain(|earlier| earlier.status == RunStatus::Running);
            waiting.push(report);
        } else if !waiting.last().is_some_and(|last| is_final(last.status)) {
            *waiting = vec![report];
        }
    }

    /// Drops what was not sent of a run.
    pub(super) fn forget(&mut self, key: &RunKey) {
        // Its place in `order` stays and is skipped.
        self.unsent.remove(key);
    }

    /// The message to send: the one that was not answered, or a new one under `command`.
    pub(super) fn message(
        &mut self,
        command: impl FnOnce() -> CommandId,
        bytes_max: usize,
    ) -> Option<(CommandId, Vec<Report>)> {
        if self.in_flight.is_none() {
            let reports = self.collect(bytes_max);
            if !reports.is_empty() {
                self.in_flight = Some((command(), reports));
            }
        }
        self.in_flight.clone()
    }

    /// Takes back the message that was answered.
    pub(super) fn answered(&mut self) -> Vec<Report> {
        self.in_flight.take().map(|(_, reports)| reports).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsent.is_empty() && self.in_flight.is_none()
    }

    fn collect(&mut self, bytes_max: usize) -> Vec<Report> {
        let (mut reports, mut bytes) = (Vec::new(), 0);
        while let Some(key) = self.order.front() {
            if let Some(waiting) = self.unsent.get(key) {
                bytes += waiting.iter().map(size).sum::<usize>();
                let is_full = reports.len() + waiting.len() > limits::REPORTS_PER_MESSAGE_MAX;
                if (is_full || bytes > bytes_max) && !reports.is_empty() {
                    break;
                }
            }
            reports.extend(self.unsent.remove(key).into_iter().flatten());
            self.order.pop_front();
        }
        reports
    }
}

fn size(report: &Report) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let addresses = report.addresses.iter().map(|at| at.address.len() + ADDRESS_BYTES);
    REPORT_BYTES + text(&report.exit.reason) + text(&report.exit.message) + addresses.sum::<usize>()
}
