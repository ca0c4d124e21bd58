//! H: gangs run whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::{cluster, node, placed_by_queue, queue, run, shape, solve};

/// Nodes of one cpu resource: (cluster, group, free); shapes: (cpu, gang); the label has the values
/// 0, 1, none in the groups 0, 1, 2.
fn pool(nodes: &[(u32, u32, i64)], shapes: &[(i64, Option<u32>)], gangs: &[GangIn]) -> Problem {
    let total: i64 = nodes.iter().map(|(_, _, free)| free).sum();
    let mut problem = cluster(&[total], &[], vec![], &[]);
    problem.groups = 3;
    problem.labels = vec![vec![Some(0), Some(1), None]];
    problem.gangs = gangs.to_vec();
    problem.shapes =
        shapes.iter().map(|(cpu, gang)| ShapeIn { gang: *gang, ..shape(vec![*cpu]) }).collect();
    problem.admits = vec![vec![true; 3]; shapes.len()];
    problem.nodes = nodes
        .iter()
        .map(|(cluster, group, free)| NodeIn {
            cluster: *cluster,
            capacity: vec![8],
            ..node(*group, vec![*free])
        })
        .collect();
    problem
}

fn gang(cardinality: u64) -> GangIn {
    GangIn { cardinality, uniform: None }
}

fn with_queues(mut problem: Problem, queues: &[&[(u32, u64)]]) -> Problem {
    problem.queues =
        queues.iter().map(|runs| QueueIn { allocated: vec![0], ..queue(1000, runs) }).collect();
    problem
}

#[test]
fn a_gang_goes_to_one_cluster_that_holds_all_of_it_and_has_the_least_room() {
    let nodes = [(0, 0, 3), (1, 0, 4), (1, 0, 4), (2, 0, 8), (2, 0, 2)];
    let problem = pool(&nodes, &[(2, Some(0))], &[gang(4)]);
    let plan = solve(&with_queues(problem, &[&[(0, 4)]]));
    let picks: Vec<_> = plan.picks.iter().map(|pick| (pick.node, pick.count)).collect();
    assert_eq!(picks, [(1, 2), (2, 2)]);
}

#[test]
fn a_gang_that_does_not_fit_whole_takes_nothing_and_holds_nobody_up() {
    let problem = pool(&[(0, 0, 4), (1, 0, 4)], &[(2, Some(0)), (1, None)], &[gang(3)]);
    let plan = solve(&with_queues(problem, &[&[(0, 3), (1, 9)]]));
    assert_eq!(plan.picks.iter().map(|pick| pick.run).collect::<BTreeSet<_>>(), [1].into());
    assert_eq!(
        plan.unplaced[0],
        Unplaced { queue: 0, run: 0, runs: 1, count: 3, reason: Reason::NoRoomNow }
    );
}

#[test]
fn a_gang_waits_for_its_members() {
    let problem = pool(&[(0, 0, 8)], &[(2, Some(0))], &[gang(3)]);
    let plan = solve(&with_queues(problem, &[&[(0, 2)]]));
    assert!(plan.picks.is_empty());
    assert_eq!(plan.unplaced[0].reason, Reason::GangIncomplete(2));
}

#[test]
fn members_of_several_shapes_go_together() {
    let problem = pool(&[(0, 0, 3), (0, 0, 4)], &[(1, Some(0)), (4, Some(0))], &[gang(3)]);
    let plan = solve(&with_queues(problem.clone(), &[&[(0, 2), (1, 1)]]));
    assert_eq!(placed_by_queue(&plan, 1), [3]);
    let plan = solve(&with_queues(problem, &[&[(0, 4), (1, 1)]]));
    assert_eq!(placed_by_queue(&plan, 1), [0], "the fourth small one does not fit");
}

#[test]
fn the_nodes_of_a_gang_have_one_value_of_its_label() {
    let uniform = GangIn { cardinality: 4, uniform: Some(0) };
    // Half of the room has one value, half the other, and a node has none.
    let nodes = [(0, 0, 4), (0, 1, 4), (0, 2, 8), (0, 1, 4)];
    let problem = pool(&nodes, &[(2, Some(0))], &[uniform]);
    let plan = solve(&with_queues(problem, &[&[(0, 4)]]));
    assert_eq!(plan.picks.iter().map(|pick| pick.node).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn an_overdue_gang_has_room_kept_for_all_of_it() {
    let problem = pool(&[(0, 0, 2), (0, 0, 2), (1, 0, 2)], &[(8, Some(0)), (1, None)], &[gang(2)]);
    let mut problem = with_queues(problem, &[&[(0, 2)], &[(1, 9)]]);
    problem.queues[0].runs[0] = RunIn { is_overdue: true, ..run(0, 2) };
    let plan = solve(&problem);
    let kept: Vec<_> = plan.claims.iter().map(|claim| (claim.node, claim.count)).collect();
    assert_eq!(kept, [(0, 1), (1, 1)]);
    assert_eq!(placed_by_queue(&plan, 2), [0, 2], "only the other cluster is left to others");
    problem.queues[0].runs[0] = run(0, 2);
    assert_eq!(placed_by_queue(&solve(&problem), 2), [0, 6]);
}

#[test]
fn a_gang_that_is_preempted_goes_as_a_whole() {
    let mut problem = pool(&[(0, 0, 0), (0, 0, 0)], &[(4, Some(0)), (4, None)], &[gang(4)]);
    problem.total = vec![16];
    problem.classes.push(ClassIn { priority: 9 });
    problem.shapes[1].class = 1;
    let on = |node| RunningIn { queue: 0, shape: 0, node, count: 2, age: 0 };
    problem.running = vec![on(0), on(1)];
    (problem.preemptions_max, problem.protected) = (10, 1_000);
    let mut problem = with_queues(problem, &[&[], &[(1, 1)]]);
    problem.queues.iter_mut().for_each(|queue| queue.demand = vec![16]);
    let plan = solve(&problem);
    let gone: Vec<_> = plan.preemptions.iter().map(|p| (p.running, p.count)).collect();
    assert_eq!(gone, [(0, 2), (1, 2)]);
    // More than a round may preempt: it goes if no others do.
    problem.preemptions_max = 3;
    let plan = solve(&problem);
    assert_eq!(plan.preemptions.iter().map(|p| p.count).sum::<u64>(), 4);
    problem.nodes.push(NodeIn { capacity: vec![4], ..node(0, vec![0]) });
    problem.running.push(RunningIn { queue: 0, shape: 2, node: 2, count: 1, age: 0 });
    problem.shapes.push(shape(vec![4]));
    problem.admits.push(vec![true; 3]);
    problem.queues[1].runs = vec![run(1, 2)];
    let gone: Vec<_> = solve(&problem).preemptions.iter().map(|p| (p.running, p.count)).collect();
    assert_eq!(gone, [(2, 1)], "the one that is least, and then no gang");
}

/// Two nodes of eight in each of two clusters, full of jobs of the lower class: queue 0's, and a
/// gang of four of a higher class of queue 1.
fn full_pool() -> Problem {
    let nodes = [(0, 0, 0), (0, 0, 0), (1, 0, 0), (1, 0, 0)];
    let mut problem = pool(&nodes, &[(4, None), (4, Some(0)), (8, None)], &[gang(4)]);
    problem.total = vec![32];
    problem.classes.push(ClassIn { priority: 9 });
    problem.shapes[1].class = 1;
    let on = |node: u32, age| RunningIn { queue: 0, shape: 0, node, count: 2, age };
    problem.running = vec![on(0, 10), on(1, 90), on(2, 30), on(3, 20)];
    (problem.preemptions_max, problem.protected) = (10, 1_000);
    let mut problem = with_queues(problem, &[&[], &[(1, 4)]]);
    problem.queues.iter_mut().for_each(|queue| queue.demand = vec![32]);
    problem.queues[0].allocated = vec![32];
    problem
}

#[test]
fn a_gang_of_a_higher_class_makes_room_for_all_of_it_where_that_costs_least() {
    let mut problem = full_pool();
    let plan = solve(&problem);
    let gone: Vec<_> = plan.preemptions.iter().map(|p| (p.running, p.count, p.cause)).collect();
    assert_eq!(gone, [(3, 2, Cause::Urgency), (2, 2, Cause::Urgency)]);
    let claims: Vec<_> = plan.claims.iter().map(|c| (c.node, c.count, c.from)).collect();
    let from = ClaimedFrom::Preempting;
    assert_eq!(claims, [(3, 2, from), (2, 2, from)]);
    assert_eq!(plan.unplaced[0].reason, Reason::Claimed);
    problem.queues[1].runs = vec![run(1, 5)];
    assert_eq!(solve(&problem).preemptions, [], "no cluster could hold five of them");
}

#[test]
fn a_gang_takes_from_those_above_their_share_no_more_than_its_own() {
    let mut problem = full_pool();
    problem.shapes[1].class = 0;
    let plan = solve(&problem);
    assert_eq!(plan.preemptions.iter().map(|p| p.count).sum::<u64>(), 4);
    assert!(plan.preemptions.iter().all(|p| p.cause == Cause::Fairness));
    // With it, the queue would have more than half.
    problem.queues[1].allocated = vec![4];
    assert_eq!(solve(&problem).preemptions, []);
}

#[test]
fn a_gang_claims_room_that_comes_free_and_others_do_not_get_it() {
    let mut problem = full_pool();
    problem.running.clear();
    problem.preemptions_max = 0;
    for (node, (free, freeing)) in [(2, (4, 4)), (3, (0, 8))] {
        problem.nodes[node].free = vec![free];
        problem.nodes[node].freeing = vec![freeing];
    }
    problem.queues[0].runs = vec![run(0, 1)];
    let plan = solve(&problem);
    assert!(plan.picks.is_empty());
    assert_eq!(plan.claims.iter().map(|claim| claim.count).sum::<u64>(), 4);
    assert!(plan.claims.iter().all(|claim| claim.from == ClaimedFrom::Stopping));
    problem.nodes[3].freeing = vec![4];
    assert_eq!(solve(&problem).picks.len(), 1, "that is not enough for all of it");
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1024)
    })]

    #[test]
    fn h_gangs_are_placed_whole_in_one_domain_or_not_at_all(problem in problems()) {
        let plan = solve(&problem);
        let mut placed: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        type Domain = (u32, Option<u32>);
        let mut domains: BTreeMap<(u32, u32), BTreeSet<Domain>> = BTreeMap::new();
        let picks = plan.picks.iter().map(|p| (p.queue, p.shape, p.node, p.count));
        for (queue, shape, node, count) in picks {
            let Some(gang) = problem.shapes[shape as usize].gang else { continue };
            let input = &problem.nodes[node as usize];
            *placed.entry((queue, gang)).or_default() += count;
            let label = problem.gangs[gang as usize].uniform.map(|label| label as usize);
            let value = label.map(|label| problem.labels[label][input.group as usize]);
            prop_assert_ne!(value, Some(None), "a node without the label");
            domains.entry((queue, gang)).or_default().insert((input.cluster, value.flatten()));
        }
        for ((queue, gang), count) in placed {
            let members = problem.queues[queue as usize].runs.iter();
            let members = members.filter(|run| {
                problem.shapes[run.shape as usize].gang == Some(gang)
            });
            prop_assert_eq!(count, members.map(|run| run.count).sum::<u64>());
            prop_assert!(count >= problem.gangs[gang as usize].cardinality);
        }
        prop_assert!(domains.values().all(|domains| domains.len() == 1), "{domains:?}");
        for (number, node) in (0..).zip(&problem.nodes) {
            let here = plan.picks.iter().filter(|pick| pick.node == number);
            let taken: i64 = here
                .map(|pick| problem.request_of(pick.shape)[0] * pick.count as i64)
                .sum();
            prop_assert!(taken == 0 || taken <= node.free[0]);
        }
        let runs = problem.queues.iter().flat_map(|queue| &queue.runs);
        let waiting: u64 = runs.map(|run| run.count).sum();
        let rest: u64 = plan.unplaced.iter().map(|rest| rest.count).sum();
        prop_assert_eq!(plan.figures.placed + rest, waiting);
    }

    #[test]
    fn h_a_gang_of_one_shape_that_waits_fits_in_no_domain(problem in problems()) {
        let plan = solve(&problem);
        let mut free: Vec<i64> = problem.nodes.iter().map(|node| node.free[0]).collect();
        let taken = plan.picks.iter().map(|p| (p.node, p.shape, p.count));
        let shape_of = |claim: &Claim| {
            problem.queues[claim.queue as usize].runs[claim.run as usize].shape
        };
        let claimed = plan.claims.iter().map(|claim| (claim.node, shape_of(claim), claim.count));
        for (node, shape, count) in taken.chain(claimed) {
            free[node as usize] -= problem.request_of(shape)[0] * count as i64;
        }
        for rest in plan.unplaced.iter().filter(|rest| rest.reason == Reason::NoRoomNow) {
            let runs = &problem.queues[rest.queue as usize].runs;
            let shape = runs[rest.run as usize].shape;
            let Some(gang) = problem.shapes[shape as usize].gang else { continue };
            let is_member = |run: &&RunIn| problem.shapes[run.shape as usize].gang == Some(gang);
            if runs.iter().filter(is_member).count() > 1 {
                continue;
            }
            let mut rooms: BTreeMap<(u32, Option<u32>), u64> = BTreeMap::new();
            for (node, free) in problem.nodes.iter().zip(&free) {
                let request = problem.request_of(shape)[0];
                let label = problem.gangs[gang as usize].uniform.map(|label| label as usize);
                let value = label.map(|label| problem.labels[label][node.group as usize]);
                if value != Some(None) && problem.admits[shape as usize][node.group as usize] {
                    let room = rooms.entry((node.cluster, value.flatten())).or_default();
                    *room += u64::try_from(*free / request).unwrap_or(0);
                }
            }
            prop_assert!(rooms.values().all(|room| *room < rest.count), "{rest:?} {rooms:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2048)
    })]

    #[test]
    fn h_gangs_are_made_room_for_as_a_whole_and_go_as_a_whole(problem in full_pools()) {
        let plan = solve(&problem);
        let gang_of = |shape: u32| problem.shapes[shape as usize].gang;
        let shape_of = |claim: &Claim| {
            problem.queues[claim.queue as usize].runs[claim.run as usize].shape
        };
        type Domain = (u32, Option<u32>);
        let mut claimed: BTreeMap<(u32, u32), (u64, BTreeSet<Domain>)> = BTreeMap::new();
        let mut left: Vec<i64> = problem.nodes.iter().map(|node| node.free[0]).collect();
        for claim in &plan.claims {
            let shape = shape_of(claim);
            left[claim.node as usize] -= problem.request_of(shape)[0] * claim.count as i64;
            let Some(gang) = gang_of(shape) else { continue };
            let node = &problem.nodes[claim.node as usize];
            let label = problem.gangs[gang as usize].uniform.map(|label| label as usize);
            let value = label.map(|label| problem.labels[label][node.group as usize]);
            prop_assert_ne!(value, Some(None), "a node without the label");
            let (count, domains) = claimed.entry((claim.queue, gang)).or_default();
            *count += claim.count;
            domains.insert((node.cluster, value.flatten()));
        }
        for ((queue, gang), (count, domains)) in claimed {
            let runs = problem.queues[queue as usize].runs.iter();
            let runs = runs.filter(|run| gang_of(run.shape) == Some(gang));
            prop_assert_eq!(count, runs.map(|run| run.count).sum::<u64>());
            prop_assert_eq!(domains.len(), 1, "{:?}", domains);
        }
        let mut gone: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for preemption in &plan.preemptions {
            let running = problem.running[preemption.running as usize];
            prop_assert!(preemption.count <= running.count);
            let request = problem.request_of(running.shape)[0];
            left[running.node as usize] += request * preemption.count as i64;
            if let Some(gang) = gang_of(running.shape) {
                *gone.entry((running.queue, gang)).or_default() += preemption.count;
            }
            let claimant = shape_of(&plan.claims[preemption.claim as usize]);
            let (of, by) = (problem.priority_of(running.shape), problem.priority_of(claimant));
            prop_assert!(of < by || of == by && preemption.cause == Cause::Fairness);
        }
        for ((queue, gang), count) in gone {
            let all = problem.running.iter();
            let all = all.filter(|r| r.queue == queue && gang_of(r.shape) == Some(gang));
            prop_assert_eq!(count, all.map(|running| running.count).sum::<u64>());
        }
        for pick in &plan.picks {
            left[pick.node as usize] -= problem.request_of(pick.shape)[0] * pick.count as i64;
        }
        prop_assert!(left.iter().all(|left| *left >= 0), "{left:?}");
        let all: u64 = plan.preemptions.iter().map(|p| p.count).sum();
        let claims: BTreeSet<u32> = plan.preemptions.iter().map(|p| p.claim).collect();
        prop_assert!(all <= problem.preemptions_max || claims.len() == 1, "{all} {claims:?}");
    }
}

/// The same, with nodes on which jobs of two classes run, gangs among them.
fn full_pools() -> impl Strategy<Value = Problem> {
    let rows = vec((0_usize..4, 0_u32..6, 0_usize..8, 1_u64..4, 0_u64..99), 0..12);
    (problems(), rows, vec(0_u32..2, 6), 0_u64..16).prop_map(|(mut problem, rows, of, max)| {
        problem.classes = vec![ClassIn { priority: 0 }, ClassIn { priority: 5 }];
        for (shape, class) in problem.shapes.iter_mut().zip(&of) {
            shape.class = *class;
        }
        // The members of a gang are of one class.
        problem.shapes[1].class = of[0];
        let priorities: Vec<i32> = (0..6).map(|shape| problem.priority_of(shape)).collect();
        for queue in &mut problem.queues {
            queue.runs.sort_by_key(|run| -priorities[run.shape as usize]);
            queue.runs.iter_mut().for_each(|run| run.is_overdue = false);
            queue.demand = vec![1_000];
        }
        (problem.preemptions_max, problem.protected) = (max, 1_000);
        let (queues, nodes) = (problem.queues.len(), problem.nodes.len());
        for (queue, shape, node, count, age) in rows.into_iter().filter(|_| nodes > 0) {
            let (queue, node) = (queue % queues, node % nodes);
            let takes = problem.request_of(shape)[0] * count as i64;
            problem.queues[queue].allocated[0] += takes;
            problem.nodes[node].capacity[0] += takes;
            problem.total[0] += takes;
            let (queue, node) = (queue as u32, node as u32);
            let alike = |r: &RunningIn| (r.queue, r.shape, r.node) == (queue, shape, node);
            match problem.running.iter_mut().find(|running| alike(running)) {
                Some(running) => running.count += count,
                None => problem.running.push(RunningIn { queue, shape, node, count, age }),
            }
        }
        problem
    })
}

/// Gangs and jobs for themselves, of one resource, on nodes of some clusters.
fn problems() -> impl Strategy<Value = Problem> {
    let gangs = vec((1_u64..5, prop::option::of(Just(0_u32))), 4);
    let gangs = gangs.prop_map(|gangs| {
        let gang = |(cardinality, uniform)| GangIn { cardinality, uniform };
        gangs.into_iter().map(gang).collect::<Vec<_>>()
    });
    let nodes = vec((0_u32..3, 0_u32..3, 0_i64..12), 0..8);
    let ends = vec(vec((0_u64..50, 1_i64..6), 0..3), 8);
    let shapes = vec((1_i64..5, vec(prop::bool::weighted(0.8), 3)), 6);
    let lasts = vec(prop::option::of(0_u64..50), 6);
    let queues = vec(vec((1_u64..5, any::<bool>()), 6), 1..4);
    let times = (ends, lasts);
    (gangs, nodes, shapes, queues, times).prop_map(|(gangs, nodes, shapes, queues, times)| {
        // Shapes 0 and 1 are of gang 0, 2 to 4 of the others, 5 of none.
        let of = [Some(0), Some(0), Some(1), Some(2), Some(3), None];
        let cpus: Vec<_> = shapes.iter().map(|(cpu, _)| *cpu).zip(of).collect();
        let mut problem = pool(&nodes, &cpus, &gangs);
        problem.total[0] += 1;
        let (ends, lasts) = times;
        for (node, ends) in problem.nodes.iter_mut().zip(ends) {
            let end = |(within, cpu)| EndIn { within, amounts: vec![cpu] };
            node.ends = ends.into_iter().map(end).collect();
        }
        for (shape, lasts) in problem.shapes.iter_mut().zip(lasts) {
            shape.lasts = lasts;
        }
        problem.admits = shapes.into_iter().map(|(_, admits)| admits).collect();
        problem.queues = queues
            .into_iter()
            .map(|runs| {
                let runs = (0..).zip(runs).filter(|(_, (count, _))| *count > 1);
                let runs =
                    runs.map(|(shape, (count, is_overdue))| RunIn { shape, count, is_overdue });
                let runs = runs.collect();
                QueueIn { weight: 1000, allocated: vec![0], runs, ..QueueIn::default() }
            })
            .collect();
        problem
    })
}
