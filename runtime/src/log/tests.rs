//! Two writers, a zombie, a store that fails or lies: one log.

mod faulty;

use super::*;
use crate::codec::{Columns, Kind};
use bytes::Bytes;
use faulty::{Fault, Faulty};
use muster_core::id::{JobId, Position};
use muster_core::record::{Payload, Record, Submitted};
use muster_core::resources::Resources;
use muster_core::shape::Shape;
use muster_core::time::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

const SHARD: ShardId = ShardId(3);

fn params(store: Arc<dyn ObjectStore>, writer: u128) -> Params {
    let random = Random::seeded(u64::try_from(writer).unwrap());
    let limits = Limits::default();
    Params { store, shard: SHARD, writer, random, blocking: Blocking::new(2), limits }
}

/// Takes the shard over and gives the numbers of the jobs read with it.
async fn take_over(store: Arc<dyn ObjectStore>, writer: u128) -> (TakenOver, Vec<u64>) {
    try_take_over(store, writer).await.unwrap()
}

async fn try_take_over(
    store: Arc<dyn ObjectStore>,
    writer: u128,
) -> Result<(TakenOver, Vec<u64>), TakeOverError> {
    let mut records = Vec::new();
    let apply = |position: Position, record| records.push((position, record));
    let taken = Log::take_over(params(store, writer), apply).await?;
    assert!(records.is_sorted_by_key(|(position, _)| *position));
    assert_eq!(taken.records, records.len() as u64);
    Ok((taken, records.iter().map(|(_, record)| number(record)).collect()))
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
        payload: payload(number),
    }))
}

fn payload(number: u64) -> Payload {
    Payload { pod_spec: Bytes::from(format!("{{\"n\":{number}}}")), ..Payload::default() }
}

fn number(record: &Record) -> u64 {
    match record {
        Record::Submitted(submitted) => {
            u64::from_be_bytes(submitted.job.to_bytes()[8..].try_into().unwrap())
        }
        other => panic!("{other:?}"),
    }
}

fn seal(log: &Log, jobs: &[u64]) -> Sealed {
    let records: Vec<_> = jobs.iter().map(|&number| job(number)).collect();
    Sealed::new(log.next_header(Kind::Log, false), &records).unwrap()
}

async fn append(log: &Log, jobs: &[u64]) -> Result<(), AppendError> {
    log.append(&seal(log, jobs)).await
}

fn log_key(sequence: u64) -> Path {
    Path::from(format!("shards/3/log/{sequence:020}.parquet"))
}

fn checkpoint_key(sequence: u64) -> Path {
    Path::from(format!("shards/3/checkpoint/{sequence:020}.parquet"))
}

async fn what_was_appended_is_read_by_the_next_owner(store: Arc<dyn ObjectStore>) {
    let (first, read) = take_over(Arc::clone(&store), 1).await;
    assert_eq!((first.epoch, first.released_by_previous, first.checkpoint), (1, false, None));
    assert_eq!((read, first.log.next_sequence()), (vec![], 2));
    append(&first.log, &[1, 2]).await.unwrap();
    append(&first.log, &[3]).await.unwrap();
    first.log.write_checkpoint(2, vec![job(1), job(2)]).await.unwrap();
    first.log.write_checkpoint(2, vec![job(1), job(2)]).await.unwrap();

    let (second, read) = take_over(Arc::clone(&store), 2).await;
    assert_eq!((second.epoch, second.released_by_previous, second.checkpoint), (4, false, Some(2)));
    assert_eq!(read, [1, 2, 3]);
    assert_eq!(append(&first.log, &[4]).await, Err(AppendError::Fenced { by: 2, epoch: 4 }));
    assert_eq!(append(&first.log, &[4]).await, Err(AppendError::Fenced { by: 2, epoch: 4 }));
    append(&second.log, &[5]).await.unwrap();

    let (_, read) = take_over(store, 3).await;
    assert_eq!(read, [1, 2, 3, 5]);
}

#[tokio::test]
async fn what_was_appended_in_memory_is_read_by_the_next_owner() {
    what_was_appended_is_read_by_the_next_owner(Arc::new(InMemory::new())).await;
}

#[tokio::test]
async fn what_was_appended_to_files_is_read_by_the_next_owner() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    what_was_appended_is_read_by_the_next_owner(Arc::new(store)).await;
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_put_of_ones_own_is_success_and_stored_once() {
    for faults in [
        &[Fault::Fail, Fault::Fail][..],
        &[Fault::WriteAndFail],
        &[Fault::Hang],
        &[Fault::WriteAndHang],
        &[Fault::Conflict, Fault::Hang, Fault::Fail, Fault::WriteAndHang],
    ] {
        let store = Faulty::new(Arc::new(InMemory::new()));
        let (owner, _) = take_over(store.clone(), 1).await;
        store.puts(faults);
        append(&owner.log, &[1]).await.unwrap();
        store.assert_drained();
        append(&owner.log, &[2]).await.unwrap();
        assert_eq!(take_over(store, 2).await.1, [1, 2], "{faults:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_fence_of_ones_own_is_success() {
    for fault in [Fault::Fail, Fault::WriteAndFail, Fault::Hang, Fault::WriteAndHang] {
        let store = Faulty::new(Arc::new(InMemory::new()));
        store.puts(&[fault]);
        let (owner, _) = take_over(store.clone(), 1).await;
        store.assert_drained();
        assert_eq!((owner.epoch, owner.log.next_sequence()), (1, 2));
        append(&owner.log, &[1]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_delays_a_commit_and_does_not_fail_it() {
    let store = Faulty::new(Arc::new(InMemory::new()));
    let (owner, _) = take_over(store.clone(), 1).await;
    store.puts(&[Fault::Hang; 50]);
    let started = tokio::time::Instant::now();
    append(&owner.log, &[1]).await.unwrap();
    assert!(started.elapsed() > Duration::from_secs(500));
    store.assert_drained();
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_back_decides_nothing() {
    let store = Faulty::new(Arc::new(InMemory::new()));
    let (owner, _) = take_over(store.clone(), 1).await;
    store.puts(&[Fault::WriteAndFail]);
    store.fail_gets(3);
    append(&owner.log, &[1]).await.unwrap();
    store.assert_drained();
}

#[tokio::test(start_paused = true)]
async fn a_zombie_whose_put_hangs_over_a_takeover_is_fenced() {
    let store = Faulty::new(Arc::new(InMemory::new()));
    let (zombie, _) = take_over(store.clone(), 1).await;
    append(&zombie.log, &[1]).await.unwrap();
    store.puts(&[Fault::Hang]);
    let sealed = seal(&zombie.log, &[2]);
    let (late, (owner, read)) = tokio::join!(zombie.log.append(&sealed), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        take_over(store.clone(), 2).await
    });
    assert_eq!(late, Err(AppendError::Fenced { by: 2, epoch: 3 }));
    assert_eq!(read, [1]);
    append(&owner.log, &[3]).await.unwrap();
    assert_eq!(append(&zombie.log, &[4]).await, Err(AppendError::Fenced { by: 2, epoch: 3 }));
    assert_eq!(take_over(store, 3).await.1, [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_put_that_landed_unheard_before_a_takeover_is_kept_and_acknowledged() {
    let store = Faulty::new(Arc::new(InMemory::new()));
    let (first, _) = take_over(store.clone(), 1).await;
    store.puts(&[Fault::WriteAndHang]);
    let sealed = seal(&first.log, &[1]);
    let (late, (_, read)) = tokio::join!(first.log.append(&sealed), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        take_over(store.clone(), 2).await
    });
    assert_eq!((late, read), (Ok(()), vec![1]));
    assert_eq!(append(&first.log, &[2]).await, Err(AppendError::Fenced { by: 2, epoch: 3 }));
}

/// Two logs with one view of what is next, as after a split brain: the store alone decides.
#[tokio::test]
async fn of_two_writers_exactly_one_wins_each_sequence_number() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for round in 0..20 {
        let (a, _) = take_over(Arc::clone(&store), 1).await;
        let next = a.log.next_sequence();
        let objects = Arc::new(objects::Objects::new(params(Arc::clone(&store), 2)));
        let reader = Reader::new(Arc::clone(&objects));
        let b = Log::new(objects, reader, a.epoch, next);
        let jobs = [round];
        let results = tokio::join!(append(&a.log, &jobs), append(&b, &jobs));
        let won = [&results.0, &results.1].into_iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "{results:?}");
        let lost = results.0.err().or(results.1.err());
        assert!(matches!(lost, Some(AppendError::Fenced { .. })), "{lost:?}");
        assert_eq!(take_over(Arc::clone(&store), 3).await.1.len() as u64, round + 1);
    }
}

#[tokio::test]
async fn a_takeover_while_the_old_owner_appends_loses_no_acknowledged_record() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut acknowledged = Vec::new();
    let (mut owner, _) = take_over(Arc::clone(&store), 1).await;
    for writer in 2..12u128 {
        let base = u64::try_from(writer).unwrap() * 1000;
        let appends = async {
            let mut done = Vec::new();
            for n in base.. {
                tokio::task::yield_now().await;
                match append(&owner.log, &[n]).await {
                    Ok(()) => done.push(n),
                    Err(AppendError::Fenced { by, .. }) => {
                        assert_eq!(by, writer);
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            done
        };
        let takes_over = async {
            for _ in 0..writer {
                tokio::task::yield_now().await;
            }
            take_over(Arc::clone(&store), writer).await
        };
        let (done, (next, read)) = tokio::join!(appends, takes_over);
        acknowledged.extend(done);
        assert_eq!(read, acknowledged);
        owner = next;
    }
    assert!(!acknowledged.is_empty());
}

#[tokio::test]
async fn a_clean_hand_over_is_told() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (first, _) = take_over(Arc::clone(&store), 1).await;
    append(&first.log, &[1]).await.unwrap();
    let last = Sealed::new(first.log.next_header(Kind::Log, true), &[]).unwrap();
    first.log.append(&last).await.unwrap();
    let (second, _) = take_over(Arc::clone(&store), 2).await;
    assert!(second.released_by_previous);

    // Also when a checkpoint covers the last object.
    let last = Sealed::new(second.log.next_header(Kind::Log, true), &[job(2)]).unwrap();
    second.log.append(&last).await.unwrap();
    let covered = last.header().sequence;
    second.log.write_checkpoint(covered, vec![job(1), job(2)]).await.unwrap();
    let (third, read) = take_over(Arc::clone(&store), 3).await;
    assert_eq!(
        (third.checkpoint, third.released_by_previous, third.epoch),
        (Some(covered), true, 6)
    );
    assert_eq!(read, [1, 2]);

    // And no more once somebody took over after it.
    let (fourth, _) = take_over(store, 4).await;
    assert!(!fourth.released_by_previous);
}

#[tokio::test]
async fn a_broken_checkpoint_gives_way_to_the_one_before() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (first, _) = take_over(Arc::clone(&store), 1).await;
    append(&first.log, &[1]).await.unwrap();
    first.log.write_checkpoint(2, vec![job(1)]).await.unwrap();
    append(&first.log, &[2]).await.unwrap();
    let broken = PutPayload::from_static(b"PAR1 cut short");
    store.put(&checkpoint_key(3), broken).await.unwrap();
    let (second, read) = take_over(store, 2).await;
    assert_eq!((second.checkpoint, read), (Some(2), vec![1, 2]));
}

#[tokio::test]
async fn a_hole_and_a_damaged_object_are_named() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (first, _) = take_over(Arc::clone(&store), 1).await;
    for n in 2..5 {
        append(&first.log, &[n]).await.unwrap();
    }
    let third = store.get(&log_key(3)).await.unwrap().bytes().await.unwrap();
    store.delete(&log_key(3)).await.unwrap();
    let error = try_take_over(Arc::clone(&store), 2).await.err().unwrap();
    let text = "object `shards/3/log/00000000000000000003.parquet` is missing from the log, which \
                has one at 5";
    assert_eq!(error.to_string(), text);

    store.put(&log_key(3), third.slice(..100).into()).await.unwrap();
    let error = try_take_over(Arc::clone(&store), 2).await.err().unwrap();
    assert!(error.to_string().starts_with("object `shards/3/log/00000000000000000003.parquet`"));

    let second = store.get(&log_key(2)).await.unwrap().bytes().await.unwrap();
    store.put(&log_key(3), second.into()).await.unwrap();
    let error = try_take_over(store, 2).await.err().unwrap();
    assert!(error.to_string().ends_with("object says sequence 2, its key says 3"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_slept_until_the_number_for_its_fence_was_collected_owns_nothing() {
    let store = Faulty::new(Arc::new(InMemory::new()));
    let (owner, _) = take_over(store.clone(), 1).await;
    // The sleeper has seen that 2 is free; its put arrives nowhere.
    store.puts(&[Fault::Hang]);
    let (late, ()) = tokio::join!(try_take_over(store.clone(), 2), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for number in 1..=4 {
            append(&owner.log, &[number]).await.unwrap();
        }
        owner.log.write_checkpoint(3, vec![job(1), job(2)]).await.unwrap();
        owner.log.write_checkpoint(4, vec![job(1), job(2), job(3)]).await.unwrap();
        store.delete(&log_key(2)).await.unwrap();
    });
    let error = late.err().unwrap();
    assert!(matches!(error, TakeOverError::Overtaken { fence: 2, .. }), "{error}");
    assert_eq!(error.damaged(), None, "it is nothing that somebody has to put right");
    append(&owner.log, &[5]).await.unwrap();
    assert_eq!(take_over(store, 3).await.1, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn an_append_that_was_dropped_closes_the_log() {
    let store = Faulty::new(Arc::new(InMemory::new()));
    let (owner, _) = take_over(store.clone(), 1).await;
    store.puts(&[Fault::WriteAndHang]);
    let sealed = seal(&owner.log, &[1]);
    assert_eq!(futures::poll!(std::pin::pin!(owner.log.append(&sealed))), std::task::Poll::Pending);
    assert_eq!(append_next(&owner.log).await, Err(AppendError::GivenUp { sequence: 2 }));
    assert_eq!(take_over(store, 1).await.1, [1]);
}

async fn append_next(log: &Log) -> Result<(), AppendError> {
    append(log, &[9]).await
}

#[tokio::test(start_paused = true)]
async fn reads_fetch_each_object_once() {
    let store = Faulty::new(Arc::new(InMemory::new()));
    let (first, _) = take_over(store.clone(), 1).await;
    append(&first.log, &[1, 2, 3]).await.unwrap();
    append(&first.log, &[4]).await.unwrap();
    let objects = Arc::new(objects::Objects::new(params(store.clone(), 2)));
    let reader = Reader::new(objects);
    store.take_gets();
    store.fail_gets(1);
    let at = |sequence, row| Position { sequence, row };
    let places = [at(2, 2), at(3, 0), at(2, 0)];
    let (payloads, records, again) = tokio::join!(
        reader.payloads(&places),
        reader.read(2, Columns::WithoutPayload),
        reader.payloads(&places)
    );
    assert_eq!(payloads.unwrap(), [payload(3), payload(4), payload(1)]);
    assert_eq!(again.unwrap().len(), 3);
    assert_eq!(records.unwrap().iter().map(number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(store.take_gets(), 3, "two objects and one failure");

    // Whoever wrote an object has it already.
    first.log.reader().payloads(&places).await.unwrap();
    let records = first.log.reader().read(3, Columns::All).await.unwrap();
    assert_eq!(*records, [job(4)]);
    assert_eq!(store.take_gets(), 0);

    let error = reader.payloads(&[at(2, 3)]).await.unwrap_err();
    assert!(error.to_string().ends_with("no row 3 in an object of 3 rows"), "{error}");
    let error = reader.read(9, Columns::All).await.unwrap_err();
    assert!(matches!(error, ReadError::Missing { .. }), "{error}");
}
