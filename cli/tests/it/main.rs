//! The command line as people and scripts see it: its help, its output, its exit codes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod golden;
mod server;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use server::{Server, reply};

/// The binary, speaking to `server`, in an environment of its own.
fn muster(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.env_clear().env("MUSTER_URL", &server.url).args(arguments).stdin(Stdio::null());
    command
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    muster(server, arguments).output().unwrap()
}

fn with_stdin(server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut command = muster(server, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

const QUEUE: &str = r#"{"name":"a","weight":2.0,"labels":{"team":"x"},"cordoned":false}"#;
const NOT_FOUND: &str = r#"{"type":"about:blank","title":"No such queue","status":404,
    "code":"queue_not_found","detail":"queue `a` does not exist"}"#;

#[test]
fn a_value_is_shown_as_table_json_and_yaml() {
    let server = Server::start(vec![reply(200, QUEUE); 3]);
    let table = run(&server, &["queue", "get", "a"]);
    assert_eq!(
        text(&table.stdout),
        "QUEUE  WEIGHT  CORDONED  LABELS\na      2       no        team=x\n"
    );
    let json = run(&server, &["queue", "get", "a", "--output", "json"]);
    assert_eq!(text(&json.stdout).matches('\n').count(), 8);
    let yaml = run(&server, &["-o", "yaml", "queue", "get", "a"]);
    assert_eq!(text(&yaml.stdout), "name: a\nweight: 2.0\nlabels:\n  team: x\ncordoned: false\n");
    assert!(yaml.stderr.is_empty() && yaml.status.success());
}

#[test]
fn exit_codes_are_as_documented() {
    let server = Server::start(vec![
        reply(404, NOT_FOUND),
        reply(400, r#"{"code":"bad_request","detail":"weight must be above 0"}"#),
        reply(200, QUEUE),
    ]);
    let code = |arguments: &[&str]| run(&server, arguments).status.code();
    let missing = run(&server, &["queue", "get", "a"]);
    assert_eq!(missing.status.code(), Some(3));
    assert_eq!(text(&missing.stderr), "error: queue `a` does not exist\n");
    assert!(missing.stdout.is_empty());
    assert_eq!(code(&["clusters"]), Some(1));
    assert_eq!(code(&["queue", "create", "a"]), Some(1), "it exists");
    assert_eq!(code(&["queue"]), Some(2));
    assert_eq!(code(&["--url", "ftp://x", "clusters"]), Some(2));
    assert_eq!(code(&["submit", "nothing.txt"]), Some(2));
    assert_eq!(code(&["submit", "nothing.yaml"]), Some(1));
    assert_eq!(code(&["exit-codes"]), Some(0));
    assert_eq!(code(&["up", "--data", "/none/such", "--cluster", "simulated:2x"]), Some(2));
    assert_eq!(code(&["up", "--data", "/none/such", "--cluster", "remote"]), Some(2));
    assert_eq!(code(&["demo", "--jobs", "100"]), Some(2));
}

#[test]
fn settings_that_cannot_work_are_refused_by_the_check() {
    let server = Server::start(Vec::new());
    let check = |role: &str, more: &[&str]| {
        let arguments = [&[role, "--check-config"], more].concat();
        let output = run(&server, &arguments);
        (output.status.code(), text(&output.stderr).to_owned())
    };
    let store = ["--store", "memory:///"];
    let in_order = (Some(0), "the settings are in order\n".to_owned());
    assert_eq!(check("gateway", &store), in_order);
    assert_eq!(check("shard", &store), in_order);
    assert_eq!(check("executor", &[]), in_order);
    let cases: [(&str, &[&str], &str); 12] = [
        ("gateway", &["--listen", "0.0.0.0:80"], "`gateway.listen`"),
        ("gateway", &["--set", "gateway.submissions_max=0"], "`gateway.connections_max`"),
        ("gateway", &["--set", "gateway.submit_bytes_max=1KiB"], "`gateway.submit_bytes_max`"),
        ("gateway", &["--set", "gateway.write_timeout=0s"], "`gateway.write_timeout`"),
        ("gateway", &["--store", "nonsense"], "`store.url`"),
        ("shard", &["--store", "nonsense"], "`store.url`"),
        ("shard", &["--bus", "nonsense"], "`bus.url`"),
        ("shard", &["--bus", "nats://a b"], "`bus.url`"),
        ("shard", &["--set", "shard.round_jobs_max=0"], "`shard.round_jobs_max`"),
        ("shard", &["--set", "shard.commit_bytes_max=1KiB"], "`shard.commit_bytes_max`"),
        ("executor", &["--set", "bus.replicas=0"], "`bus.replicas`"),
        ("executor", &["--set", "executor.simulated.nodes=0"], "`executor.simulated.nodes`"),
    ];
    for (role, more, key) in cases {
        let store = if role == "executor" || more.contains(&"--store") { &[][..] } else { &store };
        let (code, said) = check(role, &[store, more].concat());
        assert!(code == Some(2) && said.contains(key), "{role} {more:?}: {code:?} {said}");
    }
}

#[test]
fn jobs_from_stdin_are_submitted_in_order_and_refusals_are_named_by_line() {
    let answers =
        "{\"jobId\":\"1\"}\n{\"error\":{\"code\":\"invalid_job\",\"detail\":\"no pod spec\"}}\n";
    let server = Server::start(vec![reply(200, answers)]);
    let output = with_stdin(&server, &["submit", "-", "-q", "a", "-s", "s"], "{\"x\":1}\n\n{}\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "1\n");
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("-:3: no pod spec\nsubmitted 1 jobs in"), "{stderr}");
    assert!(stderr.ends_with("1 rejected\n"), "{stderr}");
    let seen = server.seen();
    assert_eq!(seen[0].target, "POST /api/v1/queues/a/jobs?jobSet=s");
    assert_eq!(seen[0].body, "{\"x\":1}\n{}\n");
}

#[test]
fn an_armada_file_names_its_queue_and_flags_override_it() {
    let answers = "{\"jobId\":\"1\"}\n{\"jobId\":\"2\"}\n";
    let server = Server::start(vec![reply(200, answers), reply(200, answers)]);
    let file = "queue: a\njobSetId: s\njobs:\n- podSpec: {}\n- priority: 1\n  podSpec: {}\n";
    let submit = ["submit", "-", "--format", "yaml"];
    let output = with_stdin(&server, &submit, file);
    assert_eq!(text(&output.stdout), "1\n2\n", "{}", text(&output.stderr));
    let other = [&submit[..], &["--job-set", "t", "-o", "json"]].concat();
    let output = with_stdin(&server, &other, file);
    assert_eq!(text(&output.stdout), answers);
    let targets: Vec<_> = server.seen().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["s", "t"].map(|set| format!("POST /api/v1/queues/a/jobs?jobSet={set}")));
    assert_eq!(server.seen()[0].body, "{\"podSpec\":{}}\n{\"priority\":1,\"podSpec\":{}}\n");
}

#[test]
fn a_submission_without_a_queue_is_wrong_usage() {
    let server = Server::start(Vec::new());
    let output = with_stdin(&server, &["submit", "-", "-s", "s"], "");
    assert_eq!(output.status.code(), Some(0), "nothing to submit");
    let output = with_stdin(&server, &["submit", "-"], "{}\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("-:1: which queue? `--queue` says it"));
}

#[test]
fn listings_go_through_all_pages_up_to_the_limit() {
    let job = |id: &str| {
        format!(
            "{{\"jobId\":\"{id}\",\"queue\":\"a\",\"jobSet\":\"s\",\"state\":\"queued\",\"priority\":0,\
             \"submittedAt\":\"1970-01-01T00:00:00.000Z\",\"resources\":{{}},\"runs\":[]}}"
        )
    };
    let first = format!("{{\"jobs\":[{},{}],\"cursor\":\"c\"}}", job("1"), job("2"));
    let second = format!("{{\"jobs\":[{}],\"cursor\":\"d\"}}", job("3"));
    let server = Server::start(vec![reply(200, &first), reply(200, &second)]);
    let arguments =
        ["list", "jobs", "-q", "a", "--state", "queued,leased", "--limit", "3", "-o", "json"];
    let output = run(&server, &arguments);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["jobs"].as_array().unwrap().len(), 3);
    assert!(text(&output.stderr).starts_with("the first 3; there are more"));
    let targets: Vec<_> = server.seen().into_iter().map(|request| request.target).collect();
    let base = |limit| format!("GET /api/v1/jobs?limit={limit}&queue=a&state=queued%2Cleased");
    assert_eq!(targets, [base(3), format!("{}&cursor=c", base(1))]);
}

#[test]
fn watching_ends_when_all_is_done_and_tells_whether_it_went_well() {
    let event = "{\"cursor\":\"1-1\",\"jobId\":\"j\",\"event\":\"failed\",\"at\":\"T\"}\n";
    let done = r#"{"queue":"a","jobSet":"s","counts":{"failed":1,"succeeded":2}}"#;
    // The stream that follows and the counts are asked for at once, in any order.
    let server = Server::by_target(vec![
        ("GET /api/v1/queues/a/job-sets/s", reply(200, done)),
        ("GET /api/v1/queues/a/job-sets/s/events?watch=true", reply(200, "")),
        ("GET /api/v1/queues/a/job-sets/s/events?watch=false", reply(200, event)),
    ]);
    let output = run(&server, &["watch", "a", "s", "--exit-when-done", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), event);
    assert_eq!(text(&output.stderr), "succeeded 2, failed 1\n");
}

#[test]
fn changes_name_what_they_could_not_change() {
    let applied = r#"{"changed":2,"finished":["3"],"missing":["4"]}"#;
    let server = Server::start(vec![reply(200, applied), reply(200, applied)]);
    let output = with_stdin(&server, &["cancel", "1", "-", "--reason", "why"], "3\n4\n");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(text(&output.stdout), "cancelled 2\n");
    assert_eq!(text(&output.stderr), "`3` had finished before\n`4` is not known\n");
    run(&server, &["reprioritize", "-q", "a", "-s", "s", "--state", "queued", "-p", "7"]);
    let seen = server.seen();
    assert_eq!(seen[0].body, r#"{"jobIds":["1","3","4"],"reason":"why"}"#);
    assert_eq!(seen[1].body, r#"{"queue":"a","jobSet":"s","states":["queued"],"priority":7}"#);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let log = "line\n".repeat(100_000);
    let server = Server::start(vec![reply(200, &log)]);
    let mut command = muster(&server, &["logs", "-f", "j"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(server.seen()[0].target, "GET /api/v1/jobs/j/logs?follow=true");
}

#[test]
fn completions_name_the_commands() {
    let server = Server::start(Vec::new());
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&server, &["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).contains("reprioritize"));
    }
}
