//! Away: jobs of other pools on nodes that this pool lends to them while its own leave them idle.
//!
//! The leader of the pool that lends takes in what shards offer to the other pool as well, as
//! queues of their own (`queue@pool`) in a class below all others: they get what nobody at home can
//! use, and are the first to go when somebody at home needs it. Only jobs of preemptible classes go
//! away, by themselves and not as gangs, of queues without limits and rates: what these leave, only
//! the leader of their own pool knows.

use std::collections::{BTreeMap, BTreeSet};

use muster_api::bus;
use muster_core::Name;
use muster_core::control::Control;
use muster_core::quantity::Quantity;
use muster_core::shape::Shape;

use super::preempt::Victims;
use super::{Error, Leader, WANT_INTERVAL};

/// What stands between a queue and its pool: no queue has it in its name.
const AT: char = '@';

/// A queue of another pool.
pub(super) fn name(queue: &str, pool: &str) -> Name {
    format!("{queue}{AT}{pool}").into()
}

/// The queue and the pool behind such a name; none of a queue at home.
pub(super) fn parts(name: &str) -> Option<(&str, &str)> {
    name.split_once(AT)
}

/// Whether jobs of a queue of another pool, which waits there, may go away.
pub(super) fn may_go(control: &Control, queue: &str) -> bool {
    control
        .queues
        .get(queue)
        .is_some_and(|queue| !queue.cordoned && queue.limits.is_empty() && queue.rate.is_none())
}

/// Whether a job of that shape may go away from its pool, to `pool`: what floats in either is not
/// shared.
pub(super) fn may_leave(control: &Control, shape: &Shape, pool: &str) -> bool {
    let settings = [&*shape.pool, pool].map(|pool| control.pools.get(pool));
    let mut floating = settings.into_iter().flatten().flat_map(|pool| pool.floating.keys());
    shape.gang.is_none()
        && control.class_in_effect(&shape.class).preemptible
        && floating.all(|name| shape.request.get(name) <= Quantity::ZERO)
}

/// What has a queue for its name, by the pool of its jobs; the names are those of the queues from
/// then on.
pub(super) fn by_pool<T>(
    home: &str,
    items: Vec<T>,
    queue: impl Fn(&mut T) -> Vec<&mut String>,
) -> BTreeMap<String, Vec<T>> {
    let mut by_pool: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for mut item in items {
        let mut pool = home.to_owned();
        for name in queue(&mut item) {
            if let Some((queue, of)) = parts(name) {
                pool = of.to_owned();
                *name = queue.to_owned();
            }
        }
        by_pool.entry(pool).or_default().push(item);
    }
    by_pool
}

/// The queues that picks name, which go as a whole.
#[expect(clippy::ptr_arg, reason = "`by_pool` hands over its items, which are such")]
pub(super) fn of_picks(picks: &mut Vec<bus::Pick>) -> Vec<&mut String> {
    picks.iter_mut().map(|pick| &mut pick.queue).collect()
}

/// The queue that victims name.
pub(super) fn of_victims(victims: &mut Victims) -> Vec<&mut String> {
    vec![&mut victims.told.queue]
}

impl Leader<'_> {
    /// Takes to heart to whom the pool lends.
    pub(super) async fn lend(&mut self) -> Result<(), Error> {
        let control = self.deps.control.latest();
        let settings = control.pools.get(&self.table.pool);
        let pools = settings.into_iter().flat_map(|pool| &pool.lends_to);
        let pools: BTreeSet<Name> = pools.map(|pool| Name::from(pool.as_str())).collect();
        if pools == self.table.lends_to {
            return Ok(());
        }
        let now = self.deps.clock.monotonic();
        if self.wanted_at.is_some_and(|at| now.saturating_sub(at) < WANT_INTERVAL) {
            // What is asked for now would not be told: at the next turn.
            return Ok(());
        }
        self.table.lends_to = pools;
        self.table.away.clear();
        self.want_offers().await
    }
}
