//! What clusters and shards tell a leader, made up for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_api::bus;
use muster_api::shape::ShapeText;
use muster_core::Name;
use muster_core::control::{Control, Queue};
use muster_core::quantity::Quantity;
use muster_core::resources::Resources;
use muster_core::time::Timestamp;

use super::absent::Absent;
use super::fading::Gone;
use super::round::{Kept, Terms};
use super::table::{Heard, Table};

/// Amounts by resource, as they are told.
pub(super) fn amounts(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(name, amount)| ((*name).to_owned(), (*amount).to_owned())).collect()
}

/// Amounts by resource, in whole units.
pub(super) fn resources(of: &[(&str, i64)]) -> Resources {
    of.iter().map(|(name, units)| (Name::from(*name), Quantity::from_units(*units))).collect()
}

/// A node that is ready, and that nothing sets apart.
pub(super) fn node(
    name: &str,
    allocatable: BTreeMap<String, String>,
    free: BTreeMap<String, String>,
) -> bus::Node {
    bus::Node {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        allocatable,
        free,
        freeing: BTreeMap::new(),
        runs: 0,
        schedulable: true,
        failing: Vec::new(),
    }
}

/// What a cluster asks for that has these nodes.
pub(super) fn request(cluster: &str, nodes: Vec<bus::Node>) -> bus::LeaseRequest {
    bus::LeaseRequest {
        cluster: cluster.to_owned(),
        instance: "i".to_owned(),
        seen: None,
        nodes: bus::NodeUpdate { base: None, version: 1, nodes, removed: Vec::new() },
        leases_max: 1_000,
        wait_ms: 0,
    }
}

/// A cluster that has these nodes asks.
pub(super) fn ask(table: &mut Table, cluster: &str, nodes: Vec<bus::Node>) {
    let request = request(cluster, nodes);
    assert_eq!(table.request(&request, Duration::from_secs(1), Timestamp(0)), Heard::Yes);
}

/// The head of the order in a class: priority, shape and count of each run.
pub(super) fn head(class: &str, runs: Vec<(u32, u32, u64)>) -> bus::Head {
    let (class, holds) = (class.to_owned(), BTreeMap::new());
    bus::Head { class, runs, since: Vec::new(), behind: None, holds }
}

/// What a queue that holds nothing offers to a pool.
pub(super) fn pool_offer(pool: &str, heads: Vec<bus::Head>) -> bus::PoolOffer {
    let waiting = heads.iter().flat_map(|head| &head.runs).map(|(_, _, count)| count).sum();
    let (demand, holds) = (BTreeMap::new(), BTreeMap::new());
    bus::PoolOffer { pool: pool.to_owned(), heads, waiting, demand, held: 0, holds }
}

/// What a queue offers, all of it.
pub(super) fn queue_offer(queue: &str, pools: Vec<bus::PoolOffer>) -> bus::QueueOffer {
    bus::QueueOffer { queue: queue.to_owned(), further: false, pools }
}

/// The first that a shard offers.
pub(super) fn offers(shapes: Vec<ShapeText>, queues: Vec<bus::QueueOffer>) -> bus::Offers {
    bus::Offers {
        shard: 1,
        owner: "w".to_owned(),
        epoch: 1,
        version: 1,
        previous: 0,
        full: true,
        shapes,
        queues,
    }
}

/// Queues of weight 1 for which nothing else is set.
pub(super) fn queues(names: &[&str]) -> Control {
    let with = |control: Control, name: &&str| control.with_queue(name, Queue::default());
    names.iter().try_fold(Control::default(), with).expect("the names are in order")
}

/// A queue that is away, holds nothing and waits for so much.
pub(super) fn gone(demand: Resources) -> Gone {
    Gone { demand, ..Gone::default() }
}

/// Terms without rates and overdue jobs.
pub(super) fn terms(jobs_max: u64) -> Terms<'static> {
    static RATES: BTreeMap<Name, u64> = BTreeMap::new();
    static KEPT: Kept = Kept::new();
    static ABSENT: Absent = Absent::new();
    Terms {
        jobs_max,
        paced: None,
        rates: &RATES,
        overdue: Timestamp(0),
        kept: &KEPT,
        absent: &ABSENT,
        now: Timestamp(0),
    }
}
