//! The properties of README.md, by letter, and the solver's sentences.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

mod backfill;
mod fairness;
mod gangs;
mod preemption;
mod reference;
mod rich;

use reference::one_at_a_time;

// Sentences.

#[test]
fn three_queues_of_weights_1_2_4_share_one_full_resource_in_sevenths() {
    let queues = [1000, 2000, 4000].map(|weight| queue(weight, &[(0, 1000)]));
    let plan = solve(&cluster(&[700], &[&[1]], queues.to_vec(), &[&[100_i64] as &[i64]; 7]));
    assert_eq!(placed_by_queue(&plan, 3), [100, 200, 400]);
    let unplaced: Vec<_> = plan.unplaced.iter().map(|rest| (rest.count, rest.reason)).collect();
    assert_eq!(
        unplaced,
        [(900, Reason::NoRoomNow), (800, Reason::NoRoomNow), (600, Reason::NoRoomNow)]
    );
}

#[test]
fn a_queue_gets_what_nobody_else_wants() {
    let queues = vec![queue(1000, &[(0, 100)]), queue(1_000_000, &[(0, 3)])];
    let plan = solve(&cluster(&[50], &[&[1]], queues, &[&[50]]));
    assert_eq!(placed_by_queue(&plan, 2), [47, 3]);
}

#[test]
fn dominant_shares_are_equalised_not_job_counts() {
    // The example of the DRF paper: 9 cpus and 18 of memory; jobs of <1, 4> and of <3, 1>.
    let queues = vec![queue(1000, &[(0, 100)]), queue(1000, &[(1, 100)])];
    let plan = solve(&cluster(&[9, 18], &[&[1, 4], &[3, 1]], queues, &[&[9, 18]]));
    assert_eq!(placed_by_queue(&plan, 2), [3, 2]);
}

#[test]
fn a_queue_that_holds_much_of_the_pool_waits_for_the_others() {
    let mut queues = vec![queue(1000, &[(0, 10)]), queue(1000, &[(0, 10)])];
    queues[0].allocated = vec![6];
    let plan = solve(&cluster(&[14], &[&[1]], queues, &[&[8]]));
    assert_eq!(placed_by_queue(&plan, 2), [1, 7]);
}

#[test]
fn a_job_goes_to_the_node_that_it_fills_best() {
    let plan =
        solve(&cluster(&[30], &[&[3]], vec![queue(1000, &[(0, 3)])], &[&[10], &[4], &[2], &[4]]));
    let nodes: Vec<_> = plan.picks.iter().map(|pick| (pick.node, pick.count)).collect();
    assert_eq!(nodes, [(1, 1), (3, 1), (0, 1)]);
}

#[test]
fn jobs_stay_off_nodes_that_do_not_admit_them() {
    let mut problem =
        cluster(&[30], &[&[1], &[1]], vec![queue(1000, &[(0, 5), (1, 5)])], &[&[2], &[20]]);
    problem.groups = 2;
    problem.nodes[1].group = 1;
    problem.admits = vec![vec![true, false], vec![false, false]];
    let plan = solve(&problem);
    assert_eq!(plan.picks, [Pick { queue: 0, run: 0, shape: 0, node: 0, count: 2 }]);
    assert_eq!(
        plan.unplaced,
        [
            Unplaced { queue: 0, run: 0, runs: 1, count: 3, reason: Reason::NoRoomNow },
            Unplaced { queue: 0, run: 1, runs: 1, count: 5, reason: Reason::NeverFits },
        ]
    );
}

#[test]
fn runs_next_to_each_other_that_are_refused_whole_for_one_reason_are_told_together() {
    let runs = [(0, 4), (1, 2), (0, 3), (2, 1), (1, 1), (1, 0), (2, 1), (2, 1)];
    let shapes: [&[i64]; 3] = [&[4], &[5], &[11]];
    let plan = super::solve(&cluster(&[10], &shapes, vec![queue(1000, &runs)], &[&[10]]));
    assert_eq!(plan.figures.placed, 2, "of the first run, another part of which waits");
    let told = plan.unplaced.iter().map(|rest| (rest.run, rest.runs, rest.count, rest.reason));
    let (no_room, never) = (Reason::NoRoomNow, Reason::NeverFits);
    let expected = [
        (0, 1, 2, no_room),
        (1, 2, 5, no_room),
        (3, 1, 1, never),
        (4, 1, 1, no_room),
        (6, 2, 2, never),
    ];
    assert!(told.eq(expected), "{:?}", plan.unplaced);
}

#[test]
fn a_run_that_fits_nowhere_does_not_hold_up_the_runs_behind_it() {
    let queues = vec![queue(1000, &[(0, 2), (1, 4)])];
    let plan = solve(&cluster(&[100], &[&[50], &[1]], queues, &[&[10]]));
    assert_eq!(plan.picks, [Pick { queue: 0, run: 1, shape: 1, node: 0, count: 4 }]);
    assert_eq!(plan.unplaced[0].reason, Reason::NoRoomNow);
}

#[test]
fn a_request_larger_than_the_pool_never_fits() {
    let plan = solve(&cluster(&[10], &[&[11]], vec![queue(1000, &[(0, 2)])], &[&[10]]));
    let rest = Unplaced { queue: 0, run: 0, runs: 1, count: 2, reason: Reason::NeverFits };
    assert_eq!(plan.unplaced, [rest]);
}

#[test]
fn the_budget_ends_the_round_and_says_so() {
    let mut problem =
        cluster(&[100], &[&[1]], vec![queue(1000, &[(0, 9)]), queue(1000, &[(0, 9)])], &[&[100]]);
    problem.picks_max = 5;
    let plan = solve(&problem);
    assert_eq!(plan.figures.placed, 5);
    assert_eq!(placed_by_queue(&plan, 2), [3, 2]);
    assert!(plan.unplaced.iter().all(|rest| rest.reason == Reason::Budget));
    assert_eq!(plan.unplaced.iter().map(|rest| rest.count).sum::<u64>(), 13);
}

#[test]
fn jobs_that_ask_for_nothing_are_placed_as_far_as_the_budget_goes() {
    let mut problem = cluster(&[10], &[&[0]], vec![queue(1000, &[(0, u64::MAX)])], &[&[-3]]);
    problem.picks_max = 1_000_000_000_000;
    let plan = solve(&problem);
    assert_eq!(plan.figures.placed, 1_000_000_000_000);
    assert_eq!(plan.figures.steps, 1);
}

#[test]
fn an_over_committed_node_takes_only_what_does_not_add_to_it() {
    let queues = vec![queue(1000, &[(0, 5), (1, 5)])];
    let plan = solve(&cluster(&[10, 10], &[&[1, 1], &[1, 0]], queues, &[&[3, -1]]));
    assert_eq!(plan.picks, [Pick { queue: 0, run: 1, shape: 1, node: 0, count: 3 }]);
}

#[test]
fn a_pool_without_nodes_or_resources_is_a_plan_of_refusals() {
    let plan = solve(&cluster(&[], &[&[]], vec![queue(1, &[(0, 3)]), queue(1, &[])], &[]));
    assert!(plan.picks.is_empty());
    let rest = Unplaced { queue: 0, run: 0, runs: 1, count: 3, reason: Reason::NeverFits };
    assert_eq!(plan.unplaced, [rest]);
}

#[test]
fn the_largest_amounts_do_not_overflow() {
    let huge = i64::MAX;
    let mut queues = vec![queue(u64::MAX, &[(0, 9)]), queue(1, &[(0, 9)])];
    queues[1].allocated = vec![huge];
    let plan = solve(&cluster(&[huge], &[&[huge / 3]], queues, &[&[huge], &[huge]]));
    assert_eq!(placed_by_queue(&plan, 2), [6, 0]);
}

#[test]
fn many_nodes_split_and_empty_the_blocks_of_the_index() {
    let nodes: Vec<Vec<i64>> =
        (0..700).map(|node| vec![8 + node * 37 % 25, 64 - node * 11 % 60]).collect();
    let nodes: Vec<&[i64]> = nodes.iter().map(Vec::as_slice).collect();
    let queues = vec![
        queue(1000, &[(0, 400), (1, 500)]),
        queue(3000, &[(2, 600), (1, 900), (0, 100)]),
        queue(500, &[(3, 5000)]),
    ];
    let problem = cluster(&[9000, 18000], &[&[1, 7], &[3, 2], &[2, 9], &[1, 1]], queues, &nodes);
    let plan = solve(&problem);
    assert!(plan.figures.placed > 3000);
    assert_eq!(aggregated(&plan), aggregated(&one_at_a_time(&problem)));
}

#[test]
fn ideal_shares_of_weights_1_2_4_are_sevenths() {
    let shares = fair_shares(&[700], &[1000, 2000, 4000].map(|weight| (weight, vec![700])));
    for (share, sevenths) in shares.iter().zip([1.0, 2.0, 4.0]) {
        assert!((share.ideal - sevenths / 7.0).abs() < 1e-15, "{share:?}");
    }
}

#[test]
fn what_a_small_demand_leaves_goes_to_the_others_by_weight() {
    let shares = fair_shares(&[100], &[(1000, vec![10]), (1000, vec![500]), (2000, vec![500])]);
    let ideal: Vec<f64> = shares.iter().map(|share| share.ideal).collect();
    for (ideal, expected) in ideal.iter().zip([0.1, 0.3, 0.6]) {
        assert!((ideal - expected).abs() < 1e-15, "{ideal}");
    }
    assert_eq!(shares[1].demand, 5.0);
}

#[test]
fn a_queue_that_does_not_want_the_used_up_resource_rises_on() {
    let shares = fair_shares(
        &[100, 100],
        &[(1000, vec![100, 0]), (1000, vec![100, 0]), (1000, vec![0, 80]), (1000, vec![0, 0])],
    );
    let ideal: Vec<f64> = shares.iter().map(|share| share.ideal).collect();
    assert_eq!(ideal, [0.5, 0.5, 0.8, 0.0]);
}

#[test]
fn a_dominant_share_is_the_largest_part_of_any_resource() {
    assert_eq!(dominant_share(&[10, 100, 0], &[5, 20, 7]), 0.5);
    assert_eq!(dominant_share(&[], &[]), 0.0);
}

// Properties.

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(512)
    })]

    #[test]
    fn a_no_node_is_over_committed_or_gets_what_it_does_not_admit(problem in problems()) {
        let plan = solve(&problem);
        for pick in &plan.picks {
            let group = problem.nodes[pick.node as usize].group;
            prop_assert!(pick.count > 0);
            prop_assert!(problem.admits[pick.shape as usize][group as usize]);
        }
        let before = problem.nodes.iter().map(|node| &node.free);
        for (before, after) in before.zip(free_after(&problem, &plan)) {
            for (before, after) in before.iter().zip(after) {
                prop_assert!(after >= 0.min(*before));
            }
        }
    }

    #[test]
    fn b_nothing_stays_free_that_somebody_can_use(problem in problems()) {
        let plan = solve(&problem);
        let free = free_after(&problem, &plan);
        let budget_used = plan.figures.placed == problem.picks_max;
        for rest in &plan.unplaced {
            let run = problem.queues[rest.queue as usize].runs[rest.run as usize];
            let placeable = can_go_somewhere(&problem, &free, run.shape);
            match rest.reason {
                Reason::Budget => prop_assert!(budget_used),
                Reason::NoRoomNow | Reason::NeverFits => prop_assert!(!placeable),
                Reason::Rate
                | Reason::Cap(_)
                | Reason::Claimed
                | Reason::GangIncomplete(_) => {
                    prop_assert!(false, "there are no such limits: {rest:?}");
                }
            }
        }
        prop_assert!(plan.figures.placed <= problem.picks_max);
        prop_assert_eq!(accounted_for(&problem, &plan), waiting(&problem));
    }

    #[test]
    fn f_an_equal_request_is_never_served_before_an_earlier_one(problem in problems()) {
        let plan = solve(&problem);
        for rest in &plan.unplaced {
            let runs = &problem.queues[rest.queue as usize].runs;
            for pick in plan.picks.iter().filter(|pick| pick.queue == rest.queue) {
                prop_assert!(
                    pick.run <= rest.run || pick.shape != runs[rest.run as usize].shape,
                    "{pick:?} overtook {rest:?}"
                );
            }
        }
    }

    #[test]
    fn c_no_queue_is_ahead_of_one_that_could_go_on_by_more_than_its_last_job(
        problem in problems()
    ) {
        let plan = solve(&problem);
        let free = free_after(&problem, &plan);
        let could_go_on = |queue: u32| {
            plan.unplaced.iter().any(|rest| {
                let run = problem.queues[rest.queue as usize].runs[rest.run as usize];
                rest.queue == queue && can_go_somewhere(&problem, &free, run.shape)
            })
        };
        let queues = 0..problem.queues.len() as u32;
        for behind in queues.clone().filter(|queue| could_go_on(*queue)) {
            for ahead in queues.clone().filter(|queue| *queue != behind) {
                let picks = plan.picks.iter().filter(|pick| pick.queue == ahead);
                let Some(last) = picks.max_by_key(|pick| pick.run) else { continue };
                let last = &problem.shapes[last.shape as usize].request;
                let mut before_last = held_after(&problem, &plan, ahead);
                before_last.iter_mut().zip(last).for_each(|(held, request)| *held -= request);
                let behind_holds = held_after(&problem, &plan, behind);
                prop_assert!(
                    reference::not_ahead(&problem, (ahead, &before_last), (behind, &behind_holds)),
                    "queue {ahead} got a job while queue {behind} had less"
                );
            }
        }
    }

    #[test]
    fn j_the_same_problem_has_the_same_plan_and_units_do_not_matter(
        problem in problems(), factor in 2_i64..1_000_000
    ) {
        let plan = solve(&problem);
        prop_assert_eq!(&plan, &solve(&problem));

        let mut scaled = problem.clone();
        scaled.queues.iter_mut().for_each(|queue| queue.weight *= factor as u64);
        if !scaled.total.is_empty() {
            scaled.total[0] *= factor;
            scaled.shapes.iter_mut().for_each(|shape| shape.request[0] *= factor);
            scaled.queues.iter_mut().for_each(|queue| queue.allocated[0] *= factor);
            scaled.nodes.iter_mut().for_each(|node| node.free[0] *= factor);
        }
        prop_assert_eq!(&plan.picks, &solve(&scaled).picks);
    }

    #[test]
    fn j_what_takes_no_part_does_not_matter(problem in problems(), seed in any::<u64>()) {
        let plan = solve(&problem);
        let mut padded = problem.clone();
        let width = padded.total.len();
        // A shape that nobody wants, a group that holds one node which admits nobody, an idle
        // queue.
        padded.shapes.push(shape(vec![1; width]));
        padded.admits.push(vec![true; padded.groups as usize]);
        padded.admits.iter_mut().for_each(|row| row.push(false));
        padded.groups += 1;
        padded.nodes.push(node(padded.groups - 1, vec![1000; width]));
        padded.queues.push(QueueIn { weight: 1, allocated: vec![0; width], ..Default::default() });
        prop_assert_eq!(&plan.picks, &solve(&padded).picks);
        prop_assert_eq!(&plan.unplaced, &solve(&padded).unplaced);

        // Groups under other numbers.
        let mut turned = problem.clone();
        let by = (seed % u64::from(problem.groups.max(1))) as u32;
        turned.admits.iter_mut().for_each(|row| row.rotate_left(by as usize));
        let groups = turned.groups;
        turned.nodes.iter_mut().for_each(|node| node.group = (node.group + groups - by) % groups);
        prop_assert_eq!(&plan.picks, &solve(&turned).picks);
    }

    #[test]
    fn j_where_a_run_of_equal_jobs_is_cut_does_not_matter(problem in problems()) {
        let mut cut = problem.clone();
        for queue in &mut cut.queues {
            let halves = |run: &RunIn| {
                let first = run.count / 2;
                [RunIn { count: first, ..*run }, RunIn { count: run.count - first, ..*run }]
            };
            queue.runs = queue.runs.iter().flat_map(halves).collect();
        }
        let by_shape = |plan: &Plan, runs_per_run: u32| {
            let mut sums: BTreeMap<(u32, u32, u32), u64> = BTreeMap::new();
            for pick in &plan.picks {
                *sums.entry((pick.queue, pick.run / runs_per_run, pick.node)).or_default() +=
                    pick.count;
            }
            sums
        };
        prop_assert_eq!(by_shape(&solve(&problem), 1), by_shape(&solve(&cut), 2));
    }

    #[test]
    fn j_the_plan_is_that_of_filling_one_job_at_a_time(problem in problems()) {
        let (plan, expected) = (solve(&problem), one_at_a_time(&problem));
        prop_assert_eq!(aggregated(&plan), aggregated(&expected));
        prop_assert_eq!(plan.figures.placed, expected.figures.placed);
        let rest = |plan: &Plan| -> Vec<_> {
            plan.unplaced.iter().map(|rest| (rest.queue, rest.run, rest.count)).collect()
        };
        prop_assert_eq!(rest(&plan), rest(&expected));
    }

    #[test]
    fn c_ideal_shares_fit_the_pool_and_the_demand_and_leave_nothing_wanted(
        (total, queues) in claims()
    ) {
        let shares = fair_shares(&total, &queues);
        let mut used = vec![0.0; total.len()];
        for ((_, demand), share) in queues.iter().zip(&shares) {
            prop_assert!((0.0..=1.0).contains(&share.ideal));
            prop_assert!(share.ideal <= share.demand + 1e-9);
            for (used, (demand, total)) in used.iter_mut().zip(demand.iter().zip(&total)) {
                if share.demand > 0.0 && *total > 0 {
                    *used += *demand as f64 / *total as f64 * share.ideal / share.demand;
                }
            }
        }
        prop_assert!(used.iter().all(|used| *used <= 1.0 + 1e-9), "{used:?}");
        for ((_, demand), share) in queues.iter().zip(&shares) {
            let wants_used_up = used
                .iter()
                .zip(demand.iter().zip(&total))
                .any(|(used, (demand, total))| *demand > 0 && *total > 0 && *used >= 1.0 - 1e-9);
            prop_assert!(wants_used_up || (share.ideal - share.demand).abs() < 1e-9);
        }
    }

    #[test]
    fn c_more_weight_never_means_less((total, queues) in claims(), more in 1_u64..5000) {
        let before = fair_shares(&total, &queues);
        for queue in 0..queues.len() {
            let mut heavier = queues.clone();
            heavier[queue].0 += more;
            let after = fair_shares(&total, &heavier);
            prop_assert!(after[queue].ideal >= before[queue].ideal - 1e-9);
        }
    }

    #[test]
    fn e_on_one_resource_nobody_envies_anybody(
        total in 1_i64..1000,
        queues in prop::collection::vec((1_u64..5000, prop::collection::vec(0_i64..1500, 1)), 1..8),
    ) {
        let shares = fair_shares(&[total], &queues);
        let used: f64 = shares.iter().map(|share| share.ideal).sum();
        let wanted: f64 = shares.iter().map(|share| share.demand).sum();
        prop_assert!((used - wanted.min(1.0)).abs() < 1e-9);
        for (own, (own_weight, _)) in shares.iter().zip(&queues) {
            for (other, (other_weight, _)) in shares.iter().zip(&queues) {
                // What the other's share would be at one's own weight is not more than one's own,
                // or one has all one wants.
                let theirs = other.ideal / *other_weight as f64 * *own_weight as f64;
                prop_assert!(own.ideal >= theirs.min(own.demand) - 1e-9);
            }
        }
    }
}

proptest! {
    // A plain implementation needs its time for these.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 500,
        ..ProptestConfig::with_cases(64)
    })]

    #[test]
    fn j_a_full_pool_of_many_nodes_and_zones_too(problem in full_pools()) {
        let (plan, expected) = (solve(&problem), one_at_a_time(&problem));
        prop_assert_eq!(aggregated(&plan), aggregated(&expected));
    }
}

// What the tests are made of.

/// The plan, with each of the runs that it tells of together told by itself.
fn solve(problem: &Problem) -> Plan {
    let mut plan = super::solve(problem);
    for rest in std::mem::take(&mut plan.unplaced) {
        if rest.runs == 1 {
            plan.unplaced.push(rest);
            continue;
        }
        let runs = &problem.queues[rest.queue as usize].runs;
        let each = (rest.run..rest.run + rest.runs).map(|run| Unplaced {
            run,
            runs: 1,
            count: runs[run as usize].count,
            ..rest
        });
        assert_eq!(each.clone().map(|of_run| of_run.count).sum::<u64>(), rest.count, "{rest:?}");
        plan.unplaced.extend(each);
    }
    plan
}

fn queue(weight: u64, runs: &[(u32, u64)]) -> QueueIn {
    let runs = runs.iter().map(|&(shape, count)| run(shape, count)).collect();
    QueueIn { weight, runs, ..QueueIn::default() }
}

fn run(shape: u32, count: u64) -> RunIn {
    RunIn { shape, count, is_overdue: false }
}

fn shape(request: Vec<i64>) -> ShapeIn {
    ShapeIn { request, ..ShapeIn::default() }
}

fn node(group: u32, free: Vec<i64>) -> NodeIn {
    NodeIn { group, free, ..NodeIn::default() }
}

/// Nodes of one group that admits every shape; queues without an allocation hold nothing.
fn cluster(
    total: &[i64],
    shapes: &[&[i64]],
    mut queues: Vec<QueueIn>,
    nodes: &[&[i64]],
) -> Problem {
    queues.iter_mut().for_each(|queue| queue.allocated.resize(total.len(), 0));
    Problem {
        total: total.to_vec(),
        shapes: shapes.iter().map(|request| shape(request.to_vec())).collect(),
        classes: vec![ClassIn { priority: 0 }],
        groups: 1,
        admits: vec![vec![true]; shapes.len()],
        queues,
        nodes: nodes.iter().map(|free| node(0, free.to_vec())).collect(),
        picks_max: u64::MAX,
        ..Problem::default()
    }
}

fn problems() -> impl Strategy<Value = Problem> {
    (1_usize..4, 1_u32..4, 1_usize..6).prop_flat_map(|(resources, groups, shapes)| {
        let amounts = |range: std::ops::Range<i64>| prop::collection::vec(range, resources);
        let runs = (0..shapes as u32, 0_u64..25).prop_map(|(shape, count)| run(shape, count));
        let queue = (1_u64..6, amounts(0..30), prop::collection::vec(runs, 0..5)).prop_map(
            |(weight, allocated, runs)| QueueIn { weight, allocated, runs, ..QueueIn::default() },
        );
        let node = (0..groups, amounts(-2..30)).prop_map(|(group, free)| node(group, free));
        // A few nodes, or so many that the index splits its blocks.
        let nodes = prop_oneof![
            4 => prop::collection::vec(node.clone(), 0..12),
            1 => prop::collection::vec(node, 60..90),
        ];
        (
            amounts(0..200),
            prop::collection::vec(amounts(0..8), shapes),
            prop::collection::vec(
                prop::collection::vec(prop::bool::weighted(0.7), groups as usize),
                shapes,
            ),
            prop::collection::vec(queue, 0..6),
            nodes,
            0_u64..120,
        )
            .prop_map(move |(total, requests, admits, queues, nodes, picks_max)| Problem {
                total,
                shapes: requests.into_iter().map(shape).collect(),
                groups,
                admits,
                queues,
                nodes,
                picks_max,
                classes: vec![ClassIn { priority: 0 }],
                ..Problem::default()
            })
    })
}

/// More work than the nodes hold, on nodes that begin equal and empty: they fill up in one resource
/// or the other, and every index has many that are of no use any more.
fn full_pools() -> impl Strategy<Value = Problem> {
    let amounts = [2_i64..30, 2_i64..30, 0_i64..3, 1_i64..2].map(|amount| amount.boxed());
    let queue = (1_u64..4, prop::collection::vec((0_u32..5, 20_u64..60), 1..4));
    (
        prop::collection::vec(amounts.to_vec(), 5),
        prop::collection::vec(prop::collection::vec(prop::bool::weighted(0.8), 4), 5),
        prop::collection::vec(queue, 4),
        40_u32..70,
    )
        .prop_map(|(requests, admits, queues, nodes)| {
            let node = |number: u32| node(number % 4, vec![40, 40, 3, 9]);
            let queues = queues.iter().map(|(weight, runs)| queue_of_four(*weight, runs));
            Problem {
                total: vec![2_000, 2_000, 150, 450],
                shapes: requests.into_iter().map(shape).collect(),
                groups: 4,
                admits,
                queues: queues.collect(),
                nodes: (0..nodes).map(node).collect(),
                picks_max: u64::MAX,
                classes: vec![ClassIn { priority: 0 }],
                ..Problem::default()
            }
        })
}

fn queue_of_four(weight: u64, runs: &[(u32, u64)]) -> QueueIn {
    QueueIn { allocated: vec![0; 4], ..queue(weight, runs) }
}

type Claims = (Vec<i64>, Vec<(u64, Vec<i64>)>);

fn claims() -> impl Strategy<Value = Claims> {
    (1_usize..4).prop_flat_map(|resources| {
        let demand = prop::collection::vec(prop_oneof![Just(0), 0_i64..1500], resources);
        (
            prop::collection::vec(prop_oneof![1 => Just(0), 6 => 1_i64..1000], resources),
            prop::collection::vec((1_u64..5000, demand), 0..8),
        )
    })
}

fn placed_by_queue(plan: &Plan, queues: usize) -> Vec<u64> {
    let mut placed = vec![0; queues];
    plan.picks.iter().for_each(|pick| placed[pick.queue as usize] += pick.count);
    placed
}

fn aggregated(plan: &Plan) -> BTreeMap<(u32, u32, u32), u64> {
    let mut sums = BTreeMap::new();
    for pick in &plan.picks {
        *sums.entry((pick.queue, pick.run, pick.node)).or_default() += pick.count;
    }
    sums
}

fn free_after(problem: &Problem, plan: &Plan) -> Vec<Vec<i64>> {
    let mut free: Vec<Vec<i64>> = problem.nodes.iter().map(|node| node.free.clone()).collect();
    for pick in &plan.picks {
        let request = &problem.shapes[pick.shape as usize].request;
        for (free, request) in free[pick.node as usize].iter_mut().zip(request) {
            *free -= request * pick.count as i64;
        }
    }
    free
}

fn held_after(problem: &Problem, plan: &Plan, queue: u32) -> Vec<i64> {
    let mut held = problem.queues[queue as usize].allocated.clone();
    for pick in plan.picks.iter().filter(|pick| pick.queue == queue) {
        let request = &problem.shapes[pick.shape as usize].request;
        held.iter_mut().zip(request).for_each(|(held, each)| *held += each * pick.count as i64);
    }
    held
}

fn can_go_somewhere(problem: &Problem, free: &[Vec<i64>], shape: u32) -> bool {
    problem
        .nodes
        .iter()
        .zip(free)
        .any(|(node, free)| reference::holds(problem, shape, node.group, free))
}

fn waiting(problem: &Problem) -> u64 {
    problem.queues.iter().flat_map(|queue| &queue.runs).map(|run| run.count).sum()
}

fn accounted_for(problem: &Problem, plan: &Plan) -> u64 {
    let names_its_run = |pick: &&Pick| {
        problem.queues[pick.queue as usize].runs[pick.run as usize].shape == pick.shape
    };
    let placed: u64 = plan.picks.iter().filter(names_its_run).map(|pick| pick.count).sum();
    placed + plan.unplaced.iter().map(|rest| rest.count).sum::<u64>()
}
