//! The binary `muster` against a site: each command, each form of output, exit codes.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context, ensure};
use muster_tests::process::{Process, Program};
use muster_tests::site::{Cluster, Site};
use muster_tests::wait::eventually;
use serde_json::{Value, json};

use super::{WAIT, http, job, lines, until_count, until_state};

/// The binary, speaking to the site, with what stands between white space as arguments.
fn program(site: &Site, line: &str) -> Program {
    let program = Program::built("muster").unwrap().env("MUSTER_URL", site.url());
    program.args(line.split_whitespace())
}

pub(super) fn run(site: &Site, line: &str) -> Output {
    program(site, line).output().unwrap()
}

/// What it wrote to standard output; it has to have ended well and said nothing else.
pub(super) fn quiet(site: &Site, line: &str) -> String {
    let output = run(site, line);
    assert_eq!(output.status.code(), Some(0), "{line}: {}", err(&output));
    assert_eq!(err(&output), "", "{line}");
    out(&output)
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The same value in the two forms that programs read.
pub(super) fn json_and_yaml(site: &Site, line: &str) -> Value {
    let of_json: Value = serde_json::from_str(&quiet(site, &format!("{line} -o json"))).unwrap();
    let of_yaml: Value =
        serde_yaml_ng::from_str(&quiet(site, &format!("{line} --output yaml"))).unwrap();
    assert_eq!(of_json, of_yaml, "{line}");
    of_json
}

fn file(site: &Site, name: &str, text: &str) -> PathBuf {
    let path = site.log_dir().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn ids(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

pub(crate) async fn queues_are_made_and_shown_from_the_command_line(site: &Site) {
    let table = quiet(site, "queue create cli-a --weight 2 --label team=x --label zone=y");
    assert_eq!(table, "QUEUE  WEIGHT  CORDONED  LABELS\ncli-a  2       no        team=x,zone=y\n");
    let shown = json_and_yaml(site, "queue get cli-a");
    let expected = json!({ "name": "cli-a", "weight": 2.0, "labels": { "team": "x", "zone": "y" }, "cordoned": false });
    assert_eq!(shown, expected);
    let changed =
        quiet(site, "queue update cli-a --weight 0.5 --cordoned true --remove-label zone -o json");
    let changed: Value = serde_json::from_str(&changed).unwrap();
    assert_eq!(changed["weight"], 0.5);
    assert_eq!((&changed["cordoned"], &changed["labels"]), (&json!(true), &json!({ "team": "x" })));
    let armada = "kind: Queue\nname: cli-b\npriorityFactor: 4\nowners: [a]\n";
    let made =
        run(site, &format!("queue create -f {}", file(site, "queue.yaml", armada).display()));
    assert_eq!(made.status.code(), Some(0), "{}", err(&made));
    assert!(out(&made).contains("cli-b  0.25"), "{}", out(&made));
    assert!(err(&made).contains("`owners` is not used"), "{}", err(&made));
    let listed = json_and_yaml(site, "queue list");
    let names = super::column(listed["queues"].as_array().unwrap(), "name");
    assert!(names.contains(&"cli-a".to_owned()) && names.contains(&"cli-b".to_owned()));
    let twice = run(site, "queue create cli-a");
    assert_eq!((twice.status.code(), out(&twice)), (Some(1), String::new()));
    assert!(err(&twice).contains("exists"), "{}", err(&twice));
    let deleted = run(site, "queue delete cli-b");
    assert_eq!((deleted.status.code(), out(&deleted)), (Some(0), String::new()));
    assert_eq!(run(site, "queue get cli-b").status.code(), Some(3));
}

pub(crate) async fn limits_of_queues_are_set_and_shown_from_the_command_line(site: &Site) {
    let made = "queue create cli-limited --limit spare/gpu:cpu=100,memory=50% --limit cpu=5 \
                --jobs-queued-max 7 --rate 50/s";
    let table = quiet(site, made);
    let limits = "spare/gpu:cpu=100,memory=50% */*:cpu=5 queued 7 50/s burst 50";
    assert!(table.contains(limits), "{table}");
    quiet(site, "queue update cli-limited --weight 2");
    let shown = json_and_yaml(site, "queue get cli-limited");
    assert_eq!((&shown["jobsQueuedMax"], &shown["rate"]["burst"]), (&json!(7), &json!(50)));
    let changed = "queue update cli-limited --limit */*:cpu=6 --remove-limit spare/gpu \
                   --jobs-queued-max none --rate 1/s --burst 9";
    let table = quiet(site, changed);
    assert!(table.contains("  */*:cpu=6 1/s burst 9\n"), "{table}");
    let wrong = run(site, "queue update cli-limited --limit */*:cpu=200%");
    assert_eq!(wrong.status.code(), Some(1), "{}", err(&wrong));
    assert_eq!(run(site, "queue update cli-limited --limit cpu").status.code(), Some(2));
    let table = quiet(site, "queue update cli-limited --rate none --remove-limit */*");
    assert!(!table.contains("LIMITS"), "{table}");
}

pub(crate) async fn retry_policies_of_queues_are_set_from_the_command_line(site: &Site) {
    let codes = r#"--retry {"exitCodes":["64-78"],"action":"fail"}"#;
    let twice = r#"--retry {"action":"retry","limit":2}"#;
    quiet(site, &format!("queue create cli-retry {codes} {twice}"));
    let rules = || json_and_yaml(site, "queue get cli-retry")["retry"].clone();
    let codes = json!({ "exitCodes": ["64-78"], "action": "fail" });
    assert_eq!(rules(), json!([codes, { "action": "retry", "limit": 2 }]));
    quiet(site, "queue update cli-retry --weight 2");
    assert_eq!(rules().as_array().map(Vec::len), Some(2), "what is not named stays");
    let preempted = r#"--retry {"reasons":["Preempted"],"action":"fail"}"#;
    quiet(site, &format!("queue update cli-retry {preempted}"));
    assert_eq!(rules(), json!([{ "reasons": ["Preempted"], "action": "fail" }]));
    let wrong = run(site, r#"queue update cli-retry --retry {"action":"retry"}"#);
    assert_eq!(wrong.status.code(), Some(2), "{}", err(&wrong));
    assert!(err(&wrong).contains("limit: is not from 1 to 1000"), "{}", err(&wrong));
    quiet(site, "queue update cli-retry --retry none");
    assert!(rules().is_null(), "{}", rules());
}

pub(crate) async fn clusters_and_nodes_are_cordoned_from_the_command_line(site: &Site) {
    // One that is not there: nobody is to wait for it.
    let cordoned = run(site, "cluster cordon cli-away --reason repair");
    assert_eq!((cordoned.status.code(), out(&cordoned)), (Some(0), String::new()));
    assert_eq!(run(site, "node cordon cli-away n1").status.code(), Some(0));
    let shown: Value = serde_json::from_str(&quiet(site, "clusters -o json")).unwrap();
    let expected = [
        json!({ "cluster": "cli-away", "reason": "repair" }),
        json!({ "cluster": "cli-away", "node": "n1" }),
    ];
    let cordons = shown["cordons"].as_array().unwrap();
    assert!(expected.iter().all(|cordon| cordons.contains(cordon)), "{cordons:?}");
    let table = quiet(site, "clusters");
    let row = table.lines().find(|line| line.starts_with("cli-away")).unwrap();
    assert!(row.ends_with("all (repair), n1"), "{table}");
    assert_eq!(run(site, "cluster uncordon cli-away").status.code(), Some(0));
    assert_eq!(run(site, "node uncordon cli-away n1").status.code(), Some(0));
    assert_eq!(run(site, "node uncordon cli-away n1").status.code(), Some(3));
    assert_eq!(run(site, "cluster cordon a.b").status.code(), Some(1));
}

pub(crate) async fn jobs_are_submitted_shown_changed_and_cancelled(site: &Site) {
    quiet(site, "queue create cli-jobs --cordoned");
    let yaml = file(
        site,
        "jobs.yaml",
        "jobs:\n  - podSpec: { containers: [{}] }\n  - podSpec: { containers: [{}] }\n    priority: 3\n",
    );
    let submitted = run(site, &format!("submit -q cli-jobs -s s {}", yaml.display()));
    assert_eq!(submitted.status.code(), Some(0), "{}", err(&submitted));
    assert!(err(&submitted).starts_with("submitted 2 jobs in "), "{}", err(&submitted));
    let first = ids(&out(&submitted));
    assert_eq!(first.len(), 2);
    let document = file(site, "jobs.json", &json!([job(0), job(0)]).to_string());
    let text = file(site, "jobs.ndjson", &lines(&[job(0), json!({}), job(0)]));
    let both = run(
        site,
        &format!("submit -q cli-jobs -s t -o json {} {}", document.display(), text.display()),
    );
    assert_eq!(both.status.code(), Some(1), "one of them is no job");
    let answers: Vec<Value> =
        out(&both).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 5);
    assert_eq!(answers[3]["error"]["code"], "invalid_job");
    assert!(err(&both).contains("jobs.ndjson:2: podSpec: a job has one"), "{}", err(&both));
    let none = run(site, &format!("submit -q cli-jobs -s quiet --quiet {}", document.display()));
    assert_eq!((none.status.code(), out(&none)), (Some(0), String::new()));
    let again = format!("submit -q cli-jobs -s keyed --idempotency-key k {}", document.display());
    assert_eq!(out(&run(site, &again)), out(&run(site, &again)), "the same key");

    let shown = json_and_yaml(site, &format!("get job {} --spec", first[1]));
    assert_eq!((&shown["state"], &shown["priority"]), (&json!("queued"), &json!(3)));
    assert_eq!(shown["spec"]["podSpec"], json!({ "containers": [{}] }));
    let table = quiet(site, &format!("get job {}", first[1]));
    assert!(table.starts_with(&format!("JOB        {}\nstate      queued\n", first[1])), "{table}");
    assert_eq!(json_and_yaml(site, "get job-set cli-jobs s")["counts"]["queued"], 2);
    let listed = json_and_yaml(site, "list jobs -q cli-jobs -s s --state queued");
    assert_eq!(super::column(listed["jobs"].as_array().unwrap(), "jobId"), first);
    let sets = json_and_yaml(site, "list job-sets cli-jobs");
    assert_eq!(
        super::column(sets["jobSets"].as_array().unwrap(), "jobSet"),
        ["keyed", "quiet", "s", "t"]
    );
    assert!(quiet(site, "list job-sets cli-jobs").starts_with("JOB SET  JOBS\n"));
    let short = run(site, "list jobs -q cli-jobs --limit 3");
    assert_eq!(out(&short).lines().count(), 4, "{}", out(&short));
    assert!(err(&short).starts_with("the first 3; there are more"), "{}", err(&short));
    let nothing = json_and_yaml(site, "list jobs -q cli-jobs --state failed");
    assert_eq!(nothing, json!({ "jobs": [] }));

    let changed = quiet(site, &format!("reprioritize -p 8 {}", first[0]));
    assert_eq!(changed, "reprioritized 1\n");
    assert_eq!(json_and_yaml(site, &format!("get job {}", first[0]))["priority"], 8);
    let cancelled = quiet(site, "cancel -q cli-jobs -s t --state queued --reason mistake -o json");
    assert_eq!(serde_json::from_str::<Value>(&cancelled).unwrap()["changed"], 4);
    let mut by_input = program(site, "cancel -").command();
    by_input.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut by_input = by_input.spawn().unwrap();
    let unknown = format!("{}zzzzzz", &first[0][..20]);
    write!(by_input.stdin.take().unwrap(), "{}\n{}\n{unknown}\n", first[0], first[1]).unwrap();
    let by_input = by_input.wait_with_output().unwrap();
    assert_eq!((by_input.status.code(), out(&by_input)), (Some(3), "cancelled 2\n".to_owned()));
    assert!(err(&by_input).contains(&format!("`{unknown}` is not known")), "{}", err(&by_input));
    let gone = run(site, "queue delete cli-jobs");
    assert_eq!(gone.status.code(), Some(1), "live jobs stand: {}", err(&gone));
}

pub(crate) async fn what_runs_is_watched_read_and_counted(site: &Site) {
    quiet(site, "queue create cli-run");
    let mut hello = job(0);
    hello["podSpec"]["containers"][0]["command"] = json!(["sh", "-c", "echo hello"]);
    let text = file(site, "hello.ndjson", &lines(&[hello, job(0)]));
    let submitted = ids(&out(&run(site, &format!("submit -q cli-run -s s {}", text.display()))));
    let watched = run(site, "watch cli-run s --exit-when-done -o json");
    assert_eq!(watched.status.code(), Some(0), "{}", err(&watched));
    assert_eq!(err(&watched), "succeeded 2\n");
    let events: Vec<Value> =
        out(&watched).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events, super::events_of(&http(site), "cli-run", "s", None).await);
    let last = events[events.len() - 2]["cursor"].as_str().unwrap();
    let rest = run(site, &format!("watch cli-run s --exit-when-done --after {last}"));
    assert_eq!(out(&rest).lines().count(), 1, "{}", out(&rest));
    let documents = out(&run(site, "watch cli-run s --exit-when-done -o yaml"));
    assert_eq!(documents.matches("---\n").count(), events.len(), "{documents}");

    let logs = run(site, &format!("logs {}", submitted[0]));
    match site.cluster() {
        Cluster::Local => {
            assert_eq!((logs.status.code(), out(&logs)), (Some(0), "hello\n".to_owned()));
            assert_eq!(quiet(site, &format!("logs -f {}", submitted[0])), "hello\n");
        }
        Cluster::Simulated => {
            let expected = format!("simulated run 1 of {} on node ", submitted[0]);
            assert!(out(&logs).starts_with(&expected), "{}", out(&logs));
        }
    }
    // What they have free, and when they were heard of, may change from one to the other.
    let clusters: Value = serde_json::from_str(&quiet(site, "clusters -o json")).unwrap();
    let of_yaml: Value = serde_yaml_ng::from_str(&quiet(site, "clusters -o yaml")).unwrap();
    let names = |clusters: &Value| super::column(clusters["clusters"].as_array().unwrap(), "name");
    assert!(!names(&clusters).is_empty() && names(&clusters) == names(&of_yaml), "{clusters}");
    assert!(quiet(site, "clusters").starts_with("NAME"));
    let shares = quiet(site, "shares -o json");
    assert!(serde_json::from_str::<Value>(&shares).unwrap()["queues"].is_array(), "{shares}");
    assert!(quiet(site, "shares").starts_with("pool default: "));

    let failing = json!({
        "annotations": { "muster.dev/simulated-failure-rate": "1", "muster.dev/simulated-runtime": "1ms" },
        "podSpec": { "containers": [{ "command": ["false"] }] },
    });
    let text = file(site, "failing.ndjson", &lines(&[failing]));
    run(site, &format!("submit -q cli-run -s fails {}", text.display()));
    let watched = run(site, "watch cli-run fails --exit-when-done");
    assert_eq!(watched.status.code(), Some(1), "{}", err(&watched));
}

pub(crate) async fn a_stream_on_standard_input_is_submitted_as_it_comes(site: &Site) {
    let http = http(site);
    quiet(site, "queue create cli-stream --cordoned");
    let mut submit = program(site, "submit - -q cli-stream -s s").command();
    submit.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut submit = submit.spawn().unwrap();
    let mut input = submit.stdin.take().unwrap();
    for number in 1..=3 {
        input.write_all(lines(&[job(0)]).as_bytes()).unwrap();
        until_count(&http, "cli-stream", "s", "queued", number).await;
    }
    drop(input);
    let output = submit.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(ids(&out(&output)).len(), 3);
}

pub(crate) async fn exit_codes_are_as_documented(site: &Site) {
    // It tries for a while before it gives up: begun first, looked at last.
    let nowhere = program(site, "--url http://127.0.0.1:1 queue list");
    let mut nowhere = nowhere.spawn("nowhere", site.log_dir()).unwrap();
    quiet(site, "queue create cli-codes");
    let code = |line: &str| run(site, line).status.code();
    assert_eq!(code("queue update cli-codes --weight 0"), Some(1), "refused");
    assert_eq!(code("queue"), Some(2), "half a command");
    assert_eq!(code("list jobs --state asleep"), Some(2), "no such state");
    assert_eq!(code("--url ftp://x queue list"), Some(2), "no such scheme");
    assert_eq!(code("get job 01m85475ba001k7j7xtxrfrqf3"), Some(3), "no such job");
    assert_eq!(code("get job-set cli-codes nothing"), Some(3), "no such job set");
    assert_eq!(code("queue delete cli-nothing"), Some(3), "no such queue");
    assert_eq!(code("exit-codes"), Some(0));
    let mut watch = program(site, "watch cli-codes s").spawn("watch", site.log_dir()).unwrap();
    interrupted(&mut watch).await;
    let status = nowhere.wait(WAIT).await.unwrap();
    assert_eq!(status.code(), Some(4), "{}", nowhere.log().unwrap());
}

/// SIGINT as soon as the process has its handler: before, it would end by the signal.
async fn interrupted(watch: &mut Process) {
    let handles = |process: u32| -> anyhow::Result<bool> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.context("no such line")?.trim(), 16)?;
        Ok(caught & 0b10 != 0)
    };
    let id = watch.id();
    eventually(WAIT, "it handles SIGINT", async || {
        ensure!(handles(id)?, "not yet");
        Ok(())
    })
    .await
    .unwrap();
    watch.interrupt().unwrap();
    assert_eq!(watch.wait(WAIT).await.unwrap().code(), Some(130), "{}", watch.log().unwrap());
}

pub(crate) async fn completions_are_scripts_and_colours_are_for_terminals(site: &Site) {
    quiet(site, "queue create cli-colours");
    for shell in ["bash", "zsh", "fish"] {
        let script = quiet(site, &format!("completions {shell}"));
        assert!(script.contains("reprioritize"), "{shell}");
        if shell == "bash" {
            let script = file(site, "completions.bash", &script);
            let checked = Program::at("bash").arg("-n").arg(&script).output().unwrap();
            assert!(checked.status.success(), "{}", err(&checked));
        }
    }
    // A terminal of its own, as python's standard library makes one.
    let spawn = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let on_terminal = |no_color: &str| {
        let muster = Program::built("muster").unwrap();
        let program = Program::at("python3")
            .args(["-c", spawn])
            .arg(muster.command().get_program())
            .args(["--url", &site.url(), "queue", "list"])
            .env("NO_COLOR", no_color)
            .env("TERM", "xterm");
        out(&program.output().unwrap())
    };
    assert!(on_terminal("").contains("cli-colours"));
    assert!(!on_terminal("1").contains("\x1b["));
    let id = {
        quiet(site, "queue update cli-colours --cordoned true");
        let text = file(site, "one.ndjson", &lines(&[job(0)]));
        let submitted = run(site, &format!("submit -q cli-colours -s s {}", text.display()));
        let id = ids(&out(&submitted)).remove(0);
        quiet(site, &format!("cancel {id}"));
        id
    };
    until_state(&http(site), &id, "cancelled").await;
}

pub(crate) async fn a_watch_goes_on_after_its_gateway_was_restarted(site: &mut Site) {
    let http = http(site);
    quiet(site, "queue create cli-watch");
    let text = file(site, "watched.ndjson", &lines(&[job(0), job(0)]));
    let submit = format!("submit -q cli-watch -s s {}", text.display());
    assert_eq!(run(site, &submit).status.code(), Some(0));
    let mut watch =
        program(site, "watch cli-watch s -o json").spawn("watched", site.log_dir()).unwrap();
    let seen = site.log_dir().join("watched.out");
    let until_seen = async |succeeded: usize| {
        eventually(WAIT, "the watch has told of each end", async || {
            let found = std::fs::read_to_string(&seen)?.matches("\"succeeded\"").count();
            ensure!(found == succeeded, "{found} of {succeeded}");
            Ok(())
        })
        .await
        .unwrap();
    };
    until_seen(2).await;
    site.restart_gateway().await.unwrap();
    assert_eq!(run(site, &submit).status.code(), Some(0));
    until_seen(4).await;
    interrupted(&mut watch).await;
    let told: Vec<Value> = std::fs::read_to_string(&seen)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(told, super::events_of(&http, "cli-watch", "s", None).await);
}
