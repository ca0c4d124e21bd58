//! Room that is kept for overdue jobs is used by what is sure to have ended in time, and by nothing
//! else.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::{shape, solve};

const CPUS: i64 = 10;

/// What waits in a queue of the lower class: jobs of so many cpus that last so long at most; or a
/// gang of so many.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    cpus: i64,
    lasts: Option<u64>,
    members: Option<u64>,
}

fn waits(cpus: i64, lasts: Option<u64>) -> Waiting {
    Waiting { cpus, lasts, members: None }
}

#[derive(Debug, Clone)]
struct Running {
    node: usize,
    cpus: i64,
    /// When it ends; never if it is not said.
    at: Option<u64>,
}

/// One queue with an overdue job or gang, of the higher class; one with jobs of all lengths.
#[derive(Debug, Clone)]
struct World {
    nodes: usize,
    /// Nodes of a cluster.
    of_cluster: usize,
    running: Vec<Running>,
    overdue: i64,
    /// Members, if it is a gang.
    members: Option<u64>,
    waiting: Vec<Waiting>,
    now: u64,
}

impl World {
    fn problem(&self) -> Problem {
        let gang = self.members.map(|_| 0);
        let mut shapes = vec![ShapeIn { class: 1, gang, ..shape(vec![self.overdue]) }];
        let mut gangs = vec![GangIn { cardinality: 1, uniform: None }];
        for Waiting { cpus, lasts, members } in &self.waiting {
            let gang = members.map(|_| gangs.len() as u32);
            gangs.extend(members.map(|cardinality| GangIn { cardinality, uniform: None }));
            shapes.push(ShapeIn { lasts: *lasts, gang, ..shape(vec![*cpus]) });
        }
        let counts = self.waiting.iter().map(|waiting| waiting.members.unwrap_or(5));
        let run = |(shape, count)| RunIn { shape, count, is_overdue: false };
        let waiting = (1..).zip(counts).map(run).collect();
        let overdue = RunIn { shape: 0, count: self.members.unwrap_or(1), is_overdue: true };
        let queue = |runs| QueueIn { weight: 1, allocated: vec![0], runs, ..QueueIn::default() };
        Problem {
            total: vec![CPUS * self.nodes as i64],
            classes: vec![ClassIn { priority: 0 }, ClassIn { priority: 1 }],
            gangs,
            groups: 1,
            admits: vec![vec![true]; shapes.len()],
            shapes,
            queues: vec![queue(vec![overdue]), queue(waiting)],
            nodes: (0..self.nodes).map(|node| self.node(node)).collect(),
            picks_max: 100,
            ..Problem::default()
        }
    }

    fn node(&self, node: usize) -> NodeIn {
        let here = self.running.iter().filter(|running| running.node == node);
        let end = |running: &Running| {
            let within = running.at? - self.now;
            Some(EndIn { within, amounts: vec![running.cpus] })
        };
        NodeIn {
            cluster: (node / self.of_cluster) as u32,
            free: vec![CPUS - here.clone().map(|running| running.cpus).sum::<i64>()],
            capacity: vec![CPUS],
            ends: here.filter_map(end).collect(),
            ..NodeIn::default()
        }
    }

    /// What is placed runs, for as long as it may.
    fn start(&mut self, problem: &Problem, plan: &Plan) {
        for pick in &plan.picks {
            let shape = &problem.shapes[pick.shape as usize];
            let at = shape.lasts.map(|lasts| self.now + lasts);
            let one = Running { node: pick.node as usize, cpus: shape.request[0], at };
            self.running.extend(std::iter::repeat_n(one, pick.count as usize));
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        let now = self.now;
        self.running.retain(|running| running.at.is_none_or(|at| at > now));
    }
}

fn world() -> impl Strategy<Value = World> {
    let running = (0..4usize, 1..7i64, prop::option::weighted(0.8, 1..200u64));
    let members = prop::option::weighted(0.4, 2..5u64);
    let waiting = (1..6i64, prop::option::weighted(0.8, 1..200u64), members)
        .prop_map(|(cpus, lasts, members)| Waiting { cpus, lasts, members });
    let overdue = (1..=CPUS, prop::option::of(2..4u64));
    (1..4usize, 1..4usize, vec(running, 0..9), overdue, vec(waiting, 1..5)).prop_map(
        |(nodes, of_cluster, told, (overdue, members), waiting)| {
            let running = Vec::new();
            let mut world = World { nodes, of_cluster, running, overdue, members, waiting, now: 0 };
            for (node, cpus, at) in told.into_iter().filter(|(node, ..)| *node < nodes) {
                if world.node(node).free[0] >= cpus {
                    world.running.push(Running { node, cpus, at });
                }
            }
            world
        },
    )
}

fn kept(plan: &Plan) -> impl Iterator<Item = &Claim> {
    plan.claims.iter().filter(|claim| claim.from == ClaimedFrom::Keeping)
}

fn is_sure(shape: &ShapeIn, within: Option<u64>) -> bool {
    shape.lasts.zip(within).is_some_and(|(lasts, within)| lasts <= within)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1024)
    })]

    #[test]
    fn backfilling_never_delays_who_has_room_kept(
        world in world(),
        waits in vec(1..60u64, 40),
    ) {
        let mut world = world;
        let mut sure: Option<u64> = None;
        for wait in waits {
            let problem = world.problem();
            let plan = solve(&problem);
            if plan.picks.iter().any(|pick| pick.queue == 0) {
                prop_assert!(sure.is_none_or(|sure| world.now <= sure));
                return Ok(());
            }
            let within = kept(&plan).map(|claim| claim.within).next().flatten();
            let next = within.map(|within| world.now + within);
            if let Some(sure) = sure {
                prop_assert!(next.is_some_and(|next| next <= sure), "{next:?} after {sure}");
                prop_assert!(world.now < sure, "it waits beyond {sure}");
            }
            sure = next;
            world.start(&problem, &plan);
            // Nobody looks just when somebody ends.
            let left = sure.map_or(wait, |sure| wait.min(sure - world.now));
            world.wait(left);
        }
    }

    #[test]
    fn b_what_is_sure_to_end_in_time_uses_the_room_and_nothing_else_does(world in world()) {
        let problem = world.problem();
        let plan = solve(&problem);
        for node in 0..problem.nodes.len() as u32 {
            let here = || kept(&plan).filter(|claim| claim.node == node);
            if here().next().is_none() {
                continue;
            }
            let within = here().map(|claim| claim.within).min().flatten();
            let mut free = problem.nodes[node as usize].free[0];
            let claimed: i64 = here()
                .map(|claim| claim.count as i64 * problem.shapes[0].request[0])
                .sum();
            for pick in plan.picks.iter().filter(|pick| pick.node == node) {
                let shape = &problem.shapes[pick.shape as usize];
                let cpus = shape.request[0] * pick.count as i64;
                let is_sure = is_sure(shape, within);
                // Beside what is kept, there may be room for anything.
                prop_assert!(is_sure || cpus <= free - claimed, "{pick:?} on kept room");
                free -= cpus;
            }
            prop_assert!(free >= 0);
            for rest in plan.unplaced.iter().filter(|rest| rest.reason == Reason::NoRoomNow) {
                let shape = &problem.shapes
                    [problem.queues[rest.queue as usize].runs[rest.run as usize].shape as usize];
                if shape.gang.is_some() {
                    continue;
                }
                let is_sure = is_sure(shape, within);
                prop_assert!(!is_sure || shape.request[0] > free, "{rest:?} would be gone in time");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1024)
    })]

    #[test]
    fn h_a_gang_uses_room_that_is_kept_as_a_whole_or_not_at_all(world in world()) {
        let problem = world.problem();
        let plan = solve(&problem);
        let runs = &problem.queues[1].runs;
        for (number, run) in (0..).zip(runs) {
            let shape = &problem.shapes[run.shape as usize];
            if shape.gang.is_none() {
                continue;
            }
            let picks = plan.picks.iter().filter(|pick| (pick.queue, pick.run) == (1, number));
            let placed: u64 = picks.clone().map(|pick| pick.count).sum();
            prop_assert!(placed == 0 || placed == run.count);
            let clusters = picks.map(|pick| problem.nodes[pick.node as usize].cluster);
            prop_assert!(clusters.is_sorted_by(|a, b| a == b), "in several clusters");
            if placed == 0 {
                let rooms = rooms_for(&problem, &plan, shape);
                prop_assert!(rooms.values().all(|room| *room < run.count), "{shape:?} {rooms:?}");
            }
        }
    }
}

/// By cluster, for how many jobs of a shape there is room in the end, with what is kept for longer.
fn rooms_for(problem: &Problem, plan: &Plan, shape: &ShapeIn) -> BTreeMap<u32, u64> {
    let mut rooms = BTreeMap::new();
    for (number, node) in (0..).zip(&problem.nodes) {
        let here = || kept(plan).filter(|claim| claim.node == number);
        let picks = plan.picks.iter().filter(|pick| pick.node == number);
        let taken = picks.map(|p| problem.request_of(p.shape)[0] * p.count as i64).sum::<i64>();
        let claimed = here().map(|claim| claim.count as i64 * problem.shapes[0].request[0]);
        let is_sure = is_sure(shape, here().map(|claim| claim.within).min().flatten());
        let left_to_others: i64 = if is_sure { 0 } else { claimed.sum() };
        let free = node.free[0] - taken - left_to_others;
        *rooms.entry(node.cluster).or_default() +=
            u64::try_from(free / shape.request[0]).unwrap_or(0);
    }
    rooms
}

/// A node of which 8 cpus end at some time, an overdue job of 5, and jobs of 1 that last so long.
fn backfilled(ends: Option<u64>, lasts: Option<u64>) -> (Option<u64>, u64) {
    let running = vec![Running { node: 0, cpus: 8, at: ends }];
    let waiting = vec![waits(1, lasts)];
    let (overdue, members) = (5, None);
    let world = World { nodes: 1, of_cluster: 1, running, overdue, members, waiting, now: 0 };
    let plan = solve(&world.problem());
    let within = kept(&plan).next().unwrap().within;
    (within, plan.figures.placed)
}

#[test]
fn only_what_is_sure_to_end_before_the_room_is_sure_to_be_there_uses_it() {
    assert_eq!(backfilled(Some(100), Some(60)), (Some(100), 2));
    assert_eq!(backfilled(Some(100), Some(100)), (Some(100), 2));
    assert_eq!(backfilled(Some(100), Some(101)), (Some(100), 0));
    assert_eq!(backfilled(Some(100), None), (Some(100), 0));
    // Where nothing is known to end, nothing is sure to have ended before.
    assert_eq!(backfilled(None, Some(1)), (None, 0));
}

#[test]
fn a_gang_uses_room_that_is_kept_if_all_of_it_is_sure_to_have_ended_in_time() {
    let running = [(0, 6, Some(100)), (1, 8, None)];
    let running: Vec<_> =
        running.map(|(node, cpus, at)| Running { node, cpus, at }).into_iter().collect();
    let placed = |lasts| {
        let waiting = vec![Waiting { members: Some(3), ..waits(2, lasts) }];
        let (running, overdue, members) = (running.clone(), 5, None);
        let world = World { nodes: 2, of_cluster: 2, running, overdue, members, waiting, now: 0 };
        let plan = solve(&world.problem());
        assert_eq!(kept(&plan).map(|claim| claim.node).collect::<Vec<_>>(), [0]);
        plan.picks.iter().map(|pick| (pick.node, pick.count)).collect::<Vec<_>>()
    };
    assert_eq!(placed(Some(100)), [(1, 1), (0, 2)]);
    assert_eq!(placed(Some(101)), []);
    assert_eq!(placed(None), []);
}

#[test]
fn room_is_kept_where_it_was_kept_before() {
    let running = [(0, 9), (1, 9)];
    let running = running.map(|(node, cpus)| Running { node, cpus, at: None }).into();
    let (overdue, members, waiting) = (5, None, vec![waits(1, Some(60))]);
    let world = World { nodes: 2, of_cluster: 2, running, overdue, members, waiting, now: 0 };
    let mut problem = world.problem();
    problem.kept = vec![KeptIn { queue: 0, run: 0, node: 1, count: 1, within: Some(70) }];
    let claims = |problem: &Problem| {
        let plan = solve(problem);
        let claims = kept(&plan).map(|claim| (claim.node, claim.within)).collect::<Vec<_>>();
        (claims, plan.picks.iter().filter(|pick| pick.node == 1).count())
    };
    assert_eq!(claims(&problem), (vec![(1, Some(70))], 1));
    // A node that cannot hold the job any more is not it.
    problem.nodes[1].capacity = vec![4];
    assert_eq!(claims(&problem).0, [(0, None)]);
}

#[test]
fn a_gang_has_room_kept_where_it_was_kept_before_or_is_sure_to_have_it_first() {
    let running = [(0, 9, None), (1, 8, Some(50)), (2, 9, Some(30)), (3, 9, Some(40))];
    let running = running.map(|(node, cpus, at)| Running { node, cpus, at }).into();
    let waiting = vec![waits(1, Some(40)), waits(1, Some(41))];
    let (overdue, members) = (9, Some(2));
    let world = World { nodes: 4, of_cluster: 2, running, overdue, members, waiting, now: 0 };
    let mut problem = world.problem();
    let claims = |problem: &Problem| {
        let plan = solve(problem);
        kept(&plan).map(|claim| (claim.node, claim.count, claim.within)).collect::<Vec<_>>()
    };
    // Of the first cluster nobody knows when it has all the room.
    assert_eq!(claims(&problem), [(2, 1, Some(40)), (3, 1, Some(40))]);
    let plan = solve(&problem);
    let on_kept = plan.picks.iter().filter(|pick| pick.node >= 2).map(|pick| pick.shape);
    assert_eq!(on_kept.collect::<Vec<_>>(), [1, 1]);
    let told = |node| KeptIn { queue: 0, run: 0, node, count: 1, within: Some(90) };
    problem.kept = vec![told(0), told(1)];
    assert_eq!(claims(&problem), [(0, 1, Some(90)), (1, 1, Some(90))]);
    problem.kept = vec![told(0)];
    assert_eq!(claims(&problem), [(2, 1, Some(40)), (3, 1, Some(40))], "a part is no gang");
}
