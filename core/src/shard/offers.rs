//! What a shard offers: the heads of its queues' orders, and windows into what lies behind them.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::order::{Order, Piece, Place};
use super::{Queue, Shard};
use crate::Name;
use crate::id::JobId;
use crate::offer::{Behind, Head, QueueOffer, WaitingJobs, Window};
use crate::resources::Resources;
use crate::shape::{Shape, ShapeKey};
use crate::time::Timestamp;

/// Pieces of one order that are looked at, at most, for one offer or window, behind where it
/// begins.
const PIECES_MAX: usize = 100_000;

/// The runs of one order as it is walked through.
#[derive(Default)]
struct Telling {
    from: Behind,
    runs: Vec<WaitingJobs>,
    /// The run that was met last: its priority and shape, whether it is told or skipped.
    last: Option<(u32, u32)>,
    /// The gang of that run, and whether its beginning was skipped: what is left is none.
    gang: Option<(Name, bool)>,
    /// How many runs of its priority were met. Those that are not told count as well: a place means
    /// the same whatever is passed over.
    met: u32,
    /// How many pieces were looked at, skipped ones apart.
    pieces: usize,
    /// Jobs that were not met.
    left: u64,
    behind: Option<Behind>,
}

impl Telling {
    /// Takes the next piece of the order in, and tells it if it is `wanted`; says whether it is
    /// done with.
    fn push(&mut self, next: Piece, shape: &Arc<Shape>, wanted: bool, runs_max: usize) -> bool {
        let before = self.last.replace((next.priority, next.shape));
        if before.is_none_or(|(priority, _)| priority != next.priority) {
            self.met = 0;
        }
        let is_new = before != self.last;
        let gang = shape.gang.as_ref().map(|gang| &gang.id);
        let goes_on = self.goes_on(gang);
        if is_new && self.runs.len() >= runs_max && !goes_on {
            self.behind = Some(Behind { priority: next.priority, runs: self.met });
            return true;
        }
        self.met += u32::from(is_new);
        self.left = self.left.saturating_sub(next.count);
        let is_skipped = next.priority == self.from.priority && self.met <= self.from.runs;
        let is_torn = goes_on && self.gang.as_ref().is_some_and(|(_, is_torn)| *is_torn);
        if !goes_on {
            self.gang = gang.map(|gang| (gang.clone(), is_skipped));
        }
        let is_skipped = is_skipped || is_torn;
        self.pieces += usize::from(!is_skipped);
        match self.runs.last_mut() {
            _ if is_skipped || !wanted => {}
            Some(last) if !is_new => last.count += next.count,
            Some(_) | None => self.runs.push(WaitingJobs {
                priority: next.priority,
                shape: Arc::clone(shape),
                count: next.count,
                since: next.first.map_or(Timestamp(i64::MAX), JobId::submitted_at),
            }),
        }
        self.is_done()
    }

    /// Whether jobs of this gang go on with the gang of the last run.
    fn goes_on(&self, gang: Option<&Name>) -> bool {
        self.gang.as_ref().is_some_and(|(last, _)| Some(last) == gang)
    }

    fn is_done(&self) -> bool {
        self.behind.is_some() || self.left == 0
    }

    /// The order was left at this piece: what was not met lies behind it.
    fn stop(&mut self, next: Piece) {
        if !self.is_done() {
            let met = match self.last {
                // In the middle of a run: all of it is told again.
                Some(last) if last == (next.priority, next.shape) => self.met - 1,
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

    /// What waits in a queue for a pool and class from a place in the order on, of jobs that ask
    /// for no more than `free` of anything.
    #[must_use]
    pub fn window(
        &self,
        queue: &str,
        (pool, class): (&str, &str),
        free: &Resources,
        from: Behind,
        runs_max: usize,
    ) -> Option<Window> {
        let queue = self.queues.get(&self.names.number(&queue.into())?)?;
        let order = queue.orders.get(pool, class)?;
        let fits = |number: u32| {
            let shape = self.shapes.value(number);
            // Gangs are told as a whole.
            shape.gang.is_some()
                || shape.request.iter().all(|(name, asked)| asked <= free.get(name))
        };
        let telling = Telling { from, left: u64::MAX, ..Telling::default() };
        let Telling { runs, behind, .. } = self.tell(order, telling, fits, runs_max);
        Some(Window { runs, behind })
    }

    /// The shape behind a key, while a live job has it.
    #[must_use]
    pub fn shape(&self, key: ShapeKey) -> Option<&Arc<Shape>> {
        self.shape_number(key).map(|number| self.shapes.value(number))
    }

    /// With how many tasks a job stands at a place.
    pub(super) fn stands(&self, id: JobId, place: Place) -> u64 {
        self.jobs.get(id).map_or(0, |job| job.standings().at(place))
    }

    /// Goes through an order as far as it is told.
    fn tell(
        &self,
        order: &Order,
        mut telling: Telling,
        wanted: impl Fn(u32) -> bool,
        runs_max: usize,
    ) -> Telling {
        let gang = |shape: u32| self.shapes.value(shape).gang.as_ref().map(|gang| &gang.id);
        let stands = |id, place| self.stands(id, place);
        order.walk(
            telling.from.priority,
            stands,
            |shape| self.shapes.value(shape),
            |next| {
                if telling.pieces >= PIECES_MAX && !telling.goes_on(gang(next.shape)) {
                    telling.stop(next);
                    return ControlFlow::Break(());
                }
                let wanted = wanted(next.shape);
                match telling.push(next, self.shapes.value(next.shape), wanted, runs_max) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            },
        );
        telling
    }

    fn offer(&self, number: u32, queue: &Queue, runs_max: usize) -> QueueOffer {
        let shape = |number: u32| self.shapes.value(number).clone();
        let head = |(pool, class, order): (&Name, &Name, &Order)| {
            let left = order.waiting().map(|(_, count)| count).sum();
            let telling = Telling { left, ..Telling::default() };
            let Telling { runs, behind, .. } = self.tell(order, telling, |_| true, runs_max);
            Head { pool: pool.clone(), class: class.clone(), runs, behind }
        };
        QueueOffer {
            queue: self.names.value(number).clone(),
            heads: queue.orders.iter().map(head).collect(),
            waiting: queue.orders.waiting().map(|(s, count)| (shape(s), count)).collect(),
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
    use crate::command::{Command, Lease, NewJob, Outcome, Pick, Submit};
    use crate::id::{CommandId, Position, ShardId};
    use crate::quantity::Quantity;
    use crate::record::Payload;
    use crate::shard::Context;

    fn cpus(cpu: u8) -> Resources {
        [("cpu".into(), Quantity::from_units(cpu.into()))].into_iter().collect()
    }

    /// What a job is made of: priority, cpu, pool, class.
    type Made = (u32, u8, &'static str, &'static str);

    /// A shard with one queue of jobs.
    fn shard(jobs: &[Made]) -> Shard {
        let mut shard = Shard::new(ShardId(1));
        let job = |(line, (priority, cpu, pool, class)): (u64, &Made)| NewJob {
            line,
            client_id: None,
            priority: *priority,
            count: None,
            at_most_once: false,
            terms: None,
            shape: Arc::new(shape(*cpu, pool, class)),
            payload: Payload::default(),
        };
        let submit = Command::Submit(Submit {
            queue: "q".into(),
            incarnation: 1,
            job_set: "s".into(),
            key: None,
            queued_max: None,
            jobs: (0..).zip(jobs).map(job).collect(),
        });
        let ctx = Context { now: Timestamp(1), random: 1, position: Position::default() };
        let outcome = shard.execute(CommandId(1), submit, ctx, &mut Vec::new());
        assert!(matches!(outcome, Outcome::Submitted(_)));
        shard
    }

    fn shape(cpu: u8, pool: &str, class: &str) -> Shape {
        Shape { pool: pool.into(), class: class.into(), ..Shape::of_request(cpus(cpu)) }
    }

    /// The head of a pool and class.
    fn head(shard: &Shard, line: (&str, &str), runs_max: usize) -> Head {
        let offer = shard.offers(runs_max).into_iter().next().unwrap_or_default();
        let mut heads = offer.heads.into_iter();
        heads.find(|head| (&*head.pool, &*head.class) == line).unwrap_or_default()
    }

    /// The whole order of a pool and class, by its head and windows of `runs_max` runs.
    fn read(
        shard: &Shard,
        line: (&str, &str),
        free: &Resources,
        runs_max: usize,
    ) -> Vec<(u32, ShapeKey)> {
        let Head { mut runs, behind: mut next, .. } = head(shard, line, runs_max);
        assert!(runs.len() <= runs_max);
        while let Some(from) = next {
            let window = shard.window("q", line, free, from, runs_max).unwrap();
            assert!(window.runs.len() <= runs_max);
            runs.extend(window.runs);
            next = window.behind;
        }
        let jobs = |run: &WaitingJobs| vec![(run.priority, run.shape.key()); run.count as usize];
        runs.iter().flat_map(jobs).collect()
    }

    fn made() -> impl Strategy<Value = Made> {
        (
            0..4u32,
            1..4u8,
            prop::sample::select(vec!["a", "b"]),
            prop::sample::select(vec!["x", "y"]),
        )
    }

    proptest! {
        #[test]
        fn head_and_windows_are_the_whole_order_of_a_pool_and_class(
            jobs in vec(made(), 1..60),
            runs_max in 1..6usize,
            free in 1..4u8,
        ) {
            let shard = shard(&jobs);
            for line in [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")] {
                let mut expected: Vec<_> =
                    jobs.iter().filter(|(_, _, pool, class)| (*pool, *class) == line).collect();
                expected.sort_by_key(|(priority, ..)| *priority);
                let expected: Vec<_> = expected
                    .into_iter()
                    .map(|(priority, cpu, pool, class)| (*priority, shape(*cpu, pool, class).key()))
                    .collect();
                prop_assert_eq!(read(&shard, line, &cpus(9), runs_max), expected.clone());
                // What fits is found whatever else there is.
                let fits = |(_, key): &(u32, ShapeKey)| {
                    (1..=free).any(|cpu| shape(cpu, line.0, line.1).key() == *key)
                };
                let found = read(&shard, line, &cpus(free), runs_max);
                prop_assert_eq!(
                    found.into_iter().filter(fits).collect::<Vec<_>>(),
                    expected.into_iter().filter(fits).collect::<Vec<_>>()
                );
            }
            let told = shard.offers(runs_max).into_iter().flat_map(|offer| offer.heads);
            prop_assert!(told.into_iter().all(|head| !head.runs.is_empty()));
        }
    }

    #[test]
    fn an_order_that_is_left_in_the_middle_of_a_run_is_gone_on_with_at_the_beginning_of_it() {
        let shape = Arc::new(shape(1, "a", "x"));
        let piece = |shape, count| Piece { priority: 3, shape, count, first: None };
        let mut telling = Telling { left: 10, ..Telling::default() };
        assert!(!telling.push(piece(1, 2), &shape, true, 10));
        assert!(!telling.push(piece(2, 2), &shape, true, 10));
        telling.stop(piece(2, 2));
        assert_eq!(telling.behind, Some(Behind { priority: 3, runs: 1 }));
        let mut telling = Telling { left: 10, ..Telling::default() };
        telling.push(piece(1, 2), &shape, true, 10);
        telling.stop(piece(2, 2));
        assert_eq!(telling.behind, Some(Behind { priority: 3, runs: 1 }));
    }

    #[test]
    fn a_window_passes_over_what_no_node_could_hold() {
        let mut jobs: Vec<Made> = (0..500).map(|priority| (priority, 100, "a", "x")).collect();
        jobs.push((500, 1, "a", "x"));
        let shard = shard(&jobs);
        let from = head(&shard, ("a", "x"), 10).behind.unwrap();
        let window = shard.window("q", ("a", "x"), &cpus(8), from, 10).unwrap();
        assert_eq!((window.runs.len(), window.behind), (1, None));
        assert_eq!(window.runs[0].shape.request, cpus(1));
    }

    #[test]
    fn the_jobs_of_one_pool_or_class_do_not_crowd_out_the_head_of_another() {
        let mut jobs: Vec<Made> = (0..500).map(|priority| (priority, 1, "a", "x")).collect();
        jobs.extend([(500, 1, "b", "x"), (501, 1, "a", "y")]);
        let offer = shard(&jobs).offers(10).remove(0);
        let lengths: Vec<usize> = offer.heads.iter().map(|head| head.runs.len()).collect();
        assert_eq!(lengths, [10, 1, 1]);
    }

    #[test]
    fn an_order_that_has_no_job_any_more_is_not_told() {
        let mut shard = shard(&[(0, 1, "a", "x"), (0, 1, "a", "y")]);
        let pick = Pick {
            queue: "q".into(),
            priority: 0,
            shape: shape(1, "a", "x").key(),
            node: "n".into(),
            count: 1,
        };
        let lease =
            Command::Lease(Lease { cluster: "c".into(), is_away: false, picks: vec![pick] });
        let ctx = Context { now: Timestamp(2), random: 2, position: Position::default() };
        shard.execute(CommandId(2), lease, ctx, &mut Vec::new());
        let heads = shard.offers(10).remove(0).heads;
        let classes: Vec<&str> = heads.iter().map(|head| &*head.class).collect();
        assert_eq!(classes, ["y"]);
        assert_eq!(shard.window("q", ("a", "x"), &cpus(8), Behind::default(), 10), None);
    }
}
