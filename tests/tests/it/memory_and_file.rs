//! The suites against one `muster up`: the memory bus, the store of files, local processes.

use muster_tests::site::Site;

use crate::suite::{self, all_hold, themes};

async fn site() -> Site {
    Site::memory_and_file().await.unwrap()
}

#[tokio::test]
async fn the_api_does_what_it_promises() {
    suite::api(site().await).await;
}

#[tokio::test]
async fn local_processes_run_as_their_pod_specs_say() {
    let site = site().await;
    all_hold(themes![&site;
        local::exit_codes_and_signals_are_reported,
        local::a_deadline_ends_the_whole_process_group,
        local::a_cancelled_process_is_told_and_then_killed,
        local::output_is_followed_until_the_run_ends,
        local::what_cannot_run_here_is_refused_with_a_reason,
        local::a_task_knows_its_number_and_a_job_its_names,
    ])
    .await;
}

#[tokio::test]
async fn the_command_line_does_what_it_promises() {
    suite::command_line(site().await).await;
}

#[tokio::test]
async fn load_is_made_reported_and_audited() {
    suite::load_test(site().await).await;
}

#[tokio::test]
async fn jobs_make_room_for_others() {
    suite::preemption(site().await).await;
}

#[tokio::test]
async fn what_nobody_needs_is_let_go_and_damage_is_named() {
    suite::admin(site().await).await;
}
