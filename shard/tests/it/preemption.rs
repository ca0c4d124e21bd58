//! Making room for others: what may give way, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::{
    self, GetRunning, Preempt, Preempted, PreemptedRun, RunStatus, RunningRow, ShardReply,
    ShardRequest, StopRuns, Victims, subject,
};
use muster_api::convert;
use muster_core::command::NewJob;
use muster_core::id::{CommandId, JobRef};
use muster_core::shape::Shape;

use crate::site::{Player, Site, job};

fn of_class(line: u64, class: &str) -> NewJob {
    let shape = Shape { class: class.into(), ..(*job(line).shape).clone() };
    NewJob { shape: Arc::new(shape), ..job(line) }
}

/// A job of a class that may be preempted.
fn filler(line: u64) -> NewJob {
    of_class(line, "filler")
}

async fn running(site: &Site) -> Vec<RunningRow> {
    let get = GetRunning {
        pool: "default".into(),
        classes: BTreeMap::from([("filler".to_owned(), true), ("default".to_owned(), false)]),
        others: false,
        ending: false,
        after: None,
    };
    match site.ask(ShardRequest::Running(get)).await {
        ShardReply::Running(page) => page.rows,
        other => panic!("{other:?}"),
    }
}

async fn preempt(site: &Site, count: u32) -> Preempted {
    let victims = Victims {
        queue: "q".into(),
        shape: convert::shape_key(filler(0).shape.key()),
        node: "n0".into(),
        count,
        reason: "for `urgent`".into(),
    };
    let (command, pool, cluster) = (CommandId(99), "default".into(), "c".into());
    let request = Preempt { command, pool, cluster, victims: vec![victims] };
    match site.ask(ShardRequest::Preempt(request)).await {
        ShardReply::Preempted(preempted) => preempted,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_youngest_make_room_once_and_wait_again_whoever_owns_the_shard() {
    let mut site = Site::start(1).await;
    let once = NewJob { at_most_once: true, ..filler(4) };
    let jobs = vec![filler(0), filler(1), filler(2), filler(3), once, job(5)];
    let ids = site.submit("q", "set", 1, jobs).await;
    let leases = site.lease(10).await;
    assert_eq!(leases.len(), 6);
    let rows = running(&site).await;
    assert_eq!((rows.len(), rows[0].count), (1, 4), "{rows:?}");
    let mut stops = site.bus.subscribe(&subject::cluster_stop("c"), None).await.unwrap();

    let first = preempt(&site, 3).await;
    let run = |job: JobRef| PreemptedRun(0, job, 1);
    assert_eq!(first.runs, [run(ids[3]), run(ids[2]), run(ids[1])]);
    assert_eq!(first.offers.queues[0].pools[0].waiting, 3);
    let told = tokio::time::timeout(Duration::from_secs(60), stops.next()).await.unwrap();
    let told: StopRuns = bus::decode(&told.unwrap().payload).unwrap();
    assert_eq!(told.runs.len(), 3);
    assert_eq!(running(&site).await[0].count, 1);

    site.restart().await;
    assert_eq!(preempt(&site, 3).await.runs, first.runs, "asked again, it is done once");
    assert_eq!(running(&site).await[0].count, 1);
    let shown = site.job(ids[3], false).await.unwrap();
    let ended = (shown.runs[0].reason.as_deref(), shown.runs[0].message.as_deref());
    assert_eq!(ended, (Some("Preempted"), Some("for `urgent`")));
    assert_eq!((shown.state.as_str(), shown.runs.len()), ("queued", 1));
    let events = site.events("q", "set", None).await;
    let preempted: Vec<_> = events.iter().filter(|event| event.event == "preempted").collect();
    assert_eq!(preempted.len(), 3);
    let said = (preempted[0].attempt, preempted[0].message.as_deref());
    assert_eq!(said, (Some(1), Some("for `urgent`")));
    let of_job = |run: &&bus::LeasedRun| run.job == ids[3];
    let lease: Vec<_> = leases.iter().filter(of_job).cloned().collect();
    assert_eq!(site.report(&lease, RunStatus::Running).await, [false], "nobody believes in it");
    let again = site.lease(10).await;
    assert!(again.iter().all(|run| run.attempt == 2));
    assert_eq!(again.len(), 3);
}

/// Asks until something is to be stopped, at most a minute; gives the jobs.
async fn stopped(player: &mut Player<'_>) -> BTreeSet<String> {
    for _ in 0..12 {
        let stops = player.ask(10, Duration::from_secs(5)).await.unwrap().stops;
        if !stops.is_empty() {
            return stops.into_iter().map(|(job, _)| job).collect();
        }
    }
    panic!("nothing is to be stopped")
}

#[tokio::test(start_paused = true)]
async fn room_is_made_once_kept_while_it_comes_and_given_to_whom_it_was_made_for() {
    let site = Site::start(1).await;
    let ids = site.submit("q", "set", 1, (0..4).map(filler).collect()).await;
    let mut player = Player::new(&site, 4);
    let mut leased = 0;
    while leased < 4 {
        leased += player.leases(10).await.leases.len();
    }
    player.has(0, 0);
    let urgent = (0..2).map(|line| of_class(line, "urgent")).collect();
    let urgent = site.submit("q1", "set", 2, urgent).await;
    let youngest: BTreeSet<String> = ids[2..].iter().map(ToString::to_string).collect();
    assert_eq!(stopped(&mut player).await, youngest);
    // For as long as it takes them nobody else has to go, and nobody gets what is free of it.
    player.has(0, 2);
    for _ in 0..6 {
        let answer = player.ask(10, Duration::from_secs(5)).await.unwrap();
        assert!(answer.leases.is_empty(), "{answer:?}");
        assert!(answer.stops.iter().all(|(job, _)| youngest.contains(job)), "{answer:?}");
    }
    player.has(1, 1);
    let mut given = player.leases(10).await.leases;
    player.has(0, 1);
    player.ask(10, Duration::ZERO).await.unwrap();
    player.has(1, 0);
    given.extend(player.leases(10).await.leases);
    assert_eq!(given.iter().map(|run| run.job).collect::<Vec<_>>(), urgent);
    player.has(0, 0);
    for _ in 0..6 {
        let answer = player.ask(10, Duration::from_secs(5)).await.unwrap();
        assert!(answer.leases.is_empty() && answer.stops.is_empty(), "{answer:?}");
    }
    assert_eq!(site.metric("preemptions_total"), 2);
    assert_eq!(site.counts("q", "set").await["queued"], 2);
}
