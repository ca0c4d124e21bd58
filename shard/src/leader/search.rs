//! Looking behind the heads of queues, for each priority class by itself. A head may hold nothing
//! but jobs that fit nowhere at the moment; so that these do not keep back what waits behind them,
//! the leader asks the shard for the runs behind the head, a window at a time, of jobs that a node
//! could hold, and solves with head and window. At the end of the order the search rests until
//! there may be room again, or the queue changes. No IO, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_api::bus::Windows;
use muster_core::Name;
use muster_core::offer::Behind;
use muster_core::resources::Resources;

use super::keyed::Keyed;
use super::table::{Run, Table, told};

/// Orders asked about at once.
const ORDERS_MAX: usize = 256;

/// How far one order was searched.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    /// The window.
    pub(super) runs: Vec<Run>,
    /// Where the window begins.
    from: Option<Behind>,
    /// Where the next one begins; none before a search, and at its end.
    next: Option<Behind>,
    /// The chance by which the search began.
    begun: u64,
}

/// A round placed what it could, and jobs may wait behind what it was told of.
#[derive(Debug)]
pub(super) struct Stuck {
    /// The most that a node has free after it.
    pub(super) free: Resources,
    /// Queues of which nothing (more) of what was told could be placed.
    pub(super) queues: Vec<Name>,
}

/// Orders to ask shards about: queue, class, and from where on.
pub(super) type Asked = BTreeMap<u16, Vec<(Name, Name, Behind)>>;

impl Search {
    /// The order changed: there may be something new behind its head.
    pub(super) fn renew(&mut self) {
        self.begun = 0;
    }

    /// Something of the order was placed: its window is told anew before it counts again.
    fn placed(&mut self) {
        self.runs.clear();
        if let Some(from) = self.from.take() {
            self.next = Some(from);
        }
    }

    /// Where to look next, if anywhere; the head ends at `head`.
    fn place(&self, head: Behind, chance: u64) -> Option<Behind> {
        match self.next {
            Some(next) => Some(next.max(head)),
            None => (self.begun < chance).then_some(head),
        }
    }
}

impl Table {
    /// What to ask of which shard, queues in turn: the first one behind `after`.
    pub(super) fn searches(&self, stuck: &Stuck, after: &mut Name, chance: u64) -> Asked {
        let mut asked = Asked::new();
        let split = stuck.queues.partition_point(|queue| *queue <= *after);
        let (before, behind) = stuck.queues.split_at(split);
        let queues = behind.iter().chain(before).filter_map(|name| {
            let queue = self.queues.get(name).filter(|queue| self.is_reachable(queue.shard))?;
            Some((name, queue))
        });
        let places = queues.flat_map(|(name, queue)| {
            let classes = queue.classes.iter().filter_map(|(class, state)| {
                Some((class, state.search.place(state.behind?, chance)?))
            });
            classes.map(move |(class, place)| (name, queue.shard, class, place))
        });
        for (name, shard, class, place) in places.take(ORDERS_MAX) {
            let place = (Arc::clone(name), Arc::clone(class), place);
            asked.entry(shard).or_default().push(place);
            *after = Arc::clone(name);
        }
        asked
    }

    /// Jobs of these orders (queue and class) were placed.
    pub(super) fn placed(&mut self, orders: BTreeSet<(Name, Name)>) {
        for (queue, class) in orders {
            let queue = self.queues.get_mut(&queue);
            if let Some(order) = queue.and_then(|queue| queue.classes.get_mut(&class)) {
                order.search.placed();
            }
        }
    }

    /// Takes windows in; says whether there is reason to solve again.
    pub(super) fn found(
        &mut self,
        asked: &[(Name, Name, Behind)],
        windows: Windows,
        chance: u64,
    ) -> bool {
        let shapes = Keyed::listed(windows.shapes);
        let mut is_news = false;
        for window in windows.queues {
            let is_meant = |(name, class, _): &&(Name, Name, Behind)| {
                **name == *window.queue && **class == *window.class
            };
            let Some((name, class, from)) = asked.iter().find(is_meant) else { continue };
            let queue = self.queues.get_mut(name);
            let Some(order) = queue.and_then(|queue| queue.classes.get_mut(class)) else {
                continue;
            };
            let search = &mut order.search;
            if search.next.is_none() {
                search.begun = chance;
            }
            search.runs = told(&window.runs, &window.since, &shapes);
            search.from = Some(*from);
            search.next = window.behind.map(Behind::from);
            is_news |= !search.runs.is_empty() || search.next.is_some();
        }
        is_news
    }
}
