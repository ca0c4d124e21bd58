//! The roles as processes, on a real bus and store, while things go wrong. The audit at the end of
//! each test says that nothing acknowledged was lost and nothing done twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::ensure;
use muster_loadtest::submit::Progress;
use muster_tests::deployment::{Deployment, Size, audited, create_queues, submit_jobs};
use muster_tests::nats::NatsServer;
use muster_tests::process::Program;
use muster_tests::s3::{Effect, Fault, Operation, S3Server};
use muster_tests::wait::eventually;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// One deployment at a time: each has many processes.
pub(crate) static TURN: Mutex<()> = Mutex::const_new(());

pub(crate) const SMALL: Size = Size { gateways: 2, shards: 3, executors: 2 };
pub(crate) const DRAIN: Duration = Duration::from_secs(90);
pub(crate) const WAIT: Duration = Duration::from_secs(60);

pub(crate) async fn until_answered(progress: &Progress, jobs: u64) {
    eventually(WAIT, "jobs are acknowledged", async || {
        let answered = progress.answered.load(Ordering::Relaxed);
        ensure!(answered >= jobs, "{answered} of {jobs}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn jobs_of_four_queues_run_over_two_gateways_three_workers_and_two_clusters() {
    let _turn = TURN.lock().await;
    let deployment = Deployment::start(SMALL).await.unwrap();
    let (one, other) = (deployment.client(0).unwrap(), deployment.client(1).unwrap());
    let queues = create_queues(&one, 4).await.unwrap();
    let progress = || Arc::new(Progress::default());
    let (mut first, second) = tokio::try_join!(
        submit_jobs(&one, &queues, "one", 2_500, progress()),
        submit_jobs(&other, &queues, "other", 2_500, progress()),
    )
    .unwrap();
    first.merge(second);
    audited(&other, first, DRAIN).await.unwrap();
}

#[tokio::test]
async fn a_bus_that_comes_back_empty_is_made_anew() {
    let _turn = TURN.lock().await;
    let mut deployment = Deployment::start(SMALL).await.unwrap();
    let client = deployment.client(0).unwrap();
    let queues = create_queues(&client, 4).await.unwrap();
    let progress = Arc::new(Progress::default());
    let submitting = submit_jobs(&client, &queues, "wiped", 5_000, Arc::clone(&progress));
    let wiping = async {
        until_answered(&progress, 1_000).await;
        deployment.nats.kill9().unwrap();
        deployment.nats.wipe().unwrap();
        deployment.nats.restart().await.unwrap();
    };
    let (acknowledged, ()) = tokio::join!(submitting, wiping);
    audited(&client, acknowledged.unwrap(), DRAIN).await.unwrap();
    deployment.audit_runs(5_000).unwrap();
}

#[tokio::test]
async fn a_store_that_fails_and_loses_replies_costs_time_only() {
    let _turn = TURN.lock().await;
    let deployment = Deployment::start(SMALL).await.unwrap();
    let client = deployment.client(0).unwrap();
    let queues = create_queues(&client, 4).await.unwrap();
    let faults = deployment.s3.faults();
    for (effect, chance) in [
        (Effect::RefuseAfter(500), 0.025),
        (Effect::LoseReply, 0.025),
        (Effect::Refuse(503), 0.05),
        (Effect::Delay(Duration::from_millis(100)), 0.05),
    ] {
        faults.add(Fault::new(effect).chance(chance));
    }
    let progress = Arc::new(Progress::default());
    let acknowledged = submit_jobs(&client, &queues, "faulty", 5_000, progress).await.unwrap();
    audited(&client, acknowledged, DRAIN).await.unwrap();
    deployment.audit_runs(5_000).unwrap();
    assert!(faults.injected() > 0);
}

#[tokio::test]
async fn puts_that_land_and_time_out_cost_time_only() {
    let _turn = TURN.lock().await;
    let deployment = Deployment::start(SMALL).await.unwrap();
    let client = deployment.client(0).unwrap();
    let queues = create_queues(&client, 4).await.unwrap();
    let faults = deployment.s3.faults();
    // A shard waits 10 s for one attempt at a put, and a little more for a large one.
    let late = Fault::new(Effect::DelayReply(Duration::from_secs(15))).on(Operation::Put);
    faults.add(late.under("prefix/shards/").times(3));
    let progress = Arc::new(Progress::default());
    let acknowledged = submit_jobs(&client, &queues, "late", 2_000, progress).await.unwrap();
    audited(&client, acknowledged, DRAIN).await.unwrap();
    deployment.audit_runs(2_000).unwrap();
    assert_eq!(faults.injected(), 3);
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_refused() {
    let _turn = TURN.lock().await;
    let directory = TempDir::new().unwrap();
    let s3 = S3Server::start_unsafe(directory.path()).unwrap();
    let nats = NatsServer::start().await.unwrap();
    for role in ["gateway", "shard"] {
        let program = Program::built("muster")
            .unwrap()
            .arg(role)
            .args(["--bus", &nats.url(), "--store", &s3.url("prefix")])
            .envs(s3.env());
        let program =
            if role == "gateway" { program.args(["--listen", "127.0.0.1:0"]) } else { program };
        let mut process = program.spawn(role, directory.path()).unwrap();
        let status = process.wait(WAIT).await.unwrap();
        let log = process.log().unwrap();
        assert!(
            !status.success() && log.contains("not safe for Muster"),
            "{role}: {status}\n{log}"
        );
    }
}

#[tokio::test]
async fn a_gateway_that_others_can_reach_wants_to_be_told_so() {
    let directory = TempDir::new().unwrap();
    let nats = NatsServer::start().await.unwrap();
    let store = format!("file://{}", directory.path().join("store").display());
    let mut process = Program::built("muster")
        .unwrap()
        .args(["gateway", "--listen", "0.0.0.0:0", "--bus", &nats.url(), "--store", &store])
        .spawn("gateway", directory.path())
        .unwrap();
    let status = process.wait(WAIT).await.unwrap();
    let log = process.log().unwrap();
    assert!(!status.success() && log.contains("--insecure"), "{status}\n{log}");
}
