//! Progressive filling: the loop that gives the queue with the lowest share its next job.
//!
//! Several jobs are placed at once only where placing them one by one would do the same: the queue
//! stays the lowest, the jobs are of one run, and the best-fitting node stays the best as it fills
//! up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::nodes::Nodes;
use super::ratio::{Ratio, dominant_resource};
use super::{Pick, Plan, Problem, QueueIn, Reason, Unplaced};

/// A queue that may have something placeable. The lowest turn is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    share: Ratio,
    queue: u32,
}

/// What a round knows of a shape.
struct Shape {
    /// Zones that have nodes and admit it.
    zones: Vec<u32>,
    /// The resource by which its nodes are chosen.
    dominant: usize,
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
        let shapes = shapes_of(problem, &zone_of_group, zones);
        let mut ordered_by: Vec<usize> = shapes.iter().map(|shape| shape.dominant).collect();
        ordered_by.sort_unstable();
        ordered_by.dedup();
        let nodes =
            Nodes::new(&problem.nodes, problem.total.len(), &zone_of_group, zones, ordered_by);
        let queues = problem.queues.iter().map(Queue::new).collect();
        let waiting = problem
            .queues
            .iter()
            .enumerate()
            .map(|(queue, input)| {
                let share = share_with(problem, input, &input.allocated, None);
                Reverse(Turn { share, queue: queue as u32 })
            })
            .collect();
        Round { problem, shapes, nodes, queues, waiting, plan: Plan::default() }
    }

    /// Places jobs until nothing is placeable or the budget is used.
    pub(super) fn fill(mut self) -> Plan {
        while self.plan.figures.placed < self.problem.picks_max {
            let Some(Reverse(turn)) = self.waiting.pop() else { break };
            let Some(place) = self.next_place(turn.queue) else { continue };
            let count = self.jobs_at_once(turn.queue, &place);
            self.place(turn.queue, &place, count);
            let input = &self.problem.queues[turn.queue as usize];
            let allocated = &self.queues[turn.queue as usize].allocated;
            let share = share_with(self.problem, input, allocated, None);
            self.waiting.push(Reverse(Turn { share, queue: turn.queue }));
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
        let request = &self.problem.shapes[shape as usize].request;
        let known = &mut self.shapes[shape as usize];
        if let Some(reason) = known.out {
            return Err(reason);
        }
        self.plan.figures.searches += 1;
        self.nodes.best_fit(&known.zones, request, known.dominant).ok_or_else(|| {
            let over = request.iter().zip(&self.problem.total).any(|(asked, total)| asked > total);
            *known.out.insert(if over { Reason::NeverFits } else { Reason::NoRoomNow })
        })
    }

    /// How many jobs can be placed at the place before another queue's turn comes, at least 1.
    fn jobs_at_once(&self, queue: u32, place: &Place) -> u64 {
        let rival = self.waiting.peek().map(|Reverse(turn)| *turn);
        let input = &self.problem.queues[queue as usize];
        let at = &self.queues[queue as usize];
        let request = &self.problem.shapes[place.shape as usize].request;
        let still_first = |placed: u64| {
            rival.is_none_or(|rival| {
                let share = share_with(self.problem, input, &at.allocated, Some((request, placed)));
                Turn { share, queue } < rival
            })
        };
        if !still_first(1) {
            return 1;
        }
        let most = at
            .left
            .min(self.nodes.room_for(place.node, request))
            .min(self.problem.picks_max - self.plan.figures.placed)
            .min(i64::MAX as u64);
        // The share never falls as jobs are placed, so the last count that leaves the queue first
        // can be found by halving; one job more may then still be placed.
        let (mut first, mut not_first) = (1, most);
        while first + 1 < not_first {
            let middle = first + (not_first - first) / 2;
            if still_first(middle) {
                first = middle;
            } else {
                not_first = middle;
            }
        }
        not_first
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

/// The weighted dominant share of a queue that holds `allocated` and `more.1` times `more.0`.
fn share_with(
    problem: &Problem,
    queue: &QueueIn,
    allocated: &[i64],
    more: Option<(&[i64], u64)>,
) -> Ratio {
    let share = match more {
        None => Ratio::dominant(&problem.total, allocated.iter().copied()),
        Some((request, count)) => {
            let amounts = allocated.iter().zip(request);
            let amounts = amounts.map(|(held, request)| plus(*held, *request, count));
            Ratio::dominant(&problem.total, amounts)
        }
    };
    share.per(queue.weight)
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
    for row in &problem.admits {
        let mut split: Vec<[Option<u32>; 2]> = vec![[None; 2]; zones];
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

fn shapes_of(problem: &Problem, zone_of_group: &[u32], zones: usize) -> Vec<Shape> {
    let mut group_of_zone = vec![None; zones];
    for node in &problem.nodes {
        group_of_zone[zone_of_group[node.group as usize] as usize] = Some(node.group as usize);
    }
    let admitted = |row: &Vec<bool>, group: &Option<usize>| group.is_some_and(|group| row[group]);
    let shape = |(shape, row): (&super::ShapeIn, &Vec<bool>)| {
        let zones: Vec<u32> = (0..zones as u32)
            .filter(|zone| admitted(row, &group_of_zone[*zone as usize]))
            .collect();
        let out = zones.is_empty().then_some(Reason::NeverFits);
        let dominant = dominant_resource(&problem.total, &shape.request).unwrap_or(0);
        Shape { zones, dominant, out }
    };
    problem.shapes.iter().zip(&problem.admits).map(shape).collect()
}
