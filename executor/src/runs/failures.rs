//! What nodes are to be judged by: the queues of which jobs failed on a node since a job ended well
//! there. The pool's leader does the judging; this says what it is told.

use std::collections::BTreeMap;

use muster_api::bus::RunStatus;
use muster_core::Name;
use muster_core::job::Exit;
use muster_core::limits::FAILING_QUEUES_MAX;
use muster_core::retry::{self, Ending};
use muster_core::time::Timestamp;

use super::{Run, RunKey, Runs};
use crate::backend::Event;

/// By queue, when a job of it failed there last. Of too many queues, those that come first in time
/// are forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Failures {
    queues: BTreeMap<Name, Timestamp>,
}

impl Failures {
    pub(super) fn failed(&mut self, queue: &Name, at: Timestamp) {
        let last = self.queues.entry(queue.clone()).or_insert(at);
        *last = at.max(*last);
        if self.queues.len() > FAILING_QUEUES_MAX {
            let oldest = self.queues.iter().min_by_key(|(name, at)| (**at, (*name).clone()));
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|name| self.queues.remove(&name));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, Timestamp)> {
        self.queues.iter().map(|(name, at)| (name, *at))
    }
}

/// What the end of a run says of its node.
enum Verdict {
    Well,
    MayBeOfNode,
    Nothing,
}

fn verdict(event: &Event) -> Verdict {
    let ending = match event.status {
        RunStatus::Succeeded => return Verdict::Well,
        RunStatus::Pending | RunStatus::Running => return Verdict::Nothing,
        RunStatus::Failed => Ending::Failed,
        RunStatus::Returned => Ending::Returned,
        RunStatus::Lost => Ending::Lost,
    };
    let exit = Exit { reason: event.exit.reason.as_deref().map(Name::from), ..Exit::default() };
    if retry::may_be_of_node(ending, &exit) { Verdict::MayBeOfNode } else { Verdict::Nothing }
}

impl Runs {
    /// A run ended by itself: its node is judged by it, if the run's queue is known.
    pub(super) fn judge(&mut self, key: &RunKey, event: &Event) {
        let Some(Run { node, queue: Some(queue), is_stopping: false, .. }) = self.runs.get(key)
        else {
            return;
        };
        match verdict(event) {
            Verdict::Well => self.nodes.did_well(node),
            Verdict::MayBeOfNode => self.nodes.failed(node, queue, event.at),
            Verdict::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_queues_those_are_told_that_failed_last() {
        let mut failures = Failures::default();
        let name = |n: usize| Name::from(format!("q{n:02}"));
        let at = |n: usize| Timestamp(i64::try_from(n).unwrap());
        for n in 0..FAILING_QUEUES_MAX + 3 {
            failures.failed(&name(n), at(n));
        }
        failures.failed(&name(5), at(1));
        let told: Vec<_> = failures.iter().map(|(name, at)| (name.clone(), at)).collect();
        let expected: Vec<_> = (3..FAILING_QUEUES_MAX + 3).map(|n| (name(n), at(n))).collect();
        assert_eq!(told, expected);
    }
}
