//! What the product promises, as functions over a [`Site`]: they do not know how it is built.
//! `memory_and_file` and `nats_and_s3` run them.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use futures::future::join_all;
use muster_tests::http::{Answer, Http};
use muster_tests::site::Site;
use muster_tests::wait::eventually;
use serde_json::{Value, json};

pub(crate) mod adoption;
pub(crate) mod arrays;
pub(crate) mod audit;
pub(crate) mod changes;
pub(crate) mod command_line;
pub(crate) mod dry_runs;
pub(crate) mod events;
pub(crate) mod gangs;
pub(crate) mod garbage;
pub(crate) mod held_back;
pub(crate) mod job_files;
pub(crate) mod jobs;
pub(crate) mod limits;
pub(crate) mod load;
pub(crate) mod local;
pub(crate) mod observe;
pub(crate) mod owners;
pub(crate) mod pools;
pub(crate) mod preemption;
pub(crate) mod priority_classes;
pub(crate) mod problems;
pub(crate) mod queues;
pub(crate) mod rounds;
pub(crate) mod store;
pub(crate) mod submit;
pub(crate) mod why;

/// How long anything may take that these suites wait for.
pub(crate) const WAIT: Duration = Duration::from_secs(60);
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// A part of a suite.
pub(crate) type Promise<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
/// The same with the sentence that it shows.
pub(crate) type Theme<'a> = (&'static str, Promise<'a>);

/// Runs the themes side by side, since most of their time is waiting, and fails with the names of
/// those that failed.
pub(crate) async fn all_hold(themes: Vec<Theme<'_>>) {
    let outcomes = join_all(themes.into_iter().map(outcome)).await;
    judge(outcomes);
}

/// The same one after the other: for themes that start processes and wait for them.
async fn all_hold_in_turn(themes: Vec<Theme<'_>>) {
    let mut outcomes = Vec::new();
    for theme in themes {
        outcomes.push(outcome(theme).await);
    }
    judge(outcomes);
}

/// The theme's name if it failed; why is on standard error then.
async fn outcome((name, theme): Theme<'_>) -> Option<&'static str> {
    AssertUnwindSafe(theme).catch_unwind().await.err().map(|_| name)
}

fn judge(outcomes: Vec<Option<&'static str>>) {
    let failed: Vec<_> = outcomes.into_iter().flatten().collect();
    assert!(failed.is_empty(), "these do not hold: {failed:#?}");
}

/// The themes by their functions: `themes![site; queues::a_theme, …]`.
macro_rules! themes {
    ($site:expr; $($module:ident :: $theme:ident),+ $(,)?) => {
        vec![$((
            stringify!($theme),
            Box::pin($crate::suite::$module::$theme($site)) as $crate::suite::Promise<'_>,
        )),+]
    };
}
pub(crate) use themes;

/// What the HTTP API promises.
pub(crate) async fn api(mut site: Site) {
    all_hold(api_themes(&site)).await;
    limits::bodies_are_read_up_to_their_limits(&site).await;
    adoption::runs_outlive_their_executor_and_are_taken_over_once(&mut site).await;
    owners::nothing_acknowledged_is_forgotten_by_the_next_owner(&mut site).await;
}

fn api_themes(site: &Site) -> Vec<Theme<'_>> {
    themes![site;
        limits::a_client_that_sends_half_its_headers_is_cut_off,
        queues::a_queue_is_made_changed_listed_and_deleted,
        queues::a_queue_takes_no_more_jobs_than_may_wait_in_it,
        queues::a_queue_with_live_jobs_is_not_deleted,
        queues::a_cordoned_queue_keeps_its_jobs,
        queues::a_queue_holds_no_more_than_its_limits_leave,
        queues::a_queues_jobs_are_placed_no_faster_than_its_rate,
        pools::jobs_share_what_no_node_has,
        priority_classes::a_job_names_a_class_that_there_is,
        submit::every_format_and_coding_is_taken_with_ids_and_without,
        submit::lines_stand_alone_and_a_document_stands_whole,
        submit::the_same_key_means_the_same_jobs,
        dry_runs::what_a_submission_would_come_to_is_told_and_nothing_is_written,
        submit::a_client_id_stands_for_one_job_of_its_queue,
        jobs::a_pod_spec_comes_back_byte_for_byte,
        jobs::listings_show_every_job_once_page_by_page,
        jobs::job_sets_are_listed_with_their_counts,
        jobs::a_finished_job_is_shown_from_memory_and_from_the_history,
        jobs::what_is_submitted_is_shown_at_once_by_any_gateway,
        arrays::a_task_is_read_cancelled_and_followed_like_a_job,
        arrays::an_array_is_changed_and_cancelled_as_a_whole,
        gangs::a_gang_starts_with_its_last_member_on_one_cluster,
        gangs::a_gang_fails_with_its_first_member,
        held_back::a_job_waits_for_others_and_is_cancelled_when_it_waits_in_vain,
        held_back::a_job_is_tried_again_as_its_policy_or_its_queues_says,
        held_back::an_array_runs_no_more_tasks_at_once_than_it_may,
        changes::jobs_are_cancelled_by_id,
        changes::a_job_set_is_cancelled_in_the_states_named,
        changes::jobs_are_reprioritized_by_id_and_by_job_set,
        changes::jobs_that_fit_nowhere_wait_and_hold_nobody_up,
        events::events_resume_from_any_cursor_as_lines_and_as_frames,
        events::a_watch_tells_what_happens_as_it_happens,
        events::many_events_come_in_pages_without_a_gap,
        observe::shares_tell_what_each_queue_waits_for_and_holds,
        observe::pools_and_clusters_tell_what_there_is,
        observe::health_metrics_and_the_document_are_served,
        observe::an_answer_names_its_request,
        why::a_job_that_could_never_run_is_told_what_nodes_lack,
        why::what_is_set_for_a_queue_is_named_with_its_figures,
        why::a_task_in_the_middle_of_an_array_knows_its_place,
        problems::what_is_wrong_is_a_problem_with_a_code,
        problems::a_body_that_is_no_stream_of_columns_is_refused,
        limits::a_job_is_taken_at_each_limit_and_refused_one_past_it,
        limits::names_and_keys_are_taken_at_their_limits,
        limits::a_document_and_a_page_hold_ten_thousand_jobs,
        limits::a_page_of_job_sets_with_long_names_comes_whole,
    ]
}

/// What the command line promises.
pub(crate) async fn command_line(mut site: Site) {
    let others = themes![&site;
        command_line::queues_are_made_and_shown_from_the_command_line,
        command_line::limits_of_queues_are_set_and_shown_from_the_command_line,
        command_line::retry_policies_of_queues_are_set_from_the_command_line,
        command_line::clusters_and_nodes_are_cordoned_from_the_command_line,
        priority_classes::classes_are_set_and_shown_from_the_command_line,
        pools::pools_are_set_from_the_command_line,
        command_line::jobs_are_submitted_shown_changed_and_cancelled,
        command_line::what_runs_is_watched_read_and_counted,
        command_line::a_stream_on_standard_input_is_submitted_as_it_comes,
        why::what_keeps_a_job_is_told_on_the_command_line,
        dry_runs::a_submission_is_tried_out_from_the_command_line,
        command_line::completions_are_scripts_and_colours_are_for_terminals,
        job_files::job_files_of_armada_are_submitted_as_they_are,
        job_files::what_armada_does_and_we_do_not_is_said,
    ];
    // It waits long for a command that tries again and again.
    let codes = themes![&site; command_line::exit_codes_are_as_documented];
    tokio::join!(all_hold(codes), all_hold_in_turn(others));
    command_line::a_watch_goes_on_after_its_gateway_was_restarted(&mut site).await;
}

/// What the load tester promises.
pub(crate) async fn load_test(site: Site) {
    all_hold_in_turn(themes![&site;
        load::every_format_of_bodies_is_submitted_and_audited,
        load::what_is_refused_is_counted_and_is_a_failure,
        load::a_scenario_is_run_reported_and_audited,
        audit::a_list_that_does_not_fit_fails_the_audit,
        audit::what_lives_when_the_time_is_up_fails_the_audit,
        audit::a_deployment_that_does_things_twice_fails_the_audit,
        store::what_lies_in_the_store_is_whole_and_damage_is_named,
    ])
    .await;
}

/// What is promised of jobs that make room for others. They take all that there is.
pub(crate) async fn preemption(site: Site) {
    all_hold_in_turn(themes![&site;
        preemption::a_job_of_a_higher_class_takes_the_room_of_the_youngest,
        preemption::a_queue_gets_its_share_from_one_that_has_more_and_no_more,
    ])
    .await;
}

/// What `muster admin` promises to whoever runs a deployment.
pub(crate) async fn admin(site: Site) {
    all_hold_in_turn(themes![&site;
        rounds::what_rounds_came_to_is_recorded,
        garbage::what_nobody_needs_goes_and_only_when_it_is_told_to,
        garbage::damage_is_named_and_gone_when_it_is_mended,
    ])
    .await;
}

/// A queue of weight 1.
pub(crate) async fn queue(http: &Http, name: &str) {
    let made = http.put(&format!("/api/v1/queues/{name}"), &json!({})).await.unwrap();
    assert_eq!(made.status, 200, "{}", made.text());
}

/// A queue whose jobs stay where they are.
pub(crate) async fn cordoned(http: &Http, name: &str) {
    let settings = json!({ "cordoned": true });
    let made = http.put(&format!("/api/v1/queues/{name}"), &settings).await.unwrap();
    assert_eq!(made.status, 200, "{}", made.text());
}

/// A job that runs for so long, whatever runs it.
pub(crate) fn job(millis: u64) -> Value {
    let seconds = format!("{}.{:03}", millis / 1000, millis % 1000);
    let command = if millis == 0 { json!(["true"]) } else { json!(["sleep", seconds]) };
    json!({
        "annotations": { "muster.dev/simulated-runtime": format!("{millis}ms") },
        "podSpec": { "containers": [{
            "name": "main",
            "command": command,
            "resources": { "requests": { "cpu": "10m", "memory": "1Mi" } },
        }], "terminationGracePeriodSeconds": 1 },
    })
}

/// The same job with more fields.
pub(crate) fn with(mut job: Value, fields: Value) -> Value {
    let fields = fields.as_object().unwrap().clone();
    job.as_object_mut().unwrap().extend(fields);
    job
}

/// Lines out of jobs.
pub(crate) fn lines(jobs: &[Value]) -> String {
    jobs.iter().map(|job| format!("{job}\n")).collect()
}

/// Submits lines; each has to be taken. Gives the ids.
pub(crate) async fn submitted(
    http: &Http,
    queue: &str,
    job_set: &str,
    jobs: &[Value],
) -> Vec<String> {
    let answer = post_lines(http, queue, job_set, &[], lines(jobs)).await;
    let ids = ids(&answer);
    assert_eq!(ids.len(), jobs.len(), "{}", answer.text());
    ids
}

/// `POST` of an NDJSON body.
pub(crate) async fn post_lines(
    http: &Http,
    queue: &str,
    job_set: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Answer {
    let path = format!("/api/v1/queues/{queue}/jobs?jobSet={job_set}");
    let headers = [&[("content-type", NDJSON)], headers].concat();
    let answer = http.send(reqwest::Method::POST, &path, &headers, body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// The ids of an answer of lines, without those that were refused.
pub(crate) fn ids(answer: &Answer) -> Vec<String> {
    let lines = answer.lines().unwrap();
    lines.iter().filter_map(|line| line["jobId"].as_str().map(str::to_owned)).collect()
}

/// The job as it is shown.
pub(crate) async fn shown(http: &Http, id: &str) -> Value {
    let answer = http.get(&format!("/api/v1/jobs/{id}")).await.unwrap();
    assert_eq!(answer.status, 200, "{id}: {}", answer.text());
    answer.json()
}

/// Waits until the job is in that state, and gives it.
pub(crate) async fn until_state(http: &Http, id: &str, state: &str) -> Value {
    eventually(WAIT, &format!("{id} is {state}"), async || {
        let answer = http.get(&format!("/api/v1/jobs/{id}")).await?;
        let job = answer.json();
        ensure!(job["state"] == state, "{}", answer.text());
        Ok(job)
    })
    .await
    .unwrap()
}

/// The counts of a job set.
pub(crate) async fn counts(http: &Http, queue: &str, job_set: &str) -> Result<Value> {
    let answer = http.get(&format!("/api/v1/queues/{queue}/job-sets/{job_set}")).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok(answer.json()["counts"].clone())
}

/// Waits until so many jobs of a job set are in that state.
pub(crate) async fn until_count(http: &Http, queue: &str, job_set: &str, state: &str, jobs: u64) {
    eventually(WAIT, &format!("{jobs} jobs of {queue}/{job_set} are {state}"), async || {
        let counts = counts(http, queue, job_set).await?;
        ensure!(counts[state] == jobs, "{counts}");
        Ok(())
    })
    .await
    .unwrap();
}

/// The events of a job set, behind a cursor if one is named.
pub(crate) async fn events_of(
    http: &Http,
    queue: &str,
    job_set: &str,
    after: Option<&str>,
) -> Vec<Value> {
    let after = after.map(|cursor| format!("?after={cursor}")).unwrap_or_default();
    let path = format!("/api/v1/queues/{queue}/job-sets/{job_set}/events{after}");
    let answer = http.get(&path).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.lines().unwrap()
}

/// One field of each value, as text.
pub(crate) fn column(values: &[Value], field: &str) -> Vec<String> {
    values.iter().map(|value| value[field].as_str().unwrap_or_default().to_owned()).collect()
}

/// The site's client.
pub(crate) fn http(site: &Site) -> Http {
    site.http().unwrap()
}
