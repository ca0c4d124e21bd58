//! The pool as it is shown. No IO, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_api::convert;
use muster_api::http;
use muster_core::Name;
use muster_core::control::Control;
use muster_core::resources::{Resources, from_dense};
use muster_core::solve;

use super::absent::Absent;
use super::pace::Paces;
use super::round::{Numbers, total};
use super::table::{ClusterState, QueueState, Table};
use super::tree;
use super::usage::{Usage, WHOLE};

/// The pool as it is shown: capacity, shares, clusters.
pub(super) fn status(
    table: &Table,
    control: &Control,
    (usage, paces, now): (&Usage, &Paces, Duration),
    absent: &Absent,
    at: &str,
) -> http::Pool {
    let numbers = Numbers::new(table);
    let total = total(table, &numbers);
    let mut all_held = Resources::new();
    let mut rows = Vec::new();
    let mut demands = Vec::new();
    let none = QueueState::default();
    let names = table.queues.keys().chain(usage.queues()).chain(absent.keys());
    for name in names.collect::<BTreeSet<&Name>>() {
        let Some(settings) = control.queues.get(&**name) else { continue };
        let weight = settings.weight_millis;
        let queue = table.queues.get(name);
        let queue = queue.unwrap_or(&none);
        // Of one that is away it is told what is known, or who leads next would not know of it.
        let gone = absent.get(name);
        let held = gone.map_or(&queue.holds, |gone| &gone.holds);
        let demand = gone.map_or_else(
            || {
                let mut demand = queue.holds.clone();
                demand.add(&queue.demand);
                demand
            },
            |gone| gone.demand.clone(),
        );
        all_held.add(held);
        demands.push((name, numbers.amounts(&demand)));
        rows.push(http::QueueShare {
            queue: name.to_string(),
            weight: thousandths(weight),
            queued: gone.map_or(queue.waiting, |gone| gone.queued),
            running: gone.map_or(queue.held, |gone| gone.running),
            actual_share: solve::dominant_share(&total, &numbers.amounts(held)),
            allocated: convert::quantities(held),
            demand: convert::quantities(&demand),
            ideal_share: 0.0,
            decayed_usage: convert::quantities(&usage.of(name, WHOLE)),
            demand_share: 0.0,
            preempted_last_hour: paces.preempted_of(name, now),
        });
    }
    for (row, share) in rows.iter_mut().zip(tree::shares(control, &total, demands)) {
        row.ideal_share = share.ideal;
        row.demand_share = share.demand;
    }
    let clusters = table.clusters.iter().map(|(name, c)| cluster_status(table, name, c));
    http::Pool {
        name: table.pool.clone(),
        capacity: quantities(&numbers.resources, &total),
        allocated: convert::quantities(&all_held),
        nodes: table.clusters.values().map(|cluster| cluster.nodes.len() as u64).sum(),
        clusters: clusters.collect(),
        queues: rows,
        at: at.to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "weights are at most 10^9 thousandths")]
pub(super) fn thousandths(weight: u64) -> f64 {
    weight as f64 / 1000.0
}

fn quantities(names: &[Name], amounts: &[i64]) -> BTreeMap<String, String> {
    let pairs = names.iter().zip(amounts).filter(|(_, amount)| **amount != 0);
    pairs.map(|(name, amount)| (name.to_string(), from_dense(name, *amount).to_string())).collect()
}

fn cluster_status(table: &Table, name: &Name, cluster: &ClusterState) -> http::Cluster {
    let taken_out = table.taken_out.of_cluster(name).map(|(node, out)| http::NodeTakenOut {
        node: node.to_string(),
        queues: out.queues.iter().map(ToString::to_string).collect(),
        since: http::time_text(out.since),
        until: http::time_text(out.until),
    });
    let mut capacity = Resources::new();
    let mut free = Resources::new();
    for node in cluster.nodes.values() {
        capacity.add(&node.allocatable);
        free.add(&node.free);
    }
    http::Cluster {
        name: name.to_string(),
        pool: table.pool.clone(),
        taken_out: taken_out.collect(),
        nodes: cluster.nodes.len() as u64,
        runs: cluster.nodes.values().map(|node| u64::from(node.runs)).sum(),
        capacity: convert::quantities(&capacity),
        free: convert::quantities(&free),
        last_contact: http::time_text(cluster.contact),
    }
}

#[cfg(test)]
mod tests {
    use super::super::absent::Published;
    use super::super::table::Heard;
    use super::super::testing::{amounts, ask, node, queues};
    use muster_api::bus;
    use muster_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_queue_whose_shard_is_away_is_shown_with_what_it_still_holds() {
        let of_cpu = |amount: &str| amounts(&[("cpu", amount)]);
        let before = http::QueueShare {
            queue: "q".into(),
            queued: 10,
            running: 30,
            allocated: of_cpu("60"),
            demand: of_cpu("80"),
            ..http::QueueShare::default()
        };
        let (now, ttl) = (Duration::from_secs(1), Duration::from_secs(4));
        let mut table = Table::new("default");
        table.published = Published::new(
            &http::Pool { queues: vec![before], ..http::Pool::default() },
            Duration::ZERO,
        );
        ask(&mut table, "c", vec![node("n", of_cpu("100"), of_cpu("70"))]);
        let control = queues(&["q"]);
        let (absent, until) = table.absent(&control, 4, ttl, now);
        assert_eq!(until, Some(ttl * 8));
        let (usage, paces) = (Usage::default(), Paces::new(Duration::ZERO));
        let shown = status(&table, &control, (&usage, &paces, now), &absent, "");
        let row = &shown.queues[0];
        assert_eq!((row.queued, row.running), (10, 15));
        assert_eq!((&row.allocated, &row.demand), (&of_cpu("30"), &of_cpu("50")));
        assert_eq!(shown.allocated, of_cpu("30"));
        assert!((row.actual_share - 0.3).abs() < 1e-9, "{}", row.actual_share);
    }

    #[test]
    fn a_cluster_is_shown_with_the_time_at_which_it_asked_last() {
        let mut table = Table::new("default");
        let request = bus::LeaseRequest {
            cluster: "c".into(),
            instance: "i".into(),
            seen: None,
            nodes: bus::NodeUpdate { base: None, version: 1, nodes: vec![], removed: vec![] },
            leases_max: 1,
            wait_ms: 0,
        };
        assert_eq!(table.request(&request, Duration::from_secs(1), Timestamp(5_000)), Heard::Yes);
        let (usage, paces) = (Usage::default(), Paces::new(Duration::ZERO));
        let told = (&usage, &paces, Duration::from_secs(1));
        let at = http::time_text(Timestamp(9_000));
        let shown = status(&table, &Control::default(), told, &Absent::new(), &at);
        assert_eq!(shown.clusters[0].last_contact, http::time_text(Timestamp(5_000)));
    }
}
