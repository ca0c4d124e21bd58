//! The store stops to answer: it does what it is asked, and nobody hears of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::ensure;
use muster_loadtest::submit::Progress;
use muster_tests::deployment::{Deployment, audited, create_queues, submit_jobs};
use muster_tests::s3::{Effect, Fault, Operation};
use muster_tests::wait::eventually;

use crate::deployment::{DRAIN, SMALL, TURN, WAIT, until_answered};

/// What a worker says when it has waited for an answer in vain.
const GAVE_UP: &str = "cannot put object";

#[tokio::test]
async fn a_store_that_writes_and_does_not_answer_acknowledges_nothing_and_loses_nothing() {
    let _turn = TURN.lock().await;
    let deployment = Deployment::start(SMALL).await.unwrap();
    let client = deployment.client_of_all().unwrap();
    let queues = create_queues(&client, 4).await.unwrap();
    let faults = deployment.s3.faults();
    let progress = Arc::new(Progress::default());
    let submitting = submit_jobs(&client, &queues, "wedged", 20_000, Arc::clone(&progress));
    let wedging = async {
        until_answered(&progress, 2_000).await;
        let on_puts = |effect| Fault::new(effect).on(Operation::Put);
        faults.add(on_puts(Effect::HoldReply));
        faults.add(on_puts(Effect::RefuseAfter(500)));
        // Puts that were answered before are acknowledged soon; then nothing is any more.
        let wedged = eventually(WAIT, "a worker waits in vain", async || {
            let mut logs = deployment.shards.iter().map(|worker| worker.log());
            ensure!(logs.any(|log| log.is_ok_and(|log| log.contains(GAVE_UP))), "none does");
            Ok(progress.answered.load(Ordering::Relaxed))
        });
        let before = wedged.await.unwrap();
        let puts = faults.injected();
        eventually(WAIT, "more is tried", async || {
            ensure!(faults.injected() > puts, "nothing is");
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(progress.answered.load(Ordering::Relaxed), before);
        faults.clear();
    };
    let (acknowledged, ()) = tokio::join!(submitting, wedging);
    audited(&client, acknowledged.unwrap(), DRAIN).await.unwrap();
}
