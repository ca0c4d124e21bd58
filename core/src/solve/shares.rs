//! Reported shares: what a queue holds, and what it should hold. Nothing here decides a placement.

use super::ratio::{Level, Part};

/// A queue's shares of a pool by its demand.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Share {
    /// The dominant share that weights and demands entitle it to, in 0..=1: never more than
    /// `demand`.
    pub ideal: f64,
    /// The dominant share that all it holds and has waiting would take: above 1 when the whole pool
    /// could not hold it.
    pub demand: f64,
}

/// The largest part that `allocated` is of `total`, over the resources of which there is any: in
/// 0..=1 while no more is allocated than there is.
pub fn dominant_share(total: &[i64], allocated: &[i64]) -> f64 {
    Part::dominant(total, allocated.iter().copied()).to_f64()
}

/// The fair share of each of `queues`, given as weight in thousandths and demand by resource (what
/// it holds and has waiting), of a pool that has `total`.
///
/// Progressive filling of divisible demand: all queues rise together, each in proportion to its
/// weight and along the mix of resources that it demands; a queue stops when its demand is met or
/// when a resource that it demands is used up, and the others go on.
///
/// # Panics
/// When a weight is 0 or a demand does not name every resource.
pub fn fair_shares(total: &[i64], queues: &[(u64, Vec<i64>)]) -> Vec<Share> {
    let mut shares = vec![Share::default(); queues.len()];
    let mut rising = Vec::new();
    for (queue, (weight, demand)) in queues.iter().enumerate() {
        assert!(*weight > 0, "a weight is more than 0");
        assert_eq!(demand.len(), total.len(), "a demand names every resource");
        let met_at = Part::dominant(total, demand.iter().copied());
        shares[queue].demand = met_at.to_f64();
        if shares[queue].demand > 0.0 {
            rising.push(Rising::new(queue, *weight, total, demand, met_at));
        }
    }
    rising.sort_by_key(|claim| (claim.met_at, claim.queue));
    let mut left = vec![1.0; total.len()];
    while !rising.is_empty() {
        rising = fill_until_one_is_used_up(rising, &mut left, &mut shares);
    }
    shares
}

/// A queue that still rises.
struct Rising {
    queue: usize,
    weight: f64,
    /// Its dominant share when its demand is met.
    demand: f64,
    /// The level (dominant share by weight) at which its demand is met: exact, for the order.
    met_at: Level,
    /// By resource: the part of the pool that it takes for each unit of its dominant share.
    mix: Vec<f64>,
}

impl Rising {
    fn new(queue: usize, weight: u64, total: &[i64], demand: &[i64], met: Part) -> Rising {
        let mix = total.iter().zip(demand).map(|(&total, &amount)| {
            if total > 0 { (amount.max(0) as f64 / total as f64) / met.to_f64() } else { 0.0 }
        });
        Rising {
            queue,
            weight: weight as f64,
            demand: met.to_f64(),
            met_at: met.per(weight),
            mix: mix.collect(),
        }
    }
}

/// Raises the level until a resource is used up or all demand is met, and returns who rises on:
/// those that do not want the used-up resource. `rising` is in the order in which demands are met.
fn fill_until_one_is_used_up(
    rising: Vec<Rising>,
    left: &mut [f64],
    shares: &mut [Share],
) -> Vec<Rising> {
    let rates = rates_from(&rising, left.len());
    for (position, claim) in rising.iter().enumerate() {
        let first_used_up = (0..left.len())
            .filter(|&resource| rates[position][resource] > 0.0)
            .map(|resource| (left[resource].max(0.0) / rates[position][resource], resource))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((level, resource)) = first_used_up
            && level < claim.demand / claim.weight
        {
            return stop_at(rising, position, level, resource, left, shares);
        }
        // Met demand is taken from what is left, and the rate is that of the claims after it.
        // Adding up rates from the end instead of subtracting from their sum keeps small claims
        // exact.
        settle(claim, claim.demand, left, shares);
    }
    Vec::new()
}

/// By position and resource: what all claims from that position on take per unit of level.
fn rates_from(rising: &[Rising], resources: usize) -> Vec<Vec<f64>> {
    let mut sum = vec![0.0; resources];
    let mut rates: Vec<Vec<f64>> = rising
        .iter()
        .rev()
        .map(|claim| {
            for (sum, mix) in sum.iter_mut().zip(&claim.mix) {
                *sum += claim.weight * mix;
            }
            sum.clone()
        })
        .collect();
    rates.reverse();
    rates
}

/// Settles every claim from `position` on that wants the used-up `resource` at `level`.
fn stop_at(
    rising: Vec<Rising>,
    position: usize,
    level: f64,
    resource: usize,
    left: &mut [f64],
    shares: &mut [Share],
) -> Vec<Rising> {
    let (stopped, go_on): (Vec<Rising>, Vec<Rising>) =
        rising.into_iter().skip(position).partition(|claim| claim.mix[resource] > 0.0);
    for claim in &stopped {
        settle(claim, (level * claim.weight).min(claim.demand), left, shares);
    }
    go_on
}

fn settle(claim: &Rising, share: f64, left: &mut [f64], shares: &mut [Share]) {
    shares[claim.queue].ideal = share.min(1.0);
    for (left, mix) in left.iter_mut().zip(&claim.mix) {
        *left -= share * mix;
    }
}
