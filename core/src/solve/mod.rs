//! The fair-share solver of a pool: weighted dominant-resource fairness by progressive filling,
//! with best fit on nodes, priority classes, limits, and preemption.
//!
//! [`solve`] is a pure function on dense integers: the same problem gives the same plan, down to
//! every tie. Which job goes next never depends on floating point; which queue may preempt another
//! depends on [`fair_shares`], which are fractions rounded to 2^-52. `README.md` beside this file
//! names the properties that its tests hold it to.

mod caps;
mod digest;
mod fill;
mod later;
mod nodes;
mod order;
mod ratio;
mod shares;
#[cfg(test)]
mod tests;
mod tree;
mod victims;
mod zones;

pub use shares::{Share, dominant_share, fair_shares};
pub use tree::{Group, Leaf, fair_shares_in_tree};

/// What there is to decide in one round. Shapes, classes, groups, queues, caps and nodes are
/// ordinals: positions in their vectors. Amounts are in the smallest unit of their resource
/// (milli-cpu, bytes, pieces).
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Problem {
    /// Capacity of the whole pool, by resource. A resource of which there is none counts in no
    /// share.
    pub total: Vec<i64>,
    /// The priority classes that shapes name.
    pub classes: Vec<ClassIn>,
    /// The gangs that shapes name.
    pub gangs: Vec<GangIn>,
    /// `[label][group]`: the value that nodes of the group have of the labels that gangs name;
    /// none where they lack it.
    pub labels: Vec<Vec<Option<u32>>>,
    /// The shapes that runs name.
    pub shapes: Vec<ShapeIn>,
    /// How many groups of nodes there are; nodes of one group have the same labels and taints.
    pub groups: u32,
    /// `[shape][group]`: jobs of the shape may run on nodes of the group, resources aside.
    pub admits: Vec<Vec<bool>>,
    /// What may be taken together by those who are under a cap.
    pub caps: Vec<CapIn>,
    /// The queues with their work.
    pub queues: Vec<QueueIn>,
    /// The nodes on which jobs may be placed in this round.
    pub nodes: Vec<NodeIn>,
    /// What runs on these nodes and may be preempted. What is not told is safe.
    pub running: Vec<RunningIn>,
    /// Where room is to be kept for overdue jobs; for those that are not named, a node is chosen.
    pub kept: Vec<KeptIn>,
    /// At most so many jobs are placed in this round.
    pub picks_max: u64,
    /// At most so many jobs are preempted in this round.
    pub preemptions_max: u64,
    /// How much of its fair share, in thousandths, a queue keeps when others are below theirs. At
    /// least 1,000: who has no more than its fair share loses nothing to fairness.
    pub protected: u64,
    /// How much of the pool, in thousandths, may be kept for overdue jobs beyond one of each queue.
    pub kept_max: u64,
}

/// A priority class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClassIn {
    /// Higher goes first, whatever the shares of the queues.
    pub priority: i32,
}

/// A shape: what each of its jobs takes from a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct ShapeIn {
    /// By resource, none negative. A resource of which nothing is requested is not looked at.
    pub request: Vec<i64>,
    /// Their priority class.
    pub class: u32,
    /// The gang that they are members of. Jobs of a gang may be of several shapes; their runs stand
    /// next to each other.
    pub gang: Option<u32>,
    /// Whether its jobs go where the most is left, and not the least. Gangs do not ask for it.
    pub spreads: bool,
    /// How many seconds a job lasts at most, from now on if it is placed now; none if that is not
    /// known.
    pub lasts: Option<u64>,
}

/// Jobs that run together or not at all, on one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GangIn {
    /// How many there must be.
    pub cardinality: u64,
    /// The label of which all their nodes must have one value: which of `labels`.
    pub uniform: Option<u32>,
}

/// A limit to what several jobs take together: of one queue, of one of its classes, or of all
/// (licences of a pool).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CapIn {
    /// By resource, what may be taken in this round; `i64::MAX` where there is no limit.
    pub left: Vec<i64>,
}

/// A queue: its claim, what it holds and what it has waiting.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct QueueIn {
    /// In thousandths, more than 0.
    pub weight: u64,
    /// What its jobs hold in the whole pool, by resource.
    pub allocated: Vec<i64>,
    /// What it is charged for the past when shares are compared, by resource; empty for nothing.
    pub charged: Vec<i64>,
    /// What it holds and has waiting, by resource: what its fair share is capped by. May be empty
    /// where there is nothing to preempt, and then room is kept for one of its jobs at a time.
    pub demand: Vec<i64>,
    /// Its waiting jobs, in the order in which they should be placed: classes of higher priority
    /// before others.
    pub runs: Vec<RunIn>,
    /// Caps that its jobs are under, each once: of a class, or of all.
    pub caps: Vec<(Option<u32>, u32)>,
    /// At most so many of its jobs are placed in this round; none for no limit.
    pub picks_max: Option<u64>,
    /// For so many of its overdue jobs room is kept at a time, at most, while it stays within its
    /// fair share with them; for one in any case.
    pub keeps_max: u64,
}

/// Jobs next to each other in a queue's order that are equal to the solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunIn {
    /// Their shape.
    pub shape: u32,
    /// How many.
    pub count: u64,
    /// Whether the first of them has waited so long that room is kept for it, on the node that is
    /// nearest to having it.
    pub is_overdue: bool,
}

/// Jobs on a node that may be preempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunningIn {
    /// Their queue.
    pub queue: u32,
    /// Their shape.
    pub shape: u32,
    /// The node.
    pub node: u32,
    /// How many.
    pub count: u64,
    /// How long the youngest of them has run, in seconds: what is lost with it.
    pub age: u64,
}

/// A node that can take jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct NodeIn {
    /// Its group.
    pub group: u32,
    /// Its cluster.
    pub cluster: u32,
    /// What is free, by resource; less than nothing where the node is over-committed already.
    pub free: Vec<i64>,
    /// What will be free soon, by resource: of jobs that were told to stop and are not gone yet.
    /// Empty for nothing.
    pub freeing: Vec<i64>,
    /// What it would have free with no job on it, by resource: what can ever be kept there. Empty
    /// where nothing is to be kept.
    pub capacity: Vec<i64>,
    /// How many jobs run on it: the more, the sooner one of them ends.
    pub runs: u32,
    /// Whether jobs cannot be placed on it in this round, only room be claimed.
    pub is_closed: bool,
    /// What is sure to end there. What is not told may run for ever.
    pub ends: Vec<EndIn>,
}

/// What is sure to come free on a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndIn {
    /// Within how many seconds.
    pub within: u64,
    /// How much, by resource.
    pub amounts: Vec<i64>,
}

/// Where room is to be kept for overdue jobs, by what was decided before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeptIn {
    /// Their queue.
    pub queue: u32,
    /// Their run, by its position in the queue's order.
    pub run: u32,
    /// The node.
    pub node: u32,
    /// For how many.
    pub count: u64,
    /// Within how many seconds it is sure to be there; none if that is not known.
    pub within: Option<u64>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Placed jobs, in the order in which each entry was begun.
    pub picks: Vec<Pick>,
    /// Jobs that were not placed, by queue and run, with the reason; runs next to each other that
    /// have the same one are told together.
    pub unplaced: Vec<Unplaced>,
    /// Jobs for which room is being made, in the order in which they claimed it: they count as if
    /// they had it, and are placed by a later round.
    pub claims: Vec<Claim>,
    /// Jobs to be stopped and queued again.
    pub preemptions: Vec<Preemption>,
    /// How much work the decision was.
    pub figures: Figures,
}

/// Jobs of one run that were placed on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pick {
    /// The queue.
    pub queue: u32,
    /// The run, by its position in the queue's order.
    pub run: u32,
    /// The run's shape.
    pub shape: u32,
    /// The node.
    pub node: u32,
    /// How many jobs, at least 1.
    pub count: u64,
}

/// Jobs of one run that wait for room on a node that is being freed for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The queue.
    pub queue: u32,
    /// The run, by its position in the queue's order.
    pub run: u32,
    /// The node.
    pub node: u32,
    /// How many jobs, at least 1.
    pub count: u64,
    /// What makes the room.
    pub from: ClaimedFrom,
    /// Where room is kept: within how many seconds it is sure to be there, if that is known.
    pub within: Option<u64>,
}

/// Where claimed room comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimedFrom {
    /// Jobs that were told to stop before this round, or a node that is closed in it.
    Stopping,
    /// Jobs that this round preempts.
    Preempting,
    /// Whatever ends there: the job is overdue, and what gets free is kept for it.
    Keeping,
}

/// Running jobs that make room for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preemption {
    /// Which of `running`.
    pub running: u32,
    /// How many of them, at least 1.
    pub count: u64,
    /// The claim that they make room for.
    pub claim: u32,
    /// Why they and not others.
    pub cause: Cause,
}

/// Why running jobs have to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A job of a higher class needs the room.
    Urgency,
    /// Their queue has more than its fair share, and another has less.
    Fairness,
}

/// The rest of a run that was not placed, or runs next to each other of which nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unplaced {
    /// The queue.
    pub queue: u32,
    /// The first run, by its position in the queue's order.
    pub run: u32,
    /// How many runs, at least 1. If there are more, all of their jobs are meant.
    pub runs: u32,
    /// How many jobs, at least 1.
    pub count: u64,
    /// Why.
    pub reason: Reason,
}

/// Why jobs were not placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No node of those given admits the shape, or it asks for more than the whole pool has:
    /// waiting for other jobs to end does not help.
    NeverFits,
    /// Nodes admit the shape, but none has enough free.
    NoRoomNow,
    /// The round had placed `picks_max` jobs before it was these jobs' turn.
    Budget,
    /// Their queue had `picks_max` jobs placed.
    Rate,
    /// This cap leaves no room for one of them.
    Cap(u32),
    /// Room is being made for them.
    Claimed,
    /// So many members of their gang are there, and it needs more.
    GangIncomplete(u32),
}

/// How much work a decision was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Jobs placed.
    pub placed: u64,
    /// Steps: jobs of one run placed on one node at once.
    pub steps: u64,
    /// Searches for a node.
    pub searches: u64,
    /// Nodes looked at by these searches.
    pub nodes_looked_at: u64,
}

/// Decides which waiting jobs go to which nodes.
///
/// Classes go by priority. Within one, again and again, the queue with the lowest weighted dominant
/// share that still has something placeable gets its next job placed, on the node that admits and
/// holds it and has the least left of the job's dominant resource afterwards, or, if the job
/// spreads, the most. Ties go to the lower ordinal (of nodes, for jobs that spread, to the higher).
/// A shape that fits no node is out for the round, and a queue whose next job cannot be
/// placed goes on with its next run: nothing stays free that somebody can use.
///
/// A job for which there is no room claims room that will be free soon; where there is none, and
/// where it is of a higher class than what runs, or its queue below its fair share and another
/// above, room is made by preempting. Where nothing may be preempted and the job is overdue, room
/// is kept for it; for several jobs of a queue at a time while it stays within its fair share. Jobs
/// and gangs that are sure to have ended when it is sure to start may use that room.
///
/// A gang is placed as a whole, where its turn comes by its first member, or not at all.
///
/// # Panics
/// When the problem contradicts itself: vectors of the wrong length, an ordinal that names
/// nothing, a weight of 0 or a negative request.
pub fn solve(problem: &Problem) -> Plan {
    problem.check();
    fill::Round::new(problem).fill()
}

impl Problem {
    fn check(&self) {
        let resources = self.total.len();
        assert_eq!(self.admits.len(), self.shapes.len(), "`admits` has a row for every shape");
        for gang in &self.gangs {
            let is_known = |label: u32| (label as usize) < self.labels.len();
            assert!(gang.uniform.is_none_or(is_known), "a gang names a label of the problem");
        }
        let groups = self.groups as usize;
        let named = self.labels.iter().all(|values| values.len() == groups);
        assert!(named, "a label has a value, or none, for every group");
        self.queues.iter().for_each(|queue| self.check_queue(queue));
        for cap in &self.caps {
            assert_eq!(cap.left.len(), resources, "a cap names every resource");
        }
        for node in &self.nodes {
            assert!(node.group < self.groups, "a node names a group of the problem");
            assert_eq!(node.free.len(), resources, "a node names every resource");
            assert!(names_all(&node.freeing, resources), "what is freed names every resource");
            assert!(names_all(&node.capacity, resources), "a capacity names every resource");
            let mut ends = node.ends.iter();
            let named = ends.all(|end| end.amounts.len() == resources);
            assert!(named, "what ends names every resource");
        }
        for kept in &self.kept {
            assert!((kept.node as usize) < self.nodes.len(), "what is kept names a node");
        }
        for running in &self.running {
            assert!((running.queue as usize) < self.queues.len(), "what runs names a queue");
            assert!((running.shape as usize) < self.shapes.len(), "what runs names a shape");
            assert!((running.node as usize) < self.nodes.len(), "what runs names a node");
        }
        assert!(self.running.is_empty() || self.protected >= 1_000, "a fair share is protected");
    }

    /// What is wrong with a shape. There may be a million of them: each is checked where it is
    /// looked at first.
    fn check_shape(&self, shape: &ShapeIn) {
        assert_eq!(shape.request.len(), self.total.len(), "a request names every resource");
        assert!((shape.class as usize) < self.classes.len(), "a shape names a class");
        let is_known = |gang: u32| (gang as usize) < self.gangs.len();
        assert!(shape.gang.is_none_or(is_known), "a shape names a gang of the problem");
        assert!(shape.request.iter().all(|amount| *amount >= 0), "no request is negative");
    }

    fn check_queue(&self, queue: &QueueIn) {
        let resources = self.total.len();
        assert!(queue.weight > 0, "a weight is more than 0");
        assert_eq!(queue.allocated.len(), resources, "an allocation names every resource");
        assert!(names_all(&queue.charged, resources), "a charge names every resource");
        let needs_demand = !self.running.is_empty();
        assert!(
            queue.demand.len() == resources || !needs_demand,
            "a demand names every resource where there is something to preempt"
        );
        let known = |(_, cap): &(Option<u32>, u32)| (*cap as usize) < self.caps.len();
        assert!(queue.caps.iter().all(known), "a queue names caps of the problem");
        let others = |place: usize| queue.caps[..place].iter();
        let mut places = (0..).zip(&queue.caps);
        let twice = places.any(|(place, (_, cap))| others(place).any(|(_, other)| other == cap));
        assert!(!twice, "a queue is under a cap once");
    }

    /// The priority of a shape's class.
    fn priority_of(&self, shape: u32) -> i32 {
        self.classes[self.shapes[shape as usize].class as usize].priority
    }

    fn request_of(&self, shape: u32) -> &[i64] {
        &self.shapes[shape as usize].request
    }
}

/// Whether an amount by resource is whole, or left out.
fn names_all(amounts: &[i64], resources: usize) -> bool {
    amounts.is_empty() || amounts.len() == resources
}
