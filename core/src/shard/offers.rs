//! What a shard offers: the heads of its queues' orders by pool, and windows into what lies behind
//! them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::order::{Head, Place};
use super::{Queue, Shard};
use crate::Name;
use crate::id::JobId;
use crate::offer::{Behind, QueueOffer, WaitingJobs, Window};
use crate::resources::Resources;
use crate::shape::{Shape, ShapeKey};

/// Pieces of one queue's order that are looked at, at most, for one offer or window.
const PIECES_MAX: usize = 100_000;

/// The runs of one pool as the order is walked through.
#[derive(Default)]
struct Telling {
    from: Behind,
    runs: Vec<WaitingJobs>,
    /// The run that was met last: its priority and shape, whether it is told or skipped.
    last: Option<(u32, u32)>,
    /// How many runs of its priority were met.
    met: u32,
    /// Jobs that were not met.
    left: u64,
    behind: Option<Behind>,
}

impl Telling {
    /// Takes the next piece of the order in; whether it is done with.
    fn push(&mut self, next: Head, shape: &Arc<Shape>, runs_max: usize) -> bool {
        if self.is_done() {
            return true;
        }
        let before = self.last.replace((next.priority, next.shape));
        if before.is_none_or(|(priority, _)| priority != next.priority) {
            self.met = 0;
        }
        let is_new = before != self.last;
        if is_new && self.runs.len() >= runs_max {
            self.behind = Some(Behind { priority: next.priority, runs: self.met });
            return true;
        }
        self.met += u32::from(is_new);
        self.left = self.left.saturating_sub(next.count);
        let is_skipped = next.priority == self.from.priority && self.met <= self.from.runs;
        match self.runs.last_mut() {
            _ if is_skipped => {}
            Some(last) if !is_new => last.count += next.count,
            Some(_) | None => self.runs.push(WaitingJobs {
                priority: next.priority,
                shape: Arc::clone(shape),
                count: next.count,
            }),
        }
        self.is_done()
    }

    fn is_done(&self) -> bool {
        self.behind.is_some() || self.left == 0
    }

    /// The order was left at this piece: what was not met lies behind it.
    fn stop(&mut self, next: Head) {
        if !self.is_done() {
            let met = match self.last {
                Some((priority, _)) if priority == next.priority => self.met,
                Some(_) | None => 0,
            };
            self.behind = Some(Behind { priority: next.priority, runs: met });
        }
    }
}

impl Shard {
    /// Offers of every queue that has anything to say.
    #[must_use]
    pub fn offers(&self, runs_max: usize) -> Vec<QueueOffer> {
        self.queues
            .iter()
            .map(|(number, queue)| self.offer(*number, queue, runs_max))
            .filter(|offer| !offer.waiting.is_empty() || !offer.held.is_empty())
            .collect()
    }

    /// Offers of the queues that changed since this was last asked.
    pub fn take_changed_offers(&mut self, runs_max: usize) -> Vec<QueueOffer> {
        let changed = std::mem::take(&mut self.changed);
        let queues = changed.iter().filter_map(|number| Some((*number, self.queues.get(number)?)));
        queues.map(|(number, queue)| self.offer(number, queue, runs_max)).collect()
    }

    /// The offers of these queues.
    #[must_use]
    pub fn offers_of<'a>(
        &self,
        queues: impl IntoIterator<Item = &'a Name>,
        runs_max: usize,
    ) -> Vec<QueueOffer> {
        let numbers = queues.into_iter().filter_map(|name| self.names.number(name));
        let known = numbers.filter_map(|number| Some((number, self.queues.get(&number)?)));
        known.map(|(number, queue)| self.offer(number, queue, runs_max)).collect()
    }

    /// Whether a queue changed since offers were last taken.
    #[must_use]
    pub fn offers_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What waits in a queue for a pool from a place in its order on, of jobs that ask for no more
    /// than `free` of anything.
    #[must_use]
    pub fn window(
        &self,
        queue: &str,
        pool: &str,
        free: &Resources,
        from: Behind,
        runs_max: usize,
    ) -> Option<Window> {
        let queue = self.queues.get(&self.names.number(&queue.into())?)?;
        let is_wanted = |number: u32| {
            let shape = self.shapes.value(number);
            let fits = || shape.request.iter().all(|(name, asked)| asked <= free.get(name));
            *shape.pool == *pool && fits()
        };
        let mut telling = Telling { from, left: u64::MAX, ..Telling::default() };
        let mut pieces = 0;
        queue.order.walk(from.priority, is_wanted, self.waits(), |next| {
            pieces += 1;
            if pieces > PIECES_MAX {
                telling.stop(next);
            }
            match telling.push(next, self.shapes.value(next.shape), runs_max) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        Some(Window { runs: telling.runs, behind: telling.behind })
    }

    /// The shape behind a key, while a live job has it.
    #[must_use]
    pub fn shape(&self, key: ShapeKey) -> Option<&Arc<Shape>> {
        self.shape_number(key).map(|number| self.shapes.value(number))
    }

    fn waits(&self) -> impl Fn(JobId) -> Option<(Place, u64)> {
        |id| {
            let job = self.jobs.get(id).filter(|job| job.waiting() > 0)?;
            Some((Place { priority: job.priority, shape: job.shape }, job.waiting()))
        }
    }

    fn offer(&self, number: u32, queue: &Queue, runs_max: usize) -> QueueOffer {
        let shape = |number: u32| self.shapes.value(number).clone();
        let mut pools: BTreeMap<Name, Telling> = BTreeMap::new();
        for (number, count) in queue.order.waiting() {
            pools.entry(self.shapes.value(number).pool.clone()).or_default().left += count;
        }
        let (mut undone, mut pieces) = (pools.len(), 0);
        queue.order.walk(
            0,
            |_| true,
            self.waits(),
            |next| {
                pieces += 1;
                if undone == 0 || pieces > PIECES_MAX {
                    pools.values_mut().for_each(|telling| telling.stop(next));
                    return ControlFlow::Break(());
                }
                let shape = self.shapes.value(next.shape);
                let telling = pools.get_mut(&shape.pool).expect("what waits is counted");
                let was_done = telling.is_done();
                undone -= usize::from(telling.push(next, shape, runs_max) && !was_done);
                ControlFlow::Continue(())
            },
        );
        let behind = pools.iter().filter_map(|(pool, t)| Some((pool.clone(), t.behind?))).collect();
        QueueOffer {
            queue: self.names.value(number).clone(),
            head: pools.into_values().flat_map(|telling| telling.runs).collect(),
            behind,
            waiting: queue.order.waiting().map(|(s, count)| (shape(s), count)).collect(),
            held: queue
                .held
                .iter()
                .map(|((cluster, s), count)| (cluster.clone(), shape(*s), *count))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::command::{Command, NewJob, Outcome, Submit};
    use crate::id::{CommandId, Position, ShardId};
    use crate::quantity::Quantity;
    use crate::record::Payload;
    use crate::shard::Context;
    use crate::time::Timestamp;

    fn cpus(cpu: u8) -> Resources {
        [("cpu".into(), Quantity::from_units(cpu.into()))].into_iter().collect()
    }

    /// A shard with one queue of jobs: (priority, cpu, whether for pool `a` or `b`).
    fn shard(jobs: &[(u32, u8, bool)]) -> Shard {
        let mut shard = Shard::new(ShardId(1));
        let job = |(line, (priority, cpu, is_a)): (u64, &(u32, u8, bool))| NewJob {
            line,
            client_id: None,
            priority: *priority,
            count: None,
            at_most_once: false,
            shape: Arc::new(Shape {
                pool: if *is_a { "a".into() } else { "b".into() },
                ..Shape::of_request(cpus(*cpu))
            }),
            payload: Payload::default(),
        };
        let submit = Command::Submit(Submit {
            queue: "q".into(),
            incarnation: 1,
            job_set: "s".into(),
            key: None,
            jobs: (0..).zip(jobs).map(job).collect(),
        });
        let ctx = Context { now: Timestamp(1), random: 1, position: Position::default() };
        let outcome = shard.execute(CommandId(1), submit, ctx, &mut Vec::new());
        assert!(matches!(outcome, Outcome::Submitted(_)));
        shard
    }

    /// The whole order of a pool, by its head and windows of `runs_max` runs.
    fn read(shard: &Shard, pool: &str, free: &Resources, runs_max: usize) -> Vec<(u32, ShapeKey)> {
        let offer = shard.offers(runs_max).into_iter().next().unwrap_or_default();
        let mut runs: Vec<WaitingJobs> =
            offer.head.into_iter().filter(|run| *run.shape.pool == *pool).collect();
        assert!(runs.len() <= runs_max);
        let behind = offer.behind.into_iter().find(|(name, _)| **name == *pool);
        let mut next = behind.map(|(_, behind)| behind);
        while let Some(from) = next {
            let window = shard.window("q", pool, free, from, runs_max).unwrap();
            assert!(window.runs.len() <= runs_max);
            runs.extend(window.runs);
            next = window.behind;
        }
        let jobs = |run: &WaitingJobs| vec![(run.priority, run.shape.key()); run.count as usize];
        runs.iter().flat_map(jobs).collect()
    }

    proptest! {
        #[test]
        fn head_and_windows_are_the_whole_order_of_a_pool(
            jobs in vec((0..4u32, 1..4u8, any::<bool>()), 1..60),
            runs_max in 1..6usize,
        ) {
            let shard = shard(&jobs);
            for (pool, is_a) in [("a", true), ("b", false)] {
                let mut expected: Vec<_> =
                    jobs.iter().filter(|(_, _, of_a)| *of_a == is_a).collect();
                expected.sort_by_key(|(priority, _, _)| *priority);
                let key = |cpu| Shape { pool: pool.into(), ..Shape::of_request(cpus(cpu)) }.key();
                let expected: Vec<_> =
                    expected.into_iter().map(|(priority, cpu, _)| (*priority, key(*cpu))).collect();
                prop_assert_eq!(read(&shard, pool, &cpus(9), runs_max), expected);
            }
        }
    }

    #[test]
    fn a_window_passes_over_what_no_node_could_hold() {
        let mut jobs: Vec<_> = (0..500).map(|priority| (priority, 100, true)).collect();
        jobs.push((500, 1, true));
        let shard = shard(&jobs);
        let from = shard.offers(10)[0].behind[0].1;
        let window = shard.window("q", "a", &cpus(8), from, 10).unwrap();
        assert_eq!((window.runs.len(), window.behind), (1, None));
        assert_eq!(window.runs[0].shape.request, cpus(1));
    }

    #[test]
    fn one_pools_jobs_do_not_crowd_out_the_head_of_another() {
        let mut jobs: Vec<_> = (0..500).map(|priority| (priority, 1, true)).collect();
        jobs.push((500, 1, false));
        let offer = shard(&jobs).offers(10).remove(0);
        assert_eq!(offer.head.iter().filter(|run| &*run.shape.pool == "b").count(), 1);
        assert_eq!(offer.head.len(), 11);
    }
}
