//! The gangs of a round. Shards offer them as a whole or not at all, so whatever is told of a gang
//! is all that is to be placed of it; a shard that knows better by now leases nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::Name;
use muster_core::shape::Gang;
use muster_core::solve::{GangIn, Pick, Plan, Problem};

use super::super::keyed::Keyed;
use super::nodes::Group;

/// The gangs that shapes name, and the labels that these name.
pub(super) struct Gangs<'a> {
    gangs: Vec<&'a Gang>,
    labels: Vec<&'a Name>,
}

impl<'a> Gangs<'a> {
    pub(super) fn of(shapes: &'a [Arc<Keyed>]) -> Self {
        let gangs: BTreeSet<&Gang> =
            shapes.iter().filter_map(|shape| shape.gang.as_ref()).collect();
        let labels: BTreeSet<&Name> =
            gangs.iter().filter_map(|gang| gang.uniformity.as_ref()).collect();
        Self { gangs: gangs.into_iter().collect(), labels: labels.into_iter().collect() }
    }

    pub(super) fn number(&self, gang: &Gang) -> u32 {
        let place = self.gangs.binary_search(&gang).expect("it is of one of the shapes");
        u32::try_from(place).expect("fewer than 2^32 gangs")
    }

    pub(super) fn inputs(&self) -> Vec<GangIn> {
        let input = |gang: &&Gang| GangIn {
            // Members that succeeded are not waited for: how many are left the shard knows.
            cardinality: 1,
            uniform: gang.uniformity.as_ref().map(|label| super::ordinal(&self.labels, label)),
        };
        self.gangs.iter().map(input).collect()
    }

    /// The values that groups of nodes have of the labels, as numbers.
    pub(super) fn labels(&self, groups: &[Group]) -> Vec<Vec<Option<u32>>> {
        let values = |label: &&Name| {
            let value = |group: &Group| group.labels.get(*label).cloned();
            let known: BTreeSet<Name> = groups.iter().filter_map(value).collect();
            let known: BTreeMap<Name, u32> = known.into_iter().zip(0..).collect();
            groups.iter().map(|group| known.get(&value(group)?).copied()).collect()
        };
        self.labels.iter().map(values).collect()
    }
}

/// How many jobs the largest gang has.
pub(super) fn largest(problem: &Problem) -> u64 {
    let mut largest = 0;
    for queue in &problem.queues {
        let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
        for run in &queue.runs {
            if let Some(gang) = problem.shapes[run.shape as usize].gang {
                *sums.entry(gang).or_default() += run.count;
            }
        }
        largest = largest.max(sums.into_values().max().unwrap_or_default());
    }
    largest
}

/// What was placed, in parts that go as a whole: gangs, and jobs by themselves.
pub(super) fn units(problem: &Problem, plan: &Plan) -> (Vec<Vec<Pick>>, Vec<Vec<Pick>>) {
    let mut gangs: BTreeMap<(u32, u32), Vec<Pick>> = BTreeMap::new();
    let mut singles = Vec::new();
    for pick in &plan.picks {
        match problem.shapes[pick.shape as usize].gang {
            Some(gang) => gangs.entry((pick.queue, gang)).or_default().push(*pick),
            None => singles.push(vec![*pick]),
        }
    }
    (gangs.into_values().collect(), singles)
}
