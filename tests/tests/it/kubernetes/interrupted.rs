//! What an executor does not see happen: watches that are cut, forgotten and closed, an API server
//! whose certificate has run out, a kubelet and an API server with clocks of their own.

use std::time::Duration;

use anyhow::ensure;
use kube::api::DeleteParams;
use muster_api::http::Job;
use muster_tests::kubernetes::{ApiFault, Behaviour, Certificate, Target};
use muster_tests::s3::Effect;
use muster_tests::wait::eventually;
use serde_json::json;

use super::executor::{TEAM, job};
use super::survives::{Plant, three_nodes};
use super::{WAIT, pods, until_gone, until_phase};
use crate::deployment::TURN;

const SECOND: Duration = Duration::from_secs(1);
const HOUR_SECONDS: i64 = 3600;

#[tokio::test]
async fn what_an_executor_has_not_seen_happen_it_finds_out() {
    let _turn = TURN.lock().await;
    let settings = [
        ("MUSTER_EXECUTOR__KUBERNETES__RETENTION", "1h"),
        ("MUSTER_EXECUTOR__KUBERNETES__KILL_TIMEOUT", "1s"),
    ];
    let Some(mut plant) = Plant::start(three_nodes(), &settings).await else { return };
    pods_that_go_while_nobody_watches_run_again(&plant).await;
    a_certificate_that_has_run_out_is_waited_for(&mut plant).await;
    a_kubelets_clock_moves_no_run_out_of_its_time(&plant).await;
    an_api_servers_clock_does_not_say_how_long_a_pod_may_take_to_end(&plant).await;
}

/// The place from which a watch would go on is forgotten (410), and nothing can be listed for a
/// while: only a new list tells what happened meanwhile.
async fn pods_that_go_while_nobody_watches_run_again(plant: &Plant) {
    let world = &plant.world;
    let lasting = Behaviour::runs_forever();
    let ids = world.submit(&[&lasting, &lasting, &lasting]).await;
    for id in &ids {
        world.until_state(id, "running").await;
    }
    let before = plant.proxy.injected();
    plant.proxy.add(ApiFault::new(Effect::Refuse(410)).on("watch", "pods"));
    plant.proxy.add(ApiFault::new(Effect::Refuse(503)).on("watch-list", "pods"));
    plant.proxy.cut();
    // Both watches of pods were refused, and both are listed anew in vain.
    plant.until_injected(before, 4).await;
    let api = pods(&world.cluster, TEAM);
    let deleted = format!("muster-{}-1", ids[0]);
    api.delete(&deleted, &DeleteParams::default()).await.unwrap();
    until_gone(&api, &deleted).await;
    // Its creation is not answered: only its name says that it is there already.
    plant.proxy.add(ApiFault::new(Effect::LoseReply).on("create", "pods").times(1));
    let short = world.submit(&[&Behaviour::runs_for(SECOND)]).await;
    let name = format!("muster-{}-1", short[0]);
    let there = eventually(WAIT, "a pod is created while nobody watches", async || {
        ensure!(api.get_opt(&name).await?.is_some(), "it is not\n{}", world.log_end());
        Ok(())
    });
    there.await.unwrap();
    until_phase(&api, &name, "Succeeded").await;
    // Asked for again, it is looked at.
    let looked = eventually(WAIT, "it is looked at", async || {
        let looks = Target { verb: "get", resource: "pods".to_owned() };
        ensure!(plant.proxy.requests().contains_key(&looks), "{}", world.log_end());
        Ok(())
    });
    looked.await.unwrap();

    plant.proxy.clear();
    plant.proxy.add(ApiFault::new(Effect::Refuse(410)).on("watch", "pods"));
    world.until_run(&ids[0], 2).await;
    plant.all_succeed(&short).await;
    // And by hand, while it is watched.
    api.delete(&format!("muster-{}-1", ids[1]), &DeleteParams::default()).await.unwrap();
    world.until_run(&ids[1], 2).await;
    let job = world.until_state(&ids[2], "running").await;
    assert_eq!(job.runs.len(), 1, "nothing has happened to it: {job:?}");
    for id in &ids[..2] {
        let job = world.until_state(id, "running").await;
        assert_eq!(job.runs[0].reason.as_deref(), Some("Deleted"), "{job:?}");
    }
    plant.proxy.clear();
}

/// Pods run and end meanwhile, each once.
async fn a_certificate_that_has_run_out_is_waited_for(plant: &mut Plant) {
    let ids = plant.world.submit(&[&Behaviour::runs_for(SECOND), &Behaviour::runs_forever()]).await;
    plant.world.until_state(&ids[1], "running").await;
    plant.proxy.show(Certificate::Expired);
    let later = plant.world.submit(&[&Behaviour::default()]).await;
    plant.world.executor.until_logged("certificate expired", WAIT).await.unwrap();
    plant.proxy.show(Certificate::Valid);
    plant.all_succeed(&ids[..1]).await;
    plant.all_succeed(&later).await;
    let job = plant.world.until_state(&ids[1], "running").await;
    assert_eq!(job.runs.len(), 1, "{job:?}");
}

/// An hour behind, and an hour ahead.
async fn a_kubelets_clock_moves_no_run_out_of_its_time(plant: &Plant) {
    let world = &plant.world;
    for ahead in [-HOUR_SECONDS, HOUR_SECONDS] {
        world.cluster.kubelet().unwrap().set_clock_ahead(ahead);
        let behaviours = [Behaviour::runs_for(SECOND), Behaviour::default().exits(1)];
        let ids = world.submit(&[&behaviours[0], &behaviours[1]]).await;
        in_order(&world.until_state(&ids[0], "succeeded").await);
        in_order(&world.until_state(&ids[1], "failed").await);
    }
    world.cluster.kubelet().unwrap().set_clock_ahead(0);
}

/// Somebody deletes two pods. One does not end, and is forced after its grace period of a second,
/// not an hour later; the other one takes a while, and is given it.
async fn an_api_servers_clock_does_not_say_how_long_a_pod_may_take_to_end(plant: &Plant) {
    let world = &plant.world;
    let api = pods(&world.cluster, TEAM);
    for ahead in [-HOUR_SECONDS, HOUR_SECONDS] {
        plant.proxy.set_clock_ahead(ahead);
        let stubborn = job(&Behaviour::runs_forever().dies_after(None));
        let mut slow = job(&Behaviour::runs_forever().dies_after(Some(4 * SECOND)));
        slow["podSpec"]["terminationGracePeriodSeconds"] = json!(300);
        let ids = world.submit_jobs(&[stubborn, slow]).await;
        for id in &ids {
            world.until_state(id, "running").await;
            api.delete(&format!("muster-{id}-1"), &DeleteParams::default()).await.unwrap();
        }
        for (id, exit_code) in ids.iter().zip([None, Some(143)]) {
            let job = world.until_run(id, 2).await;
            let run = &job.runs[0];
            assert_eq!(run.reason.as_deref(), Some("Deleted"), "{job:?}");
            assert_eq!(run.exit_code, exit_code, "{ahead}: {job:?}");
        }
    }
    plant.proxy.set_clock_ahead(0);
}

/// Whether each moment of a job that ended lies behind the one before.
fn in_order(job: &Job) {
    let run = &job.runs[0];
    assert_eq!(job.runs.len(), 1, "{job:?}");
    // Times of one form: their order is that of their texts.
    let moments = [
        Some(&job.submitted_at),
        Some(&run.leased_at),
        run.started_at.as_ref(),
        run.ended_at.as_ref(),
        job.finished_at.as_ref(),
    ];
    assert!(moments.iter().all(Option::is_some), "{job:?}");
    assert!(moments.is_sorted(), "{job:?}");
}
