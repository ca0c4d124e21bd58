//! Where a waiting job stands in its queue's line, and where jobs would stand that are not in yet.

use std::sync::Arc;

use super::gangs::Gang;
use super::job::{Body, Job};
use super::order::{self, Bound, ClassLine};
use super::{Shard, attempts, decide};
use crate::Name;
use crate::command::{Refusal, Submit};
use crate::id::{JobId, JobRef};
use crate::job::JobState;
use crate::shape::Shape;
use crate::terms::HeldBack;

/// Where a waiting job stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Its shape, which names pool and class.
    pub shape: Arc<Shape>,
    /// Its priority.
    pub priority: u32,
    /// What its queue has waiting for the pool, by class. How classes follow each other is not
    /// known here.
    pub classes: Vec<ClassLine>,
    /// How many jobs of its own class stand before it, or would if it stood in line.
    pub ahead: Bound,
    /// What keeps it from the line, if it waits and does not stand there.
    pub held: Option<Held>,
}

/// What keeps a job that waits from its queue's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Not all members of its gang wait.
    Gang {
        /// What its queue calls the gang.
        id: Name,
        /// Members that live, tasks one by one.
        live: u64,
        /// Members that wait.
        waiting: u64,
        /// How many there must be.
        cardinality: u64,
        /// Whether it ran before: then those that are left make it whole.
        is_started: bool,
    },
    /// It is held back itself.
    Back(HeldBack),
}

impl Shard {
    /// Whether jobs would be taken in, where `before` others of the same submission were in before
    /// them: how many of them, tasks one by one, did not come before.
    ///
    /// # Errors
    /// With what the command would be refused.
    pub fn would_submit(&self, submit: &Submit, before: u64) -> Result<u64, Refusal> {
        match decide::submit_refusal(self, submit, before) {
            Some(refusal) => Err(refusal),
            None => Ok(decide::new_jobs(self, submit.key, &submit.queue, &submit.jobs)),
        }
    }

    /// What a queue has waiting for a pool, by class, as a job of that priority sees it.
    #[must_use]
    pub fn lines(&self, queue: &Name, pool: &str, priority: u32) -> Vec<ClassLine> {
        let queue = self.names.number(queue).and_then(|number| self.queues.get(&number));
        queue.map(|queue| queue.orders.lines(pool, priority)).unwrap_or_default()
    }

    /// Where a job or task stands, or the first waiting task of an array; `None` when it does not
    /// wait.
    #[must_use]
    pub fn place(&self, job: JobRef) -> Option<Place> {
        let found = self.jobs.get(job.job)?;
        let index = match (&found.body, job.index) {
            (Body::Array(array), None) => Some(array.first_waiting()?),
            (_, index) => index,
        };
        if found.state(index) != Some(JobState::Queued) {
            return None;
        }
        let number = attempts::shape_of(self, found, index);
        let (shape, priority) = (self.shapes.value(number), found.priority);
        let orders = &self.queues.get(&found.queue)?.orders;
        let classes = orders.lines(&shape.pool, priority);
        let own = classes.iter().find(|line| line.class == shape.class);
        let mut ahead = Bound::exactly(own.map_or(0, |line| line.before));
        if let Some(order) = orders.of(shape) {
            let place = order::Place { priority, shape: number };
            let stands =
                |id: JobId, place| self.jobs.get(id).map_or(0, |job| job.standings().at(place));
            let first = |shape: u32| self.gang_of(found.queue, self.shapes.value(shape))?.first();
            let id = first(found.shape).unwrap_or(job.job);
            ahead = ahead.plus(order.ahead_of(place, id, stands, first));
        }
        if let (Body::Array(array), Some(index), None) = (&found.body, index, &shape.gang) {
            ahead = ahead.plus(Bound::exactly(array.standing_below(index)));
        }
        let held = self.held_back(found.queue, shape);
        let held = held.or_else(|| found.held_back(index).map(Held::Back));
        Some(Place { shape: Arc::clone(shape), priority, classes, ahead, held })
    }

    /// What keeps a job that waits from its queue's line.
    fn held_back(&self, queue: u32, shape: &Shape) -> Option<Held> {
        let (gang, named) = (self.gang_of(queue, shape)?, shape.gang.as_ref()?);
        let (live, waiting) = (gang.live(), gang.waiting());
        if let Some(until) = gang.rests_until() {
            return Some(Held::Back(HeldBack::Until(until)));
        }
        let is_started = gang.is_started();
        let cardinality = u64::from(named.cardinality);
        let id = named.id.clone();
        (!gang.is_in_order()).then_some(Held::Gang { id, live, waiting, cardinality, is_started })
    }

    /// What keeps a job from its queue's line as long as another member of its gang rests.
    pub(super) fn rest_of_gang(&self, job: &Job) -> Option<HeldBack> {
        let gang = self.gang_of(job.queue, self.shapes.value(job.shape))?;
        gang.rests_until().map(HeldBack::Until)
    }

    fn gang_of(&self, queue: u32, shape: &Shape) -> Option<&Gang> {
        self.gangs.get(&(queue, shape.gang.as_ref()?.id.clone()))
    }
}
