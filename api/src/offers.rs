//! Offers and windows as messages that fit the bus.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::Name;
use muster_core::limits::RESOURCES_PER_OFFER_MAX;
use muster_core::offer::{self, WaitingJobs};
use muster_core::resources::Resources;
use muster_core::shape::Shape;

use crate::bus::runs::Shapes;
use crate::bus::{PoolOffer, QueueOffer, QueueWindow, Room, Windows};
use crate::shape::ShapeText;

/// Bytes of a run in a head, generously.
const WAITING_BYTES: usize = 20;
/// Bytes of a queue's or pool's offer beside its texts and lists, generously.
const OFFER_BYTES: usize = 160;
/// Bytes of an amount beside the name of its resource, generously.
const AMOUNT_BYTES: usize = 48;
/// The part of a message that one head may take: what lies behind it is asked for when it matters.
const HEAD_PART: usize = 4;

/// Queues that fit one message, with their shapes.
#[derive(Default)]
pub struct Packed {
    /// Shapes that the queues name by position.
    pub shapes: Vec<ShapeText>,
    /// The queues.
    pub queues: Vec<QueueOffer>,
}

/// A message that is being filled.
struct Message {
    room: Room,
    shapes: Shapes,
    queues: Vec<QueueOffer>,
}

/// What one queue has in one pool.
#[derive(Default)]
struct Part<'a> {
    head: Vec<&'a WaitingJobs>,
    behind: Option<offer::Behind>,
    waiting: u64,
    demand: Resources,
    held: u64,
    holds: Resources,
}

/// Offers in as many messages as they need, at least one.
#[must_use]
pub fn pack(offers: &[offer::QueueOffer], bytes_max: usize) -> Vec<Packed> {
    let mut done = Vec::new();
    let mut message = Message::new(Room::of_message(bytes_max));
    for offer in offers {
        let mut further = false;
        let mut parts = parts(offer).into_iter().peekable();
        if parts.peek().is_none() {
            // It has nothing any more.
            parts = BTreeMap::from([(Name::from(""), Part::default())]).into_iter().peekable();
        }
        for (pool, part) in parts {
            let head = part.head_that_fits(bytes_max / HEAD_PART);
            if !message.push(&offer.queue, further, &pool, &part, head) {
                done.push(message.packed());
                message = Message::new(Room::of_message(bytes_max));
                message.push(&offer.queue, further, &pool, &part, head);
            }
            further = true;
        }
    }
    done.push(message.packed());
    done
}

/// Offers to one pool, of as many queues as there is room for.
#[must_use]
pub fn pack_some(offers: &[offer::QueueOffer], pool: &str, room: Room) -> Packed {
    let bytes = room.left();
    let mut message = Message::new(room);
    for offer in offers {
        let part = parts(offer).remove(pool).unwrap_or_default();
        let head = part.head_that_fits(bytes / HEAD_PART);
        if !message.push(&offer.queue, false, &pool.into(), &part, head) {
            break;
        }
    }
    message.packed()
}

/// Windows of as many queues as fit a message.
#[must_use]
pub fn pack_windows(
    windows: impl IntoIterator<Item = (String, offer::Behind, offer::Window)>,
    bytes_max: usize,
) -> Windows {
    let mut room = Room::of_message(bytes_max);
    let mut shapes = Shapes::default();
    let mut queues = Vec::new();
    for (queue, from, window) in windows {
        let runs: Vec<&WaitingJobs> = window.runs.iter().collect();
        let told = runs_that_fit(&runs, bytes_max / HEAD_PART);
        if !take(&mut room, OFFER_BYTES + queue.len(), &runs[..told]) {
            break;
        }
        let behind = offer::Behind::first(from, &window.runs, told).or(window.behind);
        let runs = wire_runs(&runs[..told], &mut shapes);
        queues.push(QueueWindow { queue, runs, behind: behind.map(Into::into) });
    }
    Windows { shapes: shapes.texts, queues }
}

impl Message {
    fn new(room: Room) -> Self {
        Self { room, shapes: Shapes::default(), queues: Vec::new() }
    }

    fn packed(self) -> Packed {
        Packed { shapes: self.shapes.texts, queues: self.queues }
    }

    /// Puts one pool's part of a queue in, with so much of its head, if there is room.
    fn push(&mut self, queue: &Name, further: bool, pool: &Name, part: &Part, head: usize) -> bool {
        let amounts = |resources: &Resources| {
            let listed = resources.iter().take(RESOURCES_PER_OFFER_MAX);
            listed.map(|(name, _)| name.len() + AMOUNT_BYTES).sum::<usize>()
        };
        let texts = queue.len() + pool.len() + amounts(&part.demand) + amounts(&part.holds);
        if !take(&mut self.room, OFFER_BYTES + texts, &part.head[..head]) {
            return false;
        }
        let is_same = |last: &&mut QueueOffer| *last.queue == **queue;
        let last = match self.queues.last_mut().filter(is_same) {
            Some(last) => last,
            None => {
                let queue = queue.to_string();
                self.queues.push(QueueOffer { queue, further, pools: Vec::new() });
                self.queues.last_mut().expect("it was pushed a moment ago")
            }
        };
        if part.waiting > 0 || part.held > 0 {
            last.pools.push(part.wire(pool, head, &mut self.shapes));
        }
        true
    }
}

impl Part<'_> {
    fn head_that_fits(&self, bytes_max: usize) -> usize {
        runs_that_fit(&self.head, bytes_max)
    }

    fn wire(&self, pool: &Name, head: usize, shapes: &mut Shapes) -> PoolOffer {
        let runs: Vec<WaitingJobs> = match self.head.get(head) {
            Some(_) => self.head.iter().take(head + 1).map(|run| (*run).clone()).collect(),
            None => Vec::new(),
        };
        let behind = offer::Behind::first(offer::Behind::default(), &runs, head).or(self.behind);
        PoolOffer {
            pool: pool.to_string(),
            head: wire_runs(&self.head[..head], shapes),
            behind: behind.map(Into::into),
            waiting: self.waiting,
            demand: amounts(&self.demand),
            held: self.held,
            holds: amounts(&self.holds),
        }
    }
}

/// What a queue has, by pool.
fn parts(offer: &offer::QueueOffer) -> BTreeMap<Name, Part<'_>> {
    let mut parts: BTreeMap<Name, Part<'_>> = BTreeMap::new();
    let mut of =
        |shape: &Shape, change: &mut dyn FnMut(&mut Part<'_>)| match parts.get_mut(&shape.pool) {
            Some(part) => change(part),
            None => change(parts.entry(shape.pool.clone()).or_default()),
        };
    for (shape, count) in &offer.waiting {
        of(shape, &mut |part| {
            part.waiting += count;
            part.demand.add_times(&shape.request, *count);
        });
    }
    for (_, shape, count) in &offer.held {
        of(shape, &mut |part| {
            part.held += count;
            part.holds.add_times(&shape.request, *count);
        });
    }
    for run in &offer.head {
        if let Some(part) = parts.get_mut(&run.shape.pool) {
            part.head.push(run);
        }
    }
    for (pool, behind) in &offer.behind {
        if let Some(part) = parts.get_mut(pool) {
            part.behind = Some(*behind);
        }
    }
    parts
}

fn amounts(resources: &Resources) -> BTreeMap<String, String> {
    let listed = resources.iter().take(RESOURCES_PER_OFFER_MAX);
    listed.map(|(name, amount)| (name.to_string(), amount.to_string())).collect()
}

fn wire_runs(runs: &[&WaitingJobs], shapes: &mut Shapes) -> Vec<(u32, u32, u64)> {
    let wire = |run: &&WaitingJobs| {
        let shape = shapes.position(&ShapeText(Arc::clone(&run.shape)));
        (run.priority, shape, run.count)
    };
    runs.iter().map(wire).collect()
}

/// How many of the first runs take no more than so many bytes, shapes included; at least one.
fn runs_that_fit(runs: &[&WaitingJobs], bytes_max: usize) -> usize {
    let mut room = Room::of_bytes(bytes_max);
    runs.iter().take_while(|run| take(&mut room, 0, &[run])).count()
}

/// Takes runs and what goes with them, all or nothing.
fn take(room: &mut Room, bytes: usize, runs: &[&WaitingJobs]) -> bool {
    let mut shapes: Vec<&Arc<Shape>> = runs.iter().map(|run| &run.shape).collect();
    shapes.sort_by_key(|shape| Arc::as_ptr(shape));
    shapes.dedup_by_key(|shape| Arc::as_ptr(shape));
    let texts: usize = shapes.iter().map(|shape| room.shape_bytes(shape)).sum();
    let fits = room.take(bytes + texts + runs.len() * WAITING_BYTES);
    if fits {
        shapes.into_iter().for_each(|shape| room.has_shape(shape));
    }
    fits
}

#[cfg(test)]
mod tests {
    use muster_core::offer::Window;
    use muster_core::quantity::Quantity;

    use super::*;
    use crate::bus::{Offers, encode};

    const BYTES_MAX: usize = 64 * 1024;

    /// A shape of its own for each number, with a text of about 300 bytes.
    fn shape(n: usize, pool: &str) -> Arc<Shape> {
        let mut shape =
            Shape::of_request([("cpu".into(), Quantity::from_millis(1))].into_iter().collect());
        shape.pool = pool.into();
        shape.node_selector.insert("zone".into(), format!("{n:0>250}").as_str().into());
        Arc::new(shape)
    }

    fn offer(queue: &str, shapes: usize, pools: usize) -> offer::QueueOffer {
        let shapes: Vec<_> =
            (0..shapes).map(|n| shape(n, &format!("pool-{}", n % pools))).collect();
        let run = |(n, shape): (usize, &Arc<Shape>)| WaitingJobs {
            priority: u32::try_from(n / 10).unwrap(),
            shape: Arc::clone(shape),
            count: 2,
        };
        offer::QueueOffer {
            queue: queue.into(),
            head: shapes.iter().enumerate().map(run).collect(),
            behind: Vec::new(),
            waiting: shapes.iter().map(|shape| (Arc::clone(shape), 2)).collect(),
            held: shapes.iter().map(|shape| ("c".into(), Arc::clone(shape), 3)).collect(),
        }
    }

    fn message(packed: Packed) -> Offers {
        let Packed { shapes, queues } = packed;
        let owner = "0123456789abcdef".to_owned();
        Offers { shard: 1, owner, epoch: 1, version: 2, previous: 1, full: true, shapes, queues }
    }

    #[test]
    fn offers_of_many_shapes_queues_and_pools_are_all_told_in_messages_that_fit() {
        let offers: Vec<_> = (0..20).map(|n| offer(&format!("q{n}"), 50 * n, 1 + n)).collect();
        let packed = pack(&offers, BYTES_MAX);
        assert!(packed.len() > 3);
        let (mut waiting, mut held, mut begun) = (BTreeMap::new(), 0, 0);
        for message in packed.into_iter().map(message) {
            let bytes = encode(&message).len();
            assert!(bytes <= BYTES_MAX, "{bytes} bytes");
            for queue in &message.queues {
                begun += usize::from(!queue.further);
                for pool in &queue.pools {
                    *waiting.entry(queue.queue.clone()).or_insert(0) += pool.waiting;
                    held += pool.held;
                    let told: u64 = pool.head.iter().map(|(_, _, count)| count).sum();
                    assert_eq!(pool.behind.is_some(), told < pool.waiting);
                }
            }
        }
        assert_eq!(begun, offers.len());
        let expected = |n: usize| (format!("q{n}"), 2 * 50 * n as u64);
        assert_eq!(waiting, (1..20).map(expected).collect());
        assert_eq!(held, (1..20).map(|n| 3 * 50 * n).sum::<u64>());
    }

    #[test]
    fn a_queue_that_has_nothing_any_more_is_named() {
        let packed = pack(&[offer("q", 0, 1)], BYTES_MAX);
        let [Packed { queues, .. }] = &packed[..] else { panic!("one message") };
        assert_eq!((&*queues[0].queue, queues[0].pools.len()), ("q", 0));
    }

    #[test]
    fn windows_lead_on_to_the_run_behind_them() {
        let runs = offer("q", 200, 1).head;
        let from = offer::Behind { priority: 0, runs: 7 };
        let window = Window { runs: runs.clone(), behind: None };
        let windows = pack_windows([("q".to_owned(), from, window)], BYTES_MAX);
        assert!(encode(&windows).len() <= BYTES_MAX);
        let [told] = &windows.queues[..] else { panic!("one window") };
        let next = &runs[told.runs.len()];
        let same = told.runs.iter().filter(|run| run.0 == next.priority).count();
        let before = if next.priority == 0 { 7 } else { 0 };
        let behind = told.behind.map(offer::Behind::from).unwrap();
        assert_eq!(behind.priority, next.priority);
        assert_eq!(behind.runs as usize, same + before);
    }

    #[test]
    fn a_lease_reply_tells_of_one_pool_and_of_no_more_queues_than_fit() {
        let offers: Vec<_> = (0..50).map(|n| offer(&format!("q{n}"), 20, 2)).collect();
        let packed = pack_some(&offers, "pool-1", Room::of_bytes(20_000));
        assert!((1..50).contains(&packed.queues.len()));
        assert!(packed.queues.iter().all(|queue| queue.pools.iter().all(|p| p.pool == "pool-1")));
        assert!(encode(&message(packed)).len() <= 21_000);
    }
}
