//! What nodes have, as numbers for the solver. Rounds are many and nodes seldom change, so this is
//! worked out when an executor tells of a node, and summed up by cluster. No IO, no clock.

use std::sync::Arc;

use muster_core::Name;
use muster_core::resources::{Resources, dense};

/// With more names than this, those that are not in use any more are dropped.
const NAMES_MAX: usize = 1_000;

/// The resources that nodes were told to have, numbered in the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    names: Vec<Name>,
}

/// Amounts by these numbers. What stands behind the last is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Amounts(Box<[i64]>);

/// What several nodes have together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sum(Vec<i128>);

/// Where each resource of a round stands in the numbering, if a node has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places(Vec<Option<usize>>);

impl Numbering {
    /// Amounts of resources, which get numbers where they have none.
    pub(super) fn amounts(&mut self, resources: &Resources) -> Amounts {
        let mut amounts = Vec::new();
        for (name, quantity) in resources.iter() {
            let place = self.place(name).unwrap_or_else(|| {
                self.names.push(Arc::clone(name));
                self.names.len() - 1
            });
            if amounts.len() <= place {
                amounts.resize(place + 1, 0);
            }
            amounts[place] = dense(name, quantity);
        }
        Amounts(amounts.into())
    }

    fn place(&self, name: &Name) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// Whether there are so many names that it should begin again.
    pub(super) fn is_full(&self) -> bool {
        self.names.len() > NAMES_MAX
    }

    /// The resources of which there is something in a sum.
    pub(super) fn names_in<'a>(&'a self, sum: &'a Sum) -> impl Iterator<Item = &'a Name> {
        self.names.iter().zip(&sum.0).filter(|(_, amount)| **amount != 0).map(|(name, _)| name)
    }

    /// How much more one sum has than another, of each resource of which it has something.
    pub(super) fn difference<'a>(
        &'a self,
        sum: &'a Sum,
        other: &'a Sum,
    ) -> impl Iterator<Item = (&'a Name, i128)> {
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        let amounts = self.names.iter().zip(sum.0.iter().zip(others));
        let some = amounts.filter(|(_, (amount, _))| **amount != 0);
        some.map(|(name, (amount, other))| (name, amount - other))
    }

    /// Where these stand.
    pub(super) fn places(&self, names: &[Name]) -> Places {
        Places(names.iter().map(|name| self.place(name)).collect())
    }
}

impl Places {
    /// A node's amounts of the resources of a round.
    pub(super) fn of(&self, amounts: &Amounts) -> Vec<i64> {
        let amount = |place: &Option<usize>| place.and_then(|place| amounts.0.get(place).copied());
        self.0.iter().map(|place| amount(place).unwrap_or_default()).collect()
    }

    /// What several sums are together, at most the largest amount there is.
    pub(super) fn total<'a>(&self, sums: impl Iterator<Item = &'a Sum>) -> Vec<i64> {
        let mut total = vec![0_i128; self.0.len()];
        for sum in sums {
            for (total, place) in total.iter_mut().zip(&self.0) {
                *total += place.and_then(|place| sum.0.get(place).copied()).unwrap_or_default();
            }
        }
        total.into_iter().map(|amount| i64::try_from(amount).unwrap_or(i64::MAX)).collect()
    }
}

impl Sum {
    pub(super) fn add(&mut self, amounts: &Amounts) {
        if self.0.len() < amounts.0.len() {
            self.0.resize(amounts.0.len(), 0);
        }
        self.0.iter_mut().zip(&amounts.0).for_each(|(sum, amount)| *sum += i128::from(*amount));
    }

    /// Takes off what was added before.
    pub(super) fn take(&mut self, amounts: &Amounts) {
        self.0.iter_mut().zip(&amounts.0).for_each(|(sum, amount)| *sum -= i128::from(*amount));
    }
}

#[cfg(test)]
mod tests {
    use muster_core::quantity::Quantity;

    use super::*;

    fn resources(amounts: &[(&str, i64)]) -> Resources {
        let of = |(name, amount): &(&str, i64)| ((*name).into(), Quantity::from_units(*amount));
        amounts.iter().map(of).collect()
    }

    #[test]
    fn amounts_of_nodes_that_have_different_things_line_up_and_add_up() {
        let mut numbering = Numbering::default();
        let small = numbering.amounts(&resources(&[("cpu", 2), ("memory", 7)]));
        let large = numbering.amounts(&resources(&[("cpu", 4), ("gpu", 1)]));
        let names = ["gpu", "licence", "cpu", "memory"].map(Name::from);
        let places = numbering.places(&names);
        assert_eq!(places.of(&small), [0, 0, 2_000, 7]);
        assert_eq!(places.of(&large), [1, 0, 4_000, 0]);
        let mut sum = Sum::default();
        sum.add(&small);
        sum.add(&large);
        let total = |sum: &Sum| places.total([sum, sum].into_iter());
        assert_eq!(total(&sum), [2, 0, 12_000, 14]);
        let mut other = Sum::default();
        other.add(&small);
        let more = |sum: &Sum, other: &Sum| {
            let more = numbering.difference(sum, other);
            more.map(|(name, amount)| format!("{name} {amount}")).collect::<Vec<_>>()
        };
        assert_eq!(more(&sum, &other), ["cpu 4000", "memory 0", "gpu 1"]);
        assert_eq!(more(&other, &sum), ["cpu -4000", "memory 0"]);
        sum.take(&large);
        assert_eq!(total(&sum), [0, 0, 4_000, 14]);
        assert_eq!(
            numbering.names_in(&sum).map(|name| &**name).collect::<Vec<_>>(),
            ["cpu", "memory"]
        );
    }
}
