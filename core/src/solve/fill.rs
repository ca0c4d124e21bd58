//! Progressive filling: the loop that gives the queue with the lowest share its next job.
//!
//! Several jobs are placed at once only where placing them one by one would do the same: the queue
//! stays the lowest, the jobs are of one run, and the best-fitting node stays the best as it fills
//! up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::nodes::{Nodes, Wanted};
use super::ratio::{Level, Part, dominant_resource};
use super::{Pick, Plan, Problem, QueueIn, Reason, Unplaced};

/// A queue that may have something placeable. The lowest turn is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    level: Level,
    queue: u32,
}

/// What a round knows of a shape.
struct Shape {
    /// What it looks for.
    wanted: Wanted,
    /// Set once it is known that it fits no node in this round.
    out: Option<Reason>,
}

/// How far a queue has come.
struct Queue {
    allocated: Vec<i64>,
    /// The run it is at.
    run: usize,
    /// How much of that run is not placed.
    left: u64,
    /// Its last entry in the plan.
    last_pick: Option<usize>,
}

/// Where the next jobs of a queue go.
struct Place {
    shape: u32,
    node: u32,
}

/// One round of the solver.
pub(super) struct Round<'a> {
    problem: &'a Problem,
    shapes: Vec<Shape>,
    nodes: Nodes,
    queues: Vec<Queue>,
    waiting: BinaryHeap<Reverse<Turn>>,
    plan: Plan,
}

impl<'a> Round<'a> {
    pub(super) fn new(problem: &'a Problem) -> Round<'a> {
        let (zone_of_group, zones) = zones_of_groups(problem);
        let admitted = zones_of_shapes(problem, &zone_of_group, zones);
        let shapes = problem.shapes.iter().zip(&admitted);
        let mut shapes: Vec<Shape> = shapes
            .map(|(shape, zones)| Shape::new(&problem.total, &shape.request, zones))
            .collect();
        let looked_for = is_looked_for(problem);
        let wanted = shapes.iter_mut().zip(admitted).zip(looked_for);
        let wanted = wanted.filter_map(|((shape, zones), looked_for)| {
            looked_for.then_some((&mut shape.wanted, zones))
        });
        let nodes = Nodes::new(&problem.nodes, problem.total.len(), &zone_of_group, zones, wanted);
        let queues = problem.queues.iter().map(Queue::new).collect();
        let waiting = problem
            .queues
            .iter()
            .enumerate()
            .map(|(queue, input)| {
                let level = Part::dominant(&problem.total, input.allocated.iter().copied());
                Reverse(Turn { level: level.per(input.weight), queue: queue as u32 })
            })
            .collect();
        Round { problem, shapes, nodes, queues, waiting, plan: Plan::default() }
    }

    /// Places jobs until nothing is placeable or the budget is used.
    pub(super) fn fill(mut self) -> Plan {
        while self.plan.figures.placed < self.problem.picks_max {
            let Some(Reverse(turn)) = self.waiting.pop() else { break };
            let Some(place) = self.next_place(turn.queue) else { continue };
            let (count, level) = self.jobs_at_once(turn.queue, &place);
            self.place(turn.queue, &place, count);
            self.waiting.push(Reverse(Turn { level, queue: turn.queue }));
        }
        self.report_the_rest();
        self.plan.figures.nodes_looked_at = self.nodes.looked_at;
        self.plan
    }

    /// Goes on to the first run of the queue that fits somewhere.
    fn next_place(&mut self, queue: u32) -> Option<Place> {
        let runs = &self.problem.queues[queue as usize].runs;
        loop {
            let at = &self.queues[queue as usize];
            let (run, left) = (at.run, at.left);
            let shape = runs.get(run)?.shape;
            if left > 0 {
                match self.node_for(shape) {
                    Ok(node) => return Some(Place { shape, node }),
                    Err(reason) => self.refuse(queue, run, left, reason),
                }
            }
            self.queues[queue as usize].start_run(run + 1, &self.problem.queues[queue as usize]);
        }
    }

    /// The best-fitting node for one job of the shape, or why there is none.
    fn node_for(&mut self, shape: u32) -> Result<u32, Reason> {
        let known = &mut self.shapes[shape as usize];
        if let Some(reason) = known.out {
            return Err(reason);
        }
        self.plan.figures.searches += 1;
        self.nodes.best_fit(&mut known.wanted).ok_or_else(|| {
            let request = &self.problem.shapes[shape as usize].request;
            let over = request.iter().zip(&self.problem.total).any(|(asked, total)| asked > total);
            *known.out.insert(if over { Reason::NeverFits } else { Reason::NoRoomNow })
        })
    }

    /// How many jobs can be placed at the place before another queue's turn comes, at least 1; and
    /// the level of the queue after them.
    fn jobs_at_once(&self, queue: u32, place: &Place) -> (u64, Level) {
        let rival = self.waiting.peek().map(|Reverse(turn)| *turn);
        let weight = self.problem.queues[queue as usize].weight;
        let at = &self.queues[queue as usize];
        let request = &self.problem.shapes[place.shape as usize].request;
        let level_after = |placed: u64| {
            let amounts = at.allocated.iter().zip(request);
            let amounts = amounts.map(|(held, request)| plus(*held, *request, placed));
            Part::dominant(&self.problem.total, amounts).per(weight)
        };
        let is_first = |level: Level| rival.is_none_or(|rival| Turn { level, queue } < rival);
        let after_one = level_after(1);
        if !is_first(after_one) {
            return (1, after_one);
        }
        let most = at
            .left
            .min(self.nodes.room_for(place.node, request))
            .min(self.problem.picks_max - self.plan.figures.placed)
            .min(i64::MAX as u64);
        // The level never falls as jobs are placed, so the last count that leaves the queue first
        // can be found by halving; one job more may then still be placed.
        let (mut first, mut not_first) = (1, most);
        while first + 1 < not_first {
            let middle = first + (not_first - first) / 2;
            if is_first(level_after(middle)) {
                first = middle;
            } else {
                not_first = middle;
            }
        }
        (not_first, level_after(not_first))
    }

    fn place(&mut self, queue: u32, place: &Place, count: u64) {
        let request = &self.problem.shapes[place.shape as usize].request;
        self.nodes.take(place.node, request, count);
        let at = &mut self.queues[queue as usize];
        add(&mut at.allocated, request, count);
        at.left -= count;
        self.plan.figures.placed += count;
        self.plan.figures.steps += 1;
        let run = at.run as u32;
        if let Some(last) = at.last_pick.map(|last| &mut self.plan.picks[last])
            && (last.run, last.node) == (run, place.node)
        {
            last.count += count;
            return;
        }
        at.last_pick = Some(self.plan.picks.len());
        self.plan.picks.push(Pick { queue, run, shape: place.shape, node: place.node, count });
    }

    /// Reports what the queues still have waiting when the budget is used.
    fn report_the_rest(&mut self) {
        while let Some(Reverse(turn)) = self.waiting.pop() {
            let input = &self.problem.queues[turn.queue as usize];
            for run in self.queues[turn.queue as usize].run..input.runs.len() {
                let at = &self.queues[turn.queue as usize];
                let left = if run == at.run { at.left } else { input.runs[run].count };
                let shape = &self.shapes[input.runs[run].shape as usize];
                self.refuse(turn.queue, run, left, shape.out.unwrap_or(Reason::Budget));
            }
        }
        self.plan.unplaced.sort_unstable_by_key(|unplaced| (unplaced.queue, unplaced.run));
    }

    fn refuse(&mut self, queue: u32, run: usize, count: u64, reason: Reason) {
        if count > 0 {
            self.plan.unplaced.push(Unplaced { queue, run: run as u32, count, reason });
        }
    }
}

impl Shape {
    fn new(total: &[i64], request: &[i64], zones: &[u32]) -> Shape {
        let dominant = dominant_resource(total, request).unwrap_or(0);
        let out = zones.is_empty().then_some(Reason::NeverFits);
        Shape { wanted: Wanted::new(request, dominant), out }
    }
}

impl Queue {
    fn new(input: &QueueIn) -> Queue {
        let mut this =
            Queue { allocated: input.allocated.clone(), run: 0, left: 0, last_pick: None };
        this.start_run(0, input);
        this
    }

    fn start_run(&mut self, run: usize, input: &QueueIn) {
        self.run = run;
        self.left = input.runs.get(run).map_or(0, |run| run.count);
    }
}

fn add(allocated: &mut [i64], request: &[i64], count: u64) {
    for (held, request) in allocated.iter_mut().zip(request) {
        *held = plus(*held, *request, count);
    }
}

/// `held + count * request`, or the largest amount there is.
fn plus(held: i64, request: i64, count: u64) -> i64 {
    held.saturating_add(request.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// Joins the groups that no shape tells apart into zones: the zone of every group, and how many
/// there are. So a label that differs on every node costs nothing while no shape asks for it.
fn zones_of_groups(problem: &Problem) -> (Vec<u32>, usize) {
    let mut zone_of = vec![0_u32; problem.groups as usize];
    let mut zones = 1;
    let mut split: Vec<[Option<u32>; 2]> = Vec::new();
    for row in &problem.admits {
        split.clear();
        split.resize(zones, [None; 2]);
        let mut found = 0;
        for (zone, &admitted) in zone_of.iter_mut().zip(row) {
            *zone = *split[*zone as usize][usize::from(admitted)].get_or_insert_with(|| {
                found += 1;
                found - 1
            });
        }
        zones = (found as usize).max(1);
    }
    (zone_of, zones)
}

/// The zones of each shape: those that have nodes and admit it.
fn zones_of_shapes(problem: &Problem, zone_of_group: &[u32], zones: usize) -> Vec<Vec<u32>> {
    let mut group_of_zone = vec![None; zones];
    for node in &problem.nodes {
        group_of_zone[zone_of_group[node.group as usize] as usize] = Some(node.group as usize);
    }
    let admitted = |row: &Vec<bool>, group: &Option<usize>| group.is_some_and(|group| row[group]);
    let zones_of = |row: &Vec<bool>| {
        let mut admitting = Vec::with_capacity(zones);
        let all = 0..zones as u32;
        admitting.extend(all.filter(|zone| admitted(row, &group_of_zone[*zone as usize])));
        admitting
    };
    problem.admits.iter().map(zones_of).collect()
}

/// By shape, whether any queue has jobs of it.
fn is_looked_for(problem: &Problem) -> Vec<bool> {
    let mut looked_for = vec![false; problem.shapes.len()];
    for run in problem.queues.iter().flat_map(|queue| &queue.runs) {
        looked_for[run.shape as usize] |= run.count > 0;
    }
    looked_for
}
