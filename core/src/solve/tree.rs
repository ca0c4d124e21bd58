//! Fair shares of queues that stand in a tree: what a group does not need is first for those beside
//! it, and then for others.
//!
//! Progressive filling of divisible demand, as in [`super::fair_shares`], in which each group hands
//! its rate on to those of its children that still rise, in proportion to their weights. A queue
//! that has stopped counts no longer, so none is kept back by what another of its group holds of a
//! resource that is used up: the starvation of naive hierarchical DRF (Bhattacharya et al., SoCC
//! 2013) cannot happen. Nothing here decides a placement.

use super::ratio::Part;
use super::shares::Share;

/// What has groups and queues below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// In thousandths, more than 0.
    pub weight: u64,
    /// The group that it stands in, which comes before it; none at the top.
    pub parent: Option<u32>,
}

/// A queue in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// In thousandths, more than 0.
    pub weight: u64,
    /// The group that it stands in; none at the top.
    pub parent: Option<u32>,
    /// What it holds and has waiting, by resource.
    pub demand: Vec<i64>,
}

/// Shares that differ by less are equal.
const EPSILON: f64 = 1e-12;

/// A queue on its way up.
struct Rising {
    share: f64,
    /// Its dominant share when its demand is met.
    demand: f64,
    /// By resource: the part of the pool that it takes for each unit of its dominant share.
    mix: Vec<f64>,
    rises: bool,
}

/// The fair share of each queue of a pool that has `total`.
///
/// # Panics
/// When a weight is 0, a demand does not name every resource, or a group stands before its parent.
pub fn fair_shares_in_tree(total: &[i64], groups: &[Group], queues: &[Leaf]) -> Vec<Share> {
    let weights = groups.iter().map(|group| group.weight).chain(queues.iter().map(|q| q.weight));
    assert!(weights.into_iter().all(|weight| weight > 0), "a weight is more than 0");
    let comes_later = |(at, group): (u32, &Group)| group.parent.is_none_or(|parent| parent < at);
    assert!((0..).zip(groups).all(comes_later), "a parent comes before its children");
    let mut rising: Vec<Rising> = queues.iter().map(|queue| rising(total, &queue.demand)).collect();
    let mut left = vec![1.0_f64; total.len()];
    while rising.iter().any(|queue| queue.rises) {
        let rates = rates(groups, queues, &rising);
        rise(&mut rising, &rates, &mut left);
    }
    let share = |queue: Rising| Share { ideal: queue.share.min(1.0), demand: queue.demand };
    rising.into_iter().map(share).collect()
}

fn rising(total: &[i64], demand: &[i64]) -> Rising {
    assert_eq!(demand.len(), total.len(), "a demand names every resource");
    let most = Part::dominant(total, demand.iter().copied()).to_f64();
    let mix = total.iter().zip(demand).map(|(&total, &amount)| {
        let is_there = total > 0 && most > 0.0;
        if is_there { amount.max(0) as f64 / total as f64 / most } else { 0.0 }
    });
    Rising { share: 0.0, demand: most, mix: mix.collect(), rises: most > 0.0 }
}

/// How fast each queue rises: all of them together by 1.
fn rates(groups: &[Group], queues: &[Leaf], rising: &[Rising]) -> Vec<f64> {
    // The last one is the top.
    let top = groups.len();
    let place = |parent: Option<u32>| parent.map_or(top, |parent| parent as usize);
    let mut below = vec![0.0; groups.len() + 1];
    for (queue, _) in queues.iter().zip(rising).filter(|(_, rising)| rising.rises) {
        below[place(queue.parent)] += queue.weight as f64;
    }
    // Children come after their parents.
    for (at, group) in groups.iter().enumerate().rev() {
        if below[at] > 0.0 {
            below[place(group.parent)] += group.weight as f64;
        }
    }
    let mut of_group = vec![0.0; groups.len() + 1];
    of_group[top] = 1.0;
    let part = |of_group: &[f64], weight: u64, parent: Option<u32>| {
        let parent = place(parent);
        of_group[parent] * weight as f64 / below[parent]
    };
    for (at, group) in groups.iter().enumerate() {
        if below[at] > 0.0 {
            of_group[at] = part(&of_group, group.weight, group.parent);
        }
    }
    let rate = |(queue, rising): (&Leaf, &Rising)| match rising.rises {
        true => part(&of_group, queue.weight, queue.parent),
        false => 0.0,
    };
    queues.iter().zip(rising).map(rate).collect()
}

/// Raises the queues until the demand of one is met or a resource is used up, and stops whom that
/// concerns.
fn rise(rising: &mut [Rising], rates: &[f64], left: &mut [f64]) {
    let mut taken = vec![0.0; left.len()];
    for (queue, rate) in rising.iter().zip(rates) {
        taken.iter_mut().zip(&queue.mix).for_each(|(taken, mix)| *taken += rate * mix);
    }
    let met = rising.iter().zip(rates).filter(|(_, rate)| **rate > 0.0);
    let met = met.map(|(queue, rate)| (queue.demand - queue.share) / rate);
    let used_up = left.iter().zip(&taken).filter(|(_, taken)| **taken > 0.0);
    let used_up = used_up.map(|(left, taken)| left.max(0.0) / taken);
    let time = met.chain(used_up).fold(f64::INFINITY, f64::min);
    left.iter_mut().zip(&taken).for_each(|(left, taken)| *left -= taken * time);
    let gone: Vec<bool> =
        left.iter().zip(&taken).map(|(left, taken)| *taken > 0.0 && *left <= EPSILON).collect();
    let mut stopped = false;
    for (queue, rate) in rising.iter_mut().zip(rates).filter(|(queue, _)| queue.rises) {
        queue.share += rate * time;
        let is_met = queue.demand - queue.share <= EPSILON * queue.demand.max(1.0);
        let is_blocked = queue.mix.iter().zip(&gone).any(|(mix, gone)| *gone && *mix > 0.0);
        queue.rises = !is_met && !is_blocked;
        stopped |= !queue.rises;
    }
    if !stopped {
        // What is left is less than floating point can tell.
        rising.iter_mut().for_each(|queue| queue.rises = false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::fair_shares;
    use super::*;

    fn leaf(weight: u64, parent: Option<u32>, demand: &[i64]) -> Leaf {
        Leaf { weight, parent, demand: demand.to_vec() }
    }

    fn top(weight: u64) -> Group {
        Group { weight, parent: None }
    }

    fn ideals(total: &[i64], groups: &[Group], queues: &[Leaf]) -> Vec<f64> {
        let shares = fair_shares_in_tree(total, groups, queues);
        shares.iter().map(|share| (share.ideal * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn a_team_has_its_share_however_many_queues_it_has() {
        let groups = [top(1), top(1)];
        let queues = [leaf(1, Some(0), &[100]), leaf(1, Some(0), &[100]), leaf(1, Some(1), &[100])];
        assert_eq!(ideals(&[100], &groups, &queues), [0.25, 0.25, 0.5]);
        let groups = [top(3), top(1)];
        let queues = [leaf(2, Some(0), &[100]), leaf(1, Some(0), &[100]), leaf(1, Some(1), &[100])];
        assert_eq!(ideals(&[100], &groups, &queues), [0.5, 0.25, 0.25]);
    }

    #[test]
    fn what_one_does_not_need_is_for_its_team_first() {
        let groups = [top(1), top(1)];
        let queues = [leaf(1, Some(0), &[10]), leaf(1, Some(0), &[100]), leaf(1, Some(1), &[100])];
        assert_eq!(ideals(&[100], &groups, &queues), [0.1, 0.4, 0.5]);
        // And then for others.
        let queues = [leaf(1, Some(0), &[10]), leaf(1, Some(0), &[15]), leaf(1, Some(1), &[100])];
        assert_eq!(ideals(&[100], &groups, &queues), [0.1, 0.15, 0.75]);
        let alone = [leaf(1, Some(0), &[0]), leaf(1, Some(1), &[100])];
        assert_eq!(ideals(&[100], &groups, &alone), [0.0, 1.0]);
    }

    #[test]
    fn nobody_starves_beside_a_sibling_that_wants_something_else() {
        // Of the first team one wants cpu, one wants memory; the second wants cpu. Compared by what
        // teams hold together, the first would be held back by its memory for ever.
        let groups = [top(1), top(1)];
        let queues =
            [leaf(1, Some(0), &[100, 0]), leaf(1, Some(0), &[0, 100]), leaf(1, Some(1), &[100, 0])];
        let shares = ideals(&[100, 100], &groups, &queues);
        assert_eq!(shares, [0.333_333, 1.0, 0.666_667]);
    }

    #[test]
    fn groups_stand_in_groups() {
        let groups = [
            top(1),
            top(1),
            Group { weight: 1, parent: Some(0) },
            Group { weight: 3, parent: Some(0) },
        ];
        let queues = [
            leaf(1, Some(2), &[100]),
            leaf(1, Some(3), &[100]),
            leaf(1, Some(1), &[100]),
            leaf(2, None, &[100]),
        ];
        assert_eq!(ideals(&[100], &groups, &queues), [0.0625, 0.1875, 0.25, 0.5]);
    }

    fn leaves() -> impl Strategy<Value = Vec<(u64, Option<u32>, Vec<i64>)>> {
        vec((1..5_000u64, prop::option::of(0..4u32), vec(0..200i64, 2)), 1..12)
    }

    fn groups() -> Vec<Group> {
        vec![top(1000), top(2000), Group { weight: 500, parent: Some(0) }, top(700)]
    }

    proptest! {
        #[test]
        fn a_tree_without_groups_is_none(queues in leaves()) {
            let total = [100, 130];
            let flat: Vec<(u64, Vec<i64>)> =
                queues.iter().map(|(weight, _, demand)| (*weight, demand.clone())).collect();
            let leaves: Vec<Leaf> =
                queues.iter().map(|(weight, _, demand)| leaf(*weight, None, demand)).collect();
            let expected = fair_shares(&total, &flat);
            let shares = fair_shares_in_tree(&total, &[], &leaves);
            for (share, expected) in shares.iter().zip(expected) {
                prop_assert!((share.ideal - expected.ideal).abs() < 1e-9, "{share:?} {expected:?}");
                prop_assert_eq!(share.demand, expected.demand);
            }
        }

        #[test]
        fn nobody_has_less_than_its_part_of_its_part_and_nothing_is_given_twice(
            queues in leaves(),
        ) {
            let (total, groups) = ([100, 130], groups());
            let leaves: Vec<Leaf> =
                queues.iter().map(|(weight, at, demand)| leaf(*weight, *at, demand)).collect();
            let shares = fair_shares_in_tree(&total, &groups, &leaves);
            let all: Vec<Rising> = leaves.iter().map(|leaf| {
                let rising = rising(&total, &leaf.demand);
                // As if everybody asked for ever.
                Rising { rises: true, ..rising }
            }).collect();
            let parts = rates(&groups, &leaves, &all);
            for ((share, part), rising) in shares.iter().zip(parts).zip(&all) {
                prop_assert!(share.ideal >= part.min(share.demand) - 1e-9, "{share:?} {part}");
                prop_assert!(share.ideal <= rising.demand + 1e-9);
            }
            for resource in 0..total.len() {
                let used = shares.iter().zip(&all);
                let used = used.map(|(share, all)| share.ideal * all.mix[resource]);
                prop_assert!(used.sum::<f64>() <= 1.0 + 1e-9);
            }
        }
    }
}
