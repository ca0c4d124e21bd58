//! What queues that are away still hold. Nobody tells of them while their shard is between two
//! workers, and their jobs end all the same: what is held on the nodes, and not by the queues that
//! are there, is theirs, to each the same part of what it had. No IO, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::Name;
use muster_core::control::Control;
use muster_core::resources::{Resources, dense, from_dense};

use super::table::Table;

/// All of it, in millionths.
const WHOLE: i64 = 1_000_000;

/// A queue that is away: as it was when somebody last told of it, or as it is by now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) queued: u64,
    pub(super) running: u64,
    pub(super) holds: Resources,
    /// What it holds and waits for.
    pub(super) demand: Resources,
}

/// Which part of each resource that queues held is held by now, in millionths: all of those that
/// are not named.
#[derive(Debug, Default)]
pub(super) struct Fading(BTreeMap<Name, i64>);

impl Fading {
    /// By the nodes of a table; `told` is what the pool's own queues that are away held.
    pub(super) fn of<'a>(
        table: &'a Table,
        control: &Control,
        told: impl Iterator<Item = &'a Resources>,
    ) -> Self {
        let lacks = |name: &Name| !table.clusters.contains_key(name);
        let borrows = || control.pools.values().any(|pool| pool.lends_to.contains(&*table.pool));
        // What queues hold stands on nodes that are not known yet, or are not this pool's.
        if table.published.clusters.iter().any(lacks) || borrows() {
            return Self::default();
        }
        let others = table.away.values().filter(|queue| !table.is_reachable(queue.shard));
        let mut was: BTreeMap<&Name, i128> = BTreeMap::new();
        for (name, amount) in told.chain(others.map(|queue| &queue.holds)).flat_map(Resources::iter)
        {
            *was.entry(name).or_default() += i128::from(dense(name, amount));
        }
        let mut is = on_nodes(table);
        let there = table.queues.values().chain(table.away.values());
        for queue in there.filter(|queue| table.is_reachable(queue.shard)) {
            add(&mut is, &queue.holds, -1);
        }
        let part = |(name, was): (&Name, i128)| {
            let is = is.get(name).copied().filter(|_| was > 0)?.clamp(0, was);
            Some((Arc::clone(name), i64::try_from(is * i128::from(WHOLE) / was).ok()?))
        };
        Self(was.into_iter().filter_map(part).collect())
    }

    /// A queue as it is by now.
    pub(super) fn now(&self, mut queue: Gone) -> Gone {
        let held = queue.holds.clone();
        let part = |name: &Name| self.0.get(name).copied().unwrap_or(WHOLE);
        for (name, amount) in held.iter() {
            let (before, demand) = (dense(name, amount), dense(name, queue.demand.get(name)));
            let left = part_of(before, part(name));
            queue.holds.set(Arc::clone(name), from_dense(name, left));
            let demand = demand.saturating_sub(before - left);
            queue.demand.set(Arc::clone(name), from_dense(name, demand));
        }
        let most = held.iter().map(|(name, _)| part(name)).max().unwrap_or(WHOLE);
        let running = i64::try_from(queue.running).unwrap_or(i64::MAX);
        queue.running = part_of(running, most).unsigned_abs();
        queue
    }
}

/// What runs hold on the nodes, of each resource that nodes have: with those that executors have
/// not heard of yet, without those that were told to stop.
fn on_nodes(table: &Table) -> BTreeMap<Name, i128> {
    let mut held: BTreeMap<Name, i128> = BTreeMap::new();
    for cluster in table.clusters.values() {
        for (name, amount) in table.numbering.difference(&cluster.allocatable, &cluster.free) {
            *held.entry(Arc::clone(name)).or_default() += amount;
        }
    }
    for cluster in table.clusters.values() {
        let freeing = cluster.nodes.values().map(|node| &node.freeing);
        for stopped in freeing.chain(cluster.stopping.values()) {
            add(&mut held, stopped, -1);
        }
        for leased in cluster.pending.leased().values() {
            add(&mut held, leased, 1);
        }
    }
    held
}

/// Adds amounts so many times to those that there are.
fn add(sums: &mut BTreeMap<Name, i128>, amounts: &Resources, times: i128) {
    for (name, amount) in amounts.iter() {
        if let Some(sum) = sums.get_mut(name) {
            *sum += times * i128::from(dense(name, amount));
        }
    }
}

fn part_of(amount: i64, millionths: i64) -> i64 {
    let part = i128::from(amount) * i128::from(millionths) / i128::from(WHOLE);
    i64::try_from(part).expect("a part is no more than the whole")
}

#[cfg(test)]
mod tests {
    use muster_api::bus::LeasedRun;
    use muster_api::shape::ShapeText;
    use muster_core::control::PoolSettings;
    use muster_core::id::{JobId, JobRef};
    use muster_core::shape::Shape;

    use super::super::testing::{amounts, ask, node, offers, queue_offer, resources};
    use super::*;

    fn gone(cpu: i64, waits: i64, running: u64) -> Gone {
        let (holds, demand) = (resources(&[("cpu", cpu)]), resources(&[("cpu", cpu + waits)]));
        Gone { queued: 1, running, holds, demand }
    }

    /// A cluster on which so much of a hundred cpus is free, and a queue that is there and holds
    /// forty of them.
    fn table(free: &str) -> Table {
        let mut table = Table::new("default");
        ask(
            &mut table,
            "c",
            vec![node("n", amounts(&[("cpu", "100")]), amounts(&[("cpu", free)]))],
        );
        table.offers(offers(vec![], vec![queue_offer("other", vec![])]));
        let holds = resources(&[("cpu", 40)]);
        let queue = table.queues.entry("here".into()).or_default();
        (queue.shard, queue.holds) = (1, holds);
        table
    }

    fn now(table: &Table, control: &Control) -> [Gone; 2] {
        let told = [gone(40, 5, 20), gone(20, 90, 7)];
        let fading = Fading::of(table, control, told.iter().map(|gone| &gone.holds));
        told.map(|gone| fading.now(gone))
    }

    #[test]
    fn what_is_held_on_nodes_and_by_nobody_who_is_there_is_theirs_who_are_away() {
        let control = Control::default();
        assert_eq!(now(&table("0"), &control), [gone(40, 5, 20), gone(20, 90, 7)]);
        assert_eq!(now(&table("30"), &control), [gone(20, 5, 10), gone(10, 90, 3)]);
        // No less than nothing, and no more than it was.
        assert_eq!(now(&table("99"), &control), [gone(0, 5, 0), gone(0, 90, 0)]);
        let mut more = table("0");
        more.queues.clear();
        assert_eq!(now(&more, &control), [gone(40, 5, 20), gone(20, 90, 7)]);
    }

    #[test]
    fn leases_that_executors_have_not_heard_of_are_held_and_what_is_stopped_is_not() {
        let control = Control::default();
        let mut table = table("30");
        let shape = ShapeText(Shape::of_request(resources(&[("cpu", 15)])).into());
        let (job, node) = (JobRef::whole(JobId::MAX), "n".to_owned());
        let cluster = table.clusters.get_mut("c").unwrap();
        cluster.pending.lease(vec![LeasedRun { job, attempt: 1, node, shape }]);
        assert_eq!(now(&table, &control), [gone(30, 5, 15), gone(15, 90, 5)]);
        let cluster = table.clusters.get_mut("c").unwrap();
        cluster.stopping.insert("n".into(), resources(&[("cpu", 30)]));
        assert_eq!(now(&table, &control), [gone(10, 5, 5), gone(5, 90, 1)]);
    }

    #[test]
    fn nothing_fades_as_long_as_it_may_stand_on_other_nodes() {
        let told = [gone(40, 5, 20), gone(20, 90, 7)];
        let mut table = table("30");
        let lends = PoolSettings { lends_to: ["default".into()].into(), ..PoolSettings::default() };
        let control = Control::default().with_pool("lender", lends).unwrap();
        assert_eq!(now(&table, &control), told);
        table.published.clusters.insert("d".into());
        assert_eq!(now(&table, &Control::default()), told);
    }

    #[test]
    fn what_no_node_has_does_not_fade() {
        let table = table("70");
        let mut told = gone(20, 0, 4);
        told.holds.set("licence".into(), muster_core::quantity::Quantity::from_units(3));
        let fading = Fading::of(&table, &Control::default(), std::iter::once(&told.holds));
        let now = fading.now(told);
        assert_eq!(now.holds, resources(&[("licence", 3)]));
        assert_eq!(now.running, 4);
        let of_nothing = Gone { running: 4, ..Gone::default() };
        assert_eq!(fading.now(of_nothing.clone()), of_nothing);
    }
}
