//! Nodes on which jobs of several queues fail, one after the other: they are taken out for a while.
//! No IO, no clock.
//!
//! One queue's jobs may all be wrong; those of several, with none that ended well between them, say
//! that the node is. It is known from what executors tell of their nodes, so a new leader knows it
//! as soon as they have spoken. No more than a part of a cluster's nodes is out at a time: where
//! everything fails, it is not the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_core::Name;
use muster_core::control::Control;
use muster_core::time::Timestamp;

use super::Leader;
use super::table::{ClusterState, Table};
use crate::config::Config;

/// A node: its cluster and name.
type Place = (Name, Name);

/// When nodes are taken out, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Of so many queues jobs have to fail; 0 for never.
    pub(super) queues: usize,
    /// Within so long.
    pub(super) window: Duration,
    /// It is out for so long.
    pub(super) lasts: Duration,
    /// No more than so many of a hundred nodes of a cluster, but one if there are two.
    pub(super) percent_max: u64,
}

/// A node that is out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    /// The queues whose jobs failed there.
    pub(super) queues: Vec<Name>,
}

/// The nodes that are out, and those that may have to be.
#[derive(Debug, Default)]
pub(super) struct TakenOut {
    out: BTreeMap<Place, Out>,
    /// Nodes on which something failed.
    suspects: BTreeSet<Place>,
    /// When nodes came back: what failed before is not held against them again.
    back: BTreeMap<Place, Timestamp>,
}

impl Rule {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            queues: config.node_failing_queues,
            window: config.node_failing_window.0,
            lasts: config.node_out_for.0,
            percent_max: u64::from(config.node_out_percent),
        }
    }

    /// How many of so many nodes may be out: never all of them.
    fn most_of(&self, nodes: usize) -> usize {
        let part = nodes as u64 * self.percent_max / 100;
        usize::try_from(part).unwrap_or(usize::MAX).max(1).min(nodes.saturating_sub(1))
    }
}

impl TakenOut {
    /// Whether a node is out.
    pub(super) fn holds(&self, cluster: &Name, node: &Name) -> bool {
        !self.out.is_empty() && self.out.contains_key(&(cluster.clone(), node.clone()))
    }

    /// The nodes of a cluster that are out.
    pub(super) fn of_cluster(&self, cluster: &Name) -> impl Iterator<Item = (&Name, &Out)> {
        let of = self.out.iter().filter(move |((name, _), _)| name == cluster);
        of.map(|((_, node), out)| (node, out))
    }

    /// A node was told, with failures or without.
    pub(super) fn told(&mut self, cluster: &Name, node: &Name, has_failures: bool) {
        if has_failures {
            self.suspects.insert((cluster.clone(), node.clone()));
        } else if !self.suspects.is_empty() {
            self.suspects.remove(&(cluster.clone(), node.clone()));
        }
    }
}

impl Leader<'_> {
    /// Takes nodes out, and puts them back.
    pub(super) fn judge_nodes(&mut self) {
        let (control, rule) = (self.deps.control.latest(), Rule::of(&self.deps.config));
        if self.table.judge_nodes(&control, &rule, self.deps.clock.now()) {
            self.dirty = true;
            self.status_changed = true;
            self.chance += 1;
        }
    }
}

impl Table {
    /// Whether nothing new is placed on a node at the moment, though it would take it.
    pub(super) fn is_taken_out(&self, cluster: &Name, node: &Name) -> bool {
        self.taken_out.holds(cluster, node)
    }

    /// Takes nodes out and puts them back; says whether any came back, or went.
    pub(super) fn judge_nodes(&mut self, control: &Control, rule: &Rule, now: Timestamp) -> bool {
        let Self { taken_out, clusters, pool, .. } = self;
        let TakenOut { out, suspects, back } = taken_out;
        let before = out.len();
        out.retain(|place, out| {
            let is_there = node(clusters, place).is_some();
            let is_put_back = put_back(control, place).is_some_and(|at| at >= out.since);
            let stays = is_there && !is_put_back && out.until > now && rule.queues > 0;
            if is_there && !stays {
                tracing::info!(pool, cluster = &*place.0, node = &*place.1, "a node is back");
                back.insert(place.clone(), now);
            }
            stays
        });
        let came_back = out.len() < before;
        back.retain(|_, at| now.since(*at) <= rule.window);
        suspects.retain(|place| node(clusters, place).is_some());
        if rule.queues == 0 {
            return came_back;
        }
        let mut found: Vec<(Timestamp, &Place, Vec<Name>)> = Vec::new();
        for place in suspects.iter().filter(|place| !out.contains_key(*place)) {
            let after = [back.get(place).copied(), put_back(control, place)];
            let after = after.into_iter().flatten().max().unwrap_or(Timestamp(i64::MIN));
            let after = after.max(now.minus(rule.window));
            let failing = node(clusters, place).into_iter().flat_map(|node| &node.failing);
            let failing: Vec<_> = failing.filter(|(_, at)| *at > after).collect();
            if failing.len() >= rule.queues {
                let last = failing.iter().map(|(_, at)| *at).max().unwrap_or(now);
                let queues = failing.into_iter().map(|(queue, _)| queue.clone()).collect();
                found.push((last, place, queues));
            }
        }
        found.sort();
        let mut went = false;
        for (_, place, queues) in found {
            let nodes = clusters.get(&place.0).map_or(0, |cluster| cluster.nodes.len());
            let already = out.keys().filter(|(cluster, _)| *cluster == place.0).count();
            if already >= rule.most_of(nodes) {
                continue;
            }
            let (cluster, node) = (&*place.0, &*place.1);
            tracing::warn!(pool, cluster, node, ?queues, "a node is taken out: jobs fail there");
            out.insert(place.clone(), Out { since: now, until: now.plus(rule.lasts), queues });
            went = true;
        }
        came_back || went
    }
}

fn node<'a>(
    clusters: &'a BTreeMap<Name, ClusterState>,
    (cluster, node): &Place,
) -> Option<&'a super::table::NodeState> {
    clusters.get(cluster)?.nodes.get(node)
}

fn put_back(control: &Control, (cluster, node): &Place) -> Option<Timestamp> {
    control.cordons.put_back_at(cluster, node)
}

#[cfg(test)]
mod tests {
    use super::super::table::Heard;
    use muster_api::bus;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const RULE: Rule = Rule {
        queues: 3,
        window: Duration::from_secs(600),
        lasts: Duration::from_secs(900),
        percent_max: 20,
    };

    /// What failed on nodes: queues, and when, in seconds.
    type Failing<'a> = &'a [(&'a str, &'a [(&'a str, i64)])];

    fn seconds(at: i64) -> Timestamp {
        Timestamp(at * 1_000)
    }

    fn tell(table: &mut Table, nodes: usize, failing: Failing<'_>) {
        let node = |number: usize| {
            let name = format!("n{number}");
            let mine = failing.iter().find(|(node, _)| *node == name).map_or(&[][..], |(_, f)| f);
            bus::Node {
                labels: BTreeMap::new(),
                taints: Vec::new(),
                allocatable: BTreeMap::new(),
                free: BTreeMap::new(),
                freeing: BTreeMap::new(),
                runs: 0,
                schedulable: true,
                failing: mine.iter().map(|(q, at)| ((*q).to_owned(), at * 1_000)).collect(),
                name,
            }
        };
        let nodes = (0..nodes).map(node).collect();
        let request = bus::LeaseRequest {
            cluster: "c".into(),
            instance: "i".into(),
            seen: None,
            nodes: bus::NodeUpdate { base: None, version: 1, nodes, removed: vec![] },
            leases_max: 1,
            wait_ms: 0,
        };
        assert_eq!(table.request(&request, Duration::ZERO, Timestamp(0)), Heard::Yes);
    }

    fn out(table: &Table) -> Vec<String> {
        table.taken_out.of_cluster(&"c".into()).map(|(node, _)| node.to_string()).collect()
    }

    #[test]
    fn a_node_on_which_jobs_of_several_queues_fail_is_out_for_a_while_and_then_judged_anew() {
        let (mut table, control) = (Table::new("default"), Control::default());
        tell(&mut table, 10, &[("n1", &[("a", 100), ("b", 200)])]);
        assert!(!table.judge_nodes(&control, &RULE, seconds(250)));
        tell(&mut table, 10, &[("n1", &[("a", 100), ("b", 200), ("c", 300)])]);
        // The first of them failed too long ago.
        assert!(!table.judge_nodes(&control, &RULE, seconds(701)));
        assert!(table.judge_nodes(&control, &RULE, seconds(650)));
        assert_eq!(out(&table), ["n1"]);
        let found = table.taken_out.of_cluster(&"c".into()).next().unwrap().1.clone();
        assert_eq!((found.since, found.until), (seconds(650), seconds(1_550)));
        assert_eq!(found.queues, ["a", "b", "c"].map(Name::from));
        // What fails while it is out is not held against it when it is back.
        tell(&mut table, 10, &[("n1", &[("a", 1_549), ("b", 1_549), ("c", 1_549)])]);
        assert!(!table.judge_nodes(&control, &RULE, seconds(1_549)));
        assert!(table.judge_nodes(&control, &RULE, seconds(1_550)));
        assert_eq!(out(&table), [""; 0]);
        tell(&mut table, 10, &[("n1", &[("a", 1_549), ("b", 1_600), ("c", 1_600)])]);
        assert!(!table.judge_nodes(&control, &RULE, seconds(1_600)));
        tell(&mut table, 10, &[("n1", &[("a", 1_601), ("b", 1_600), ("c", 1_600)])]);
        assert!(table.judge_nodes(&control, &RULE, seconds(1_601)));
        assert_eq!(out(&table), ["n1"]);
    }

    #[test]
    fn a_node_that_is_put_back_is_back_at_once_and_what_failed_before_is_forgotten() {
        let (mut table, control) = (Table::new("default"), Control::default());
        let failing: Failing<'_> = &[("n1", &[("a", 10), ("b", 20), ("c", 30)])];
        tell(&mut table, 10, failing);
        assert!(table.judge_nodes(&control, &RULE, seconds(30)));
        let put_back = control.with_node_put_back(("c", "n1"), seconds(40)).unwrap();
        assert!(table.judge_nodes(&put_back, &RULE, seconds(41)));
        assert_eq!(out(&table), [""; 0]);
        assert!(!table.judge_nodes(&put_back, &RULE, seconds(42)));
        // A new leader holds no more against it.
        let mut table = Table::new("default");
        tell(&mut table, 10, failing);
        assert!(!table.judge_nodes(&put_back, &RULE, seconds(43)));
        assert!(table.judge_nodes(&control, &RULE, seconds(43)));
        // Nor does a node that is gone stay out, or a rule that is switched off keep any.
        tell(&mut table, 1, &[]);
        assert!(table.judge_nodes(&control, &RULE, seconds(44)));
        tell(&mut table, 10, failing);
        assert!(table.judge_nodes(&control, &RULE, seconds(45)));
        assert!(table.judge_nodes(&control, &Rule { queues: 0, ..RULE }, seconds(46)));
        assert_eq!(out(&table), [""; 0]);
    }

    proptest! {
        #[test]
        fn no_more_than_a_part_of_a_cluster_is_out_and_those_on_which_it_began_first_go_first(
            failing in vec(1..50i64, 1..40),
        ) {
            let (mut table, control) = (Table::new("default"), Control::default());
            let names: Vec<String> = (0..failing.len()).map(|n| format!("n{n}")).collect();
            let at: Vec<[(&str, i64); 3]> =
                failing.iter().map(|at| [("a", *at), ("b", *at), ("c", *at)]).collect();
            let told: Vec<(&str, &[(&str, i64)])> =
                names.iter().zip(&at).map(|(name, at)| (name.as_str(), &at[..])).collect();
            tell(&mut table, names.len(), &told);
            table.judge_nodes(&control, &RULE, seconds(60));
            table.judge_nodes(&control, &RULE, seconds(61));
            let out = out(&table);
            let most = (failing.len() / 5).max(1).min(failing.len() - 1);
            prop_assert_eq!(out.len(), most);
            let of = |name: &String| failing[name[1..].parse::<usize>().unwrap()];
            let last = out.iter().map(of).max();
            let first = names.iter().filter(|name| !out.contains(name)).map(of).min();
            prop_assert!(last <= first || out.is_empty());
        }
    }
}
