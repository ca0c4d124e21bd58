//! Making room for others: what runs, and giving up runs of it.

use std::collections::BTreeSet;

use muster_api::bus::{self, Room, ShardReply};
use muster_api::{convert, running};
use muster_core::Name;
use muster_core::command::Outcome;
use muster_runtime::bus::ReplyTo;

use super::Owner;

/// Bytes of a run that was given up, in the answer, generously.
const RUN_BYTES: usize = 64;

impl Owner {
    /// A page of what runs and may be preempted, or is sure to end.
    pub(super) async fn running(&mut self, to: ReplyTo, get: &bus::GetRunning) {
        let is_preemptible = |class: &str| get.classes.get(class).copied().unwrap_or(get.others);
        let rows = match get.ending {
            true => self.state.ending(&get.pool),
            false => self.state.preemptible(&get.pool, is_preemptible),
        };
        let (now, bytes_max) = (self.deps.clock.now(), self.deps.bus.payload_bytes_max());
        let page = running::pack(&rows, get.after.as_ref(), now, bytes_max);
        self.reply(to, bus::encode(&ShardReply::Running(page))).await;
    }

    /// Gives up no more than the answer has room for: what is given up is told.
    pub(super) async fn preempt(&mut self, to: ReplyTo, mut preempt: bus::Preempt) {
        let queues: BTreeSet<Name> =
            preempt.victims.iter().map(|victims| Name::from(victims.queue.as_str())).collect();
        let all = Room::of_message(self.deps.bus.payload_bytes_max()).left();
        let mut left = all / 2 / RUN_BYTES;
        for victims in &mut preempt.victims {
            victims.count = victims.count.min(u32::try_from(left).unwrap_or(u32::MAX));
            left -= victims.count as usize;
        }
        let (id, pool) = (preempt.command, preempt.pool.clone());
        let runs = match self.execute_as(id, convert::preempt(preempt)) {
            Outcome::Preempted(runs) => runs,
            other => {
                self.reply(to, bus::encode(&convert::outcome(other))).await;
                return;
            }
        };
        let runs = runs.into_iter();
        let runs = runs.map(|run| bus::PreemptedRun(run.victims, run.job, run.attempt)).collect();
        let offers = self.offers_of(&queues, &pool, Room::of_bytes(all / 2));
        let preempted = bus::Preempted { runs, offers };
        self.reply(to, bus::encode(&ShardReply::Preempted(preempted))).await;
    }
}
