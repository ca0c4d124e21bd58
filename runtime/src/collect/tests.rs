//! Collection on a store in memory: what goes, what stays, and that it may be cut off anywhere.

use muster_core::id::{JobId, Position};
use muster_core::record::{Payload, Record, Submitted};
use muster_core::resources::Resources;
use muster_core::shape::Shape;
use object_store::ObjectStoreExt;

use super::*;
use crate::log::{Limits, Log, Params, Sealed, TakenOver};
use crate::{Blocking, Random};

const SHARD: ShardId = ShardId(3);

fn memory() -> Store {
    store::open(&store::Config::at("memory:///")).unwrap()
}

fn job(number: u64) -> Record {
    Record::Submitted(Box::new(Submitted {
        job: JobId::new(Timestamp(0), SHARD, number),
        queue: "q".into(),
        job_set: "s".into(),
        client_id: None,
        priority: 1,
        count: None,
        at_most_once: false,
        terms: None,
        shape: Arc::new(Shape::of_request(Resources::new())),
        payload: Payload::default(),
    }))
}

/// A takeover, and the places of the records that it read.
async fn take_over(store: &Store, writer: u128) -> (TakenOver, Vec<Position>) {
    let params = Params {
        store: store.objects(),
        shard: SHARD,
        writer,
        random: Random::seeded(u64::try_from(writer).unwrap()),
        blocking: Blocking::new(1),
        limits: Limits::default(),
    };
    let mut places = Vec::new();
    let taken = Log::take_over(params, |place, _| places.push(place)).await.unwrap();
    (taken, places)
}

async fn append(log: &Log, objects: u64) {
    for number in 0..objects {
        let header = log.next_header(Kind::Log, false);
        log.append(&Sealed::new(header, &[job(number)]).unwrap()).await.unwrap();
    }
}

/// Fences at 1 and 7, commits around them up to 12, checkpoints at 4, 9 and 11.
async fn two_ownerships() -> Store {
    let store = memory();
    let (first, _) = take_over(&store, 1).await;
    append(&first.log, 5).await;
    first.log.write_checkpoint(4, vec![job(1)]).await.unwrap();
    let (second, _) = take_over(&store, 2).await;
    assert_eq!(second.epoch, 7);
    append(&second.log, 5).await;
    second.log.write_checkpoint(9, vec![job(1)]).await.unwrap();
    second.log.write_checkpoint(11, vec![job(1)]).await.unwrap();
    store
}

async fn there(store: &Store, place: Place) -> Vec<u64> {
    let folder = Path::from(folder(SHARD, place));
    let listed: Vec<_> = store.objects().list(Some(&folder)).try_collect().await.unwrap();
    listed.iter().filter_map(|object| sequence_of(&object.location)).collect()
}

fn bounds(in_use: &[u64]) -> Bounds {
    Bounds { checkpoint: 9, in_use: in_use.into(), own_from: u64::MAX }
}

fn at_once() -> Settings {
    Settings { grace: Duration::ZERO, deletes_per_second: 1000, mode: Mode::Delete }
}

fn collector(store: &Store) -> Collector {
    Collector::new(store.clone(), SHARD, Clock::system())
}

#[tokio::test]
async fn what_nobody_needs_goes_and_fences_stay_for_ever() {
    let store = two_ownerships().await;
    let mut collector = collector(&store);
    let mut gone = Vec::new();
    let deleted = |kind, bytes| gone.push((kind, bytes));
    let passed = collector.pass(&bounds(&[3, 9, 12]), &at_once(), deleted, || true).await.unwrap();
    assert_eq!(there(&store, Place::Log).await, [1, 3, 7, 9, 10, 11, 12]);
    assert_eq!(there(&store, Place::Checkpoint).await, [9, 11]);
    assert_eq!((passed.in_use, passed.fences, passed.next), (1, 2, None));
    let of = |wanted| gone.iter().filter(|(kind, _)| *kind == wanted).count();
    assert_eq!((of(Garbage::Log), of(Garbage::Checkpoint)), (5, 1));
    assert!(gone.iter().all(|(_, bytes)| *bytes > 0));

    // What was needed goes when it is no longer, without looking at all the others again.
    let before = store.requests();
    let passed = collector.pass(&bounds(&[12]), &at_once(), |_, _| {}, || true).await.unwrap();
    let asked = store.requests().since(&before);
    assert_eq!(there(&store, Place::Log).await, [1, 7, 9, 10, 11, 12]);
    assert_eq!((asked.get, asked.list, asked.delete, passed.fences), (1, 2, 1, 0));

    let (next, places) = take_over(&store, 3).await;
    assert_eq!((next.checkpoint, next.checkpoint_before), (Some(11), Some(9)));
    assert_eq!(places.iter().map(|place| place.sequence).collect::<Vec<_>>(), [11, 12]);
}

#[tokio::test]
async fn the_newest_checkpoint_may_break_after_a_collection() {
    let store = two_ownerships().await;
    collector(&store).pass(&bounds(&[]), &at_once(), |_, _| {}, || true).await.unwrap();
    let newest = key(SHARD, Place::Checkpoint, 11);
    store.objects().put(&newest, "PAR1 broken".into()).await.unwrap();
    let (next, places) = take_over(&store, 3).await;
    assert_eq!((next.checkpoint, next.broken.len()), (Some(9), 1));
    assert_eq!(places.iter().map(|place| place.sequence).collect::<Vec<_>>(), [9, 10, 11, 12]);
}

#[tokio::test(start_paused = true)]
async fn a_pass_cut_off_anywhere_leaves_a_log_that_is_read_and_is_finished_by_another() {
    for batches in 0..9 {
        let store = two_ownerships().await;
        let begun = std::sync::atomic::AtomicUsize::new(0);
        let goes_on = || begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < batches;
        let one_by_one = Settings { deletes_per_second: 1, ..at_once() };
        let bounds = bounds(&[3]);
        collector(&store).pass(&bounds, &one_by_one, |_, _| {}, goes_on).await.unwrap();
        let (_, places) = take_over(&store, 3).await;
        assert_eq!(places.iter().map(|place| place.sequence).collect::<Vec<_>>(), [11, 12]);
        collector(&store).pass(&bounds, &at_once(), |_, _| {}, || true).await.unwrap();
        assert_eq!(there(&store, Place::Log).await, [1, 3, 7, 9, 10, 11, 12, 13], "{batches}");
        assert_eq!(there(&store, Place::Checkpoint).await, [9, 11]);
    }
}

#[tokio::test(start_paused = true)]
async fn deletions_are_spread_over_time() {
    let store = two_ownerships().await;
    let settings = Settings { deletes_per_second: 2, ..at_once() };
    let began = tokio::time::Instant::now();
    collector(&store).pass(&bounds(&[]), &settings, |_, _| {}, || true).await.unwrap();
    // A checkpoint, and two fences and six commits looked at, two by two.
    assert_eq!(began.elapsed(), Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn what_is_young_stays_until_its_time_is_over() {
    let store = two_ownerships().await;
    let clock = Clock::starting_at(Clock::system().now());
    let mut collector = Collector::new(store.clone(), SHARD, clock);
    let settings = Settings { grace: Duration::from_secs(3_600), ..at_once() };
    let passed = collector.pass(&bounds(&[]), &settings, |_, _| {}, || true).await.unwrap();
    assert_eq!(there(&store, Place::Log).await.len(), 12);
    let next = passed.next.unwrap();
    assert!(next <= CHECKPOINT_GRACE_MAX, "checkpoints go earlier: {next:?}");
    tokio::time::advance(CHECKPOINT_GRACE_MAX).await;
    let passed = collector.pass(&bounds(&[]), &settings, |_, _| {}, || true).await.unwrap();
    assert_eq!(there(&store, Place::Checkpoint).await, [9, 11]);
    assert_eq!(there(&store, Place::Log).await.len(), 12);
    tokio::time::advance(passed.next.unwrap()).await;
    // The objects were written one after the other, by the clock of the store.
    tokio::time::advance(Duration::from_secs(600)).await;
    let passed = collector.pass(&bounds(&[]), &settings, |_, _| {}, || true).await.unwrap();
    assert_eq!((there(&store, Place::Log).await, passed.next), (vec![1, 7, 9, 10, 11, 12], None));
}

#[tokio::test]
async fn a_dry_run_deletes_nothing_and_counts_what_would_go() {
    let store = two_ownerships().await;
    let mut counted = 0;
    let settings = Settings { mode: Mode::DryRun, ..at_once() };
    let deleted = |_, _| counted += 1;
    collector(&store).pass(&bounds(&[3]), &settings, deleted, || true).await.unwrap();
    assert_eq!((counted, store.requests().delete), (6, 0));
    assert_eq!(there(&store, Place::Log).await.len(), 12);
}

#[tokio::test]
async fn what_cannot_be_told_from_a_fence_stays_and_is_named() {
    let store = two_ownerships().await;
    let damaged = key(SHARD, Place::Log, 5);
    store.objects().put(&damaged, "PAR1 broken".into()).await.unwrap();
    let passed = collector(&store).pass(&bounds(&[]), &at_once(), |_, _| {}, || true).await;
    let [what] = &passed.unwrap().unreadable[..] else { panic!("one is unreadable") };
    assert!(what.starts_with(&format!("`{damaged}`: not a log object")), "{what}");
    assert_eq!(there(&store, Place::Log).await, [1, 5, 7, 9, 10, 11, 12]);
    let fence = store.read(&key(SHARD, Place::Log, 7)).await.unwrap().unwrap();
    assert!((fence.len() as u64) < FENCE_BYTES_MAX / 4, "a fence has {} bytes", fence.len());
}
