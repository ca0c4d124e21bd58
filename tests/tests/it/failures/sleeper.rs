//! A shard worker that sleeps over its leases and wakes: others have its shards, and it does not
//! know yet.

use anyhow::{Context, ensure};
use muster_core::route::shard_of_queue;
use muster_tests::deployment::{Deployment, audited};
use muster_tests::journal::{self, Holders, JSON};
use muster_tests::shard_log;
use muster_tests::traffic::Traffic;
use muster_tests::wait::eventually;

use crate::deployment::{DRAIN, SMALL, TURN, WAIT};

const SHARDS: u16 = 4;

/// A queue for each shard.
async fn queues(deployment: &Deployment) -> Vec<String> {
    let names = (0..SHARDS).map(|shard| {
        let mut names = (0..).map(|number| format!("load-{number}"));
        names.find(|name| shard_of_queue(name, SHARDS).0 == shard).unwrap()
    });
    let names = names.collect::<Vec<_>>();
    let client = deployment.client_of_all().unwrap();
    for name in &names {
        let settings = muster_api::http::QueueSettings::default();
        client.put_queue(name, &settings).await.unwrap();
    }
    names
}

async fn settled(deployment: &Deployment) -> Holders {
    eventually(WAIT, "leases are where they belong", async || {
        journal::settled(&deployment.shards, SHARDS)
    })
    .await
    .unwrap()
}

/// Waits until others own the shards of the worker; gives their owners.
async fn taken_from(deployment: &Deployment, sleeper: usize) -> Holders {
    eventually(WAIT, "others own the sleeper's shards", async || {
        let holders = journal::holders(&deployment.shards, &[sleeper])?;
        let (owned, led) = (holders.owners.len(), holders.leader.is_some());
        ensure!(owned == usize::from(SHARDS) && led, "{holders:?}");
        Ok(holders)
    })
    .await
    .unwrap()
}

/// Waits until the worker knows that it has lost what it owned, and holds it to having committed
/// nothing behind the fences of those who took it: an answer leaves only when its commit is
/// durable.
async fn knows(deployment: &Deployment, sleeper: usize, before: &Holders, after: &Holders) {
    for shard in journal::shards_of(before, sleeper) {
        let (epoch, fence) = (before.owners[&shard].1, after.owners[&shard].1);
        let durable = eventually(WAIT, "the sleeper knows", async || {
            let ownerships = journal::ownerships(&deployment.shards[sleeper])?;
            let its = ownerships.iter().find(|one| (one.shard, one.epoch) == (shard, epoch));
            its.context("it does not know the shard")?.durable.context("it believes to own it")
        })
        .await
        .unwrap();
        assert!(durable < fence, "shard {shard}: committed {durable} behind the fence {fence}");
    }
}

#[tokio::test]
async fn a_worker_that_sleeps_past_its_leases_acknowledges_nothing_more_when_it_wakes() {
    let _turn = TURN.lock().await;
    let mut deployment = Deployment::start_with(SMALL, &[JSON]).await.unwrap();
    let client = deployment.client_of_all().unwrap();
    let queues = queues(&deployment).await;
    let traffic = Traffic::new(&client, &queues, "slept");
    let failing = async {
        let before = settled(&deployment).await;
        let sleeper = before.owners[&0].0;
        traffic.goes_on(3, WAIT).await.unwrap();
        deployment.shards[sleeper].process().suspend().unwrap();
        let after = taken_from(&deployment, sleeper).await;
        traffic.goes_on(3, WAIT).await.unwrap();
        deployment.shards[sleeper].process().resume().unwrap();
        knows(&deployment, sleeper, &before, &after).await;
        traffic.goes_on(3, WAIT).await.unwrap();
        // It is a worker like any other again: what belongs to it is handed back.
        settled(&deployment).await;
        traffic.goes_on(3, WAIT).await.unwrap();
        traffic.stop();
    };
    let (acknowledged, ()) = tokio::join!(traffic.run(), failing);
    let acknowledged = acknowledged.unwrap();
    audited(&client, acknowledged.clone(), DRAIN).await.unwrap();

    for worker in &mut deployment.shards {
        worker.process().kill9().unwrap();
    }
    let prefix = deployment.s3.bucket_directory().join("prefix");
    let logs = (0..SHARDS).map(|shard| shard_log::read(&prefix, shard).unwrap());
    let logs = logs.collect::<Vec<_>>();
    logs.iter().for_each(|log| shard_log::check_owners(log).unwrap());
    shard_log::check_submitted(&logs, &acknowledged).unwrap();
}
