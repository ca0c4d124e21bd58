//! Offers and windows as messages that fit the bus.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::Name;
use muster_core::limits::RESOURCES_PER_OFFER_MAX;
use muster_core::offer::{self, WaitingJobs};
use muster_core::resources::Resources;
use muster_core::shape::Shape;

use crate::bus::runs::Shapes;
use crate::bus::{Head, PoolOffer, QueueOffer, QueueWindow, Room, Windows};
use crate::shape::ShapeText;

/// Bytes of a run in a head, generously.
const WAITING_BYTES: usize = 29;
/// Bytes of a queue's or pool's offer beside its texts and lists, generously.
const OFFER_BYTES: usize = 160;
/// Bytes of a head beside the name of its class and its runs, generously.
const HEAD_BYTES: usize = 40;
/// Bytes of an amount beside the name of its resource, generously.
const AMOUNT_BYTES: usize = 48;
/// The part of a message that one pool's heads may take: what lies behind them is asked for when it
/// matters.
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
    heads: Vec<&'a offer::Head>,
    waiting: u64,
    demand: Resources,
    held: u64,
    holds: Resources,
    /// The same by class.
    classes: BTreeMap<Name, Resources>,
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
            let told = part.told(bytes_max / HEAD_PART);
            if !message.push(&offer.queue, further, &pool, &part, &told) {
                done.push(message.packed());
                message = Message::new(Room::of_message(bytes_max));
                message.push(&offer.queue, further, &pool, &part, &told);
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
        let told = part.told(bytes / HEAD_PART);
        if !message.push(&offer.queue, false, &pool.into(), &part, &told) {
            break;
        }
    }
    message.packed()
}

/// Windows of as many orders as fit a message: each by its queue and class, and where it begins.
#[must_use]
pub fn pack_windows(
    windows: impl IntoIterator<Item = (String, String, offer::Behind, offer::Window)>,
    bytes_max: usize,
) -> Windows {
    let mut room = Room::of_message(bytes_max);
    let mut shapes = Shapes::default();
    let mut queues = Vec::new();
    for (queue, class, from, window) in windows {
        let (fit, _) = runs_that_fit(&window.runs, bytes_max / HEAD_PART);
        let told = offer::untorn(&window.runs, fit.max(1).min(window.runs.len()));
        let texts = queue.len() + class.len();
        if !take(&mut room, OFFER_BYTES + texts, window.runs[..told].iter()) {
            break;
        }
        let behind = offer::Behind::first(from, &window.runs, told).or(window.behind);
        let runs = wire_runs(&window.runs[..told], &mut shapes);
        let since = since(&window.runs[..told]);
        queues.push(QueueWindow { queue, class, runs, since, behind: behind.map(Into::into) });
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

    /// Puts one pool's part of a queue in, with so much of each of its heads, if there is room.
    fn push(
        &mut self,
        queue: &Name,
        further: bool,
        pool: &Name,
        part: &Part<'_>,
        told: &[usize],
    ) -> bool {
        let amounts = |resources: &Resources| {
            let listed = resources.iter().take(RESOURCES_PER_OFFER_MAX);
            listed.map(|(name, _)| name.len() + AMOUNT_BYTES).sum::<usize>()
        };
        let texts = queue.len() + pool.len() + amounts(&part.demand) + amounts(&part.holds);
        let holds = |class: &Name| part.classes.get(class).map_or(0, amounts);
        let heads = part.heads.iter();
        let heads = heads.map(|head| head.class.len() + HEAD_BYTES + holds(&head.class));
        let heads: usize = heads.sum();
        let runs = part.heads.iter().zip(told).flat_map(|(head, told)| &head.runs[..*told]);
        if !take(&mut self.room, OFFER_BYTES + texts + heads, runs) {
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
            last.pools.push(part.wire(pool, told, &mut self.shapes));
        }
        true
    }
}

impl Part<'_> {
    /// How many runs of each head are told, within so many bytes: each head may take an equal part,
    /// and what one does not need is for the others. One run is told in any case.
    fn told(&self, bytes_max: usize) -> Vec<usize> {
        let mut told = vec![0; self.heads.len()];
        let mut shortest_first: Vec<usize> = (0..self.heads.len()).collect();
        shortest_first.sort_by_key(|at| self.heads[*at].runs.len());
        let (mut left, mut to_come) = (bytes_max, self.heads.len());
        for at in shortest_first {
            let runs = &self.heads[at].runs;
            let (fit, _) = runs_that_fit(runs, left / to_come);
            told[at] = offer::untorn(runs, fit);
            let (_, bytes) = runs_that_fit(&runs[..told[at].min(fit)], left / to_come);
            left -= bytes;
            to_come -= 1;
        }
        if told.iter().all(|told| *told == 0)
            && let Some(at) = self.heads.iter().position(|head| !head.runs.is_empty())
        {
            told[at] = offer::untorn(&self.heads[at].runs, 1);
        }
        told
    }

    fn wire(&self, pool: &Name, told: &[usize], shapes: &mut Shapes) -> PoolOffer {
        let head = |(head, told): (&&offer::Head, &usize)| {
            let behind = offer::Behind::first(offer::Behind::default(), &head.runs, *told);
            Head {
                class: head.class.to_string(),
                runs: wire_runs(&head.runs[..*told], shapes),
                since: since(&head.runs[..*told]),
                behind: behind.or(head.behind).map(Into::into),
                holds: self.classes.get(&head.class).map(amounts).unwrap_or_default(),
            }
        };
        PoolOffer {
            pool: pool.to_string(),
            heads: self.heads.iter().zip(told).map(head).collect(),
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
            let class = part.classes.entry(shape.class.clone()).or_default();
            class.add_times(&shape.request, *count);
        });
    }
    for head in &offer.heads {
        if let Some(part) = parts.get_mut(&head.pool) {
            part.heads.push(head);
        }
    }
    parts
}

fn amounts(resources: &Resources) -> BTreeMap<String, String> {
    let listed = resources.iter().take(RESOURCES_PER_OFFER_MAX);
    listed.map(|(name, amount)| (name.to_string(), amount.to_string())).collect()
}

fn wire_runs(runs: &[WaitingJobs], shapes: &mut Shapes) -> Vec<(u32, u32, u64)> {
    let wire = |run: &WaitingJobs| {
        let shape = shapes.position(&ShapeText(Arc::clone(&run.shape)));
        (run.priority, shape, run.count)
    };
    runs.iter().map(wire).collect()
}

fn since(runs: &[WaitingJobs]) -> Vec<i64> {
    runs.iter().map(|run| run.since.0).collect()
}

/// How many of the first runs take no more than so many bytes, shapes included, and how many these
/// take.
fn runs_that_fit(runs: &[WaitingJobs], bytes_max: usize) -> (usize, usize) {
    let mut room = Room::of_bytes(bytes_max);
    // From here on nothing is taken for being the first.
    room.take(0);
    let fit = runs.iter().take_while(|run| take(&mut room, 0, std::iter::once(*run))).count();
    (fit, bytes_max - room.left())
}

/// Takes runs and what goes with them, all or nothing.
fn take<'a>(room: &mut Room, bytes: usize, runs: impl Iterator<Item = &'a WaitingJobs>) -> bool {
    let mut shapes: Vec<&Arc<Shape>> = runs.map(|run| &run.shape).collect();
    let runs = shapes.len();
    shapes.sort_by_key(|shape| Arc::as_ptr(shape));
    shapes.dedup_by_key(|shape| Arc::as_ptr(shape));
    let texts: usize = shapes.iter().map(|shape| room.shape_bytes(shape)).sum();
    let fits = room.take(bytes + texts + runs * WAITING_BYTES);
    if fits {
        shapes.into_iter().for_each(|shape| room.has_shape(shape));
    }
    fits
}

#[cfg(test)]
mod tests {
    use muster_core::offer::Window;
    use muster_core::quantity::Quantity;
    use muster_core::time::Timestamp;

    use super::*;
    use crate::bus::{Offers, encode};

    const BYTES_MAX: usize = 64 * 1024;

    /// A shape of its own for each number, with a text of about 300 bytes.
    fn shape(n: usize, pool: &str, class: &str) -> Arc<Shape> {
        let mut shape =
            Shape::of_request([("cpu".into(), Quantity::from_millis(1))].into_iter().collect());
        shape.pool = pool.into();
        shape.class = class.into();
        shape.node_selector.insert("zone".into(), format!("{n:0>250}").as_str().into());
        Arc::new(shape)
    }

    /// The offer of a queue with so many shapes, which are dealt out to pools and, of each, to
    /// three classes.
    fn offer(queue: &str, shapes: usize, pools: usize) -> offer::QueueOffer {
        let class = |n: usize| format!("class-{}", n / pools % 3);
        let shapes: Vec<_> =
            (0..shapes).map(|n| shape(n, &format!("pool-{}", n % pools), &class(n))).collect();
        let mut heads: BTreeMap<_, offer::Head> = BTreeMap::new();
        for (n, shape) in shapes.iter().enumerate() {
            let (pool, class) = (shape.pool.clone(), shape.class.clone());
            let priority = u32::try_from(n / 10).unwrap();
            let since = Timestamp(n as i64);
            let run = WaitingJobs { priority, shape: Arc::clone(shape), count: 2, since };
            let new =
                offer::Head { pool: pool.clone(), class: class.clone(), ..Default::default() };
            heads.entry((pool, class)).or_insert(new).runs.push(run);
        }
        offer::QueueOffer {
            queue: queue.into(),
            heads: heads.into_values().collect(),
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
                    let told: u64 =
                        pool.heads.iter().flat_map(|head| &head.runs).map(|(_, _, n)| n).sum();
                    let is_cut = pool.heads.iter().any(|head| head.behind.is_some());
                    assert_eq!(is_cut, told < pool.waiting);
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
    fn each_head_of_a_pool_has_its_part_of_a_message_and_what_others_do_not_need() {
        let mut offer = offer("q", 300, 1);
        let heads = &mut offer.heads;
        heads[1].runs.truncate(5);
        let runs: Vec<usize> = heads.iter().map(|head| head.runs.len()).collect();
        assert_eq!(runs, [100, 5, 100]);
        let packed = pack(std::slice::from_ref(&offer), BYTES_MAX).remove(0);
        let told = &packed.queues[0].pools[0].heads;
        let lengths: Vec<usize> = told.iter().map(|head| head.runs.len()).collect();
        assert_eq!(lengths[1], 5, "a short head is told whole");
        assert!(lengths[0].abs_diff(lengths[2]) <= 1 && lengths[0] > 15, "{lengths:?}");
        // What is not told is found from where the head ends.
        for (head, told) in offer.heads.iter().zip(told) {
            let next = head.runs.get(told.runs.len()).map(|run| run.priority);
            assert_eq!(told.behind.map(|behind| behind.0), next);
        }
        // With hardly any room one run is told, and of the others where they begin.
        let packed = pack_some(&[offer], "pool-0", Room::of_bytes(100));
        let lengths = packed.queues[0].pools[0].heads.iter().map(|head| head.runs.len());
        assert_eq!(lengths.collect::<Vec<_>>(), [1, 0, 0]);
        let behind = packed.queues[0].pools[0].heads.iter().map(|head| head.behind);
        assert!(behind.into_iter().all(|behind| behind.is_some()));
    }

    #[test]
    fn a_message_of_another_version_is_refused_and_not_misread() {
        // An offer as versions wrote it that told one head for all classes.
        let old = serde_json::json!({
            "shard": 1, "owner": "o", "epoch": 1, "version": 1, "previous": 0, "full": true,
            "shapes": [], "queues": [{ "queue": "q", "further": false, "pools": [{
                "pool": "default", "head": [], "behind": null, "waiting": 0, "demand": {},
                "held": 0, "holds": {},
            }] }],
        });
        let error = crate::bus::decode::<Offers>(&encode(&old)).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("missing field `heads`"), "{source}");
        // And a new one read by such a version.
        #[derive(Debug, serde::Deserialize)]
        struct Old {
            #[serde(rename = "head")]
            _head: Vec<(u32, u32, u64)>,
        }
        let packed = pack(&[offer("q", 1, 1)], BYTES_MAX).remove(0);
        let new = encode(&packed.queues[0].pools[0]);
        assert!(crate::bus::decode::<Old>(&new).is_err());
        let old = serde_json::json!({ "pool": "p", "free": {}, "queues": [["q", [0, 0]]] });
        assert!(crate::bus::decode::<crate::bus::GetWindows>(&encode(&old)).is_err());
    }

    #[test]
    fn windows_lead_on_to_the_run_behind_them() {
        let runs = offer("q", 600, 1).heads.remove(0).runs;
        let from = offer::Behind { priority: 0, runs: 7 };
        let window = Window { runs: runs.clone(), behind: None };
        let windows = pack_windows([("q".to_owned(), "c".to_owned(), from, window)], BYTES_MAX);
        assert!(encode(&windows).len() <= BYTES_MAX);
        let [told] = &windows.queues[..] else { panic!("one window") };
        assert_eq!((&*told.queue, &*told.class), ("q", "c"));
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
