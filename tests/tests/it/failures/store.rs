//! The store stops to answer: it does what it is asked, and nobody hears of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use muster_loadtest::submit::Progress;
use muster_tests::deployment::{Deployment, Member, audited, create_queues, submit_jobs};
use muster_tests::s3::{Effect, Fault, Operation};
use muster_tests::wait::eventually;

use crate::deployment::{DRAIN, SMALL, TURN, WAIT, until_answered};

/// How long a worker waits for one answer, in this test.
const PATIENCE: (&str, &str) = ("MUSTER_STORE__REQUEST_TIMEOUT", "2s");
/// What a worker says when it has waited in vain for the answer to one put for the second time.
const GAVE_UP: [&str; 2] = ["cannot put object", "attempts=2"];

fn gave_up(worker: &Member) -> Result<bool> {
    let says_all = |line: &str| GAVE_UP.iter().all(|text| line.contains(text));
    Ok(worker.log()?.lines().any(says_all))
}

#[tokio::test]
async fn a_store_that_writes_and_does_not_answer_acknowledges_nothing_and_loses_nothing() {
    let _turn = TURN.lock().await;
    let deployment = Deployment::start_with(SMALL, &[PATIENCE]).await.unwrap();
    let client = deployment.client_of_all().unwrap();
    let queues = create_queues(&client, 4).await.unwrap();
    let faults = deployment.s3.faults();
    let (before, during) = (Arc::new(Progress::default()), Arc::new(Progress::default()));
    let begun = submit_jobs(&client, &queues, "before", 20_000, Arc::clone(&before));
    let wedging = async {
        until_answered(&before, 2_000).await;
        let on_puts = |effect| Fault::new(effect).on(Operation::Put);
        faults.add(on_puts(Effect::HoldReply));
        faults.add(on_puts(Effect::RefuseAfter(500)));
        let later = submit_jobs(&client, &queues, "during", 2_000, Arc::clone(&during));
        let released = async {
            eventually(WAIT, "a worker waits in vain, twice", async || {
                // All of it was begun after the last put that was answered.
                assert_eq!(during.answered.load(Ordering::Relaxed), 0, "acknowledged unheard");
                let gave_up = deployment.shards.iter().map(gave_up).collect::<Result<Vec<_>>>()?;
                ensure!(gave_up.contains(&true), "none does");
                Ok(())
            })
            .await
            .unwrap();
            faults.clear();
        };
        tokio::join!(later, released).0.unwrap()
    };
    let (acknowledged, later) = tokio::join!(begun, wedging);
    let mut all = acknowledged.unwrap();
    all.merge(later);
    assert!(faults.injected() > 0);
    audited(&client, all, DRAIN).await.unwrap();
}
