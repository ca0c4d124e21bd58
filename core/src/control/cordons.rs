//! Cordons: clusters and nodes on which nothing new is placed. What runs there runs on. And which
//! nodes that were taken out because jobs failed there were put back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Control, Error};
use crate::limits;
use crate::names;
use crate::time::Timestamp;

/// How long a failure may be held against a node.
const FAILURES_AGE_MAX: Duration = Duration::from_secs(limits::NODE_FAILURES_HOURS * 3600);

/// Why nothing new is placed somewhere, in the words of who said so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cordon {
    /// The words; there may be none.
    pub reason: Option<String>,
}

/// All cordons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cordons {
    /// By cluster.
    pub clusters: BTreeMap<String, Cordon>,
    /// By cluster and node.
    pub nodes: BTreeMap<String, BTreeMap<String, Cordon>>,
    /// By cluster and node: when the node was put back. What failed there before is not held
    /// against it.
    pub put_back: BTreeMap<String, BTreeMap<String, Timestamp>>,
}

/// What is cordoned. It need not be there: it may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// A cluster with all of its nodes.
    Cluster(&'a str),
    /// A node of a cluster.
    Node {
        /// The cluster.
        cluster: &'a str,
        /// The node.
        node: &'a str,
    },
}

impl Cordons {
    /// Whether nothing new is placed on that node.
    #[must_use]
    pub fn hold(&self, cluster: &str, node: &str) -> bool {
        self.clusters.contains_key(cluster)
            || self.nodes.get(cluster).is_some_and(|nodes| nodes.contains_key(node))
    }

    /// When a node was put back, if it was.
    #[must_use]
    pub fn put_back_at(&self, cluster: &str, node: &str) -> Option<Timestamp> {
        self.put_back.get(cluster)?.get(node).copied()
    }

    fn len(&self) -> usize {
        let nodes = self.nodes.values().map(BTreeMap::len).sum::<usize>();
        let put_back = self.put_back.values().map(BTreeMap::len).sum::<usize>();
        self.clusters.len() + nodes + put_back
    }
}

impl Control {
    /// The next version, with the cordon set or changed.
    ///
    /// # Errors
    /// When a name or the reason is not allowed, or there are too many cordons.
    pub fn with_cordon(&self, place: Place<'_>, cordon: Cordon) -> Result<Self, Error> {
        if let Some(reason) = &cordon.reason {
            names::reason(reason)?;
        }
        let mut next = self.clone();
        next.version += 1;
        match place {
            Place::Cluster(cluster) => {
                names::cluster(cluster)?;
                next.cordons.clusters.insert(cluster.to_owned(), cordon);
            }
            Place::Node { cluster, node } => {
                names::cluster(cluster)?;
                names::node(node)?;
                let nodes = next.cordons.nodes.entry(cluster.to_owned()).or_default();
                nodes.insert(node.to_owned(), cordon);
            }
        }
        if next.cordons.len() > limits::CORDONS_MAX {
            return Err(Error::TooManyCordons(self.cordons.len()));
        }
        Ok(next)
    }

    /// The next version, in which nothing that failed on the node before `at` is held against it.
    /// What was put back so long ago that no failure of before counts any more is forgotten.
    ///
    /// # Errors
    /// When a name is not allowed, or there is too much of it.
    pub fn with_node_put_back(
        &self,
        (cluster, node): (&str, &str),
        at: Timestamp,
    ) -> Result<Self, Error> {
        names::cluster(cluster)?;
        names::node(node)?;
        let mut next = self.clone();
        next.version += 1;
        let put_back = &mut next.cordons.put_back;
        put_back.entry(cluster.to_owned()).or_default().insert(node.to_owned(), at);
        for nodes in put_back.values_mut() {
            nodes.retain(|_, of| at.since(*of) <= FAILURES_AGE_MAX);
        }
        put_back.retain(|_, nodes| !nodes.is_empty());
        if next.cordons.len() > limits::CORDONS_MAX {
            return Err(Error::TooManyCordons(self.cordons.len()));
        }
        Ok(next)
    }

    /// The next version, without the cordon; `None` when there is none.
    #[must_use]
    pub fn without_cordon(&self, place: Place<'_>) -> Option<Self> {
        let mut next = self.clone();
        next.version += 1;
        match place {
            Place::Cluster(cluster) => {
                next.cordons.clusters.remove(cluster)?;
            }
            Place::Node { cluster, node } => {
                let nodes = next.cordons.nodes.get_mut(cluster)?;
                nodes.remove(node)?;
                if nodes.is_empty() {
                    next.cordons.nodes.remove(cluster);
                }
            }
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Place<'_> = Place::Node { cluster: "c", node: "n" };

    fn cordon(reason: &str) -> Cordon {
        Cordon { reason: Some(reason.to_owned()) }
    }

    #[test]
    fn a_cordon_holds_its_node_and_that_of_a_cluster_all_of_its_nodes() {
        let held = |control: &Control| {
            [("c", "n"), ("c", "m"), ("d", "n")]
                .map(|(cluster, node)| control.cordons.hold(cluster, node))
        };
        let node = Control::default().with_cordon(NODE, cordon("disk")).unwrap();
        assert_eq!(held(&node), [true, false, false]);
        let both = node.with_cordon(Place::Cluster("c"), Cordon::default()).unwrap();
        assert_eq!(held(&both), [true, true, false]);
        let back = both.without_cordon(Place::Cluster("c")).unwrap();
        assert_eq!((back.version, held(&back)), (3, [true, false, false]));
        let none = back.without_cordon(NODE).unwrap();
        assert_eq!(none.cordons, Cordons::default());
        assert_eq!(none.without_cordon(NODE), None);
        assert_eq!(none.without_cordon(Place::Cluster("c")), None);
    }

    #[test]
    fn it_is_known_when_a_node_was_put_back_as_long_as_that_matters() {
        let hour = Duration::from_secs(3600);
        let first = Timestamp(1_000);
        let control = Control::default().with_node_put_back(("c", "n"), first).unwrap();
        assert_eq!((control.version, control.cordons.put_back_at("c", "n")), (1, Some(first)));
        assert!(!control.cordons.hold("c", "n"));
        let later = first.plus(FAILURES_AGE_MAX);
        let control = control.with_node_put_back(("d", "n"), later).unwrap();
        assert_eq!(control.cordons.put_back_at("c", "n"), Some(first));
        let control = control.with_node_put_back(("d", "m"), later.plus(hour)).unwrap();
        assert_eq!(control.cordons.put_back_at("c", "n"), None);
        assert_eq!(control.cordons.put_back_at("d", "n"), Some(later));
        assert!(control.with_node_put_back(("d", ""), later).is_err());
    }

    #[test]
    fn names_and_reasons_are_bounded_and_so_are_cordons() {
        let control = Control::default();
        assert!(control.with_cordon(Place::Cluster(""), Cordon::default()).is_err());
        assert!(control.with_cordon(Place::Cluster("a b"), Cordon::default()).is_err());
        let bad = Place::Node { cluster: "c", node: "n\n" };
        assert!(control.with_cordon(bad, Cordon::default()).is_err());
        let max = limits::REASON_BYTES_MAX;
        assert!(control.with_cordon(NODE, cordon(&"r".repeat(max))).is_ok());
        assert!(control.with_cordon(NODE, cordon(&"r".repeat(max + 1))).is_err());
        let mut full = control;
        let nodes = (0..limits::CORDONS_MAX).map(|n| (format!("n{n}"), Cordon::default()));
        full.cordons.nodes.insert("d".to_owned(), nodes.collect());
        let refused = full.with_cordon(NODE, Cordon::default());
        assert_eq!(refused, Err(Error::TooManyCordons(limits::CORDONS_MAX)));
    }
}
