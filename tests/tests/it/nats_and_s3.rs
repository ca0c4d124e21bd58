//! The suites against all roles as processes, on a NATS server and an S3 server, with simulated
//! clusters.

use muster_tests::site::Site;

use crate::deployment::TURN;
use crate::suite;

async fn site() -> Site {
    Site::nats_and_s3().await.unwrap()
}

#[tokio::test]
async fn the_api_does_what_it_promises() {
    let _turn = TURN.lock().await;
    suite::api(site().await).await;
}

#[tokio::test]
async fn the_command_line_does_what_it_promises() {
    let _turn = TURN.lock().await;
    suite::command_line(site().await).await;
}

#[tokio::test]
async fn load_is_made_reported_and_audited() {
    let _turn = TURN.lock().await;
    suite::load_test(site().await).await;
}

#[tokio::test]
async fn jobs_make_room_for_others() {
    let _turn = TURN.lock().await;
    suite::preemption(site().await).await;
}

#[tokio::test]
async fn what_nobody_needs_is_let_go_and_damage_is_named() {
    let _turn = TURN.lock().await;
    suite::admin(Site::nats_and_s3_with_garbage().await.unwrap()).await;
}
