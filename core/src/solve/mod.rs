//! The fair-share solver of a pool: weighted dominant-resource fairness by progressive filling,
//! with best fit on nodes.
//!
//! [`solve`] is a pure function on dense integers: the same problem gives the same plan, down to
//! every tie. No decision depends on floating point. `README.md` beside this file names the
//! properties that its tests hold it to.

mod fill;
mod nodes;
mod order;
mod ratio;
mod shares;
#[cfg(test)]
mod tests;

pub use shares::{Share, dominant_share, fair_shares};

/// What there is to decide in one round. Shapes, groups, queues and nodes are ordinals: positions
/// in their vectors. Amounts are in the smallest unit of their resource (milli-cpu, bytes, pieces).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Capacity of the whole pool, by resource. A resource of which there is none counts in no
    /// share.
    pub total: Vec<i64>,
    /// The shapes that runs name.
    pub shapes: Vec<ShapeIn>,
    /// How many groups of nodes there are; nodes of one group have the same labels and taints.
    pub groups: u32,
    /// `[shape][group]`: jobs of the shape may run on nodes of the group, resources aside.
    pub admits: Vec<Vec<bool>>,
    /// The queues with their work.
    pub queues: Vec<QueueIn>,
    /// The nodes on which jobs may be placed in this round.
    pub nodes: Vec<NodeIn>,
    /// At most so many jobs are placed in this round.
    pub picks_max: u64,
}

/// A shape: what each of its jobs takes from a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeIn {
    /// By resource, none negative. A resource of which nothing is requested is not looked at.
    pub request: Vec<i64>,
}

/// A queue: its claim, what it holds and what it has waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueIn {
    /// In thousandths, more than 0.
    pub weight: u64,
    /// What its jobs hold in the whole pool, by resource.
    pub allocated: Vec<i64>,
    /// Its waiting jobs, in the order in which they should be placed.
    pub runs: Vec<RunIn>,
}

/// Jobs next to each other in a queue's order that are equal to the solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunIn {
    /// Their shape.
    pub shape: u32,
    /// How many.
    pub count: u64,
}

/// A node that can take jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIn {
    /// Its group.
    pub group: u32,
    /// What is free, by resource; less than nothing where the node is over-committed already.
    pub free: Vec<i64>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Placed jobs, in the order in which each entry was begun.
    pub picks: Vec<Pick>,
    /// Jobs that were not placed, by queue and run, with the reason.
    pub unplaced: Vec<Unplaced>,
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

/// The rest of a run that was not placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unplaced {
    /// The queue.
    pub queue: u32,
    /// The run, by its position in the queue's order.
    pub run: u32,
    /// How many of its jobs, at least 1.
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
/// Again and again, the queue with the lowest weighted dominant share that still has something
/// placeable gets its next job placed, on the node that admits and holds it and has the least left
/// of the job's dominant resource afterwards. Ties go to the lower ordinal. A shape that fits no
/// node is out for the round, and a queue whose next job cannot be placed goes on with its next
/// run: nothing stays free that somebody can use.
///
/// # Panics When the problem contradicts itself: vectors of the wrong length, an ordinal that names
/// nothing, a weight of 0 or a negative request.
pub fn solve(problem: &Problem) -> Plan {
    problem.check();
    fill::Round::new(problem).fill()
}

impl Problem {
    fn check(&self) {
        let resources = self.total.len();
        assert_eq!(self.admits.len(), self.shapes.len(), "`admits` has a row for every shape");
        for (shape, admits) in self.shapes.iter().zip(&self.admits) {
            assert_eq!(shape.request.len(), resources, "a request names every resource");
            assert!(shape.request.iter().all(|amount| *amount >= 0), "no request is negative");
            assert_eq!(admits.len(), self.groups as usize, "`admits` has a column for every group");
        }
        for queue in &self.queues {
            assert!(queue.weight > 0, "a weight is more than 0");
            assert_eq!(queue.allocated.len(), resources, "an allocation names every resource");
            let known = |run: &RunIn| (run.shape as usize) < self.shapes.len();
            assert!(queue.runs.iter().all(known), "a run names a shape of the problem");
        }
        for node in &self.nodes {
            assert!(node.group < self.groups, "a node names a group of the problem");
            assert_eq!(node.free.len(), resources, "a node names every resource");
        }
    }
}
