//! Objects that were damaged, cut short, lost, or written by a newer version: a checkpoint gives
//! way to the one before, a log object stops its shard alone, and both say which object it was.

use std::time::Duration;

use bytes::Bytes;
use muster_api::bus::{ListJobSets, ShardReply, ShardRequest};
use muster_api::http::{ErrorCode, Problem};
use muster_core::route::shard_of_queue;
use muster_runtime::codec::{self, Columns};
use object_store::ObjectStoreExt;

use crate::site::{Site, job};

/// One of 12 queues that belongs to that shard of two.
fn queue_of(shard: u16) -> String {
    let mut queues = (0..12).map(|number| format!("q{number}"));
    queues.find(|queue| shard_of_queue(queue, 2).0 == shard).unwrap()
}

fn log_key(shard: u16, sequence: u64) -> String {
    format!("shards/{shard}/log/{sequence:020}.parquet")
}

/// Two shards with some jobs each, and nobody who owns them.
async fn abandoned() -> Site {
    let mut site = Site::start_with(2, |config| config.checkpoint_records = 5).await;
    for command in 1..=20 {
        for shard in 0..2 {
            let id = command * 2 + u128::from(shard);
            site.submit(&queue_of(shard), "set", id, vec![job(0)]).await;
        }
    }
    // Both have two checkpoints and more.
    while site.keys("shards/0/checkpoint").await.len() < 2 {
        site.clock.sleep(Duration::from_millis(100)).await;
    }
    site.kill().await;
    site
}

/// What a client of the shard is told about its job sets.
async fn refusal(site: &Site, queue: &str) -> Problem {
    let list = ListJobSets { queue: queue.into(), only: None, after: None, limit: 10 };
    match site.ask_about(queue, ShardRequest::JobSets(list)).await {
        ShardReply::Error(problem) => problem,
        other => panic!("{other:?}"),
    }
}

fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes.into()
}

/// The newest object of a log, which recovery needs whatever checkpoints there are.
async fn newest_log_object(site: &Site, shard: u16) -> String {
    let keys = site.keys(&format!("shards/{shard}/log")).await;
    keys.into_iter().max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_damaged_log_object_stops_its_shard_alone_until_it_is_put_right() {
    let mut site = abandoned().await;
    let key = newest_log_object(&site, 0).await;
    let whole = site.object(&key).await;
    site.overwrite(&key, flipped(&whole, whole.len() / 2)).await;
    site.start_worker(|_| {}).await;
    let problem = refusal(&site, &queue_of(0)).await;
    assert_eq!(problem.code, ErrorCode::ShardDamaged);
    assert!(problem.detail.contains(&key) && problem.detail.contains("checksum"), "{problem:?}");
    assert_eq!(site.metric("damaged"), 1);
    let why = site.health.readiness().unwrap_err();
    assert!(why.contains("shard 0") && why.contains(&key), "{why}");
    assert_eq!(site.counts(&queue_of(1), "set").await["queued"], 20, "the other one works");

    // Whole again, it works without anybody being told; in between nothing was written but fences.
    let fences = site.keys("shards/0/log").await.len();
    site.clock.sleep(Duration::from_secs(3_600)).await;
    let more = site.keys("shards/0/log").await.len() - fences;
    assert!(more < 20, "{more} fences in an hour");
    site.overwrite(&key, whole).await;
    let counts = async {
        while refusal_or_none(&site, &queue_of(0)).await.is_some() {
            site.clock.sleep(Duration::from_secs(1)).await;
        }
        site.counts(&queue_of(0), "set").await
    };
    let counts = tokio::time::timeout(Duration::from_secs(60), counts).await.unwrap();
    assert_eq!(counts["queued"], 20);
    assert_eq!((site.metric("damaged"), site.health.readiness()), (0, Ok(())));
}

async fn refusal_or_none(site: &Site, queue: &str) -> Option<Problem> {
    let list = ListJobSets { queue: queue.into(), only: None, after: None, limit: 10 };
    match site.ask_about(queue, ShardRequest::JobSets(list)).await {
        ShardReply::Error(problem) => Some(problem),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_object_that_is_cut_short_or_lost_is_named() {
    let mut site = abandoned().await;
    let (key, whole) = (log_key(0, 1), newest_log_object(&site, 0).await);
    let bytes = site.object(&whole).await;
    site.overwrite(&whole, bytes.slice(..bytes.len() - 9)).await;
    site.start_worker(|_| {}).await;
    let problem = refusal(&site, &queue_of(0)).await;
    assert!(problem.detail.contains(&whole), "{problem:?}");

    site.kill().await;
    site.overwrite(&whole, bytes).await;
    for checkpoint in site.keys("shards/0/checkpoint").await {
        site.store.objects().delete(&checkpoint.as_str().into()).await.unwrap();
    }
    site.store.objects().delete(&key.as_str().into()).await.unwrap();
    site.start_worker(|_| {}).await;
    let problem = refusal(&site, &queue_of(0)).await;
    assert_eq!(problem.code, ErrorCode::ShardDamaged);
    assert!(problem.detail.contains(&format!("`{key}` is missing")), "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_checkpoint_gives_way_to_the_one_before_and_is_counted() {
    let mut site = abandoned().await;
    let keys = site.keys("shards/0/checkpoint").await;
    let newest = keys.iter().max().unwrap();
    let whole = site.object(newest).await;
    site.overwrite(newest, flipped(&whole, 4)).await;
    site.start_worker(|_| {}).await;
    assert_eq!(site.counts(&queue_of(0), "set").await["queued"], 20);
    assert_eq!(site.metric("checkpoints_broken_total"), 1);
    assert_eq!(site.metric("damaged"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_object_of_the_next_format_is_refused_and_its_version_named() {
    let mut site = abandoned().await;
    let log = newest_log_object(&site, 0).await;
    let checkpoint = site.keys("shards/0/checkpoint").await.into_iter().max().unwrap();
    for key in [log, checkpoint] {
        let ours = site.object(&key).await;
        let (mut header, records) = codec::decode(ours.clone(), Columns::All).unwrap();
        header.format = codec::FORMAT + 1;
        site.overwrite(&key, codec::encode(&header, &records).unwrap()).await;
        site.start_worker(|_| {}).await;
        let problem = refusal(&site, &queue_of(0)).await;
        let words = "object has format 2, this version reads up to 1";
        assert!(problem.detail.contains(&key) && problem.detail.contains(words), "{problem:?}");
        site.kill().await;
        site.overwrite(&key, ours).await;
    }
}
