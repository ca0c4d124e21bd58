//! Offers: what a shard tells the leader of a pool. Counts of equal jobs, never jobs.

use std::sync::Arc;

use crate::Name;
use crate::shape::Shape;
use crate::time::Timestamp;

/// What one queue has waiting and what it holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueueOffer {
    /// The queue.
    pub queue: Name,
    /// The head of each of its orders: there is one for each pool and priority class that jobs wait
    /// for.
    pub heads: Vec<Head>,
    /// Everything that waits, by shape (the heads included): the queue's demand beyond what it
    /// holds.
    pub waiting: Vec<(Arc<Shape>, u64)>,
    /// What the clusters hold of it: leased, pending and running jobs by cluster and shape.
    pub held: Vec<(Name, Arc<Shape>, u64)>,
}

/// The head of a queue's order for one pool and priority class.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Head {
    /// The pool.
    pub pool: Name,
    /// The priority class.
    pub class: Name,
    /// Runs of equal shapes in the order in which they should be leased.
    pub runs: Vec<WaitingJobs>,
    /// Where the rest begins, if this is not all.
    pub behind: Option<Behind>,
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
    /// When the first of them was submitted; the end of time where it was not looked for.
    pub since: Timestamp,
}

/// A place in one of a queue's orders, between two runs of those that are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Behind {
    /// The priority of the run behind it.
    pub priority: u32,
    /// How many runs of that priority lie before it.
    pub runs: u32,
}

/// How many of the first runs are told where `told` are wanted: a gang is told as a whole or not at
/// all, and if nothing else is told, then the first of them.
#[must_use]
pub fn untorn(runs: &[WaitingJobs], told: usize) -> usize {
    let gang = |place: usize| runs.get(place).and_then(|run| run.shape.gang.as_ref());
    let is_torn = |told: usize| {
        let before = told.checked_sub(1).and_then(gang);
        before.is_some_and(|gang_before| gang(told).is_some_and(|next| next.id == gang_before.id))
    };
    let whole = (1..=told).rev().find(|told| !is_torn(*told)).unwrap_or_default();
    if whole > 0 || told == 0 {
        return whole;
    }
    (told..=runs.len()).find(|told| !is_torn(*told)).unwrap_or(runs.len())
}

impl Behind {
    /// The place behind the first `told` of `runs`, which begin at `from`; `None` at their end.
    #[must_use]
    pub fn first(from: Self, runs: &[WaitingJobs], told: usize) -> Option<Self> {
        let priority = runs.get(told)?.priority;
        let before = if priority == from.priority { from.runs } else { 0 };
        let same = runs[..told].iter().rev().take_while(|run| run.priority == priority).count();
        let runs = before.saturating_add(u32::try_from(same).unwrap_or(u32::MAX));
        Some(Self { priority, runs })
    }
}

/// Runs from the middle of one of a queue's orders.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Window {
    /// The runs.
    pub runs: Vec<WaitingJobs>,
    /// Where the rest begins, if there is any.
    pub behind: Option<Behind>,
}
