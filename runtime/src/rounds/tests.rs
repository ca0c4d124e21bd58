//! Records of rounds are read as they were written, by day.

use super::*;
use crate::store::{self, Config};

fn row(pool: &str, at: i64, queue: Option<&str>) -> Row {
    Row {
        pool: pool.into(),
        at: Timestamp(at),
        kind: Kind::Lease,
        digest: 0xfeed_0000_0000_0001,
        took_us: 1_500,
        queue: queue.map(Into::into),
        placed: 3,
        preempted: 0,
        waiting: 7,
        share: queue.map(|_| 0.25),
        fair_share: queue.map(|_| 0.5),
        reasons: Reasons { no_room: 5, gang: 2, ..Reasons::default() },
    }
}

fn rounds() -> Rounds {
    let store = store::open(&Config::at("memory:///")).unwrap();
    Rounds::new(store, Blocking::new(2))
}

/// The days of 1970.
const DAY: i64 = DAY_MILLIS;

#[tokio::test]
async fn the_last_rounds_are_read_with_their_queues_over_days_and_pools() {
    let rounds = rounds();
    let of_round = |pool: &str, at: i64| {
        vec![row(pool, at, None), row(pool, at, Some("a")), row(pool, at, Some("b"))]
    };
    let first = [of_round("p", 100), of_round("p", 200)].concat();
    rounds.write("p", "0123", first.clone()).await.unwrap();
    rounds.write("with-dash", "0123", of_round("with-dash", 300)).await.unwrap();
    let second = of_round("p", DAY + 3_723_004);
    rounds.write("p", "4567", second.clone()).await.unwrap();
    rounds.write("p", "4567", Vec::new()).await.unwrap();
    assert_eq!(rounds.last(Some("p"), 10).await.unwrap(), [first.clone(), second.clone()].concat());
    assert_eq!(rounds.last(Some("p"), 2).await.unwrap(), [&first[3..], &second[..]].concat());
    let all = rounds.last(None, 2).await.unwrap();
    assert_eq!(all, [of_round("with-dash", 300), second].concat());
    assert_eq!(rounds.last(Some("other"), 5).await.unwrap(), []);
    let key = key("p", "4567", Timestamp(DAY + 3_723_004));
    assert_eq!(key.as_ref(), "rounds/round_date=1970-01-02/010203004-4567-p.parquet");
}

#[tokio::test(start_paused = true)]
async fn days_go_when_they_were_over_for_long_enough() {
    let rounds = rounds();
    let clock = Clock::system();
    let today = clock.now().days() * DAY;
    for age in [0, 1, 2, 9] {
        rounds.write("p", "s", vec![row("p", today - age * DAY, None)]).await.unwrap();
    }
    let mut gone = 0;
    rounds.expire(&clock, 1, 100, Mode::DryRun, |_| gone += 1).await.unwrap();
    assert_eq!((gone, rounds.last(None, 9).await.unwrap().len()), (2, 4));
    let next = rounds.expire(&clock, 1, 100, Mode::Delete, |_| ()).await.unwrap();
    assert!(next.is_some_and(|next| next <= Duration::from_secs(86_400)), "{next:?}");
    let left: Vec<i64> =
        rounds.last(None, 9).await.unwrap().iter().map(|row| (today - row.at.0) / DAY).collect();
    assert_eq!(left, [1, 0]);
}

#[tokio::test]
async fn the_schema_is_as_documented() {
    let rounds = rounds();
    rounds.write("p", "s", vec![row("p", 5, None)]).await.unwrap();
    let key = key("p", "s", Timestamp(5));
    let bytes = rounds.store.read(&key).await.unwrap().unwrap();
    let reader = parquet::file::reader::SerializedFileReader::new(bytes).unwrap();
    let metadata = parquet::file::reader::FileReader::metadata(&reader).clone();
    let mut text = Vec::new();
    parquet::schema::printer::print_schema(&mut text, metadata.file_metadata().schema());
    let golden = include_str!("../../tests/golden/rounds_schema.txt");
    assert_eq!(String::from_utf8(text).unwrap(), golden);
}

#[tokio::test]
async fn a_record_that_is_damaged_or_of_a_later_format_is_named() {
    let rounds = rounds();
    rounds.write("p", "s", vec![row("p", 5, None)]).await.unwrap();
    let key = key("p", "s", Timestamp(5));
    let bytes = rounds.store.read(&key).await.unwrap().unwrap();
    let mut broken = bytes.to_vec();
    broken[20] ^= 1;
    let objects = rounds.store.objects();
    objects.put_opts(&key, broken.into(), Default::default()).await.unwrap();
    let error = rounds.last(None, 1).await.unwrap_err().to_string();
    assert!(error.contains("rounds/round_date=1970-01-01/000000005-s-p.parquet"), "{error}");
    assert!(error.contains("checksum"), "{error}");
}
