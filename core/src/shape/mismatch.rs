//! Why a node is not for jobs of a shape, resources aside.

use std::collections::BTreeMap;

use super::{Shape, Taint};
use crate::Name;

/// What keeps jobs of a shape from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mismatch<'a> {
    /// They select a label that it does not have with that value.
    Label {
        /// The label.
        key: &'a Name,
        /// The value that they ask for.
        value: &'a Name,
    },
    /// It meets no term of the affinity that they require.
    Affinity,
    /// They do not tolerate one of its taints.
    Taint(&'a Taint),
}

impl Shape {
    /// The first thing that keeps jobs of the shape from a node of that name with these labels and
    /// taints, resources aside; `None` when it may run them.
    #[must_use]
    pub fn mismatch<'a>(
        &'a self,
        node: &str,
        labels: &BTreeMap<Name, Name>,
        taints: &'a [Taint],
    ) -> Option<Mismatch<'a>> {
        let mut selected = self.node_selector.iter();
        if let Some((key, value)) = selected.find(|(key, value)| labels.get(*key) != Some(*value)) {
            return Some(Mismatch::Label { key, value });
        }
        if self.affinity.as_ref().is_some_and(|affinity| !affinity.admits(node, labels)) {
            return Some(Mismatch::Affinity);
        }
        let tolerated = |taint: &&Taint| {
            &*taint.effect == "PreferNoSchedule"
                || self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
        };
        taints.iter().find(|taint| !tolerated(taint)).map(Mismatch::Taint)
    }

    /// Whether a node of that name with these labels and taints may run it, resources aside.
    #[must_use]
    pub fn admits(&self, node: &str, labels: &BTreeMap<Name, Name>, taints: &[Taint]) -> bool {
        self.mismatch(node, labels, taints).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Resources;
    use crate::shape::{Affinity, Requirement, Term};

    #[test]
    fn what_keeps_a_job_from_a_node_is_named() {
        let name = |text: &str| Name::from(text);
        let mut shape = Shape::of_request(Resources::new());
        shape.node_selector = [(name("disk"), name("ssd"))].into();
        let exists = Term { requirements: [Requirement::Exists(name("zone"))].into() };
        shape.affinity = Some(Affinity { terms: [exists].into() });
        let taint = |key: &str, effect: &str| Taint {
            key: name(key),
            value: name("true"),
            effect: name(effect),
        };
        let taints = [taint("soft", "PreferNoSchedule"), taint("gpu", "NoSchedule")];
        let (disk, ssd) = (name("disk"), name("ssd"));
        let mut labels = BTreeMap::from([(name("disk"), name("hdd"))]);
        let label = Mismatch::Label { key: &disk, value: &ssd };
        assert_eq!(shape.mismatch("n", &labels, &taints), Some(label));
        labels.insert(name("disk"), name("ssd"));
        assert_eq!(shape.mismatch("n", &labels, &taints), Some(Mismatch::Affinity));
        labels.insert(name("zone"), name("a"));
        assert_eq!(shape.mismatch("n", &labels, &taints), Some(Mismatch::Taint(&taints[1])));
        assert_eq!(shape.mismatch("n", &labels, &taints[..1]), None);
    }
}
