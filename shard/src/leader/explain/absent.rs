//! Whether shares are kept for queues that are away.

use std::collections::BTreeMap;

use muster_api::http::Blocker;
use muster_core::Name;
use muster_core::control::Control;
use muster_core::resources::{Resources, dense};
use muster_core::shape::Shape;

use super::super::absent::{Absent, left};
use super::super::table::Table;
use super::{Known, Shares};

impl Known<'_> {
    /// Whether the shares of absent queues leave nothing to this one.
    pub(super) fn kept_for_absent(&self, queue: &str, shape: &Shape) -> Option<Blocker> {
        let (left, queues) = &self.absent;
        let mut left = self.shares.resources.iter().zip(left.get(&Name::from(queue))?);
        let is_short = left.any(|(name, left)| {
            let asked = dense(name, shape.request.get(name));
            asked > 0 && *left < asked
        });
        is_short.then_some(Blocker::SharesKept { queues: *queues })
    }
}

impl Shares {
    /// What absent queues leave to each that is there, as rounds count it.
    pub(super) fn left<'a>(
        &self,
        table: &'a Table,
        control: &Control,
        absent: &Absent,
    ) -> BTreeMap<&'a Name, Vec<i64>> {
        let amounts = |of: &Resources| -> Vec<i64> {
            self.resources.iter().map(|name| dense(name, of.get(name))).collect()
        };
        let known = table.queues.iter();
        let known = known.filter_map(|(name, queue)| {
            let settings = control.queues.get(&**name)?;
            let mut demand = queue.holds.clone();
            if !settings.cordoned && table.is_reachable(queue.shard) {
                demand.add(&queue.demand);
            }
            Some((name, amounts(&queue.holds), amounts(&demand)))
        });
        let absent = absent.iter().map(|(name, gone)| (name, amounts(&gone.demand))).collect();
        left(control, &self.total, absent, known).unwrap_or_default()
    }
}
