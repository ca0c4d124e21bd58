//! The orders of a queue's waiting jobs, one for each pool and priority class: priority ascending,
//! then submission, as pieces of equal shapes. How classes follow each other is not known here:
//! that is for the leader of the pool, which knows what the classes mean.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::ControlFlow;

use crate::Name;
use crate::id::JobId;
use crate::shape::Shape;

mod ahead;
#[cfg(test)]
mod tests;

pub use ahead::{Bound, ClassLine};

/// How many jobs are looked at, at most, to tell how jobs of several shapes follow each other.
const MERGED_JOBS_MAX: u64 = 4096;

/// A queue's waiting jobs by pool and priority class. None of the orders is empty.
#[derive(Debug, Default)]
pub(super) struct Orders {
    orders: BTreeMap<(Name, Name), Order>,
}

/// Waiting jobs of one pool and class by priority and shape.
#[derive(Debug, Default)]
pub(super) struct Order {
    buckets: BTreeMap<u32, BTreeMap<u32, Bucket>>,
    /// Waiting jobs by shape, tasks one by one.
    waiting: BTreeMap<u32, u64>,
}

/// Waiting jobs of one priority and shape.
#[derive(Debug, Default)]
struct Bucket {
    /// By rising id. Entries that were taken out of the middle stay until there are too many of
    /// them.
    ids: VecDeque<JobId>,
    /// How many entries of `ids` are out.
    out: usize,
    /// Waiting jobs, tasks one by one.
    jobs: u64,
}

/// Jobs of one shape next to each other in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) priority: u32,
    pub(super) shape: u32,
    pub(super) count: u64,
    /// The first of them, as far as it was looked for.
    pub(super) first: Option<JobId>,
}

/// Where a job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) priority: u32,
    pub(super) shape: u32,
}

impl Orders {
    /// A job of that shape begins to wait with `jobs` tasks, or an array that waits already has
    /// `jobs` tasks more.
    pub(super) fn add(
        &mut self,
        shape: &Shape,
        place: Place,
        id: JobId,
        jobs: u64,
        was_waiting: bool,
    ) {
        self.orders.entry(key(shape)).or_default().add(place, id, jobs, was_waiting);
    }

    /// `jobs` tasks of a job of that shape stand there no longer; `gone` when none of it does.
    /// `stands` tells it of other jobs.
    pub(super) fn remove(
        &mut self,
        shape: &Shape,
        place: Place,
        id: JobId,
        jobs: u64,
        gone: bool,
        stands: impl Fn(JobId) -> bool,
    ) {
        let key = key(shape);
        let order = self.orders.get_mut(&key).expect("what waits has an order");
        order.remove(place, id, jobs, gone, stands);
        if order.waiting.is_empty() {
            self.orders.remove(&key);
        }
    }

    /// The order of jobs of that shape, if any waits.
    pub(super) fn of(&self, shape: &Shape) -> Option<&Order> {
        self.orders.get(&key(shape))
    }

    /// The order of a pool and class, if any job of it waits.
    pub(super) fn get(&self, pool: &str, class: &str) -> Option<&Order> {
        self.orders.get(&(pool.into(), class.into()))
    }

    /// The orders with their pools and classes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &Name, &Order)> {
        self.orders.iter().map(|((pool, class), order)| (pool, class, order))
    }

    /// Waiting jobs by shape.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (u32, u64)> {
        self.orders.values().flat_map(Order::waiting)
    }
}

fn key(shape: &Shape) -> (Name, Name) {
    (shape.pool.clone(), shape.class.clone())
}

impl Order {
    /// A job begins to wait with `jobs` tasks, or an array that waits already has `jobs` tasks
    /// more.
    fn add(&mut self, place: Place, id: JobId, jobs: u64, was_waiting: bool) {
        let bucket =
            self.buckets.entry(place.priority).or_default().entry(place.shape).or_default();
        bucket.jobs += jobs;
        *self.waiting.entry(place.shape).or_default() += jobs;
        if was_waiting {
            return;
        }
        match bucket.ids.back() {
            Some(last) if *last >= id => match bucket.ids.binary_search(&id) {
                // It left and comes back before its old entry was swept.
                Ok(_) => bucket.out -= 1,
                Err(at) => bucket.ids.insert(at, id),
            },
            Some(_) | None => bucket.ids.push_back(id),
        }
    }

    /// `jobs` tasks of a job wait no longer; `gone` when none of it does.
    fn remove(
        &mut self,
        place: Place,
        id: JobId,
        jobs: u64,
        gone: bool,
        stands: impl Fn(JobId) -> bool,
    ) {
        let priority = self.buckets.get_mut(&place.priority).expect("what waits has a bucket");
        let bucket = priority.get_mut(&place.shape).expect("what waits has a bucket");
        bucket.jobs -= jobs;
        let waiting = self.waiting.get_mut(&place.shape).expect("what waits is counted");
        *waiting -= jobs;
        if *waiting == 0 {
            self.waiting.remove(&place.shape);
        }
        if gone {
            bucket.take_out(id, |other| other != id && stands(other));
        }
        if bucket.jobs == 0 {
            priority.remove(&place.shape);
            if priority.is_empty() {
                self.buckets.remove(&place.priority);
            }
        }
    }

    /// The first waiting job of a priority and shape.
    pub(super) fn first(&self, place: Place, stands: impl Fn(JobId) -> bool) -> Option<JobId> {
        let bucket = self.buckets.get(&place.priority)?.get(&place.shape)?;
        bucket.ids.iter().copied().find(|id| stands(*id))
    }

    /// The lowest priority number at which jobs of a shape wait.
    pub(super) fn first_priority(&self, shape: u32) -> Option<u32> {
        self.buckets.iter().find(|(_, shapes)| shapes.contains_key(&shape)).map(|(p, _)| *p)
    }

    /// Waiting jobs by shape.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (u32, u64)> {
        self.waiting.iter().map(|(shape, count)| (*shape, *count))
    }

    /// Goes through the order from a priority on, as pieces of equal jobs, until `visit` has had
    /// enough. The jobs of a gang follow each other from the first of them on. Behind
    /// [`MERGED_JOBS_MAX`] jobs of several shapes at one priority, the rest of each shape is one
    /// piece. Tasks of one array that differ in shape follow each other by `shape`, the value
    /// behind a number: numbers are not the same for two owners of one shard.
    pub(super) fn walk<'a>(
        &'a self,
        from: u32,
        stands: impl Fn(JobId, Place) -> u64,
        shape: impl Fn(u32) -> &'a Shape,
        mut visit: impl FnMut(Piece) -> ControlFlow<()>,
    ) {
        for (&priority, shapes) in self.buckets.range(from..) {
            if merge(priority, shapes, &stands, &shape, &mut visit).is_break() {
                return;
            }
        }
    }
}

impl Bucket {
    fn take_out(&mut self, id: JobId, stays: impl Fn(JobId) -> bool) {
        if self.ids.front() == Some(&id) {
            self.ids.pop_front();
        } else {
            self.out += 1;
        }
        if self.out > 32 && self.out * 2 > self.ids.len() {
            self.ids.retain(|other| stays(*other));
            self.out = 0;
        }
        // What lies in front is looked at with every lease: keep it clean.
        while self.out > 0 && self.ids.front().is_some_and(|front| !stays(*front)) {
            self.ids.pop_front();
            self.out -= 1;
        }
        if self.ids.len() * 4 < self.ids.capacity() && self.ids.capacity() > 1024 {
            self.ids.shrink_to(self.ids.len() * 2);
        }
    }
}

/// What goes into the order at one priority: the jobs of a shape one by one, or a gang as a whole.
enum Line<'a> {
    Shape {
        shape: u32,
        bucket: &'a Bucket,
        at: usize,
    },
    /// The jobs of each of its shapes.
    Gang(Vec<Part<'a>>),
}

/// Jobs of one shape from the first of them on, in the order in which they follow each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Part<'a> {
    first: JobId,
    value: &'a Shape,
    shape: u32,
}

fn merge<'a>(
    priority: u32,
    shapes: &'a BTreeMap<u32, Bucket>,
    stands: &impl Fn(JobId, Place) -> u64,
    value: &impl Fn(u32) -> &'a Shape,
    visit: &mut impl FnMut(Piece) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut left: BTreeMap<u32, u64> = shapes.iter().map(|(s, bucket)| (*s, bucket.jobs)).collect();
    let mut lines = lines(shapes, value);
    // The first job of a line that waits, from its place on, and how many tasks of it do.
    let next = |line: &mut Line<'a>| match line {
        Line::Shape { shape, bucket, at } => {
            let place = Place { priority, shape: *shape };
            let found = bucket.ids.range(*at..).enumerate().find_map(|(n, &id)| {
                let jobs = stands(id, place);
                (jobs > 0).then_some((n, id, jobs))
            });
            let (n, id, jobs) = found?;
            *at += n + 1;
            Some((Part { first: id, value: value(*shape), shape: *shape }, jobs))
        }
        Line::Gang(parts) => parts.first().map(|first| (*first, 0)),
    };
    let mut heads: BinaryHeap<Reverse<(Part<'_>, usize, u64)>> = BinaryHeap::new();
    for (number, line) in lines.iter_mut().enumerate() {
        heads.extend(next(line).map(|(part, jobs)| Reverse((part, number, jobs))));
    }
    let jobs_max = if lines.len() > 1 { MERGED_JOBS_MAX } else { 0 };
    let mut looked_at = 0;
    while let Some(Reverse((Part { first, shape, .. }, number, jobs))) = heads.pop() {
        looked_at += 1;
        let first = Some(first);
        match &mut lines[number] {
            Line::Gang(parts) => {
                for &Part { first, shape, .. } in &*parts {
                    let count = left[&shape];
                    visit(Piece { priority, shape, count, first: Some(first) })?;
                }
            }
            line @ Line::Shape { .. } if looked_at <= jobs_max => {
                heads.extend(next(line).map(|(part, jobs)| Reverse((part, number, jobs))));
                visit(Piece { priority, shape, count: jobs, first })?;
                left.entry(shape).and_modify(|left| *left -= jobs);
            }
            Line::Shape { .. } => visit(Piece { priority, shape, count: left[&shape], first })?,
        }
    }
    ControlFlow::Continue(())
}

/// The lines of one priority.
fn lines<'a>(
    shapes: &'a BTreeMap<u32, Bucket>,
    value: &impl Fn(u32) -> &'a Shape,
) -> Vec<Line<'a>> {
    let mut lines = Vec::with_capacity(shapes.len());
    let mut gangs: BTreeMap<&Name, Vec<Part<'a>>> = BTreeMap::new();
    for (&shape, bucket) in shapes {
        let value = value(shape);
        match &value.gang {
            None => lines.push(Line::Shape { shape, bucket, at: 0 }),
            Some(gang) => {
                let first = bucket.ids.front().copied().unwrap_or_default();
                gangs.entry(&gang.id).or_default().push(Part { first, value, shape });
            }
        }
    }
    for mut parts in gangs.into_values() {
        parts.sort_unstable();
        lines.push(Line::Gang(parts));
    }
    lines
}
