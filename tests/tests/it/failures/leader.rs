//! The leader of the pool dies while what it leased runs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use muster_loadtest::submit::Progress;
use muster_tests::deployment::{Deployment, audited, create_queues, submit_jobs, submit_jobs_of};
use muster_tests::journal::{self, JSON};
use muster_tests::wait::eventually;

use super::{LONG, check_first_runs_succeeded, count, until_count};
use crate::deployment::{DRAIN, SMALL, TURN, WAIT};

/// Within that another one leads: the lease, two seconds, has to run out first, and the machine may
/// be busy.
const SUCCESSION: Duration = Duration::from_secs(15);

#[tokio::test]
async fn when_the_leader_dies_another_leads_and_what_was_leased_stands() {
    let _turn = TURN.lock().await;
    let mut deployment = Deployment::start_with(SMALL, &[JSON]).await.unwrap();
    let client = deployment.client_of_all().unwrap();
    let queues = create_queues(&client, 4).await.unwrap();
    let progress = || Arc::new(Progress::default());
    let leased = submit_jobs_of(LONG, &client, &queues, "leased", 400, progress());
    let leased = leased.await.unwrap();
    until_count(&client, &queues, "leased", "running", 400).await;

    let holders = journal::holders(&deployment.shards, &[]).unwrap();
    let leader = holders.leader.expect("somebody leads: jobs run");
    deployment.shards[leader].process().kill9().unwrap();
    // These wait for a leader from the beginning.
    let submitting = submit_jobs(&client, &queues, "new", 1_000, progress());
    let succession = eventually(SUCCESSION, "another one leads", async || {
        let holders = journal::holders(&deployment.shards, &[leader])?;
        let next = holders.leader.context("nobody leads")?;
        ensure!(next != leader, "it is dead");
        Ok(())
    });
    let (new, succession) = tokio::join!(submitting, succession);
    succession.unwrap();
    let new = new.unwrap();
    until_count(&client, &queues, "new", "succeeded", new.jobs()).await;
    // Nobody asked for the runs of the old leader's time to be done again.
    assert_eq!(count(&client, &queues, "leased", "queued").await.unwrap(), 0);

    let mut all = new;
    all.merge(leased.clone());
    audited(&client, all, DRAIN).await.unwrap();
    check_first_runs_succeeded(&client, &queues, "leased", &leased).await.unwrap();
    assert!(WAIT > SUCCESSION);
}
