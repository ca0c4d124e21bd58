//! Tests of history through its public functions, on a store in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use muster_core::history::Finished;
use muster_core::id::{JobId, JobRef, Position, ShardId};
use muster_core::job::{Address, Counts, Exit, JobState, StateSet, Usage};
use muster_core::quantity::Quantity;
use muster_core::record::{HistorySpan, Run};
use muster_core::resources::Resources;
use muster_core::shape::{Shape, Toleration};
use muster_core::time::Timestamp;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::codec::checksum;
use crate::store::{Config, open};

const SHARD: ShardId = ShardId(3);
/// 2026-01-31T23:59:59.000Z.
const START: Timestamp = Timestamp(1_769_903_999_000);

fn memory() -> (Store, History) {
    let store = open(&Config::at("memory:///")).unwrap();
    (store.clone(), History::new(store, Blocking::new(2)))
}

fn span(through: u64) -> HistorySpan {
    let place = |sequence| Position { sequence, row: 0 };
    HistorySpan { after: place(through - 1), through: place(through) }
}

fn id(n: u64) -> JobId {
    JobId::new(START.plus(std::time::Duration::from_millis(n)), SHARD, n)
}

fn cancelled(job: JobRef, count: u32) -> Finished {
    Finished {
        job,
        count,
        queue: "q".into(),
        job_set: "s".into(),
        client_id: None,
        priority: 0,
        shape: Arc::new(Shape::of_request(Resources::new())),
        state: JobState::Cancelled,
        finished_at: START,
        reason: Some("no longer needed".into()),
        runs: Vec::new(),
        spec: Position { sequence: 1, row: 2 },
        at: Position { sequence: 9, row: 0 },
    }
}

fn all() -> Filter {
    Filter { queue: None, job_set: None, states: StateSet::ALL }
}

fn expanded(rows: &[Finished]) -> BTreeMap<JobRef, Finished> {
    let tasks = rows.iter().flat_map(|row| {
        (0..row.count).map(move |n| {
            let index = row.job.index.map(|index| index + n);
            let job = JobRef { index, ..row.job };
            (job, Finished { job, count: 1, ..row.clone() })
        })
    });
    tasks.collect()
}

async fn keys(store: &Store) -> Vec<Path> {
    store.objects().list(None).map_ok(|object| object.location).try_collect().await.unwrap()
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
}

fn word() -> impl Strategy<Value = Word> {
    "[a-z\"\\\\é 0-9:]{1,12}".prop_map(|text| Word::from(text.as_str()))
}

fn exit() -> impl Strategy<Value = Exit> {
    let usage = (0..1_u64 << 50, 0..1_u64 << 50)
        .prop_map(|(memory_peak_bytes, cpu_time_ms)| Usage { memory_peak_bytes, cpu_time_ms });
    let numbers = (option::of(any::<i32>()), option::of(1..65i32), option::of(usage));
    (numbers, option::of(word()), option::of(word())).prop_map(
        |((code, signal, usage), reason, message)| Exit { code, signal, reason, message, usage },
    )
}

fn run() -> impl Strategy<Value = Run> {
    let times = (0..1_i64 << 41, option::of(0..1_i64 << 41), 0..1_i64 << 41);
    let address = (any::<u32>(), word()).prop_map(|(port, address)| Address { port, address });
    let addresses = vec(address, 0..2);
    (1..9_u32, word(), word(), times, option::of(exit()), addresses).prop_map(
        |(attempt, cluster, node, (leased, started, ended), exit, addresses)| Run {
            attempt,
            cluster,
            node,
            leased_at: Timestamp(leased),
            started_at: started.map(Timestamp),
            addresses,
            ended: exit.map(|exit| (Timestamp(ended), exit)),
        },
    )
}

fn shape() -> impl Strategy<Value = Arc<Shape>> {
    (word(), word(), word(), any::<u32>()).prop_map(|(pool, class, key, amount)| {
        let mut request = Resources::new();
        request.set("cpu".into(), Quantity::from_millis(amount.into()));
        request.set("nvidia.com/gpu".into(), Quantity::from_units(amount.into()));
        let toleration = Toleration { key: Some(key), value: None, effect: None };
        let node_selector = BTreeMap::from([(pool.clone(), class.clone())]);
        let (affinity, tolerations, gang) = (None, vec![toleration], None);
        Arc::new(Shape {
            request,
            node_selector,
            affinity,
            tolerations,
            pool,
            class,
            gang,
            avoid: Vec::new(),
            placement: None,
            lasts_max: None,
        })
    })
}

/// A single job, a task, or several tasks that ended alike; `job` and `index` are put in later.
fn finished() -> impl Strategy<Value = Finished> {
    let names = (word(), word(), option::of(word()), option::of(word()));
    let state = (4..JobState::ALL.len()).prop_map(|n| JobState::ALL[n]);
    let places = (0..1_u64 << 60, any::<u32>(), 0..1_u64 << 60, any::<u32>());
    let count = option::of(1..20_u32);
    // Some finish on the next day.
    let finished_at = (0..3000_i64).prop_map(|ms| Timestamp(START.0 + ms));
    (count, names, any::<u32>(), shape(), state, finished_at, vec(run(), 0..3), places).prop_map(
        |(tasks, names, priority, shape, state, finished_at, runs, places)| Finished {
            job: JobRef { job: JobId::default(), index: tasks.map(|_| 0) },
            count: tasks.unwrap_or(1),
            queue: names.0,
            job_set: names.1,
            client_id: names.2,
            priority,
            shape,
            state,
            finished_at,
            reason: names.3,
            runs,
            spec: Position { sequence: places.0, row: places.1 },
            at: Position { sequence: places.2, row: places.3 },
        },
    )
}

/// Jobs with ids of their own, in an order that is not theirs; several ranges of one array among
/// them.
fn span_rows() -> impl Strategy<Value = Vec<Finished>> {
    let numbered = vec((finished(), 0..3_u64), 1..16).prop_map(|rows| {
        let (mut next, mut array, mut index) = (0, None, 0);
        let mut numbered = Vec::new();
        for (mut row, step) in rows {
            if step > 0 || row.job.index.is_none() || array.is_none() {
                next += 1 + step;
                (array, index) = (row.job.index.map(|_| next), 0);
            }
            row.job.job = id(array.unwrap_or(next));
            row.job.index = row.job.index.map(|_| index + u32::try_from(step).unwrap());
            index += row.count + u32::try_from(step).unwrap();
            numbered.push(row);
        }
        numbered
    });
    numbered.prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_written_is_found_and_listed(rows in span_rows(), limit in 1..40_usize) {
        let (_, history) = memory();
        let expected = expanded(&rows);
        block_on(async {
            let half = rows.len() / 2;
            history.write(SHARD, span(1), rows[..half].to_vec()).await.unwrap();
            history.write(SHARD, span(2), rows[half..].to_vec()).await.unwrap();
            for (job, row) in &expected {
                assert_eq!(history.find(*job).await.unwrap().as_ref(), Some(row));
            }
            let mut listed = Vec::new();
            let mut after = None;
            loop {
                let page = history.list(SHARD, &all(), after, limit).await.unwrap();
                listed.extend(page.jobs);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(listed, expected.values().cloned().collect::<Vec<_>>());
        });
    }
}

#[tokio::test]
async fn one_task_of_a_large_array_is_found_by_reading_little() {
    let (store, history) = memory();
    let runs = |n: u32| Run {
        attempt: 1,
        cluster: "c".into(),
        node: format!("node-{}", n.wrapping_mul(2_654_435_761) >> 16).as_str().into(),
        leased_at: Timestamp(i64::from(n.wrapping_mul(2_246_822_519))),
        started_at: None,
        addresses: Vec::new(),
        ended: None,
    };
    let ran = |n: u32| Finished { runs: vec![runs(n)], ..cancelled(JobRef::task(id(1), n), 1) };
    let rows: Vec<Finished> = (0..150_000).map(ran).collect();
    history.write(SHARD, span(1), rows).await.unwrap();
    let size = store.requests().put_bytes;
    let reader = History::new(store.clone(), Blocking::new(1));
    assert_eq!(reader.find(JobRef::task(id(1), 70_001)).await.unwrap(), Some(ran(70_001)));
    let before = store.requests();
    assert_eq!(reader.find(JobRef::task(id(1), 140_000)).await.unwrap(), Some(ran(140_000)));
    let used = store.requests().since(&before);
    assert!(size > 1 << 20, "{size} bytes are not read whole");
    assert!(used.get_bytes < size / 2 && used.get <= 4, "{used:?} of {size} bytes");
    assert_eq!(reader.find(JobRef::task(id(1), 150_000)).await.unwrap(), None);
    assert_eq!(reader.find(JobRef::whole(id(1))).await.unwrap(), None);
    assert_eq!(reader.find(JobRef::whole(id(2))).await.unwrap(), None);
}

#[tokio::test]
async fn an_array_as_a_whole_is_counted_over_all_its_objects() {
    let (_, history) = memory();
    let later = START.plus(std::time::Duration::from_secs(5));
    let others = [cancelled(JobRef::task(id(1), 0), 9), cancelled(JobRef::whole(id(3)), 1)];
    let tasks = cancelled(JobRef::task(id(2), 10), 70_000);
    let failed = Finished { state: JobState::Failed, ..cancelled(JobRef::task(id(2), 3), 2) };
    let failed = Finished { finished_at: later, ..failed };
    let [before, behind] = others;
    history.write(SHARD, span(1), vec![before, tasks.clone(), behind]).await.unwrap();
    history.write(SHARD, span(2), vec![failed]).await.unwrap();
    let end = history.array(id(2)).await.unwrap().unwrap();
    let mut counts = Counts::default();
    counts[JobState::Cancelled] = 70_000;
    counts[JobState::Failed] = 2;
    assert_eq!((end.counts, end.finished_at), (counts, later));
    assert_eq!(end.example, Finished { count: 1, ..tasks });
    assert_eq!(history.array(id(3)).await.unwrap(), None);
    assert_eq!(history.array(id(4)).await.unwrap(), None);
}

#[tokio::test]
async fn a_span_written_again_is_left_alone() {
    let (store, history) = memory();
    let next_day = START.plus(std::time::Duration::from_secs(1));
    let late = Finished { finished_at: next_day, ..cancelled(JobRef::whole(id(5)), 1) };
    let rows = vec![cancelled(JobRef::task(id(1), 7), 3), late];
    history.write(SHARD, span(8), rows.clone()).await.unwrap();
    let place = "00003-00000000000000000007-0000000000-00000000000000000008-0000000000-00000";
    let (one, five) = (id(1), id(5));
    let expected = [
        format!("history/finished_date=2026-01-31/{place}-{one}.7-{one}.9.parquet"),
        format!("history/finished_date=2026-02-01/{place}-{five}-{five}.parquet"),
    ];
    assert_eq!(keys(&store).await, expected.map(Path::from));
    let first = store.read(&keys(&store).await[0]).await.unwrap();
    let another = History::new(store.clone(), Blocking::new(1));
    another.write(SHARD, span(8), rows.into_iter().rev().collect()).await.unwrap();
    assert_eq!(keys(&store).await.len(), 2);
    assert_eq!(store.read(&keys(&store).await[0]).await.unwrap(), first);
    let late = another.find(JobRef::whole(id(5))).await.unwrap();
    assert_eq!(late.map(|row| row.finished_at), Some(next_day));
}

#[tokio::test]
async fn what_is_listed_is_remembered_and_writes_are_seen() {
    let (store, history) = memory();
    history.write(SHARD, span(1), vec![cancelled(JobRef::whole(id(1)), 1)]).await.unwrap();
    assert!(history.find(JobRef::whole(id(1))).await.unwrap().is_some());
    assert_eq!(history.find(JobRef::whole(id(2))).await.unwrap(), None);
    assert_eq!(store.requests().list, 2);
    history.write(SHARD, span(2), vec![cancelled(JobRef::whole(id(2)), 1)]).await.unwrap();
    assert!(history.find(JobRef::whole(id(2))).await.unwrap().is_some());
    assert_eq!(store.requests().list, 2);
    let other = History::new(store, Blocking::new(1));
    other.write(SHARD, span(3), vec![cancelled(JobRef::whole(id(3)), 1)]).await.unwrap();
    history.forget(SHARD);
    assert!(history.find(JobRef::whole(id(3))).await.unwrap().is_some());
}

#[tokio::test]
async fn filters_hold_and_a_page_reads_a_bounded_number_of_objects() {
    let (store, history) = memory();
    for n in 1..=150 {
        let state = if n % 2 == 0 { JobState::Failed } else { JobState::Succeeded };
        let queue = if n > 140 { "rare" } else { "q" };
        let row = cancelled(JobRef::whole(id(n)), 1);
        let row = Finished { state, queue: queue.into(), ..row };
        history.write(SHARD, span(n), vec![row]).await.unwrap();
    }
    let filter = Filter {
        queue: Some("rare".into()),
        job_set: Some("s".into()),
        states: [JobState::Failed].into_iter().collect(),
    };
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let before = store.requests().get;
        let page = history.list(SHARD, &filter, after, 100).await.unwrap();
        assert!(store.requests().get - before <= 64);
        pages += 1;
        found.extend(page.jobs.into_iter().map(|row| row.job));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<JobRef> = [142, 144, 146, 148, 150].map(|n| JobRef::whole(id(n))).into();
    assert_eq!((found, pages), (expected, 3));
    let none = history.list(ShardId(4), &all(), None, 100).await.unwrap();
    assert_eq!(none, Page { jobs: Vec::new(), next: None });
}

#[tokio::test]
async fn jobs_that_cannot_be_rows_are_refused() {
    let (store, history) = memory();
    for (job, count) in [
        (JobRef::whole(id(1)), 2),
        (JobRef::whole(id(1)), 0),
        (JobRef::task(id(1), 0), 0),
        (JobRef::task(id(1), u32::MAX - 1), 2),
    ] {
        let result = history.write(SHARD, span(1), vec![cancelled(job, count)]).await;
        assert!(matches!(result, Err(Error::Count { .. })), "{job} {count}");
    }
    history.write(SHARD, span(1), Vec::new()).await.unwrap();
    assert!(keys(&store).await.is_empty());
}

#[tokio::test]
async fn the_schema_is_as_documented() {
    let (store, history) = memory();
    history.write(SHARD, span(1), vec![cancelled(JobRef::whole(id(1)), 1)]).await.unwrap();
    let data = store.read(&keys(&store).await[0]).await.unwrap().unwrap();
    let reader = parquet::file::serialized_reader::SerializedFileReader::new(data).unwrap();
    let metadata = parquet::file::reader::FileReader::metadata(&reader).clone();
    let mut text = Vec::new();
    parquet::schema::printer::print_schema(&mut text, metadata.file_metadata().schema());
    let golden = include_str!("../../tests/golden/history_schema.txt");
    assert_eq!(String::from_utf8(text).unwrap(), golden);
}

/// What the fixture of format 1 holds: two tasks of an array and a job.
fn of_format_1() -> Vec<Finished> {
    vec![cancelled(JobRef::task(id(1), 7), 2), cancelled(JobRef::whole(id(5)), 1)]
}

fn fixture() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/parquet/v1/history.parquet")
}

#[tokio::test]
async fn objects_of_format_1_without_a_checksum_are_readable_for_ever() {
    let (store, history) = memory();
    history.write(SHARD, span(8), of_format_1()).await.unwrap();
    let key = keys(&store).await[0].clone();
    let old = std::fs::read(fixture()).unwrap();
    assert!(!checksum::verify_if_signed(&old).unwrap());
    store.objects().put(&key, old.into()).await.unwrap();
    let history = History::new(store, Blocking::new(1));
    let page = history.list(SHARD, &all(), None, 10).await.unwrap();
    let found: BTreeMap<_, _> = page.jobs.into_iter().map(|row| (row.job, row)).collect();
    assert_eq!(found, expanded(&of_format_1()));
}

#[tokio::test]
async fn a_damaged_object_and_one_of_the_next_format_are_named() {
    let (store, history) = memory();
    history.write(SHARD, span(8), of_format_1()).await.unwrap();
    let key = keys(&store).await[0].clone();
    let whole = store.read(&key).await.unwrap().unwrap();
    assert!(checksum::verify_if_signed(&whole).unwrap());
    let mut flipped = whole.to_vec();
    flipped[100] ^= 1;
    let mut next = whole.to_vec();
    let footer = next.len() - 2_000;
    let name = b"muster.format";
    let at = next[footer..].windows(name.len()).position(|part| part == name).unwrap();
    // Behind the key stand two bytes that say what follows, then the version.
    next[footer + at + name.len() + 2] = b'2';
    checksum::sign(&mut next).unwrap();
    let short = whole.slice(..whole.len() - 1);
    for (bytes, words) in [
        (flipped.into(), "checksum of"),
        (next.into(), "format version Some(\"2\") is not 1"),
        (short, "do not end as Parquet does"),
    ] {
        let bytes: bytes::Bytes = bytes;
        store.objects().put(&key, bytes.into()).await.unwrap();
        let history = History::new(store.clone(), Blocking::new(1));
        let error = history.find(JobRef::whole(id(5))).await.unwrap_err().to_string();
        assert!(error.contains(key.as_ref()) && error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn days_go_when_their_time_is_over_and_readers_find_that_out() {
    let (store, history) = memory();
    let day = std::time::Duration::from_secs(24 * 3600);
    let at = |days: u32| START.plus(day * days);
    for (n, days) in [(1u64, 0), (2, 1), (3, 5)] {
        let job = JobRef::whole(JobId::new(at(days), SHARD, n));
        let finished = Finished { finished_at: at(days), ..cancelled(job, 1) };
        history.write(SHARD, span(n), vec![finished]).await.unwrap();
    }
    let elsewhere = History::new(store.clone(), Blocking::new(1));
    let count = async |history: &History| {
        history.list(SHARD, &all(), None, 10).await.map(|page| page.jobs.len()).unwrap()
    };
    assert_eq!((count(&history).await, count(&elsewhere).await), (3, 3));
    // START is a second before midnight.
    let clock = Clock::starting_at(START.plus(day * 4));
    let mut gone = Vec::new();
    let looked = history.expire(&clock, 3, 100, Mode::DryRun, |bytes| gone.push(bytes)).await;
    assert!(looked.unwrap().is_some() && gone.len() == 1);
    assert_eq!(keys(&store).await.len(), 3);
    let next = history.expire(&clock, 3, 100, Mode::Delete, |_| {}).await.unwrap().unwrap();
    assert!(next <= std::time::Duration::from_secs(1), "the next day is about to go: {next:?}");
    assert_eq!(keys(&store).await.len(), 2);
    // One that had listed the day before reads what is left, and then lists anew.
    assert_eq!((count(&history).await, count(&elsewhere).await), (2, 2));
    let later = Clock::starting_at(START.plus(day * 50));
    assert_eq!(history.expire(&later, 3, 100, Mode::Delete, |_| {}).await.unwrap(), None);
    assert_eq!((count(&history).await, keys(&store).await.len()), (0, 0));
}
