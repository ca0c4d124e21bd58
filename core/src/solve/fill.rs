//! Progressive filling: the loop that gives the queue with the lowest share its next job.
//!
//! Several jobs are placed at once only where placing them one by one would do the same: the queue
//! stays the lowest, the jobs are of one run, and the best-fitting node stays the best as it fills
//! up.

mod backfill;
mod claims;
mod gangs;
mod rows;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use self::backfill::KeptRoom;
use super::caps::Caps;
use super::later::Later;
use super::nodes::{Indexing, NO_ZONE, Nodes, Wanted};
use super::ratio::{Level, Part, dominant_resource};
use super::victims::Victims;
use super::zones::Zones;
use super::{Pick, Plan, Problem, QueueIn, Reason, RunIn, ShapeIn, Unplaced};

/// A queue that may have something placeable. The lowest turn is next: of the highest class, then
/// of the lowest share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    class: Reverse<i32>,
    level: Level,
    queue: u32,
}

/// What a round knows of a shape.
struct Shape {
    /// How nodes are looked for.
    wanted: Wanted,
    /// Set once it is known that it fits no node in this round.
    out: Option<Out>,
}

/// Why a shape fits no node. Apart from [`Reason`], since there may be a million of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Out {
    Never,
    Now,
}

/// How far a queue has come.
struct Queue {
    /// What it holds, and what it is charged beside.
    counted: Vec<i64>,
    /// The run it is at.
    run: usize,
    /// How much of that run is not placed.
    left: u64,
    /// For how much of it room is being made.
    claimed: u64,
    /// How many of its jobs may still be placed.
    picks_left: u64,
    /// For how many of its jobs, or gangs, room is kept.
    keeps: u64,
    /// Its last entry in the plan.
    last_pick: Option<usize>,
}

/// Where the next jobs of a queue go.
struct Place {
    shape: u32,
    node: u32,
}

/// What a queue can do in its turn.
enum Next {
    /// Its next jobs go here.
    Place(Place),
    /// What came next counts as placed already: a gang, or a job that room is made for.
    Counted,
    /// It has nothing left of its class; the next is of this priority.
    OtherClass(i32),
    /// It has nothing left.
    Nothing,
}

/// One round of the solver.
pub(super) struct Round<'a> {
    problem: &'a Problem,
    zones: Zones,
    shapes: Vec<Shape>,
    nodes: Nodes,
    queues: Vec<Queue>,
    caps: Caps,
    later: Later,
    /// What may be preempted, if there is any and it may.
    victims: Option<Victims<'a>>,
    keeps: claims::Keeps,
    /// Where room is kept.
    kept: KeptRoom,
    gangs: gangs::Known,
    waiting: BinaryHeap<Reverse<Turn>>,
    /// `[queue]`: what was refused.
    unplaced: Vec<Vec<Unplaced>>,
    plan: Plan,
}

impl<'a> Round<'a> {
    pub(super) fn new(problem: &'a Problem) -> Round<'a> {
        let zones = Zones::new(problem);
        let free = problem.nodes.iter().flat_map(|node| node.free.iter().copied()).collect();
        let open = problem.nodes.iter().zip(&zones.of_node);
        let open = open.map(|(node, zone)| if node.is_closed { NO_ZONE } else { *zone }).collect();
        let mut indexing = Indexing::new(free, problem.total.len(), open, &zones);
        let shapes = shapes(problem, &zones, &mut indexing);
        let nodes = indexing.finish();
        let may_preempt = problem.preemptions_max > 0 && !problem.running.is_empty();
        let mut this = Round {
            problem,
            zones,
            shapes,
            nodes,
            queues: problem.queues.iter().map(Queue::new).collect(),
            caps: Caps::new(&problem.caps),
            later: Later::new(problem),
            victims: may_preempt.then(|| Victims::new(problem)),
            keeps: claims::Keeps::new(problem),
            kept: KeptRoom::default(),
            gangs: gangs::Known::new(),
            waiting: BinaryHeap::new(),
            unplaced: vec![Vec::new(); problem.queues.len()],
            plan: Plan::default(),
        };
        for (queue, input) in (0..).zip(&problem.queues) {
            if let Some(run) = input.runs.first() {
                let class = Reverse(problem.priority_of(run.shape));
                this.waiting.push(Reverse(Turn { class, level: this.level(queue), queue }));
            }
        }
        this
    }

    /// Places jobs until nothing is placeable or the budget is used.
    pub(super) fn fill(mut self) -> Plan {
        while self.plan.figures.placed < self.problem.picks_max {
            let Some(Reverse(turn)) = self.waiting.pop() else { break };
            match self.next(turn) {
                Next::Place(place) => {
                    let (count, level) = self.jobs_at_once(turn, &place);
                    self.place(turn.queue, &place, count);
                    self.waiting.push(Reverse(Turn { level, ..turn }));
                }
                Next::Counted => {
                    let level = self.level(turn.queue);
                    self.waiting.push(Reverse(Turn { level, ..turn }));
                }
                Next::OtherClass(priority) => {
                    self.waiting.push(Reverse(Turn { class: Reverse(priority), ..turn }));
                }
                Next::Nothing => {}
            }
        }
        self.report_the_rest();
        self.plan.figures.nodes_looked_at = self.nodes.looked_at;
        self.plan
    }

    fn level(&self, queue: u32) -> Level {
        let counted = self.queues[queue as usize].counted.iter().copied();
        let weight = self.problem.queues[queue as usize].weight;
        Part::dominant(&self.problem.total, counted).per(weight)
    }

    /// Goes on to the first run of the queue that fits somewhere.
    fn next(&mut self, turn: Turn) -> Next {
        let queue = turn.queue as usize;
        loop {
            self.pass_over(turn);
            let at = &self.queues[queue];
            let (run, left) = (at.run, at.left);
            let Some(&RunIn { shape, .. }) = self.problem.queues[queue].runs.get(run) else {
                return Next::Nothing;
            };
            let priority = self.problem.priority_of(shape);
            if priority != turn.class.0 {
                assert!(priority < turn.class.0, "runs of higher classes come first");
                return Next::OtherClass(priority);
            }
            if let Some(gang) = self.problem.shapes[shape as usize].gang {
                match self.place_gang(turn, gang) {
                    gangs::Outcome::Placed => return Next::Counted,
                    gangs::Outcome::Refused => continue,
                }
            }
            if left > 0 {
                match self.allowed_node(turn.queue, shape) {
                    Ok(node) => return Next::Place(Place { shape, node }),
                    Err(Reason::NoRoomNow) if self.backfill(turn, shape) => return Next::Counted,
                    Err(Reason::NoRoomNow) if self.claim(turn, shape) => return Next::Counted,
                    Err(reason) => self.refuse(turn.queue, run, left, reason),
                }
            }
            self.start_run(turn.queue, run + 1);
        }
    }

    /// Goes past runs for which, as is known without a search, no node has room, where nothing else
    /// would do. Of shapes that are all different those are most: it looks at nothing but that.
    fn pass_over(&mut self, turn: Turn) {
        let queue = turn.queue as usize;
        let (input, at) = (&self.problem.queues[queue], &self.queues[queue]);
        let may_claim = self.victims.is_some() || self.later.is_any() || self.kept.is_any();
        let is_limited = at.picks_left == 0 || !input.caps.is_empty();
        let is_begun = at.left > 0 && input.runs.get(at.run).is_none_or(|run| run.count > at.left);
        if may_claim || is_limited || is_begun {
            return;
        }
        let first = at.run + usize::from(at.left == 0);
        let mut run = first;
        while let Some(next) = input.runs.get(run)
            && let Some(out) = self.out_at_once(turn, next)
        {
            self.refuse(turn.queue, run, next.count, out.reason());
            run += 1;
        }
        if run > first {
            self.queues[queue].start_run(run, input);
        }
    }

    /// Why there is no room for a run of which nothing but room is to be looked at, if that is
    /// known without a search.
    fn out_at_once(&mut self, turn: Turn, run: &RunIn) -> Option<Out> {
        let shape = &self.problem.shapes[run.shape as usize];
        let known = &mut self.shapes[run.shape as usize];
        let is_plain = run.count > 0 && !run.is_overdue && shape.gang.is_none();
        if !is_plain || self.problem.priority_of(run.shape) != turn.class.0 {
            return None;
        }
        if known.out.is_none() && !self.nodes.may_hold(&known.wanted, &shape.request) {
            self.plan.figures.searches += 1;
            known.out = Some(Out::of(&shape.request, &self.problem.total));
        }
        known.out
    }

    /// The best-fitting node for one job of the queue, limits permitting.
    fn allowed_node(&mut self, queue: u32, shape: u32) -> Result<u32, Reason> {
        if self.queues[queue as usize].picks_left == 0 {
            return Err(Reason::Rate);
        }
        self.room_under_caps(queue, shape).map_err(Reason::Cap)?;
        self.node_for(shape)
    }

    fn room_under_caps(&self, queue: u32, shape: u32) -> Result<u64, u32> {
        let input = &self.problem.queues[queue as usize];
        let class = self.problem.shapes[shape as usize].class;
        self.caps.room(input, class, self.problem.request_of(shape))
    }

    /// Counts jobs that have, or will have, room on a node.
    fn took(&mut self, queue: u32, shape: u32, node: u32, count: u64) {
        let request = self.problem.request_of(shape);
        self.kept.taken(node, request, count);
        if let Some(victims) = &mut self.victims {
            victims.taken(node, request, count);
        }
        let class = self.problem.shapes[shape as usize].class;
        self.caps.take(&self.problem.queues[queue as usize], class, request, count);
        let at = &mut self.queues[queue as usize];
        add(&mut at.counted, request, count);
        at.left -= count;
    }

    /// Goes on to a run.
    fn start_run(&mut self, queue: u32, run: usize) {
        let at = &mut self.queues[queue as usize];
        let (before, claimed) = (at.run, std::mem::take(&mut at.claimed));
        at.start_run(run, &self.problem.queues[queue as usize]);
        self.refuse(queue, before, claimed, Reason::Claimed);
    }

    /// The best-fitting node for one job of the shape, or why there is none.
    fn node_for(&mut self, shape: u32) -> Result<u32, Reason> {
        let known = &mut self.shapes[shape as usize];
        if let Some(out) = known.out {
            return Err(out.reason());
        }
        self.plan.figures.searches += 1;
        let request = self.problem.request_of(shape);
        let spreads = self.problem.shapes[shape as usize].spreads;
        let found = match spreads {
            true => self.nodes.widest_fit(shape, &known.wanted, request),
            false => self.nodes.best_fit(&mut known.wanted, request),
        };
        found.ok_or_else(|| known.out.insert(Out::of(request, &self.problem.total)).reason())
    }

    /// How many jobs can be placed at the place before another queue's turn comes, at least 1; and
    /// the level of the queue after them.
    fn jobs_at_once(&self, turn: Turn, place: &Place) -> (u64, Level) {
        let rival = self.waiting.peek().map(|Reverse(turn)| *turn);
        let weight = self.problem.queues[turn.queue as usize].weight;
        let at = &self.queues[turn.queue as usize];
        let request = self.problem.request_of(place.shape);
        let level_after = |placed: u64| {
            let amounts = at.counted.iter().zip(request);
            let amounts = amounts.map(|(held, request)| plus(*held, *request, placed));
            Part::dominant(&self.problem.total, amounts).per(weight)
        };
        let is_first = |level: Level| rival.is_none_or(|rival| Turn { level, ..turn } < rival);
        let after_one = level_after(1);
        if !is_first(after_one) || self.problem.shapes[place.shape as usize].spreads {
            return (1, after_one);
        }
        let most = at
            .left
            .min(self.nodes.room_for(place.node, request))
            .min(at.picks_left)
            .min(self.room_under_caps(turn.queue, place.shape).unwrap_or(1))
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
        self.nodes.take(place.node, self.problem.request_of(place.shape), count);
        self.placed(queue, place, count);
    }

    /// Counts jobs that were placed.
    fn placed(&mut self, queue: u32, place: &Place, count: u64) {
        self.took(queue, place.shape, place.node, count);
        let at = &mut self.queues[queue as usize];
        at.picks_left -= count;
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
            let runs = &self.problem.queues[turn.queue as usize].runs;
            while let at = &self.queues[turn.queue as usize]
                && let Some(run) = runs.get(at.run)
            {
                let (number, left) = (at.run, at.left);
                let out = self.shapes[run.shape as usize].out;
                let reason = out.map_or(Reason::Budget, Out::reason);
                self.refuse(turn.queue, number, left, reason);
                self.start_run(turn.queue, number + 1);
            }
        }
        for mut of_queue in std::mem::take(&mut self.unplaced) {
            // It is in order for the most part, which a stable sort makes use of.
            of_queue.sort_by_key(|rest| (rest.run, rest.reason));
            self.plan.unplaced.append(&mut of_queue);
        }
    }

    /// Jobs of a run are refused. Of a million runs that fit nowhere most stand next to each other:
    /// it is told of them together.
    fn refuse(&mut self, queue: u32, run: usize, count: u64, reason: Reason) {
        if count == 0 {
            return;
        }
        let runs = &self.problem.queues[queue as usize].runs;
        let is_whole =
            |rest: &Unplaced| rest.runs > 1 || rest.count == runs[rest.run as usize].count;
        let rest = Unplaced { queue, run: run as u32, runs: 1, count, reason };
        let unplaced = &mut self.unplaced[queue as usize];
        let last = unplaced.last_mut().filter(|last| {
            let is_next = last.run + last.runs == rest.run && last.reason == reason;
            is_next && is_whole(last) && is_whole(&rest)
        });
        match last {
            Some(last) => {
                last.runs += 1;
                last.count = last.count.saturating_add(count);
            }
            None => unplaced.push(rest),
        }
    }
}

impl Out {
    /// Why what takes `request` finds no room.
    fn of(request: &[i64], total: &[i64]) -> Out {
        let is_over = request.iter().zip(total).any(|(asked, total)| asked > total);
        if is_over { Out::Never } else { Out::Now }
    }

    fn reason(self) -> Reason {
        match self {
            Out::Never => Reason::NeverFits,
            Out::Now => Reason::NoRoomNow,
        }
    }
}

impl Shape {
    /// The resource by which it chooses.
    fn dominant(&self) -> usize {
        self.wanted.resource()
    }
}

impl Queue {
    fn new(input: &QueueIn) -> Queue {
        let mut counted = input.allocated.clone();
        add(&mut counted, &input.charged, 1);
        let picks_left = input.picks_max.unwrap_or(u64::MAX);
        let mut this =
            Queue { counted, run: 0, left: 0, claimed: 0, picks_left, keeps: 0, last_pick: None };
        this.start_run(0, input);
        this
    }

    fn start_run(&mut self, run: usize, input: &QueueIn) {
        self.run = run;
        self.left = input.runs.get(run).map_or(0, |run| run.count);
    }

    /// What it holds.
    fn held(&self, input: &QueueIn) -> Vec<i64> {
        let mut held = self.counted.clone();
        take(&mut held, &input.charged, 1);
        held
    }
}

/// Adds `count` times `request`.
pub(super) fn add(amounts: &mut [i64], request: &[i64], count: u64) {
    for (amount, request) in amounts.iter_mut().zip(request) {
        *amount = plus(*amount, *request, count);
    }
}

/// Takes `count` times `request` away.
fn take(amounts: &mut [i64], request: &[i64], count: u64) {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    for (amount, request) in amounts.iter_mut().zip(request) {
        *amount = amount.saturating_sub(request.saturating_mul(count));
    }
}

/// `held + count * request`, or the largest amount there is.
fn plus(held: i64, request: i64, count: u64) -> i64 {
    held.saturating_add(request.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// What is known of each shape at first. There may be a million of them: each is looked at once.
fn shapes(problem: &Problem, zones: &Zones, indexing: &mut Indexing<'_>) -> Vec<Shape> {
    let mut is_wanted = vec![false; problem.shapes.len()];
    for run in problem.queues.iter().flat_map(|queue| &queue.runs) {
        let is_wanted = is_wanted.get_mut(run.shape as usize);
        *is_wanted.expect("a run names a shape of the problem") |= run.count > 0;
    }
    let shape = |((number, input), is_wanted): ((u32, &ShapeIn), bool)| {
        problem.check_shape(input);
        let request = &input.request;
        let dominant = dominant_resource(&problem.total, request).unwrap_or(0);
        let row = zones.row_of(number);
        let wanted = match is_wanted {
            true => indexing.wanted(dominant, request, row),
            false => Wanted::none(dominant),
        };
        Shape { wanted, out: zones.of_row(row).is_empty().then_some(Out::Never) }
    };
    (0..).zip(&problem.shapes).zip(is_wanted).map(shape).collect()
}
