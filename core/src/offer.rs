//! Offers: what a shard tells the leader of a pool. Counts of equal jobs, never jobs.

use std::sync::Arc;

use crate::Name;
use crate::shape::Shape;

/// What one queue has waiting and what it holds, in one pool.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueueOffer {
    /// The queue.
    pub queue: Name,
    /// The head of its order: runs of equal shapes in the order in which they should be leased.
    pub head: Vec<WaitingJobs>,
    /// Everything that waits, by shape (the head included): the queue's demand beyond what it
    /// holds.
    pub waiting: Vec<(Arc<Shape>, u64)>,
    /// What the clusters hold of it: leased, pending and running jobs by cluster and shape.
    pub held: Vec<(Name, Arc<Shape>, u64)>,
}

/// Jobs next to each other in a queue's order that are equal to the scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingJobs {
    /// Their priority.
    pub priority: u32,
    /// Their shape.
    pub shape: Arc<Shape>,
    /// How many.
    pub count: u64,
}
