//! Fair shares of queues that stand in a tree. No IO, no clock.

use std::collections::BTreeMap;

use muster_core::Name;
use muster_core::control::Control;
use muster_core::solve::{Group, Leaf, Share, fair_shares, fair_shares_in_tree};

/// What the jobs of a queue weigh that has queues below it, beside these.
const OWN_WEIGHT: u64 = 1_000;
/// Weights for the solver that stand for a fair share: of the whole pool, so much.
const WHOLE: f64 = 1e9;

/// The fair shares of queues by their demands, in the order in which they are given.
pub fn shares(control: &Control, total: &[i64], queues: Vec<(&Name, Vec<i64>)>) -> Vec<Share> {
    let weight = |name: &str| control.queues.get(name).map_or(1, |queue| queue.weight_millis);
    if !control.has_tree() {
        let flat = queues.into_iter().map(|(name, demand)| (weight(name), demand));
        return fair_shares(total, &flat.collect::<Vec<_>>());
    }
    let mut groups = Groups::default();
    let leaf = |(name, demand): (&Name, Vec<i64>)| {
        if control.below(name).next().is_some() {
            let parent = Some(groups.number(control, name));
            return Leaf { weight: OWN_WEIGHT, parent, demand };
        }
        let parent = control.above(name).next().map(|parent| groups.number(control, parent));
        Leaf { weight: weight(name), parent, demand }
    };
    let leaves: Vec<Leaf> = queues.into_iter().map(leaf).collect();
    fair_shares_in_tree(total, &groups.groups, &leaves)
}

/// Weights by which the solver, which knows no tree, comes to these shares; none where there is no
/// tree.
pub(super) fn weights(
    control: &Control,
    total: &[i64],
    queues: Vec<(&Name, Vec<i64>)>,
) -> Option<Vec<u64>> {
    if !control.has_tree() {
        return None;
    }
    let shares = shares(control, total, queues).into_iter();
    // A queue without a share asks for nothing: it needs a weight all the same.
    Some(shares.map(|share| ((share.ideal * WHOLE) as u64).max(1)).collect())
}

/// Queues that have others below them, each behind the one that it stands below itself.
#[derive(Default)]
struct Groups {
    groups: Vec<Group>,
    numbers: BTreeMap<String, u32>,
}

impl Groups {
    fn number(&mut self, control: &Control, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let parent = control.above(name).next().map(|parent| self.number(control, parent));
        let number = u32::try_from(self.groups.len()).expect("fewer than 2^32 queues");
        let weight = control.queues.get(name).map_or(1, |queue| queue.weight_millis);
        self.groups.push(Group { weight, parent });
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use muster_core::control::Queue;

    use super::*;

    /// Queues: name, weight, parent; those that ask ask for all of the pool.
    fn shares_of(queues: &[(&str, u64, Option<&str>)], ask: &[&str]) -> Vec<f64> {
        let mut control = Control::default();
        for (name, weight, parent) in queues {
            let parent = parent.map(str::to_owned);
            let queue = Queue { weight_millis: weight * 1_000, parent, ..Queue::default() };
            control = control.with_queue(name, queue).unwrap();
        }
        let names: Vec<Name> = ask.iter().map(|name| Name::from(*name)).collect();
        let asked = names.iter().map(|name| (name, vec![100])).collect();
        let shares = shares(&control, &[100], asked);
        shares.iter().map(|share| (share.ideal * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn what_a_team_has_is_shared_by_its_projects() {
        let queues = [
            ("physics", 3, None),
            ("stars", 2, Some("physics")),
            ("atoms", 1, Some("physics")),
            ("biology", 1, None),
        ];
        assert_eq!(shares_of(&queues, &["stars", "atoms", "biology"]), [0.5, 0.25, 0.25]);
        assert_eq!(shares_of(&queues, &["atoms", "biology"]), [0.75, 0.25]);
        let own = shares_of(&queues, &["physics", "stars", "atoms", "biology"]);
        assert_eq!(own, [0.1875, 0.375, 0.1875, 0.25], "its own jobs stand beside its projects");
    }

    #[test]
    fn without_a_tree_weights_are_as_they_were() {
        assert_eq!(shares_of(&[("a", 3, None), ("b", 1, None)], &["a", "b"]), [0.75, 0.25]);
    }
}
