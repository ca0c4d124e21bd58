//! What goes over the bus, whatever runs the jobs.

use std::time::Duration;

use bytes::Bytes;
use muster_api::bus::{LeaseRequest, RunStatus, subject};
use muster_core::id::{JobId, JobRef, ShardId};
use muster_runtime::config::HumanDuration;
use muster_runtime::{Bus, Clock};

use crate::simulated::simulated;
use crate::world::{START, World};

async fn world() -> World {
    World::new(Clock::starting_at(START)).await
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_received_with_the_next_and_starts_each_run_once() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    world.lock().answers_to_lose = 2;
    let executor = world.start(simulated(folder.path(), 1, 10));
    let jobs: Vec<JobRef> = (0..5).map(|_| JobRef::whole(world.job("{}", "", None))).collect();
    for job in &jobs {
        world.lease(*job, 1, "sim-node-1", &[("pods", "1")]);
    }
    for job in &jobs {
        assert_eq!(world.end_of(*job).await.status, RunStatus::Succeeded);
    }
    executor.end().await;
    assert!(world.lock().ended_twice().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lost_verdict_is_asked_for_under_the_same_command() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    world.lock().verdicts_to_lose = 2;
    let executor = world.start(simulated(folder.path(), 1, 10));
    let job = JobRef::whole(world.job("{}", "", None));
    world.lease(job, 1, "sim-node-1", &[]);
    world.eventually("it ends", || world.lock().believed.is_empty().then_some(())).await;
    executor.end().await;
    assert_eq!(world.lock().repeated_commands, 2);
    assert!(world.lock().ended_twice().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_report_that_an_owner_took_to_its_sleep_goes_to_the_next_one_at_once() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(simulated(folder.path(), 1, 10));
    let job = JobRef::whole(world.job("{}", "", None));
    world.lock().verdicts_to_lose = 1;
    world.lease(job, 1, "sim-node-1", &[("pods", "1")]);
    world.eventually("it is asleep", || (world.lock().verdicts_to_lose == 0).then_some(())).await;
    let slept_at = world.clock.monotonic();
    let owner = subject::owner(job.job.shard());
    world.bus.publish(&owner, Bytes::new()).await.unwrap();
    let again = || (world.lock().repeated_commands == 1).then_some(());
    world.eventually("the next one is asked", again).await;
    let took = world.clock.monotonic() - slept_at;
    assert!(took < Duration::from_secs(1), "by a clock that stands still: {took:?}");
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_stop_order_is_made_good_by_a_lease_answer() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(simulated(folder.path(), 1, 10));
    let annotations = r#"{"muster.dev/simulated-runtime":"1h"}"#;
    let job = JobRef::whole(world.job("{}", annotations, None));
    world.lease(job, 1, "sim-node-1", &[("pods", "1")]);
    world.reported(job, RunStatus::Running).await;
    world.lock().stops = vec![(job.to_string(), 1)];
    // Whatever is leased next brings the order along.
    let other = JobRef::whole(world.job("{}", "", None));
    world.lease(other, 1, "sim-node-1", &[("pods", "1")]);
    world.end_of(job).await;
    assert_eq!(world.end_of(other).await.status, RunStatus::Succeeded);
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_does_not_fit_is_returned() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(simulated(folder.path(), 1, 1));
    let job = || JobRef::whole(world.job("{}", "", None));
    let (fits, too_many, elsewhere) = (job(), job(), job());
    world.lease(fits, 1, "sim-node-1", &[("pods", "1")]);
    world.reported(fits, RunStatus::Running).await;
    world.lease(too_many, 1, "sim-node-1", &[("pods", "1")]);
    world.lease(elsewhere, 1, "sim-node-9", &[]);
    for job in [too_many, elsewhere] {
        let end = world.end_of(job).await;
        assert_eq!(end.status, RunStatus::Returned);
        assert_eq!(end.exit.reason.as_deref(), Some("DoesNotFit"));
    }
    world.lease(too_many, 2, "sim-node-1", &[]);
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_shard_believes_and_the_cluster_does_not_know_is_settled_at_the_start() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let job = || JobRef::whole(world.job("{}", "", None));
    let (leased, running) = (job(), job());
    world.believe(leased, 1, "sim-node-1", "leased");
    world.believe(running, 1, "sim-node-1", "running");
    let executor = world.start(simulated(folder.path(), 1, 10));
    assert_eq!(world.end_of(running).await.status, RunStatus::Lost);
    assert_eq!(world.end_of(leased).await.status, RunStatus::Succeeded);
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_the_shard_does_not_list_is_reported_again_and_stopped() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(simulated(folder.path(), 1, 10));
    let annotations = r#"{"muster.dev/simulated-runtime":"1h"}"#;
    let job = JobRef::whole(world.job("{}", annotations, None));
    world.lease(job, 1, "sim-node-1", &[("pods", "1")]);
    world.reported(job, RunStatus::Running).await;
    world.lock().believed.clear();
    let free = || world.lock().nodes.values().all(|node| node.runs == 0).then_some(());
    world
        .eventually("its place is free", || {
            let told = world.lock().reports.iter().filter(|r| r.job == job).count();
            free().filter(|()| told > 1)
        })
        .await;
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_without_payload_is_dropped() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(simulated(folder.path(), 1, 10));
    let job = JobRef::whole(JobId::new(START, ShardId(0), 999));
    world.lease(job, 1, "sim-node-1", &[("pods", "1")]);
    let asked = || (!world.lock().payload_requests.is_empty()).then_some(());
    world.eventually("the payload is asked for", asked).await;
    world.lock().believed.clear();
    let free = || world.lock().nodes.values().all(|node| node.runs == 0).then_some(());
    world.eventually("its place is free", free).await;
    world.clock.sleep(Duration::from_secs(1)).await;
    assert!(world.lock().reports.is_empty());
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_cluster_asks_once_per_wait() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(simulated(folder.path(), 3, 10));
    let asked = || (!world.lock().requests.is_empty()).then_some(());
    world.eventually("it asks", asked).await;
    world.clock.sleep(Duration::from_secs(20)).await;
    let requests = world.lock().requests.clone();
    assert!(requests.len() < 8, "{} requests", requests.len());
    assert_eq!(requests[0].nodes.nodes.len(), 3);
    executor.end().await;
}

/// Runs a job on each of so many nodes, which end one after the other while the leader holds what
/// it is asked; gives what it was asked meanwhile.
async fn ended_in_turn(world: &World, nodes: u32) -> Vec<LeaseRequest> {
    for node in 1..=nodes {
        let runtime = format!(r#"{{"muster.dev/simulated-runtime":"{}s"}}"#, 1 + node);
        let job = JobRef::whole(world.job("{}", &runtime, None));
        world.lease(job, 1, &format!("sim-node-{node}"), &[("pods", "1")]);
        world.reported(job, RunStatus::Running).await;
    }
    let runs = |count: u32| {
        let state = world.lock();
        let sum = state.nodes.values().map(|node| node.runs).sum::<u32>();
        (sum == count).then_some(state.requests.len())
    };
    let known = world.eventually("the leader knows of all runs", || runs(nodes)).await;
    world.eventually("it knows that all are over", || runs(0)).await;
    world.lock().requests[known..].to_vec()
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_and_not_answered_is_not_told_again() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(simulated(folder.path(), 6, 10));
    let told = || (world.lock().nodes.len() == 6).then_some(());
    world.eventually("all nodes are told", told).await;
    let requests = ended_in_turn(&world, 6).await;
    let most = requests.iter().map(|request| request.nodes.nodes.len()).max();
    assert_eq!(most, Some(1));
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_and_lost_is_told_again_from_where_the_leader_is() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(simulated(folder.path(), 6, 10));
    let told = || (world.lock().nodes.len() == 6).then_some(());
    world.eventually("all nodes are told", told).await;
    let lose = async {
        let run = || (world.lock().nodes["sim-node-6"].runs == 1).then_some(());
        world.eventually("all run", run).await;
        world.lock().requests_to_lose = 1;
    };
    let (requests, ()) = tokio::join!(ended_in_turn(&world, 6), lose);
    assert_eq!(world.lock().requests_to_lose, 0);
    assert!(requests.iter().all(|request| request.nodes.base.is_some()), "{requests:?}");
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_is_told_all_as_soon_as_it_says_that_it_is_there() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(simulated(folder.path(), 3, 10));
    let asked = || {
        let state = world.lock();
        state.requests.last().filter(|last| last.nodes.base.is_some()).map(|_| state.requests.len())
    };
    let known = world.eventually("the leader holds what it is asked", asked).await;
    world.bus.publish(&subject::leader("default"), Bytes::new()).await.unwrap();
    world.clock.sleep(Duration::from_millis(200)).await;
    let next = world.lock().requests.get(known).cloned().unwrap();
    assert_eq!((next.nodes.base, next.nodes.nodes.len(), next.seen), (None, 3, None));
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_leader_leased_and_did_not_tell_is_found_once_there_is_another() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let mut config = simulated(folder.path(), 1, 10);
    config.sync_interval = HumanDuration::secs(600);
    let executor = world.start(config);
    let held = || world.lock().requests.last().and_then(|last| last.nodes.base);
    world.eventually("the leader holds what it is asked", held).await;
    world.clock.sleep(Duration::from_secs(5)).await;
    let annotations = r#"{"muster.dev/simulated-runtime":"10ms"}"#;
    let job = JobRef::whole(world.job("{}", annotations, None));
    world.believe(job, 1, "sim-node-1", "leased");
    world.clock.sleep(Duration::from_secs(5)).await;
    assert!(world.ends(job).is_empty(), "nobody told of it");
    world.bus.publish(&subject::leader("default"), Bytes::new()).await.unwrap();
    world.clock.sleep(Duration::from_secs(2)).await;
    let ends: Vec<_> = world.ends(job).iter().map(|end| end.status).collect();
    assert_eq!(ends, [RunStatus::Succeeded]);
    executor.end().await;
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_together_while_a_request_is_held() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(simulated(folder.path(), 40, 10));
    for node in 1..=40 {
        let runtime = format!(r#"{{"muster.dev/simulated-runtime":"{}ms"}}"#, 5_000 + 25 * node);
        let job = JobRef::whole(world.job("{}", &runtime, None));
        world.lease(job, 1, &format!("sim-node-{node}"), &[("pods", "1")]);
    }
    let runs = |count: u32| {
        let state = world.lock();
        let sum = state.nodes.values().map(|node| node.runs).sum::<u32>();
        (sum == count).then_some(state.requests.len())
    };
    let known = world.eventually("the leader knows of all runs", || runs(40)).await;
    let asked = world.eventually("it knows that all are over", || runs(0)).await - known;
    // They end within a second.
    assert!((2..=12).contains(&asked), "{asked} requests");
    executor.end().await;
}
