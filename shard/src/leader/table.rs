//! What a pool's leader knows: offers of all shards, nodes of all clusters. No IO, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_api::bus;
use muster_api::convert;
use muster_core::Name;
use muster_core::offer::Behind;
use muster_core::quantity::Quantity;
use muster_core::resources::Resources;
use muster_core::shape::Taint;
use muster_core::time::Timestamp;

use super::absent::Published;
use super::amounts::{Amounts, Numbering, Sum};
use super::away;
use super::keyed::Keyed;
use super::pending::Pending;
use super::search::Search;
use super::taken_out::TakenOut;

/// One queue as its shard offers it to the pool.
#[derive(Debug, Clone, Default)]
pub(super) struct QueueState {
    pub(super) shard: u16,
    /// Of the owner's state that it was told of.
    version: u64,
    /// What waits, by priority class.
    pub(super) classes: BTreeMap<Name, ClassState>,
    /// How many jobs wait, and what they ask for.
    pub(super) waiting: u64,
    pub(super) demand: Resources,
    /// How many jobs clusters hold, and what these have.
    pub(super) held: u64,
    pub(super) holds: Resources,
}

/// What one queue has waiting in one priority class.
#[derive(Debug, Clone, Default)]
pub(super) struct ClassState {
    /// In the order in which they should be leased.
    pub(super) head: Vec<Run>,
    /// Where the order goes on, if the head is not all of it.
    pub(super) behind: Option<Behind>,
    /// What was found there.
    pub(super) search: Search,
    /// What clusters hold of the class's jobs.
    pub(super) holds: Resources,
}

/// Jobs of one shape next to each other in an order: (priority, shape, count, when the first of
/// them was submitted).
pub(super) type Run = (u32, Arc<Keyed>, u64, Timestamp);

/// Runs out of what a message lists. A shape that is not listed is a broken message: what names it
/// is left out.
pub(super) fn told(runs: &[(u32, u32, u64)], since: &[i64], shapes: &[Arc<Keyed>]) -> Vec<Run> {
    let since = since.iter().copied().chain(std::iter::repeat(i64::MAX));
    let runs = runs.iter().zip(since).filter_map(|((priority, shape, count), since)| {
        let shape = Arc::clone(shapes.get(*shape as usize)?);
        Some((*priority, shape, *count, Timestamp(since)))
    });
    runs.collect()
}

impl QueueState {
    /// What is known to wait, class after class by name; see [`super::order`] for the order.
    pub(super) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.classes.values().flat_map(ClassState::runs)
    }
}

impl ClassState {
    /// What is known of the order: its head, and the window behind it.
    pub(super) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.head.iter().chain(&self.search.runs)
    }

    /// The state after a new head was told, with what was found behind the old one.
    fn told(head: bus::Head, before: Option<Self>, shapes: &[Arc<Keyed>]) -> Self {
        let behind = head.behind.map(Behind::from);
        let before = before.filter(|_| behind.is_some());
        let mut search = before.map(|before| before.search).unwrap_or_default();
        search.renew();
        let runs = told(&head.runs, &head.since, shapes);
        let (head_runs, holds) = (runs, convert::resources(&head.holds));
        Self { head: head_runs, behind, search, holds }
    }
}

/// One shard as far as the leader knows it.
#[derive(Debug, Clone, Default)]
struct ShardState {
    owner: String,
    epoch: u64,
    version: u64,
    /// Whether nothing was missed since the last full set.
    complete: bool,
    /// Since when its owner could not be reached, if it did not speak since.
    unreachable: Option<Duration>,
}

/// What a node has, as numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeAmounts {
    pub(super) allocatable: Amounts,
    pub(super) free: Amounts,
}

/// A node of a cluster.
#[derive(Debug, Clone)]
pub(super) struct NodeState {
    pub(super) labels: BTreeMap<Name, Name>,
    pub(super) taints: Vec<Taint>,
    pub(super) allocatable: Resources,
    pub(super) free: Resources,
    /// The same as numbers.
    pub(super) amounts: NodeAmounts,
    /// What runs hold that were told to stop and are not gone yet.
    pub(super) freeing: Resources,
    pub(super) runs: u32,
    pub(super) schedulable: bool,
    /// Queues of which jobs failed there since one ended well, and when the last of each did.
    pub(super) failing: Vec<(Name, Timestamp)>,
}

/// A cluster as its executor tells.
#[derive(Debug, Clone, Default)]
pub(super) struct ClusterState {
    pub(super) instance: String,
    pub(super) version: u64,
    pub(super) nodes: BTreeMap<Name, NodeState>,
    /// What is allocatable on all of them, and what is free.
    pub(super) allocatable: Sum,
    pub(super) free: Sum,
    /// When it last asked, by the leader's monotonic clock.
    pub(super) asked_at: Duration,
    /// The same by the time of day, for people.
    pub(super) contact: Timestamp,
    /// What it is still to be told.
    pub(super) pending: Pending,
    /// What comes free on nodes because runs were given up, of which it is not known that the
    /// executor has heard: then it tells so itself.
    pub(super) stopping: BTreeMap<Name, Resources>,
}

/// Everything that a round needs.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) pool: String,
    pub(super) queues: BTreeMap<Name, QueueState>,
    shards: BTreeMap<u16, ShardState>,
    pub(super) clusters: BTreeMap<Name, ClusterState>,
    pub(super) numbering: Numbering,
    pub(super) taken_out: TakenOut,
    /// What a leader before told of queues.
    pub(super) published: Published,
    /// Pools to whose jobs this one lends what is idle, and their queues by [`away::name`].
    pub(super) lends_to: BTreeSet<Name>,
    pub(super) away: BTreeMap<Name, QueueState>,
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

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is in the table.
    Yes,
    /// What it builds on was missed: the cluster is to begin with the version that is known.
    Gap,
    /// Nothing is known of the cluster: it has to tell everything.
    Unknown,
    /// A later one was here before.
    Overtaken,
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
        let follows = same_owner && shard.complete && offers.previous == shard.version;
        if !offers.full && !follows {
            shard.complete = false;
            return Taken::Gap;
        }
        *shard = ShardState {
            owner: offers.owner.clone(),
            epoch: offers.epoch,
            version: offers.version,
            complete: true,
            unreachable: None,
        };
        if offers.full {
            // What a reply has told of a later state stays.
            let stays = |queue: &QueueState| same_owner && queue.version > offers.version;
            for queues in [&mut self.queues, &mut self.away] {
                queues.retain(|_, queue| queue.shard != offers.shard || stays(queue));
            }
        }
        self.put(offers, None);
        Taken::Yes
    }

    /// Takes the offers in a lease reply in, which tells of one pool: newer than what was published
    /// before them, unless more was published since.
    pub(super) fn offers_of_reply(&mut self, pool: &str, offers: bus::Offers) {
        let Some(shard) = self.shards.get_mut(&offers.shard) else { return };
        shard.unreachable = None;
        if shard.owner == offers.owner
            && shard.epoch == offers.epoch
            && offers.version >= shard.version
        {
            self.put(offers, Some(pool));
        }
    }

    /// Takes in what is told of all pools, or only of one.
    fn put(&mut self, offers: bus::Offers, only: Option<&str>) {
        let shapes = Keyed::listed(offers.shapes);
        let of = (offers.shard, offers.version);
        let is_meant = |pool: &str| only.is_none_or(|only| only == pool);
        for mut queue in offers.queues {
            for pool in self.lends_to.iter().filter(|pool| is_meant(pool)) {
                let name = away::name(&queue.queue, pool);
                put(&mut self.away, (name, pool), &mut queue, of, &shapes);
            }
            if is_meant(&self.pool) {
                let name = Name::from(queue.queue.as_str());
                put(&mut self.queues, (name, &self.pool), &mut queue, of, &shapes);
            }
        }
    }

    /// Whether a job waits, as far as is known, that was submitted before.
    pub(super) fn has_waiting(&self, before: Timestamp) -> bool {
        let mut runs = self.queues.values().flat_map(QueueState::runs);
        runs.any(|(_, _, _, since)| *since < before)
    }

    /// Remembers that a shard's owner could not be reached: its queues wait until it speaks again.
    pub(super) fn unreachable(&mut self, shard: u16, now: Duration) {
        self.shards.entry(shard).or_default().unreachable.get_or_insert(now);
    }

    /// Since when a shard's owner could not be reached, if that is so.
    pub(super) fn unreachable_since(&self, shard: u16) -> Option<Duration> {
        self.shards.get(&shard)?.unreachable
    }

    /// Whether a shard has told everything.
    pub(super) fn has_told(&self, shard: u16) -> bool {
        self.shards.get(&shard).is_some_and(|known| known.complete)
    }

    /// Whether each of so many shards has told everything.
    pub(super) fn has_heard_of(&self, shards: u16) -> bool {
        (0..shards).all(|shard| self.has_told(shard))
    }

    /// The shards whose jobs the pool's clusters hold.
    pub(super) fn shards_that_hold(&self) -> BTreeSet<u16> {
        let holding = self.queues.values().filter(|queue| queue.held > 0);
        holding.map(|queue| queue.shard).filter(|shard| self.is_reachable(*shard)).collect()
    }

    /// The shards whose jobs of a pool that is lent to clusters hold.
    pub(super) fn shards_that_hold_away(&self, pool: &str) -> BTreeSet<u16> {
        let of_pool = |name: &Name| away::parts(name).is_some_and(|(_, of)| of == pool);
        let holding = self.away.iter().filter(|(name, queue)| queue.held > 0 && of_pool(name));
        let shards = holding.map(|(_, queue)| queue.shard);
        shards.filter(|shard| self.is_reachable(*shard)).collect()
    }

    pub(super) fn is_reachable(&self, shard: u16) -> bool {
        self.shards.get(&shard).is_some_and(|shard| shard.unreachable.is_none())
    }

    /// Takes in what a request says of a cluster.
    pub(super) fn request(
        &mut self,
        request: &bus::LeaseRequest,
        now: Duration,
        time: Timestamp,
    ) -> Heard {
        let name = Name::from(request.cluster.as_str());
        let cluster = self.clusters.entry(name.clone()).or_default();
        let update = &request.nodes;
        let other = cluster.instance != request.instance;
        if other {
            let mut pending = std::mem::take(&mut cluster.pending);
            // What another process did not see, it finds by comparing notes.
            pending.clear();
            let instance = request.instance.clone();
            *cluster = ClusterState { instance, pending, ..Default::default() };
        }
        cluster.asked_at = now;
        cluster.contact = time;
        match update.base {
            _ if !other && update.version < cluster.version => return Heard::Overtaken,
            None => cluster.clear(),
            // Versions begin behind zero.
            Some(_) if cluster.version == 0 => return Heard::Unknown,
            Some(base) if base > cluster.version => return Heard::Gap,
            Some(_) => {}
        }
        cluster.version = update.version;
        for name in &update.removed {
            cluster.remove(name);
        }
        for node in &update.nodes {
            let mut state = node_state(node);
            state.amounts = NodeAmounts::of(&state, &mut self.numbering);
            let of = Name::from(node.name.as_str());
            self.taken_out.told(&name, &of, !state.failing.is_empty());
            cluster.insert(of, state);
        }
        if self.numbering.is_full() {
            self.number_anew();
        }
        Heard::Yes
    }

    /// Gives numbers to those resources alone that nodes have now.
    fn number_anew(&mut self) {
        self.numbering = Numbering::default();
        for cluster in self.clusters.values_mut() {
            let nodes = std::mem::take(&mut cluster.nodes);
            cluster.clear();
            for (name, mut node) in nodes {
                node.amounts = NodeAmounts::of(&node, &mut self.numbering);
                cluster.insert(name, node);
            }
        }
    }

    /// Forgets clusters that did not ask for so long.
    pub(super) fn forget_clusters(&mut self, now: Duration, silent: Duration) {
        self.clusters.retain(|_, cluster| now.saturating_sub(cluster.asked_at) < silent);
    }
}

impl NodeAmounts {
    fn of(node: &NodeState, numbering: &mut Numbering) -> Self {
        let [allocatable, free] =
            [&node.allocatable, &node.free].map(|resources| numbering.amounts(resources));
        Self { allocatable, free }
    }
}

impl ClusterState {
    fn clear(&mut self) {
        self.nodes.clear();
        (self.allocatable, self.free) = (Sum::default(), Sum::default());
    }

    fn remove(&mut self, node: &str) {
        if let Some(gone) = self.nodes.remove(node) {
            self.take(&gone.amounts);
        }
    }

    fn insert(&mut self, name: Name, node: NodeState) {
        self.allocatable.add(&node.amounts.allocatable);
        self.free.add(&node.amounts.free);
        if let Some(before) = self.nodes.insert(name, node) {
            self.take(&before.amounts);
        }
    }

    fn take(&mut self, amounts: &NodeAmounts) {
        self.allocatable.take(&amounts.allocatable);
        self.free.take(&amounts.free);
    }
}

/// Takes in what a queue offers to one pool.
fn put(
    queues: &mut BTreeMap<Name, QueueState>,
    (name, pool): (Name, &str),
    queue: &mut bus::QueueOffer,
    (shard, version): (u16, u64),
    shapes: &[Arc<Keyed>],
) {
    if queues.get(&name).is_some_and(|known| known.version > version) {
        return;
    }
    let Some(place) = queue.pools.iter().position(|of| *of.pool == *pool) else {
        if !queue.further {
            queues.remove(&name);
        }
        return;
    };
    let mine = queue.pools.swap_remove(place);
    let before = queues.remove(&name);
    let mut before = before.map(|before| before.classes).unwrap_or_default();
    let heads = mine.heads.into_iter().map(|head| {
        let class = Name::from(head.class.as_str());
        let state = ClassState::told(head, before.remove(&class), shapes);
        (class, state)
    });
    let state = QueueState {
        shard,
        version,
        classes: heads.collect(),
        waiting: mine.waiting,
        demand: convert::resources(&mine.demand),
        held: mine.held,
        holds: convert::resources(&mine.holds),
    };
    queues.insert(name, state);
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
        amounts: NodeAmounts::default(),
        freeing: amounts(&node.freeing),
        runs: node.runs,
        schedulable: node.schedulable,
        failing: node.failing.iter().map(|(queue, at)| (name(queue), Timestamp(*at))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use muster_api::shape::ShapeText;
    use muster_core::shape::Shape;

    fn offers(
        owner: &str,
        epoch: u64,
        version: u64,
        full: bool,
        queues: &[(&str, u64)],
    ) -> bus::Offers {
        let offer = |count: &u64| bus::PoolOffer {
            pool: "default".into(),
            heads: vec![bus::Head {
                class: "default".into(),
                runs: vec![(0, 0, *count)],
                since: vec![],
                behind: None,
                holds: BTreeMap::new(),
            }],
            waiting: *count,
            demand: BTreeMap::new(),
            held: 0,
            holds: BTreeMap::new(),
        };
        let queues = queues.iter().map(|(queue, count)| bus::QueueOffer {
            queue: (*queue).to_owned(),
            further: false,
            pools: Some(offer(count)).into_iter().filter(|offer| offer.waiting > 0).collect(),
        });
        bus::Offers {
            shard: 1,
            owner: owner.into(),
            epoch,
            version,
            previous: version - 1,
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
        table.offers_of_reply("default", offers("old", 1, 9, false, &[("b", 2)]));
        assert_eq!(table.queues.keys().map(|q| &**q).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn what_is_told_of_a_pool_that_borrows_stands_beside_what_is_told_of_ones_own() {
        let mut table = Table::new("lender");
        table.lends_to = ["default".into()].into();
        let at_home = |mut offers: bus::Offers| {
            offers.queues.iter_mut().for_each(|queue| queue.pools[0].pool = "lender".into());
            offers
        };
        let of = |table: &Table| {
            let waiting = |queues: &BTreeMap<Name, QueueState>| {
                queues.iter().map(|(name, q)| format!("{name} {}", q.waiting)).collect::<Vec<_>>()
            };
            (waiting(&table.queues), waiting(&table.away))
        };
        let mut both = offers("w", 1, 1, true, &[("a", 2)]);
        let home = at_home(both.clone()).queues.remove(0).pools;
        both.queues[0].pools.extend(home);
        table.offers(both);
        assert_eq!(of(&table), (vec!["a 2".into()], vec!["a@default 2".into()]));
        // A reply tells of one pool, and says nothing of the other.
        table.offers_of_reply("default", offers("w", 1, 2, false, &[("a", 1)]));
        assert_eq!(of(&table), (vec!["a 2".into()], vec!["a@default 1".into()]));
        table.offers_of_reply("lender", at_home(offers("w", 1, 3, false, &[("a", 7)])));
        assert_eq!(of(&table), (vec!["a 7".into()], vec!["a@default 1".into()]));
        table.offers(offers("w", 1, 4, true, &[("b", 3)]));
        assert_eq!(of(&table), (vec![], vec!["b@default 3".into()]));
    }

    #[test]
    fn what_a_cluster_tells_follows_on_what_it_told_before() {
        let mut table = Table::new("default");
        let mut told = |instance: &str, base: Option<u64>, version: u64, nodes: &[&str]| {
            let node = |name: &&str| testing::node(name, BTreeMap::new(), BTreeMap::new());
            let mut request = testing::request("c", nodes.iter().map(node).collect());
            request.instance = instance.into();
            (request.nodes.base, request.nodes.version) = (base, version);
            let heard = table.request(&request, Duration::ZERO, Timestamp(0));
            let cluster = &table.clusters["c"];
            let known = cluster.nodes.keys().map(|name| &**name).collect::<Vec<_>>().join(" ");
            (heard, cluster.version, known)
        };
        assert_eq!(told("i", None, 3, &["a"]), (Heard::Yes, 3, "a".into()));
        assert_eq!(told("i", Some(3), 5, &["b"]), (Heard::Yes, 5, "a b".into()));
        // It may build on less than what is known, and not on more.
        assert_eq!(told("i", Some(4), 6, &["c"]), (Heard::Yes, 6, "a b c".into()));
        assert_eq!(told("i", Some(7), 8, &["d"]), (Heard::Gap, 6, "a b c".into()));
        // What was overtaken tells of what is no more so; what comes twice does no harm.
        assert_eq!(told("i", Some(3), 5, &["e"]), (Heard::Overtaken, 6, "a b c".into()));
        assert_eq!(told("i", None, 3, &["a"]), (Heard::Overtaken, 6, "a b c".into()));
        assert_eq!(told("i", Some(6), 6, &[]), (Heard::Yes, 6, "a b c".into()));
        for _ in 0..2 {
            assert_eq!(told("other", Some(6), 7, &["f"]), (Heard::Unknown, 0, String::new()));
        }
        assert_eq!(told("other", None, 7, &["f"]), (Heard::Yes, 7, "f".into()));
    }

    #[test]
    fn a_reply_does_not_undo_what_was_published_after_it() {
        let mut table = Table::new("default");
        table.offers(offers("w", 1, 1, true, &[("a", 5)]));
        table.offers_of_reply("default", offers("w", 1, 1, false, &[("a", 4)]));
        assert_eq!(table.queues["a"].waiting, 4);
        table.offers(offers("w", 1, 2, false, &[("a", 2)]));
        table.offers_of_reply("default", offers("w", 1, 1, false, &[("a", 3)]));
        assert_eq!(table.queues["a"].waiting, 2);
        // Nor does what is published undo a reply that tells of a later state.
        table.offers_of_reply("default", offers("w", 1, 4, false, &[("a", 1)]));
        assert_eq!(table.offers(offers("w", 1, 3, false, &[("a", 9)])), Taken::Yes);
        assert_eq!(table.queues["a"].waiting, 1);
        let after = bus::Offers { previous: 3, ..offers("w", 1, 5, false, &[("a", 7)]) };
        assert_eq!(table.offers(after), Taken::Yes);
        assert_eq!(table.queues["a"].waiting, 7);
    }
}
