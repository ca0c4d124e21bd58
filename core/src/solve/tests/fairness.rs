//! C, D, E: shares against what weighted dominant-resource fairness is, not against how it is
//! worked out here. And L: reasons that are given are true.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::{Claims, claims, cluster, queue, solve};

/// How much two shares may differ and count as equal.
const CLOSE: f64 = 1e-9;

/// By resource, the part of the pool that queues with these shares take.
fn used((total, queues): &Claims, shares: &[Share]) -> Vec<Vec<f64>> {
    let of = |(_, demand): &(u64, Vec<i64>), share: &Share| {
        let part = |(demand, total): (&i64, &i64)| match (share.demand > 0.0, *total > 0) {
            (true, true) => *demand as f64 / *total as f64 * share.ideal / share.demand,
            _ => 0.0,
        };
        demand.iter().zip(total).map(part).collect()
    };
    queues.iter().zip(shares).map(|(queue, share)| of(queue, share)).collect()
}

fn sums(used: &[Vec<f64>], resources: usize) -> Vec<f64> {
    (0..resources).map(|resource| used.iter().map(|part| part[resource]).sum()).collect()
}

/// Weighted DRF in its plainest form: the level rises in small steps, and who cannot take a step
/// stops. Exact to a step for each queue.
fn in_small_steps((total, queues): &Claims, steps: u32) -> Vec<f64> {
    let parts: Vec<Vec<f64>> = queues
        .iter()
        .map(|(_, demand)| {
            let part = |(d, t): (&i64, &i64)| if *t > 0 { *d as f64 / *t as f64 } else { 0.0 };
            demand.iter().zip(total).map(part).collect()
        })
        .collect();
    let dominant = |parts: &Vec<f64>| parts.iter().copied().fold(0.0, f64::max);
    let heaviest = queues.iter().map(|(weight, _)| *weight).max().unwrap_or(1) as f64;
    let mut shares = vec![0.0; queues.len()];
    let mut left = vec![1.0; total.len()];
    let mut rises: Vec<bool> = parts.iter().map(|parts| dominant(parts) > 0.0).collect();
    while rises.contains(&true) {
        for (queue, (weight, _)) in queues.iter().enumerate() {
            if !rises[queue] {
                continue;
            }
            let all = dominant(&parts[queue]);
            let step = (*weight as f64 / heaviest / f64::from(steps)).min(all - shares[queue]);
            let takes: Vec<f64> = parts[queue].iter().map(|part| part / all * step).collect();
            let fits = left.iter().zip(&takes).all(|(left, takes)| *takes <= *left + 1e-12);
            if step <= 1e-12 || !fits {
                rises[queue] = false;
                continue;
            }
            shares[queue] += step;
            left.iter_mut().zip(&takes).for_each(|(left, takes)| *left -= takes);
        }
    }
    shares
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    })]

    #[test]
    fn c_fair_shares_are_those_of_rising_in_small_steps(mut claims in claims()) {
        const STEPS: u32 = 1_000;
        // Of queues whose needs differ without bound, a step of one may be many of another.
        for (weight, demand) in &mut claims.1 {
            *weight = *weight % 5 + 1;
            let needs = demand.iter_mut().filter(|demand| **demand > 0);
            needs.for_each(|demand| *demand = *demand % 1_000 + 500);
        }
        claims.0.iter_mut().for_each(|total| *total = if *total > 0 { *total + 500 } else { 0 });
        let shares = fair_shares(&claims.0, &claims.1);
        let close = 20.0 * claims.1.len().max(1) as f64 / f64::from(STEPS);
        for (share, stepped) in shares.iter().zip(in_small_steps(&claims, STEPS)) {
            prop_assert!((share.ideal - stepped.min(1.0)).abs() <= close, "{share:?} {stepped}");
        }
    }

    #[test]
    fn c_whoever_wants_more_is_held_up_by_a_resource_of_which_nobody_has_a_larger_share(
        claims in claims()
    ) {
        let shares = fair_shares(&claims.0, &claims.1);
        let used = used(&claims, &shares);
        let sums = sums(&used, claims.0.len());
        let level = |queue: usize| shares[queue].ideal / claims.1[queue].0 as f64;
        for queue in 0..shares.len() {
            if shares[queue].ideal >= shares[queue].demand - CLOSE {
                continue;
            }
            let holds_up = |resource: &usize| {
                let others = (0..shares.len()).filter(|other| used[*other][*resource] > CLOSE);
                used[queue][*resource] > 0.0
                    && sums[*resource] >= 1.0 - CLOSE
                    && others.into_iter().all(|other| level(other) <= level(queue) + CLOSE)
            };
            prop_assert!((0..sums.len()).any(|resource| holds_up(&resource)), "queue {queue}");
        }
    }

    #[test]
    fn c_placed_jobs_are_within_one_job_of_each_queue_of_the_fair_shares(
        total in vec(1_000_i64..2_000, 1..4),
        queues in vec((1_u64..6, vec(4_i64..9, 3), 0_u64..300), 1..6),
    ) {
        // One node of everything, so that only shares decide; each queue has jobs of its own shape.
        // What one job of one queue leaves of one resource may be several of another's.
        let shapes: Vec<Vec<i64>> = queues
            .iter()
            .map(|(_, request, _)| {
                request[..total.len()].to_vec()
            })
            .collect();
        let requests: Vec<&[i64]> = shapes.iter().map(Vec::as_slice).collect();
        let with_work = (0..).zip(&queues);
        let with_work = with_work.map(|(shape, (weight, _, count))| {
            queue(*weight, &[(shape, *count)])
        });
        let problem = cluster(&total, &requests, with_work.collect(), &[&total]);
        let demands: Vec<(u64, Vec<i64>)> = queues
            .iter()
            .zip(&shapes)
            .map(|((weight, _, count), request)| {
                (*weight, request.iter().map(|amount| amount * *count as i64).collect())
            })
            .collect();
        let one_each: f64 = shapes.iter().map(|request| dominant_share(&total, request)).sum();
        let placed = super::placed_by_queue(&solve(&problem), queues.len());
        for ((share, placed), request) in
            fair_shares(&total, &demands).iter().zip(placed).zip(&shapes)
        {
            let held: Vec<i64> = request.iter().map(|amount| amount * placed as i64).collect();
            let actual = dominant_share(&total, &held);
            prop_assert!(
                (actual - share.ideal).abs() <= 4.0 * one_each,
                "{actual} is not {}, one job of each is {one_each}", share.ideal
            );
        }
    }

    #[test]
    fn d_nobody_has_less_than_his_part_of_a_divided_pool(claims in claims()) {
        let weights: u64 = claims.1.iter().map(|(weight, _)| *weight).sum();
        for (share, (weight, _)) in fair_shares(&claims.0, &claims.1).iter().zip(&claims.1) {
            let own_part = *weight as f64 / weights as f64;
            prop_assert!(share.ideal >= own_part.min(share.demand) - CLOSE, "{share:?}");
        }
    }

    #[test]
    fn e_nobody_would_rather_have_what_another_has(claims in claims()) {
        let shares = fair_shares(&claims.0, &claims.1);
        let used = used(&claims, &shares);
        for (own, (own_weight, demand)) in claims.1.iter().enumerate() {
            if shares[own].ideal >= shares[own].demand - CLOSE {
                continue;
            }
            for (other, (other_weight, _)) in claims.1.iter().enumerate() {
                // What the other has, at one's own weight, is no more of something that one needs.
                let scale = *own_weight as f64 / *other_weight as f64;
                let mut needed = demand.iter().zip(&claims.0).enumerate();
                let is_no_better = needed.any(|(resource, (demand, total))| {
                    *demand > 0
                        && *total > 0
                        && used[other][resource] * scale <= used[own][resource] + CLOSE
                });
                prop_assert!(own == other || is_no_better, "{own} envies {other}");
            }
        }
    }

    #[test]
    fn l_what_is_named_as_the_reason_is_the_reason(problem in super::rich::problems()) {
        let plan = solve(&problem);
        for rest in &plan.unplaced {
            let shape = problem.queues[rest.queue as usize].runs[rest.run as usize].shape;
            let mut without = problem.clone();
            match rest.reason {
                Reason::Cap(cap) => {
                    without.caps[cap as usize].left.iter_mut().for_each(|left| *left = i64::MAX);
                }
                Reason::Rate => without.queues[rest.queue as usize].picks_max = None,
                Reason::Budget => without.picks_max = u64::MAX,
                Reason::NoRoomNow | Reason::NeverFits => {
                    // A node for each of its jobs that admits nobody else.
                    let group = without.groups;
                    without.groups += 1;
                    for (number, row) in (0..).zip(&mut without.admits) {
                        row.push(number == shape);
                    }
                    without.picks_max = u64::MAX;
                    let free = problem.total.iter().map(|_| 1 << 40).collect();
                    let node = NodeIn { group, free, ..NodeIn::default() };
                    without.nodes.push(node);
                    without.total.iter_mut().for_each(|total| *total = (*total).max(1 << 20));
                }
                Reason::Claimed | Reason::GangIncomplete(_) => continue,
            }
            let again = solve(&without).unplaced.into_iter();
            let is_same = |other: &Unplaced| (other.queue, other.run) == (rest.queue, rest.run);
            let mut again = again.filter(is_same);
            prop_assert!(again.all(|other| other.reason != rest.reason), "{rest:?}");
        }
    }
}
