//! The solver's meaning in its plainest form: one job at a time, every queue and node looked at.

use std::cmp::Ordering;

use crate::solve::{Pick, Plan, Problem, QueueIn, Reason, Unplaced};

/// Fills one job at a time. Reasons are not worked out: all are `NoRoomNow`.
pub(super) fn one_at_a_time(problem: &Problem) -> Plan {
    let mut plan = Plan::default();
    let mut free: Vec<Vec<i64>> = problem.nodes.iter().map(|node| node.free.clone()).collect();
    let counted = |queue: &QueueIn| {
        let charged = queue.charged.iter().chain(std::iter::repeat(&0));
        queue.allocated.iter().zip(charged).map(|(held, charged)| held + charged).collect()
    };
    let mut held: Vec<Vec<i64>> = problem.queues.iter().map(counted).collect();
    let mut caps: Vec<Vec<i64>> = problem.caps.iter().map(|cap| cap.left.clone()).collect();
    let mut placed = vec![0; problem.queues.len()];
    let mut left: Vec<Vec<u64>> = problem
        .queues
        .iter()
        .map(|queue| queue.runs.iter().map(|run| run.count).collect())
        .collect();
    while plan.figures.placed < problem.picks_max {
        let mut next: Option<(u32, u32, u32)> = None;
        for (queue, input) in problem.queues.iter().enumerate() {
            let candidate = input.runs.iter().enumerate().find_map(|(run, input)| {
                let waits = left[queue][run] > 0
                    && problem.queues[queue].picks_max.is_none_or(|max| placed[queue] < max)
                    && caps_of(problem, queue, input.shape).all(|cap| {
                        let request = &problem.shapes[input.shape as usize].request;
                        caps[cap]
                            .iter()
                            .zip(request)
                            .all(|(left, asked)| *asked == 0 || asked <= left)
                    });
                let node = if waits { best_node(problem, &free, input.shape) } else { None };
                node.map(|node| (queue as u32, run as u32, node))
            });
            let class = |queue: u32, run: u32| {
                problem.priority_of(problem.queues[queue as usize].runs[run as usize].shape)
            };
            let lower = |other: u32| {
                let own = (queue as u32, held[queue].as_slice());
                !not_ahead(problem, (other, &held[other as usize]), own)
            };
            let goes_before =
                |(queue, run, _): (u32, u32, u32), other: (u32, u32, u32)| match class(queue, run)
                    .cmp(&class(other.0, other.1))
                {
                    Ordering::Greater => true,
                    Ordering::Equal => lower(other.0),
                    Ordering::Less => false,
                };
            if candidate.is_some_and(|own| next.is_none_or(|other| goes_before(own, other))) {
                next = candidate;
            }
        }
        let Some((queue, run, node)) = next else { break };
        let shape = problem.queues[queue as usize].runs[run as usize].shape;
        let request = &problem.shapes[shape as usize].request;
        for (resource, amount) in request.iter().enumerate() {
            free[node as usize][resource] -= amount;
            held[queue as usize][resource] += amount;
        }
        for cap in caps_of(problem, queue as usize, shape) {
            let left = caps[cap].iter_mut().zip(request).filter(|(left, _)| **left < i64::MAX);
            left.for_each(|(left, amount)| *left -= amount);
        }
        placed[queue as usize] += 1;
        left[queue as usize][run as usize] -= 1;
        plan.picks.push(Pick { queue, run, shape, node, count: 1 });
        plan.figures.placed += 1;
    }
    for (queue, left) in left.iter().enumerate() {
        for (run, &count) in left.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (queue, run) = (queue as u32, run as u32);
            plan.unplaced.push(Unplaced { queue, run, runs: 1, count, reason: Reason::NoRoomNow });
        }
    }
    plan
}

fn caps_of(problem: &Problem, queue: usize, shape: u32) -> impl Iterator<Item = usize> {
    let class = problem.shapes[shape as usize].class;
    let caps = problem.queues[queue].caps.iter();
    caps.filter(move |(of, _)| of.is_none_or(|of| of == class)).map(|(_, cap)| *cap as usize)
}

/// Whether a node of `group` with `free` takes one job of the shape.
pub(super) fn holds(problem: &Problem, shape: u32, group: u32, free: &[i64]) -> bool {
    let request = &problem.shapes[shape as usize].request;
    problem.admits[shape as usize][group as usize]
        && (0..request.len())
            .all(|resource| request[resource] == 0 || free[resource] >= request[resource])
}

/// Whether the first queue's weighted dominant share is not more than the second's.
pub(super) fn not_ahead(problem: &Problem, a: (u32, &[i64]), b: (u32, &[i64])) -> bool {
    let weight = |queue: u32| i128::from(problem.queues[queue as usize].weight);
    let resources = || (0..problem.total.len()).filter(|r| problem.total[*r] > 0);
    let total = |resource: usize| i128::from(problem.total[resource]);
    resources().all(|r| {
        a.1[r] == 0
            || resources().any(|s| {
                // a_r / (total_r * weight_a) <= b_s / (total_s * weight_b)
                i128::from(a.1[r]) * total(s) * weight(b.0)
                    <= i128::from(b.1[s]) * total(r) * weight(a.0)
            })
    })
}

fn best_node(problem: &Problem, free: &[Vec<i64>], shape: u32) -> Option<u32> {
    let request = &problem.shapes[shape as usize].request;
    let mut dominant = 0;
    let mut most = (0, 1);
    for (resource, (&amount, &total)) in request.iter().zip(&problem.total).enumerate() {
        if total > 0 && i128::from(amount) * most.1 > most.0 * i128::from(total) {
            dominant = resource;
            most = (i128::from(amount), i128::from(total));
        }
    }
    let holding = (0..problem.nodes.len() as u32).filter(|&node| {
        let group = problem.nodes[node as usize].group;
        let is_open = !problem.nodes[node as usize].is_closed;
        is_open && holds(problem, shape, group, &free[node as usize])
    });
    let left = |node: &u32| free[*node as usize].get(dominant).copied();
    match problem.shapes[shape as usize].spreads {
        // Of equals the last.
        true => holding.max_by_key(left),
        // Of equals the first.
        false => holding.min_by_key(left),
    }
}
