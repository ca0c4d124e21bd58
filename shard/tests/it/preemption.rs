//! Making room for others: what may give way, and what comes of it.

use std::collections::BTreeMap;
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

use crate::site::{Site, job};

/// A job of a class that may be preempted.
fn filler(line: u64) -> NewJob {
    let shape = Shape { class: "filler".into(), ..(*job(line).shape).clone() };
    NewJob { shape: Arc::new(shape), ..job(line) }
}

async fn running(site: &Site) -> Vec<RunningRow> {
    let get = GetRunning {
        pool: "default".into(),
        classes: BTreeMap::from([("filler".to_owned(), true), ("default".to_owned(), false)]),
        others: false,
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
