//! `muster simulate` as a process: its forms of output, its exit codes, and what it says of files
//! that are wrong.

use std::path::Path;
use std::process::Output;

use muster_tests::process::Program;
use muster_tests::repo_root;
use serde_json::Value;

/// Two jobs of which one finds room at a time, and a field that nobody knows.
const WORKLOAD: &str = "
randomSeed: 5
queues:
  - name: a
    jobTemplates:
      - number: 2
        colour: red
        requirements: { resourceRequirements: { requests: { cpu: 10, memory: 1Gi } } }
        runtimeDistribution: { minimum: 30s }
";

const CLUSTERS: &str = "
clusters:
  - name: one
    pool: default
    nodeTemplates: [{ number: 1, totalResources: { resources: { cpu: 16, memory: 64Gi } } }]
";

/// Runs it on these files, in their directory.
fn simulate(directory: &Path, more: &[&str]) -> Output {
    let files = ["c.yaml", "w.yaml"].map(|name| directory.join(name));
    let program = Program::built("muster").unwrap().arg("simulate").args(files).args(more);
    program.output().unwrap()
}

fn files(workload: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("c.yaml"), CLUSTERS).unwrap();
    std::fs::write(directory.path().join("w.yaml"), workload).unwrap();
    directory
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_workload_is_tried_out_and_reported_in_every_form() {
    let directory = files(WORKLOAD);
    let at = directory.path();
    let page = at.join("page.html");
    let shown = simulate(at, &["--html", page.to_str().unwrap()]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    let (out, err) = (text(&shown.stdout), text(&shown.stderr));
    assert!(out.contains("seed 5, steps of 10s"), "{out}");
    assert!(out.contains("makespan 1m"), "{out}");
    assert!(err.contains("queues[0].jobTemplates[0].colour is not known here"), "{err}");
    assert!(std::fs::read_to_string(page).unwrap().starts_with("<!doctype html>"));

    let json = || simulate(at, &["-o", "json", "--no-timings", "--seed", "7"]).stdout;
    let first = json();
    assert_eq!(text(&first), text(&json()), "from one process to the next");
    let report: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!((&report["seed"], &report["end"]), (&7.into(), &"finished".into()));
    assert_eq!(report["queues"][0]["waitSeconds"]["max"], 30.0, "{report}");
    assert_eq!(report["timings"], Value::Null);

    let html = simulate(at, &["--output", "html", "--until", "20s"]).stdout;
    assert!(text(&html).contains("where it was to end"));
}

#[test]
fn what_is_wrong_or_stalls_is_said_and_shows_in_the_exit_code() {
    let directory = files(&WORKLOAD.replace("minimum: 30s", "minimum: soon"));
    let wrong = simulate(directory.path(), &[]);
    assert_eq!(wrong.status.code(), Some(2));
    let expected = "runtimeDistribution.minimum: `soon` is not a length of time";
    assert!(text(&wrong.stderr).contains(expected), "{}", text(&wrong.stderr));
    assert!(text(&wrong.stderr).contains("w.yaml: queues[0].jobTemplates[0]."));

    let directory = files(&WORKLOAD.replace("cpu: 10", "cpu: 17"));
    let stalled = simulate(directory.path(), &[]);
    assert_eq!(stalled.status.code(), Some(1));
    assert!(text(&stalled.stdout).contains("STALLED"), "{}", text(&stalled.stdout));

    let without = Program::built("muster").unwrap().args(["simulate", "c.yaml"]).output().unwrap();
    assert_eq!(without.status.code(), Some(2), "there is neither a workload nor a history");
}

#[test]
fn every_example_is_in_order() {
    let scenarios = repo_root().join("simulate/scenarios");
    let clusters = scenarios.join("clusters-day.yaml");
    let program = Program::built("muster").unwrap().arg("simulate").arg(&clusters);
    let config = scenarios.join("config.yaml");
    for name in ["day.yaml", "three-queues.yaml", "preemption.yaml", "gangs.yaml"] {
        let run = program.clone().arg(scenarios.join(name)).arg("--config").arg(&config);
        let shown = run.args(["--until", "1s", "--step", "1s", "-o", "json"]).output().unwrap();
        assert_eq!(shown.status.code(), Some(0), "{name}: {}", text(&shown.stderr));
        assert_eq!(text(&shown.stderr), "", "{name}");
    }
}
