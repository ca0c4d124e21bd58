//! The collection of garbage by the real owner: what goes and what stays, what those are told who
//! ask for what went, and that it may be killed at any request to the store.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_api::bus::{GetPayloads, ListEvents, RunStatus, ShardReply, ShardRequest};
use muster_api::http::ErrorCode;
use muster_api::text::Cursor;
use muster_core::command::NewJob;
use muster_core::history::Finished;
use muster_core::id::{JobId, JobRef, Position, ShardId};
use muster_core::job::JobState;
use muster_core::record::HistorySpan;
use muster_core::time::Timestamp;
use muster_runtime::Blocking;
use muster_runtime::config::HumanDuration;
use muster_runtime::history::History;
use muster_shard::Config;

use crate::site::{Site, job};
use crate::tripwire::Tripwire;

fn eager(config: &mut Config) {
    config.checkpoint_records = 10;
    config.history_interval = HumanDuration::millis(500);
    config.log_grace = HumanDuration::millis(0);
}

/// Jobs that come and go, three at a time.
async fn work(site: &Site, rounds: std::ops::Range<u128>) -> Vec<JobRef> {
    let mut ids = Vec::new();
    for round in rounds {
        ids.extend(site.submit("q", "set", round, vec![job(0), job(1), job(2)]).await);
        let leases = site.lease(3).await;
        site.report(&leases, RunStatus::Succeeded).await;
        site.clock.sleep(Duration::from_secs(1)).await;
    }
    ids
}

async fn sequences(site: &Site) -> BTreeSet<u64> {
    let keys = site.keys("shards/0/log").await;
    let digits = keys.iter().map(|key| key.rsplit(['/', '.']).nth(1).unwrap().parse().unwrap());
    digits.collect()
}

/// Waits until no log object of `gone` is left.
async fn until_gone(site: &Site, gone: std::ops::RangeInclusive<u64>) -> BTreeSet<u64> {
    for _ in 0..300 {
        let there = sequences(site).await;
        if there.range(gone.clone()).next().is_none() {
            return there;
        }
        site.clock.sleep(Duration::from_millis(200)).await;
    }
    panic!("{gone:?} is still there: {:?}", sequences(site).await)
}

/// A page of the events of `q` and `set`.
async fn events(site: &Site, after: Option<Cursor>) -> ShardReply {
    let (queue, job_set) = ("q".into(), "set".into());
    let request = ListEvents { queue, job_set, after, limit: 1_000, wait_ms: 0 };
    site.ask(ShardRequest::Events(request)).await
}

#[tokio::test(start_paused = true)]
async fn log_objects_go_with_their_last_job_and_everything_else_is_as_before() {
    let mut site = Site::start_with(1, eager).await;
    // The fence is 1, and these are in 2: they wait behind all others.
    let waiting = NewJob { priority: 1_000, ..job(0) };
    let live = site.submit("q", "set", 100, vec![waiting]).await[0];
    let done = work(&site, 1..12).await;
    let there = until_gone(&site, 3..=6).await;
    assert!(there.contains(&1) && there.contains(&2), "{there:?}");
    assert!(site.metric("deleted_total") >= 4 && site.metric("deleted_bytes_total") > 1_000);
    assert!(site.metric("collected_at_seconds") > 0);

    let get = ShardRequest::Payloads(GetPayloads { jobs: vec![live.job] });
    let ShardReply::Payloads(payloads) = site.ask(get).await else { panic!("no payload") };
    assert_eq!(&payloads[0].pod_spec[..], br#"{"containers":[]}"#);
    let counts = site.counts("q", "set").await;
    assert_eq!((counts["queued"], counts["succeeded"]), (1, 33));
    let again = site.submit("q", "set", 11, vec![job(0), job(1), job(2)]).await;
    assert_eq!(again, done[30..], "a command is answered as before");
    site.kill().await;
    site.start_worker(eager).await;
    assert_eq!(site.counts("q", "set").await, counts);

    // This owner has nothing in memory of what went before it came.
    let shown = site.job(done[0], true).await.expect("the history has it");
    assert_eq!((shown.state.as_str(), shown.spec.is_none()), ("succeeded", true));

    let old = Cursor(Position { sequence: 3, row: 0 });
    let ShardReply::Error(problem) = events(&site, Some(old)).await else { panic!("an answer") };
    assert_eq!(problem.code, ErrorCode::CursorExpired);
    let ShardReply::Events(page) = events(&site, None).await else { panic!("no events") };
    let first: Cursor = page.events[0].cursor.parse().unwrap();
    assert!(first.0.sequence > 6, "{first}");
    let ShardReply::Events(rest) = events(&site, Some(first)).await else { panic!("no events") };
    assert_eq!(rest.events, page.events[1..]);

    assert_eq!(site.lease(10).await[0].job, live);
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_finds_what_the_one_before_left() {
    let mut site = Site::start_with(1, |config| {
        eager(config);
        config.deletes_per_second = 0;
    })
    .await;
    work(&site, 1..8).await;
    while site.keys("shards/0/checkpoint").await.len() < 3 {
        site.clock.sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(site.metric("deleted_total"), 0);
    site.kill().await;
    site.start_worker(eager).await;
    until_gone(&site, 2..=5).await;
    assert!(site.keys("shards/0/checkpoint").await.len() <= 3);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_has_collected_its_garbage_asks_the_store_for_nothing() {
    let mut site = Site::start_with(1, eager).await;
    work(&site, 1..8).await;
    site.restart_with(eager).await;
    site.counts("q", "set").await;
    site.clock.sleep(Duration::from_secs(30)).await;
    let before = site.store.requests();
    site.clock.sleep(Duration::from_secs(120)).await;
    assert_eq!(site.store.requests(), before);
}

#[tokio::test(start_paused = true)]
async fn an_owner_killed_at_any_request_of_a_collection_loses_nothing() {
    for request in 0..16 {
        let tripwire = Tripwire::new(request);
        let mut site = Site::start_over(tripwire.store(), 1, eager).await;
        let waiting = NewJob { priority: 1_000, ..job(0) };
        let live = site.submit("q", "set", 100, vec![waiting]).await[0];
        tripwire.arm();
        tokio::select! {
            biased;
            () = tripwire.tripped() => {}
            _ = work(&site, 1..30) => panic!("request {request} was never made"),
        }
        site.kill().await;
        site.start_worker(eager).await;
        let before = site.counts("q", "set").await["succeeded"];
        let live_now = site.job(live, true).await.expect("it lives");
        assert!(live_now.spec.is_some(), "request {request}");
        // It goes on: jobs finish, and more is collected.
        let mut round = 1_000;
        while site.counts("q", "set").await["succeeded"] < before + 15 {
            assert!(round < 1_030, "request {request}: nothing comes further");
            work(&site, round..round + 1).await;
            round += 1;
        }
        let there = sequences(&site).await;
        assert!(there.contains(&1) && there.contains(&2), "request {request}: {there:?}");
    }
}

/// A job that finished so many days ago, in the history.
async fn remembered(site: &Site, days: u64) {
    let at = |days: u64| {
        let millis = i64::try_from(days * 86_400_000).unwrap();
        Timestamp(site.clock.now().0 - millis)
    };
    let ended = JobRef::whole(JobId::new(at(days), ShardId(3), days));
    let place = |sequence| Position { sequence, row: 0 };
    let finished = Finished {
        job: ended,
        count: 1,
        queue: "q".into(),
        job_set: "s".into(),
        client_id: None,
        priority: 0,
        shape: job(0).shape,
        state: JobState::Cancelled,
        finished_at: at(days),
        reason: None,
        runs: Vec::new(),
        spec: place(1),
        at: place(days),
    };
    let span = HistorySpan { after: place(days - 1), through: place(days) };
    let history = History::new(site.store.clone(), Blocking::new(1));
    history.write(ShardId(3), span, vec![finished]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn history_goes_after_its_days_and_never_where_it_is_kept_for_ever() {
    let left = |days: u32, per_second: u32| async move {
        let change = |config: &mut Config| {
            (config.history_days, config.deletes_per_second) = (days, per_second);
        };
        let mut site = Site::start_with(2, change).await;
        // A day more or less: it may be midnight.
        for days in [400, 92, 89, 1] {
            remembered(&site, days).await;
        }
        site.restart_with(change).await;
        // The first look is after ten minutes.
        site.clock.sleep(Duration::from_secs(15 * 60)).await;
        assert_eq!(site.metric("collect_failed_total"), 0);
        site.keys("history").await.len()
    };
    assert_eq!(left(90, 100).await, 2, "of 1, 89, 92 and 400 days");
    assert_eq!(left(0, 100).await, 4, "there is no end to it");
    assert_eq!(left(90, 0).await, 4, "nothing is let go");
}
