//! The bus is away for a while, and comes back with what it kept.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use muster_loadtest::submit::Progress;
use muster_runtime::clock::Clock;
use muster_tests::deployment::{Deployment, audited, create_queues, submit_jobs, submit_jobs_of};
use muster_tests::pods::{self, Pod};
use muster_tests::wait::eventually;

use super::{LONG, check_first_runs_succeeded, until_count};
use crate::deployment::{DRAIN, SMALL, TURN, WAIT};

const JOBS: u64 = 400;

/// How long gateways try, in this test.
const TRY: (&str, &str) = ("MUSTER_GATEWAY__WRITE_TIMEOUT", "2s");
/// How long an answer may take then, on a machine that is busy.
const ANSWER_MAX: Duration = Duration::from_secs(15);

const TWO_JOBS: &str = "{\"podSpec\":{\"containers\":[{\"name\":\"m\",\"command\":[\"true\"]}]}}\n\
    {\"podSpec\":{\"containers\":[{\"name\":\"m\",\"command\":[\"true\"]}]}}\n";

/// The pods of all clusters that are in a phase.
fn pods(deployment: &Deployment, phase: &str) -> Result<Vec<Pod>> {
    let mut all = Vec::new();
    for number in 0..deployment.executors.len() {
        all.extend(pods::read(&deployment.state_dir(number), &format!("cluster-{number}"))?);
    }
    all.retain(|pod| pod.phase == phase);
    Ok(all)
}

async fn until_pods(deployment: &Deployment, phase: &str) {
    eventually(WAIT, &format!("all pods are {phase}"), async || {
        let found = pods(deployment, phase)?.len();
        ensure!(found as u64 == JOBS, "{found} of {JOBS} are");
        Ok(())
    })
    .await
    .unwrap();
}

/// Submits without patience, and holds the answer to what it has to be while the bus is away.
async fn check_refused(url: &str, queue: &str) {
    let clock = Clock::system();
    let began = clock.monotonic();
    let answer = reqwest::Client::new()
        .post(format!("{url}/api/v1/queues/{queue}/jobs?jobSet=refused"))
        .header("content-type", "application/x-ndjson")
        .body(TWO_JOBS)
        .timeout(ANSWER_MAX)
        .send()
        .await
        .unwrap();
    let took = clock.monotonic() - began;
    assert_eq!(answer.status(), 503, "after {took:?}");
    let retry_after = answer.headers().get("retry-after").expect("it says when to come again");
    assert!(retry_after.to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "unavailable", "{problem}");
}

#[tokio::test]
async fn while_the_bus_is_away_submissions_are_refused_and_runs_go_on() {
    let _turn = TURN.lock().await;
    let mut deployment = Deployment::start_with(SMALL, &[TRY]).await.unwrap();
    let client = deployment.client_of_all().unwrap();
    let queues = create_queues(&client, 4).await.unwrap();
    let progress = || Arc::new(Progress::default());
    let running = submit_jobs_of(LONG, &client, &queues, "running", JOBS, progress());
    let running = running.await.unwrap();
    until_count(&client, &queues, "running", "running", JOBS).await;
    until_pods(&deployment, "running").await;

    deployment.nats.kill9().unwrap();
    // This one is patient: it is refused again and again, and taken in when the bus is back.
    let waiting = Arc::new(Progress::default());
    let submitting = submit_jobs(&client, &queues, "waiting", 1_000, Arc::clone(&waiting));
    let away = async {
        for (gateway, queue) in (0..SMALL.gateways).zip(&queues) {
            check_refused(&deployment.url(gateway), queue).await;
        }
        // They end with nobody to tell: their reports wait, and so do they.
        until_pods(&deployment, "succeeded").await;
        assert_eq!(waiting.answered.load(std::sync::atomic::Ordering::Relaxed), 0);
        deployment.nats.restart().await.unwrap();
    };
    let (later, ()) = tokio::join!(submitting, away);
    let mut all = later.unwrap();
    all.merge(running.clone());
    audited(&client, all, DRAIN).await.unwrap();
    check_first_runs_succeeded(&client, &queues, "running", &running).await.unwrap();
    until_no_pods(&deployment).await;
}

/// What was reported is settled.
async fn until_no_pods(deployment: &Deployment) {
    eventually(WAIT, "no pod is left", async || {
        for phase in ["pending", "running", "succeeded", "failed"] {
            let left = pods(deployment, phase)?.len();
            ensure!(left == 0, "{left} pods are {phase}");
        }
        Ok(())
    })
    .await
    .unwrap();
}
