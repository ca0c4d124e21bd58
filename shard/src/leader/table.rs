//! What a pool's leader knows: offers of all shards, nodes of all clusters. No IO, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_api::bus;
use muster_core::Name;
use muster_core::quantity::Quantity;
use muster_core::resources::Resources;
use muster_core::shape::{Shape, Taint};
use muster_core::time::Timestamp;

/// One queue as its shard offers it.
#[derive(Debug, Clone, Default)]
pub(super) struct QueueState {
    pub(super) shard: u16,
    /// (priority, shape, count) in the order in which they should be leased.
    pub(super) head: Vec<(u32, Arc<Shape>, u64)>,
    pub(super) waiting: Vec<(Arc<Shape>, u64)>,
    /// (cluster, shape, count).
    pub(super) held: Vec<(Name, Arc<Shape>, u64)>,
}

/// One shard as far as the leader knows it.
#[derive(Debug, Clone, Default)]
struct ShardState {
    owner: String,
    epoch: u64,
    version: u64,
    /// Whether nothing was missed since the last full set.
    complete: bool,
    /// Whether its owner could not be reached since it last spoke.
    unreachable: bool,
}

/// A node of a cluster.
#[derive(Debug, Clone)]
pub(super) struct NodeState {
    pub(super) labels: BTreeMap<Name, Name>,
    pub(super) taints: Vec<Taint>,
    pub(super) allocatable: Resources,
    pub(super) free: Resources,
    pub(super) runs: u32,
    pub(super) schedulable: bool,
}

/// A cluster as its executor tells.
#[derive(Debug, Clone, Default)]
pub(super) struct ClusterState {
    pub(super) instance: String,
    pub(super) version: u64,
    pub(super) nodes: BTreeMap<Name, NodeState>,
    /// When it last asked, by the leader's monotonic clock.
    pub(super) asked_at: Duration,
    /// The same by the time of day, for people.
    pub(super) contact: Timestamp,
    /// The number of the last answer, and what was in it if it is not known to have arrived.
    pub(super) answer: u64,
    pub(super) unseen: Vec<bus::LeasedRun>,
}

/// Everything that a round needs.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) pool: String,
    pub(super) queues: BTreeMap<Name, QueueState>,
    shards: BTreeMap<u16, ShardState>,
    pub(super) clusters: BTreeMap<Name, ClusterState>,
}

/// What came of an offer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is in the table.
    Yes,
    /// It is older than what is known.
    Stale,
    /// Something before it was missed: the shard has to tell everything.
    Gap,
}

impl Table {
    pub(super) fn new(pool: &str) -> Self {
        Self { pool: pool.to_owned(), ..Self::default() }
    }

    /// Takes published offers in.
    pub(super) fn offers(&mut self, offers: bus::Offers) -> Taken {
        let shard = self.shards.entry(offers.shard).or_default();
        let same_owner = shard.owner == offers.owner && shard.epoch == offers.epoch;
        if !same_owner && offers.epoch < shard.epoch {
            return Taken::Stale;
        }
        if same_owner && offers.version <= shard.version {
            return Taken::Stale;
        }
        let follows = same_owner && shard.complete && offers.version == shard.version + 1;
        if !offers.full && !follows {
            shard.complete = false;
            return Taken::Gap;
        }
        *shard = ShardState {
            owner: offers.owner.clone(),
            epoch: offers.epoch,
            version: offers.version,
            complete: true,
            unreachable: false,
        };
        if offers.full {
            self.queues.retain(|_, queue| queue.shard != offers.shard);
        }
        self.put(offers);
        Taken::Yes
    }

    /// Takes the offers in a lease reply in: newer than what was published before them, unless more
    /// was published since.
    pub(super) fn offers_of_reply(&mut self, offers: bus::Offers) {
        let Some(shard) = self.shards.get_mut(&offers.shard) else { return };
        shard.unreachable = false;
        if shard.owner == offers.owner
            && shard.epoch == offers.epoch
            && offers.version >= shard.version
        {
            self.put(offers);
        }
    }

    fn put(&mut self, offers: bus::Offers) {
        let shapes: Vec<Arc<Shape>> = offers.shapes.into_iter().map(|shape| shape.0).collect();
        // A shape that is not listed is a broken message: what names it is left out.
        let mine = |position: u32| {
            shapes.get(position as usize).filter(|shape| *shape.pool == *self.pool).cloned()
        };
        for queue in offers.queues {
            let state = QueueState {
                shard: offers.shard,
                head: queue.head.iter().filter_map(|(p, s, n)| Some((*p, mine(*s)?, *n))).collect(),
                waiting: queue.waiting.iter().filter_map(|(s, n)| Some((mine(*s)?, *n))).collect(),
                held: queue
                    .held
                    .iter()
                    .filter_map(|(c, s, n)| Some((Name::from(c.as_str()), mine(*s)?, *n)))
                    .collect(),
            };
            let name = Name::from(queue.queue.as_str());
            if state.waiting.is_empty() && state.held.is_empty() {
                self.queues.remove(&name);
            } else {
                self.queues.insert(name, state);
            }
        }
    }

    /// Remembers that a shard's owner could not be reached: its queues wait until it speaks again.
    pub(super) fn unreachable(&mut self, shard: u16) {
        self.shards.entry(shard).or_default().unreachable = true;
    }

    pub(super) fn is_reachable(&self, shard: u16) -> bool {
        self.shards.get(&shard).is_some_and(|shard| !shard.unreachable)
    }

    /// Takes in what a request says of a cluster; `false` when everything has to be told.
    pub(super) fn request(
        &mut self,
        request: &bus::LeaseRequest,
        now: Duration,
        time: Timestamp,
    ) -> bool {
        let name = Name::from(request.cluster.as_str());
        let cluster = self.clusters.entry(name).or_default();
        let update = &request.nodes;
        let other = cluster.instance != request.instance;
        if other {
            let answer = cluster.answer;
            *cluster =
                ClusterState { instance: request.instance.clone(), answer, ..Default::default() };
        }
        cluster.asked_at = now;
        cluster.contact = time;
        match update.base {
            None => cluster.nodes.clear(),
            Some(base) if !other && base <= cluster.version => {}
            Some(_) => return false,
        }
        cluster.version = update.version;
        for name in &update.removed {
            cluster.nodes.remove(name.as_str());
        }
        for node in &update.nodes {
            cluster.nodes.insert(Name::from(node.name.as_str()), node_state(node));
        }
        true
    }

    /// Forgets clusters that did not ask for so long.
    pub(super) fn forget_clusters(&mut self, now: Duration, silent: Duration) {
        self.clusters.retain(|_, cluster| now.saturating_sub(cluster.asked_at) < silent);
    }
}

fn node_state(node: &bus::Node) -> NodeState {
    let name = |text: &String| Name::from(text.as_str());
    let amounts = |map: &BTreeMap<String, String>| {
        // An amount that is none counts as nothing: nothing is placed there on its account.
        let parse = |text: &String| text.parse::<Quantity>().unwrap_or_default();
        map.iter().map(|(n, text)| (name(n), parse(text))).collect::<Resources>()
    };
    NodeState {
        labels: node.labels.iter().map(|(n, v)| (name(n), name(v))).collect(),
        taints: node
            .taints
            .iter()
            .map(|(key, value, effect)| Taint {
                key: name(key),
                value: name(value),
                effect: name(effect),
            })
            .collect(),
        allocatable: amounts(&node.allocatable),
        free: amounts(&node.free),
        runs: node.runs,
        schedulable: node.schedulable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_api::shape::ShapeText;

    fn offers(
        owner: &str,
        epoch: u64,
        version: u64,
        full: bool,
        queues: &[(&str, u64)],
    ) -> bus::Offers {
        let queues = queues.iter().map(|(queue, count)| bus::QueueOffer {
            queue: (*queue).to_owned(),
            head: vec![(0, 0, *count)],
            waiting: if *count > 0 { vec![(0, *count)] } else { Vec::new() },
            held: Vec::new(),
        });
        bus::Offers {
            shard: 1,
            owner: owner.into(),
            epoch,
            version,
            full,
            shapes: vec![ShapeText(Arc::new(Shape::of_request(Resources::new())))],
            queues: queues.collect(),
        }
    }

    #[test]
    fn a_missed_offer_is_noticed_and_a_full_set_mends_it() {
        let mut table = Table::new("default");
        assert_eq!(table.offers(offers("w", 1, 1, true, &[("a", 2), ("b", 3)])), Taken::Yes);
        assert_eq!(table.offers(offers("w", 1, 2, false, &[("a", 0)])), Taken::Yes);
        assert_eq!(table.queues.len(), 1);
        assert_eq!(table.offers(offers("w", 1, 4, false, &[("b", 1)])), Taken::Gap);
        assert_eq!(table.offers(offers("w", 1, 5, false, &[("b", 1)])), Taken::Gap);
        assert_eq!(table.offers(offers("w", 1, 6, true, &[("c", 1)])), Taken::Yes);
        assert_eq!(table.queues.keys().map(|q| &**q).collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn an_owner_that_was_replaced_is_not_listened_to() {
        let mut table = Table::new("default");
        table.offers(offers("new", 2, 1, true, &[("a", 2)]));
        assert_eq!(table.offers(offers("old", 1, 9, true, &[("b", 2)])), Taken::Stale);
        table.offers_of_reply(offers("old", 1, 9, false, &[("b", 2)]));
        assert_eq!(table.queues.keys().map(|q| &**q).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_reply_does_not_undo_what_was_published_after_it() {
        let mut table = Table::new("default");
        table.offers(offers("w", 1, 1, true, &[("a", 5)]));
        table.offers_of_reply(offers("w", 1, 1, false, &[("a", 4)]));
        assert_eq!(table.queues["a"].waiting[0].1, 4);
        table.offers(offers("w", 1, 2, false, &[("a", 2)]));
        table.offers_of_reply(offers("w", 1, 1, false, &[("a", 3)]));
        assert_eq!(table.queues["a"].waiting[0].1, 2);
    }
}
