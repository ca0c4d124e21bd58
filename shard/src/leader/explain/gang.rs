//! Whether there is room for a gang as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_api::http::Blocker;
use muster_core::Name;
use muster_core::resources::{Resources, dense};
use muster_core::shape::{Gang, Shape, ShapeKey};

use super::super::avoid;
use super::{Known, frees, of_nodes};

impl Known<'_> {
    /// What a member of a gang needs beside room for itself, if that is not there now.
    pub(super) fn of_gang(&self, queue: &str, shape: &Shape) -> Option<Blocker> {
        let gang = shape.gang.as_ref()?;
        let members = self.members(queue, gang);
        let all = members.values().sum::<u64>().max(u64::from(gang.cardinality));
        // How members that differ fit together is for a round to find out.
        let is_alike = members.keys().all(|key| *key == shape.key());
        let room = is_alike.then(|| self.room_for_gang(gang, shape));
        let is_short = room.is_none_or(|room| room < all);
        is_short.then(|| Blocker::GangRoom {
            gang: gang.id.to_string(),
            cardinality: u64::from(gang.cardinality),
            uniform: gang.uniformity.as_ref().map(ToString::to_string),
            room,
        })
    }

    /// How many members wait, by shape, as far as is known.
    fn members(&self, queue: &str, gang: &Gang) -> BTreeMap<ShapeKey, u64> {
        let mut members = BTreeMap::new();
        let runs = self.table.queues.get(queue).into_iter().flat_map(|queue| queue.runs());
        let is_of_it = |shape: &Shape| shape.gang.as_ref().is_some_and(|of| of.id == gang.id);
        for (_, shape, count, _) in runs.filter(|(_, shape, ..)| is_of_it(shape)) {
            *members.entry(shape.key()).or_default() += count;
        }
        members
    }

    /// The most jobs of a shape that one cluster, with one value of the gang's label, has room for.
    fn room_for_gang(&self, gang: &Gang, shape: &Shape) -> u64 {
        let shape = &of_nodes(self.table, self.control, shape);
        let avoids = avoid::has_another(self.table, self.control, shape);
        let mut rooms: BTreeMap<(&Name, Option<&Name>), u64> = BTreeMap::new();
        for (cluster, state) in &self.table.clusters {
            let frees = frees(state, shape);
            for ((name, node), free) in state.nodes.iter().zip(&frees) {
                let is_closed = !node.schedulable
                    || self.control.cordons.hold(cluster, name)
                    || self.table.is_taken_out(cluster, name)
                    || avoids && shape.keeps_away(cluster, name);
                let is_open = !is_closed && shape.admits(name, &node.labels, &node.taints);
                let value = gang.uniformity.as_ref().map(|label| node.labels.get(label));
                if !is_open || value == Some(None) {
                    continue;
                }
                let room = rooms.entry((cluster, value.flatten())).or_default();
                *room = room.saturating_add(times(free, &shape.request));
            }
        }
        rooms.into_values().max().unwrap_or_default()
    }
}

/// How many of what is asked for there are in what is free.
fn times(free: &Resources, asked: &Resources) -> u64 {
    let of = |(name, amount): (&Arc<str>, _)| {
        let (free, asked) = (dense(name, free.get(name)), dense(name, amount));
        (asked > 0).then(|| u64::try_from(free / asked).unwrap_or(0))
    };
    asked.iter().filter_map(of).min().unwrap_or(u64::MAX)
}
