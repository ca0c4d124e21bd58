//! Every role dies at the worst time: in the middle of a submission, and in the middle of runs.

use std::sync::Arc;
use std::time::Duration;

use muster_client::Client;
use muster_loadtest::submit::Progress;
use muster_tests::deployment::{Deployment, audited, create_queues, submit_jobs_of};
use muster_tests::journal::{self, JSON};
use muster_tests::pods::{self, Pod};
use muster_tests::wait::eventually;

use super::{check_runs_succeeded, count, until_count};
use crate::deployment::{DRAIN, SMALL, TURN, WAIT, until_answered};

const JOBS: u64 = 20_000;
const JOB_SET: &str = "killed";
/// So long that the clusters are full of runs from the first leases to the last.
const RUNTIME: Duration = Duration::from_secs(3);
/// Runs that have to be under way when a role dies in their middle.
const IN_FLIGHT: u64 = 200;

/// Kills an executor in the middle of runs; gives the pods that it left behind running, after
/// holding the next one to finding them.
async fn kill_executor(deployment: &mut Deployment, number: usize) -> Vec<Pod> {
    let (log_dir, state_dir) = (deployment.log_dir().to_owned(), deployment.state_dir(number));
    let cluster = format!("cluster-{number}");
    eventually(WAIT, "its own cluster is busy", async || {
        let running = running(pods::read(&state_dir, &cluster)?).len();
        anyhow::ensure!(running as u64 >= IN_FLIGHT, "{running} pods run");
        Ok(())
    })
    .await
    .unwrap();
    deployment.executors[number].process().kill9().unwrap();
    let left = pods::read(&state_dir, &cluster).unwrap();
    deployment.executors[number].kill9_and_restart(&log_dir).unwrap();
    let member = &deployment.executors[number];
    let found = eventually(WAIT, "it opens its cluster again", async || {
        let opened = journal::said(member, "simulated cluster opened")?;
        anyhow::ensure!(opened.len() == 2, "it did so {} times", opened.len());
        Ok(opened[1]["pods"].as_u64())
    });
    assert_eq!(found.await.unwrap(), Some(left.len() as u64));
    let running = running(left);
    assert!(!running.is_empty(), "no run was under way in {cluster}");
    running
}

fn running(mut pods: Vec<Pod>) -> Vec<Pod> {
    pods.retain(|pod| pod.phase == "running");
    pods
}

async fn kill_worker(deployment: &mut Deployment, number: usize) {
    let log_dir = deployment.log_dir().to_owned();
    deployment.shards[number].kill9_and_restart(&log_dir).unwrap();
}

/// Waits until many runs are under way.
async fn until_in_flight(client: &Client, queues: &[String]) {
    until_count(client, queues, JOB_SET, "running", IN_FLIGHT).await;
}

#[tokio::test]
async fn kill_9_of_every_role_in_the_middle_loses_nothing_and_repeats_nothing() {
    let _turn = TURN.lock().await;
    let mut deployment = Deployment::start_with(SMALL, &[JSON]).await.unwrap();
    let client = deployment.client_of_all().unwrap();
    let gone = deployment.url(0);
    assert_eq!(client.base(), gone);
    let queues = create_queues(&client, 4).await.unwrap();
    let progress = Arc::new(Progress::default());
    let submitting =
        submit_jobs_of(RUNTIME, &client, &queues, JOB_SET, JOBS, Arc::clone(&progress));
    let killing = async {
        until_answered(&progress, 3_000).await;
        // For good: the requests that it had begun go on, under their keys, with the other one.
        deployment.gateways[0].process().kill9().unwrap();
        until_answered(&progress, 8_000).await;
        kill_worker(&mut deployment, 0).await;
        until_answered(&progress, 12_000).await;
        until_in_flight(&client, &queues).await;
        kill_executor(&mut deployment, 0).await
    };
    let (acknowledged, mut adopted) = tokio::join!(submitting, killing);
    let acknowledged = acknowledged.unwrap();
    assert_eq!(client.base(), deployment.url(1));

    // Everything is submitted, and most of it has still to run.
    until_in_flight(&client, &queues).await;
    kill_worker(&mut deployment, 1).await;
    until_in_flight(&client, &queues).await;
    adopted.extend(kill_executor(&mut deployment, 1).await);
    assert!(count(&client, &queues, JOB_SET, "succeeded").await.unwrap() < JOBS);

    audited(&client, acknowledged, DRAIN).await.unwrap();
    deployment.audit_runs(JOBS).unwrap();
    check_runs_succeeded(&client, &queues, JOB_SET, &adopted).await.unwrap();
    assert!(!deployment.gateways[0].process().is_running().unwrap());
}
