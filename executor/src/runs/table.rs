//! The table of runs: what is counted with each, and what each takes of its node.

use muster_core::id::run_digest;

use super::phase::Phase;
use super::{Run, RunKey, Runs};

impl Runs {
    pub(super) fn insert(&mut self, key: RunKey, run: Run) {
        *self.counts.of(&run.phase) += 1;
        self.count_belief(&key, run.phase.is_believed(), false);
        let before = self.runs.insert(key, run);
        assert!(before.is_none(), "run {key:?} is registered once");
    }

    pub(super) fn remove(&mut self, key: &RunKey) {
        self.payloads.forget(key);
        self.forget_report(key);
        let Some(run) = self.runs.remove(key) else { return };
        *self.counts.of(&run.phase) -= 1;
        self.count_belief(key, false, run.phase.is_believed());
        if run.phase.holds_node() {
            self.nodes.release(&run.node, &run.shape.request, run.is_stopping);
        }
    }

    pub(super) fn set_phase(&mut self, key: &RunKey, phase: Phase) {
        let Some(run) = self.runs.get_mut(key) else { return };
        let (holds, believed) = (phase.holds_node(), phase.is_believed());
        *self.counts.of(&phase) += 1;
        let before = std::mem::replace(&mut run.phase, phase);
        *self.counts.of(&before) -= 1;
        if before.holds_node() && !holds {
            self.nodes.release(&run.node, &run.shape.request, run.is_stopping);
        }
        self.count_belief(key, believed, before.is_believed());
    }

    /// A run was told to stop: what it holds will be free.
    pub(super) fn stopping(&mut self, key: &RunKey) {
        let Some(run) = self.runs.get_mut(key) else { return };
        if !std::mem::replace(&mut run.is_stopping, true) {
            self.nodes.stopping(&run.node, &run.shape.request);
        }
    }

    fn count_belief(&mut self, key: &RunKey, is_believed: bool, was_believed: bool) {
        if is_believed == was_believed {
            return;
        }
        let (count, digest) = self.believed.entry(key.job.job.shard()).or_default();
        *digest ^= run_digest(key.job, key.attempt);
        *count = if is_believed { *count + 1 } else { *count - 1 };
    }
}
