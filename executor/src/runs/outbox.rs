//! What a shard is still to be told: the newest status of each run, and the one message that waits
//! for its answer. Bounded by the number of runs.

use std::collections::{BTreeMap, VecDeque};

use muster_api::bus::Report;
use muster_core::id::CommandId;

use super::RunKey;
use crate::limits;

/// Bytes of a report without its texts, generously.
const REPORT_BYTES: usize = 200;

/// Reports to one shard.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    order: VecDeque<RunKey>,
    unsent: BTreeMap<RunKey, Report>,
    in_flight: Option<(CommandId, Vec<Report>)>,
}

impl Outbox {
    /// Takes a report in; it replaces one of the same run that was not sent yet.
    pub(super) fn push(&mut self, key: RunKey, report: Report) {
        if self.unsent.insert(key, report).is_none() {
            self.order.push_back(key);
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
        while reports.len() < limits::REPORTS_PER_MESSAGE_MAX {
            let Some(key) = self.order.front() else { break };
            if let Some(report) = self.unsent.get(key) {
                bytes += size(report);
                if bytes > bytes_max && !reports.is_empty() {
                    break;
                }
            }
            reports.extend(self.unsent.remove(key));
            self.order.pop_front();
        }
        reports
    }
}

fn size(report: &Report) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    REPORT_BYTES + text(&report.exit.reason) + text(&report.exit.message)
}
