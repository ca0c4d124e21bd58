//! The check, on a log in memory that is as it should be, and on what can be wrong with it.

use std::sync::Arc;

use bytes::Bytes;
use muster_core::command::{Command, NewJob, Outcome, Submit, Target};
use muster_core::history::Finished;
use muster_core::id::{CommandId, JobRef, Position};
use muster_core::record::{HistorySpan, Payload, Record};
use muster_core::resources::Resources;
use muster_core::shape::Shape;
use muster_core::shard::{Context, Shard};
use muster_core::time::Timestamp;
use object_store::ObjectStoreExt;

use super::*;
use crate::Random;
use crate::codec::Kind;
use crate::history::History;
use crate::log::{Limits, Log, Params, Sealed};
use crate::store;

const SHARD: ShardId = ShardId(0);

/// A shard driven as its owner drives it.
struct Driven {
    store: Store,
    log: Log,
    state: Shard,
    commands: u128,
}

fn new_job(line: u64, count: Option<u32>) -> NewJob {
    NewJob {
        line,
        client_id: None,
        priority: 0,
        count,
        at_most_once: false,
        terms: None,
        shape: Arc::new(Shape::of_request(Resources::new())),
        payload: Payload::default(),
    }
}

impl Driven {
    async fn new() -> Self {
        let store = store::open(&store::Config::at("memory:///")).unwrap();
        let params = Params {
            store: store.objects(),
            shard: SHARD,
            writer: 1,
            random: Random::seeded(1),
            blocking: Blocking::new(1),
            limits: Limits::default(),
        };
        let mut state = Shard::new(SHARD);
        let taken = Log::take_over(params, |at, record| state.apply(at, &record)).await.unwrap();
        Self { store, log: taken.log, state, commands: 0 }
    }

    async fn commit(&mut self, command: Command) -> Outcome {
        self.commands += 1;
        let position = Position { sequence: self.log.next_sequence(), row: 0 };
        let random = u64::try_from(self.commands).unwrap() << 20;
        let ctx = Context { now: Timestamp(1_800_000_000_000), random, position };
        let mut records = Vec::new();
        let outcome = self.state.execute(CommandId(self.commands), command, ctx, &mut records);
        let header = self.log.next_header(Kind::Log, false);
        self.log.append(&Sealed::new(header, &records).unwrap()).await.unwrap();
        outcome
    }

    async fn submit(&mut self, jobs: Vec<NewJob>) -> Vec<JobRef> {
        let submit = Submit {
            queue: "q".into(),
            incarnation: 1,
            job_set: "s".into(),
            key: None,
            queued_max: None,
            jobs,
        };
        let Outcome::Submitted(runs) = self.commit(Command::Submit(submit)).await else {
            panic!("not submitted")
        };
        let ids = runs.iter().flat_map(|run| (0..run.count).map(|n| run.first.plus(n.into())));
        ids.map(JobRef::whole).collect()
    }

    async fn cancel(&mut self, jobs: Vec<JobRef>) {
        self.commit(Command::Cancel { target: Target::Jobs(jobs), reason: None }).await;
    }

    /// What has finished goes to the history, and its end is noted.
    async fn write_history(&mut self) {
        let through = Position { sequence: self.log.next_sequence() - 1, row: u32::MAX };
        let span = HistorySpan { after: self.state.history_through(), through };
        self.commit(Command::PlanHistory(span)).await;
        let rows: Vec<Finished> =
            self.state.finished_in(span).iter().map(|row| Finished::clone(row)).collect();
        let history = History::new(self.store.clone(), Blocking::new(1));
        history.write(SHARD, span, rows).await.unwrap();
        self.commit(Command::NoteHistory(span)).await;
    }

    async fn checkpoint(&self) -> u64 {
        let sequence = self.log.next_sequence() - 1;
        self.log.write_checkpoint(sequence, self.state.records()).await.unwrap();
        sequence
    }

    async fn report(&self) -> Report {
        verify(&self.store, &Blocking::new(1), |_| {}).await.unwrap()
    }

    /// The only finding that there is: its place and what it says.
    async fn finding(&self) -> (String, String) {
        let report = self.report().await;
        let [Finding { place, what }] = &report.findings[..] else { panic!("{report:#?}") };
        (place.clone(), what.clone())
    }

    async fn overwrite(&self, key: &Path, bytes: Bytes) {
        self.store.objects().put(key, bytes.into()).await.unwrap();
    }

    async fn keys(&self, prefix: &str) -> Vec<Path> {
        let prefix = Path::from(prefix);
        let listed = self.store.objects().list(Some(&prefix));
        listed.map_ok(|object| object.location).try_collect().await.unwrap()
    }
}

fn log_key(sequence: u64) -> Path {
    Path::from(format!("shards/0/log/{sequence:020}.parquet"))
}

fn checkpoint_key(sequence: u64) -> Path {
    Path::from(format!("shards/0/checkpoint/{sequence:020}.parquet"))
}

/// Fence 1; three jobs and an array of 1,000 in 2; a job and half of the array end and are in the
/// history; checkpoints at 5 and at 6; another job in 7 that ends in 8.
async fn deployment() -> Driven {
    let mut driven = Driven::new().await;
    let jobs = vec![new_job(0, None), new_job(1, None), new_job(2, None), new_job(3, Some(1_000))];
    let ids = driven.submit(jobs).await;
    let half = (0..500).map(|index| JobRef::task(ids[3].job, index));
    driven.cancel(std::iter::once(ids[0]).chain(half).collect()).await;
    driven.write_history().await;
    assert_eq!(driven.checkpoint().await, 5);
    driven.cancel(vec![ids[1]]).await;
    assert_eq!(driven.checkpoint().await, 6);
    let last = driven.submit(vec![new_job(0, None)]).await;
    driven.cancel(last).await;
    driven
}

#[tokio::test]
async fn nothing_is_wrong_with_a_log_that_is_as_it_should_be() {
    let mut driven = deployment().await;
    let report = driven.report().await;
    assert_eq!(report.findings, []);
    let shard = &report.shards[0];
    assert_eq!((shard.log_objects, shard.fences, shard.collected), (8, 1, 0));
    assert_eq!((shard.checkpoints, shard.checkpoints_compared), (2, 2));
    assert_eq!((shard.submitted, shard.live, shard.history), (1_004, 501, 501));
    // Holes are right where things were let go.
    for sequence in [3, 4] {
        driven.store.objects().delete(&log_key(sequence)).await.unwrap();
    }
    let report = driven.report().await;
    assert_eq!((&report.findings[..], report.shards[0].collected), (&[][..], 2));
    // And so is history that was written and is not noted yet.
    driven.write_history().await;
    let noted = log_key(driven.log.next_sequence() - 1);
    driven.store.objects().delete(&noted).await.unwrap();
    assert_eq!(driven.report().await.findings, []);
}

#[tokio::test]
async fn what_is_damaged_or_missing_is_named() {
    let driven = deployment().await;
    for key in [log_key(3), log_key(7), checkpoint_key(6)] {
        let whole = driven.store.read(&key).await.unwrap().unwrap();
        let mut flipped = whole.to_vec();
        flipped[whole.len() / 2] ^= 4;
        driven.overwrite(&key, flipped.into()).await;
        let (place, what) = driven.finding().await;
        assert!(place == key.as_ref() && what.starts_with("checksum of"), "{place}: {what}");
        driven.overwrite(&key, whole.slice(..whole.len() - 3)).await;
        let (place, what) = driven.finding().await;
        assert!(place == key.as_ref() && what.contains("do not end as Parquet"), "{place}: {what}");
        driven.overwrite(&key, whole).await;
    }
    let other = driven.store.read(&log_key(7)).await.unwrap().unwrap();
    let whole = driven.store.read(&log_key(8)).await.unwrap().unwrap();
    driven.overwrite(&log_key(8), other).await;
    assert_eq!(driven.finding().await.1, "object says sequence 7, its key says 8");
    driven.overwrite(&log_key(8), whole).await;
    driven.store.objects().delete(&log_key(7)).await.unwrap();
    let missing = (log_key(7).to_string(), "it is missing from the log".to_owned());
    assert_eq!(driven.finding().await, missing);
}

#[tokio::test]
async fn a_payload_that_is_needed_is_missed() {
    let driven = deployment().await;
    driven.store.objects().delete(&log_key(2)).await.unwrap();
    let report = driven.report().await;
    assert_eq!(report.findings.len(), 2, "{report:#?}");
    assert!(report.findings.iter().all(|found| found.place == log_key(2).as_ref()));
    assert!(report.findings[0].what.contains("which lives, and is not there"));
}

#[tokio::test]
async fn a_job_that_is_nowhere_or_twice_in_the_history_is_found() {
    let driven = deployment().await;
    let history = driven.keys("history").await.remove(0);
    let rows = driven.store.read(&history).await.unwrap().unwrap();
    let again = history.as_ref().replace("-00000-", "-00001-");
    driven.overwrite(&Path::from(again.as_str()), rows.clone()).await;
    let report = driven.report().await;
    let twice = |found: &&Finding| found.what.ends_with("stands in the history twice");
    assert_eq!(report.findings.iter().filter(twice).count(), 2, "{report:#?}");
    driven.store.objects().delete(&Path::from(again)).await.unwrap();

    let mut flipped = rows.to_vec();
    flipped[50] ^= 1;
    driven.overwrite(&history, flipped.into()).await;
    let (place, what) = driven.finding().await;
    assert!(place == history.as_ref() && what.starts_with("checksum of"), "{place}: {what}");

    // One object of two is gone: the job in it, and the tasks.
    driven.store.objects().delete(&history).await.unwrap();
    let report = driven.report().await;
    let words = "1000 were submitted, 500 live, 0 are in the history, 0 are on the way there";
    assert!(report.findings.iter().any(|found| found.what.ends_with(words)), "{report:#?}");
}

#[tokio::test]
async fn a_checkpoint_that_says_something_else_than_the_log_is_found() {
    let driven = deployment().await;
    let key = checkpoint_key(6);
    let whole = driven.store.read(&key).await.unwrap().unwrap();
    let (header, mut records) = crate::codec::decode(whole, crate::codec::Columns::All).unwrap();
    let is_job = |record: &Record| matches!(record, Record::Job(_));
    let job = records.iter().position(is_job).unwrap();
    records.remove(job);
    driven.overwrite(&key, crate::codec::encode(&header, &records).unwrap()).await;
    let report = driven.report().await;
    let found = report.findings.iter().find(|found| found.place == key.as_ref());
    let what = "it does not say what the log before it says";
    assert_eq!(found.map(|found| found.what.as_str()), Some(what), "{report:#?}");
}
