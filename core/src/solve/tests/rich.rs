//! Properties of problems with everything in them: classes, limits, charges, room on its way, jobs
//! that may be preempted, overdue jobs, closed nodes.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::{reference, solve};

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1024)
    })]

    #[test]
    fn a_nothing_is_placed_or_promised_that_is_not_there(problem in problems()) {
        let plan = solve(&problem);
        for (number, node) in problem.nodes.iter().enumerate() {
            let number = number as u32;
            let picked = picked_on(&problem, &plan, number, |_| true);
            let picks = plan.picks.iter().filter(|pick| pick.node == number).count();
            prop_assert!(picks == 0 || !node.is_closed);
            for (free, picked) in node.free.iter().zip(&picked) {
                prop_assert!(*picked == 0 || picked <= free, "node {number} is over-committed");
            }
            // What is kept need not be there; what is claimed otherwise must come.
            let comes = room_to_come(&problem, &plan, number);
            let is_kept = claims_on(&plan, number).any(|c| c.from == ClaimedFrom::Keeping);
            let claimed = claimed_on(&problem, &plan, number);
            for ((come, picked), claimed) in comes.iter().zip(&picked).zip(&claimed) {
                prop_assert!(is_kept || *claimed == 0 || picked + claimed <= *come);
            }
        }
        for pick in &plan.picks {
            let group = problem.nodes[pick.node as usize].group;
            prop_assert!(problem.admits[pick.shape as usize][group as usize]);
        }
        for claim in &plan.claims {
            let group = problem.nodes[claim.node as usize].group;
            let shape = shape_of(&problem, claim.queue, claim.run);
            prop_assert!(problem.admits[shape as usize][group as usize]);
        }
    }

    #[test]
    fn b_every_job_is_placed_claimed_or_refused_for_a_reason_that_holds(problem in problems()) {
        let plan = solve(&problem);
        let mut accounted = BTreeMap::new();
        let picks = plan.picks.iter().map(|pick| (pick.queue, pick.run, pick.count));
        let rests = plan.unplaced.iter().map(|rest| (rest.queue, rest.run, rest.count));
        for (queue, run, count) in picks.chain(rests) {
            *accounted.entry((queue, run)).or_default() += count;
        }
        for (queue, run, input) in runs(&problem) {
            let found: u64 = accounted.get(&(queue, run)).copied().unwrap_or_default();
            prop_assert_eq!(found, input.count);
        }
        let budget_used = plan.figures.placed == problem.picks_max;
        for rest in &plan.unplaced {
            let shape = shape_of(&problem, rest.queue, rest.run);
            let claimed = plan.claims.iter().filter(|c| (c.queue, c.run) == (rest.queue, rest.run));
            let claimed: u64 = claimed.map(|claim| claim.count).sum();
            let placed = placed_of(&plan, rest.queue);
            match rest.reason {
                Reason::Budget => prop_assert!(budget_used),
                Reason::Rate => {
                    prop_assert_eq!(Some(placed), problem.queues[rest.queue as usize].picks_max);
                }
                Reason::Cap(cap) => {
                    let left = left_under(&problem, &plan, cap);
                    let mut asked = left.iter().zip(problem.request_of(shape));
                    prop_assert!(asked.any(|(left, asked)| *asked > 0 && left < asked));
                }
                Reason::Claimed => prop_assert_eq!(rest.count, claimed),
                Reason::GangIncomplete(_) => prop_assert!(false, "there are no gangs"),
                Reason::NoRoomNow | Reason::NeverFits => {
                    prop_assert!(!fits_somewhere(&problem, &plan, shape), "{rest:?}");
                }
            }
        }
    }

    #[test]
    fn f_nothing_of_a_lower_class_is_placed_where_a_waiting_higher_one_would_fit(
        problem in problems()
    ) {
        let plan = solve(&problem);
        for rest in plan.unplaced.iter().filter(|rest| rest.reason == Reason::NoRoomNow) {
            let shape = shape_of(&problem, rest.queue, rest.run);
            let priority = problem.priority_of(shape);
            for (number, node) in problem.nodes.iter().enumerate().filter(|(_, n)| !n.is_closed) {
                let lower = picked_on(&problem, &plan, number as u32, |pick| {
                    problem.priority_of(pick.shape) < priority
                });
                if lower.iter().all(|amount| *amount == 0) {
                    continue;
                }
                let mut room = free_after(&problem, &plan, number as u32);
                room.iter_mut().zip(&lower).for_each(|(room, lower)| *room += lower);
                prop_assert!(!reference::holds(&problem, shape, node.group, &room), "{rest:?}");
            }
        }
    }

    #[test]
    fn g_whoever_goes_makes_room_for_somebody_more_entitled(problem in problems()) {
        let plan = solve(&problem);
        let mut gone: BTreeMap<u32, u64> = BTreeMap::new();
        let demands: Vec<_> =
            problem.queues.iter().map(|queue| (queue.weight, queue.demand.clone())).collect();
        let shares = fair_shares(&problem.total, &demands);
        for preemption in &plan.preemptions {
            *gone.entry(preemption.running).or_default() += preemption.count;
            let victim = problem.running[preemption.running as usize];
            let claim = plan.claims[preemption.claim as usize];
            prop_assert_eq!(claim.from, ClaimedFrom::Preempting);
            prop_assert_eq!(victim.node, claim.node);
            let claimant = problem.priority_of(shape_of(&problem, claim.queue, claim.run));
            let of_victim = problem.priority_of(victim.shape);
            match preemption.cause {
                Cause::Urgency => prop_assert!(of_victim < claimant),
                Cause::Fairness => {
                    prop_assert!(of_victim == claimant && victim.queue != claim.queue);
                    let had = at_least_held(&problem, &plan, claim.queue, preemption.claim);
                    let fair = shares[claim.queue as usize].ideal;
                    prop_assert!(dominant_share(&problem.total, &had) <= fair + 1e-9);
                    // Its queue keeps what is protected of its share.
                    let left = held_but_for_fairness(&problem, &plan, victim.queue);
                    let share = dominant_share(&problem.total, &left);
                    let protected = shares[victim.queue as usize].ideal
                        * problem.protected as f64 / 1_000.0;
                    prop_assert!(share >= protected - 1e-9, "{share} of {protected}");
                }
            }
        }
        for (running, count) in &gone {
            prop_assert!(*count <= problem.running[*running as usize].count);
        }
        prop_assert!(gone.values().sum::<u64>() <= problem.preemptions_max);
    }

    #[test]
    fn g_nobody_goes_for_nothing(problem in problems()) {
        let plan = solve(&problem);
        for (number, claim) in (0..).zip(&plan.claims) {
            let mine: Vec<_> = plan.preemptions.iter().filter(|p| p.claim == number).collect();
            prop_assert_eq!(mine.is_empty(), claim.from != ClaimedFrom::Preempting);
            if mine.is_empty() || claims_on(&plan, claim.node).count() > 1 {
                continue;
            }
            let picked = picked_on(&problem, &plan, claim.node, |_| true);
            let claimed = claimed_on(&problem, &plan, claim.node);
            let over: Vec<i64> = room_to_come(&problem, &plan, claim.node)
                .iter()
                .zip(picked.iter().zip(&claimed))
                .map(|(come, (picked, claimed))| come - picked - claimed)
                .collect();
            let wanted = problem.request_of(shape_of(&problem, claim.queue, claim.run));
            let lower_came_later = picked.iter().any(|amount| *amount > 0);
            for preemption in mine {
                let shape = problem.running[preemption.running as usize].shape;
                let mut amounts = problem.request_of(shape).iter().zip(&over).zip(wanted);
                let is_needed =
                    amounts.any(|((has, over), wanted)| *wanted > 0 && has > over);
                prop_assert!(is_needed || lower_came_later, "{preemption:?}");
            }
        }
    }

    #[test]
    fn g_preempting_comes_to_an_end(problem in settled()) {
        // The preempted queue again, those for whom room was made run, and nobody ends.
        let mut problem = problem;
        let preemptible: u64 = problem.running.iter().map(|running| running.count).sum();
        let waiting: u64 = runs(&problem).map(|(_, _, run)| run.count).sum();
        let mut preempted = 0;
        for _ in 0..=preemptible + waiting {
            let plan = solve(&problem);
            if plan.preemptions.is_empty() && plan.picks.is_empty() {
                return Ok(());
            }
            preempted += plan.preemptions.iter().map(|p| p.count).sum::<u64>();
            problem = after(&problem, &plan);
        }
        prop_assert!(false, "after {preempted} preemptions of {preemptible} jobs it goes on");
    }

    #[test]
    fn i_no_cap_and_no_rate_is_exceeded(problem in problems()) {
        let plan = solve(&problem);
        for cap in 0..problem.caps.len() as u32 {
            let left = left_under(&problem, &plan, cap);
            for (left, before) in left.iter().zip(&problem.caps[cap as usize].left) {
                prop_assert!(*left >= 0.min(*before), "cap {cap}");
            }
        }
        for (number, queue) in (0..).zip(&problem.queues) {
            prop_assert!(queue.picks_max.is_none_or(|max| placed_of(&plan, number) <= max));
        }
        prop_assert!(plan.figures.placed <= problem.picks_max);
    }

    #[test]
    fn k_more_than_one_job_of_a_queue_has_room_kept_only_up_to_its_fair_share(
        problem in problems()
    ) {
        let plan = solve(&problem);
        let demands: Vec<_> =
            problem.queues.iter().map(|queue| (queue.weight, queue.demand.clone())).collect();
        let shares = fair_shares(&problem.total, &demands);
        let mut keeps = vec![0; problem.queues.len()];
        let mut more = vec![0; problem.total.len()];
        for (number, claim) in (0..).zip(&plan.claims) {
            if claim.from != ClaimedFrom::Keeping {
                continue;
            }
            let queue = &problem.queues[claim.queue as usize];
            prop_assert!(queue.runs[claim.run as usize].is_overdue);
            keeps[claim.queue as usize] += 1;
            if keeps[claim.queue as usize] == 1 {
                continue;
            }
            prop_assert!(keeps[claim.queue as usize] <= queue.keeps_max);
            let held = at_least_held(&problem, &plan, claim.queue, number);
            let fair = shares[claim.queue as usize].ideal;
            prop_assert!(dominant_share(&problem.total, &held) <= fair + 1e-9);
            let request = problem.request_of(shape_of(&problem, claim.queue, claim.run));
            more.iter_mut().zip(request).for_each(|(more, asked)| *more += asked);
        }
        let kept = dominant_share(&problem.total, &more);
        prop_assert!(kept <= problem.kept_max as f64 / 1_000.0 + 1e-9);
    }

    #[test]
    fn j_the_same_problem_has_the_same_plan(problem in problems()) {
        prop_assert_eq!(solve(&problem), solve(&problem.clone()));
    }

    #[test]
    fn j_classes_limits_and_charges_are_those_of_one_job_at_a_time(problem in problems()) {
        let mut problem = problem;
        problem.preemptions_max = 0;
        problem.running.clear();
        problem.nodes.iter_mut().for_each(|node| node.freeing.clear());
        let overdue = problem.queues.iter_mut().flat_map(|queue| &mut queue.runs);
        overdue.for_each(|run| run.is_overdue = false);
        let (plan, expected) = (solve(&problem), reference::one_at_a_time(&problem));
        prop_assert_eq!(super::aggregated(&plan), super::aggregated(&expected));
    }
}

fn runs(problem: &Problem) -> impl Iterator<Item = (u32, u32, &RunIn)> {
    let queues = (0..).zip(&problem.queues);
    queues.flat_map(|(queue, input)| (0..).zip(&input.runs).map(move |(n, run)| (queue, n, run)))
}

fn shape_of(problem: &Problem, queue: u32, run: u32) -> u32 {
    problem.queues[queue as usize].runs[run as usize].shape
}

fn placed_of(plan: &Plan, queue: u32) -> u64 {
    plan.picks.iter().filter(|pick| pick.queue == queue).map(|pick| pick.count).sum()
}

fn claims_on(plan: &Plan, node: u32) -> impl Iterator<Item = &Claim> {
    plan.claims.iter().filter(move |claim| claim.node == node)
}

fn sum<'a>(width: usize, amounts: impl Iterator<Item = (&'a [i64], u64)>) -> Vec<i64> {
    let mut sum = vec![0; width];
    for (request, count) in amounts {
        sum.iter_mut().zip(request).for_each(|(sum, asked)| *sum += asked * count as i64);
    }
    sum
}

fn picked_on(
    problem: &Problem,
    plan: &Plan,
    node: u32,
    counts: impl Fn(&Pick) -> bool,
) -> Vec<i64> {
    let picks = plan.picks.iter().filter(|pick| pick.node == node && counts(pick));
    sum(problem.total.len(), picks.map(|pick| (problem.request_of(pick.shape), pick.count)))
}

fn claimed_on(problem: &Problem, plan: &Plan, node: u32) -> Vec<i64> {
    let claims = claims_on(plan, node);
    let requests = claims
        .map(|claim| (problem.request_of(shape_of(problem, claim.queue, claim.run)), claim.count));
    sum(problem.total.len(), requests)
}

/// What a node has free, will have, and gets by preemptions.
fn room_to_come(problem: &Problem, plan: &Plan, node: u32) -> Vec<i64> {
    let here = |preemption: &&Preemption| problem.running[preemption.running as usize].node == node;
    let gone = plan.preemptions.iter().filter(here).map(|preemption| {
        let shape = problem.running[preemption.running as usize].shape;
        (problem.request_of(shape), preemption.count)
    });
    let node = &problem.nodes[node as usize];
    let mut room = sum(problem.total.len(), gone);
    for (room, free) in room.iter_mut().zip(&node.free) {
        *room += free;
    }
    for (room, freeing) in room.iter_mut().zip(&node.freeing) {
        *room += freeing;
    }
    room
}

/// What a node has free beside what is placed and claimed there.
fn free_after(problem: &Problem, plan: &Plan, node: u32) -> Vec<i64> {
    let picked = picked_on(problem, plan, node, |_| true);
    let claimed = claimed_on(problem, plan, node);
    let free = problem.nodes[node as usize].free.iter();
    free.zip(picked.iter().zip(&claimed)).map(|(f, (picked, c))| f - picked - c).collect()
}

fn fits_somewhere(problem: &Problem, plan: &Plan, shape: u32) -> bool {
    (0..).zip(&problem.nodes).filter(|(_, node)| !node.is_closed).any(|(number, node)| {
        reference::holds(problem, shape, node.group, &free_after(problem, plan, number))
    })
}

/// What a queue had at least with a claim: without what it got beside, and all it lost.
fn at_least_held(problem: &Problem, plan: &Plan, queue: u32, claim: u32) -> Vec<i64> {
    let claims = plan.claims[..=claim as usize].iter().filter(|claim| claim.queue == queue);
    let claims = claims.map(|c| (problem.request_of(shape_of(problem, queue, c.run)), c.count));
    let claimed = sum(problem.total.len(), claims);
    let lost = plan.preemptions.iter().filter_map(|preemption| {
        let input = problem.running[preemption.running as usize];
        (input.queue == queue).then(|| (problem.request_of(input.shape), preemption.count))
    });
    let lost = sum(problem.total.len(), lost);
    let held = problem.queues[queue as usize].allocated.iter();
    held.zip(claimed.iter().zip(&lost)).map(|(held, (got, lost))| held + got - lost).collect()
}

/// What a queue has with what it got and will get, and without what it lost to fairness.
fn held_but_for_fairness(problem: &Problem, plan: &Plan, queue: u32) -> Vec<i64> {
    let picks = plan.picks.iter().filter(|pick| pick.queue == queue);
    let picks = picks.map(|pick| (pick.shape, pick.count));
    let claims = plan.claims.iter().filter(|claim| claim.queue == queue);
    let claims = claims.map(|claim| (shape_of(problem, queue, claim.run), claim.count));
    let got = picks.chain(claims).map(|(shape, count)| (problem.request_of(shape), count));
    let got = sum(problem.total.len(), got);
    let lost = plan.preemptions.iter().filter_map(|preemption| {
        let input = problem.running[preemption.running as usize];
        let is_mine = input.queue == queue && preemption.cause == Cause::Fairness;
        is_mine.then(|| (problem.request_of(input.shape), preemption.count))
    });
    let lost = sum(problem.total.len(), lost);
    let held = problem.queues[queue as usize].allocated.iter();
    held.zip(got.iter().zip(&lost)).map(|(held, (got, lost))| held + got - lost).collect()
}

fn left_under(problem: &Problem, plan: &Plan, cap: u32) -> Vec<i64> {
    let is_under = |queue: u32, shape: u32| {
        let class = problem.shapes[shape as usize].class;
        let caps = problem.queues[queue as usize].caps.iter();
        caps.filter(|(of, c)| *c == cap && of.is_none_or(|of| of == class)).count() as u64
    };
    let picks = plan.picks.iter().map(|pick| (pick.queue, pick.shape, pick.count));
    let claims = plan.claims.iter();
    let claims = claims.map(|c| (c.queue, shape_of(problem, c.queue, c.run), c.count));
    let taken = picks.chain(claims);
    let taken = taken
        .map(|(queue, shape, count)| (problem.request_of(shape), count * is_under(queue, shape)));
    let taken = sum(problem.total.len(), taken);
    let left = problem.caps[cap as usize].left.iter();
    left.zip(&taken).map(|(l, t)| if *l == i64::MAX { *l } else { l - t }).collect()
}

/// The pool some time after a round: what was placed or had room made for it runs, what was
/// preempted is gone and queued again.
fn after(problem: &Problem, plan: &Plan) -> Problem {
    let mut next = problem.clone();
    for preemption in &plan.preemptions {
        let input = problem.running[preemption.running as usize];
        next.running[preemption.running as usize].count -= preemption.count;
        let request = problem.request_of(input.shape).to_vec();
        let count = preemption.count as i64;
        let free = &mut next.nodes[input.node as usize].free;
        free.iter_mut().zip(&request).for_each(|(free, asked)| *free += asked * count);
        let queue = &mut next.queues[input.queue as usize];
        queue.allocated.iter_mut().zip(&request).for_each(|(held, asked)| *held -= asked * count);
        queue.runs.push(RunIn { shape: input.shape, count: preemption.count, is_overdue: false });
    }
    let picks = plan.picks.iter().map(|pick| (pick.queue, pick.run, pick.node, pick.count));
    let made = plan.claims.iter().filter(|claim| claim.from == ClaimedFrom::Preempting);
    let made = made.map(|claim| (claim.queue, claim.run, claim.node, claim.count));
    for (queue, run, node, count) in picks.chain(made) {
        let shape = shape_of(problem, queue, run);
        let request = problem.request_of(shape);
        let free = &mut next.nodes[node as usize].free;
        free.iter_mut().zip(request).for_each(|(free, asked)| *free -= asked * count as i64);
        let input = &mut next.queues[queue as usize];
        input.runs[run as usize].count -= count;
        let held = input.allocated.iter_mut().zip(request);
        held.for_each(|(held, asked)| *held += asked * count as i64);
        next.running.push(RunningIn { queue, shape, node, count, age: 0 });
    }
    for queue in &mut next.queues {
        queue.runs.retain(|run| run.count > 0);
        queue.runs.sort_by_key(|run| std::cmp::Reverse(problem.priority_of(run.shape)));
    }
    next
}

/// Problems without limits, charges, overdue jobs, or room on its way: what is decided once is
/// final but for preemption.
fn settled() -> impl Strategy<Value = Problem> {
    problems().prop_map(|mut problem| {
        problem.caps.clear();
        problem.picks_max = u64::MAX;
        problem.preemptions_max = 1_000;
        for queue in &mut problem.queues {
            queue.caps.clear();
            queue.charged.clear();
            queue.picks_max = None;
            queue.runs.iter_mut().for_each(|run| run.is_overdue = false);
        }
        for node in &mut problem.nodes {
            node.freeing.clear();
            node.is_closed = false;
        }
        problem
    })
}

pub(super) fn problems() -> impl Strategy<Value = Problem> {
    let sizes = (1_usize..4, 1_u32..4, 1_usize..6, 1_usize..4, 1_usize..6, 0_usize..9);
    sizes.prop_flat_map(|(resources, groups, shapes, classes, queues, nodes)| {
        let amounts = move |range: std::ops::Range<i64>| vec(range, resources);
        let shape = (amounts(0..8), 0..classes as u32, prop::bool::weighted(0.3));
        let shape = shape.prop_map(|(request, class, spreads)| ShapeIn {
            request,
            class,
            spreads,
            ..ShapeIn::default()
        });
        let run = (0..shapes as u32, 0_u64..12, any::<bool>())
            .prop_map(|(shape, count, is_overdue)| RunIn { shape, count, is_overdue });
        let cap = amounts(-2..40).prop_map(|left| CapIn { left });
        let open = Just(CapIn { left: vec![i64::MAX; resources] });
        let queue = (
            1_u64..6,
            prop_oneof![Just(vec![]), amounts(0..20)],
            vec(run, 0..5),
            vec((prop::option::of(0..classes as u32), 0_u32..3), 0..3),
            prop_oneof![3 => Just(None), 1 => (0_u64..12).prop_map(Some)],
            0_u64..9,
        );
        let node = (
            0..groups,
            amounts(-2..12),
            prop_oneof![3 => Just(vec![]), 1 => amounts(0..9)],
            prop_oneof![Just(vec![]), amounts(5..30)],
            0_u32..4,
            prop::bool::weighted(0.15),
        )
            .prop_map(|(group, free, freeing, capacity, runs, is_closed)| NodeIn {
                group,
                cluster: 0,
                free,
                freeing,
                capacity,
                runs,
                is_closed,
                ends: vec![],
            });
        let running =
            (0..queues as u32, 0..shapes as u32, 0..nodes.max(1) as u32, 1_u64..5, 0_u64..99)
                .prop_map(|(queue, shape, node, count, age)| RunningIn {
                    queue,
                    shape,
                    node,
                    count,
                    age,
                });
        let parts = (
            amounts(0..120),
            vec(-3_i32..3, classes),
            vec(shape, shapes),
            vec(vec(prop::bool::weighted(0.8), groups as usize), shapes),
            vec(prop_oneof![3 => cap.boxed(), 1 => open.boxed()], 3),
            vec(queue, queues),
            vec(node, nodes),
            vec(running, if nodes == 0 { 0..1 } else { 0..12 }),
        );
        let bounds = (0_u64..60, 0_u64..8, 1_000_u64..1_500, 0_u64..400);
        (parts, bounds).prop_map(
            move |(parts, (picks_max, preemptions_max, protected, kept_max))| {
                let (total, priorities, shapes, admits, caps, queues, nodes, running) = parts;
                let running = if nodes.is_empty() { vec![] } else { running };
                let classes = priorities.into_iter().map(|priority| ClassIn { priority });
                let mut problem = Problem {
                    total,
                    classes: classes.collect(),
                    shapes,
                    groups,
                    admits,
                    caps,
                    gangs: vec![],
                    labels: vec![],
                    queues: vec![],
                    nodes,
                    running,
                    kept: vec![],
                    picks_max,
                    preemptions_max,
                    protected,
                    kept_max,
                };
                problem.queues = queues
                    .into_iter()
                    .enumerate()
                    .map(|(number, queue)| whole(&problem, number as u32, queue))
                    .collect();
                problem
            },
        )
    })
}

type QueueParts = (u64, Vec<i64>, Vec<RunIn>, Vec<(Option<u32>, u32)>, Option<u64>, u64);

/// A queue that holds what runs of it, and demands that and what waits.
fn whole(problem: &Problem, number: u32, parts: QueueParts) -> QueueIn {
    let (weight, charged, mut runs, mut caps, picks_max, keeps_max) = parts;
    caps.sort_by_key(|(_, cap)| *cap);
    caps.dedup_by_key(|(_, cap)| *cap);
    runs.sort_by_key(|run| std::cmp::Reverse(problem.priority_of(run.shape)));
    let width = problem.total.len();
    let mine = problem.running.iter().filter(|running| running.queue == number);
    let allocated = sum(width, mine.map(|r| (problem.request_of(r.shape), r.count)));
    let mut demand = sum(width, runs.iter().map(|run| (problem.request_of(run.shape), run.count)));
    demand.iter_mut().zip(&allocated).for_each(|(demand, held)| *demand += held);
    QueueIn { weight, allocated, charged, demand, runs, caps, picks_max, keeps_max }
}
