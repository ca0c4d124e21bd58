//! `muster-loadtest` against a site: every format of bodies, a scenario, its reports.

use std::path::PathBuf;
use std::process::Output;

use muster_tests::process::Program;
use muster_tests::site::Site;
use serde_json::Value;

const SCENARIO: &str = r#"
job_set = "scenario"
duration = "2s"
drain = "60s"
seed = 7
[arrivals]
pattern = "constant"
requests_per_second = 10.0
jobs_per_request = 4
[[queues]]
name = "scenario-a"
[[queues]]
name = "scenario-b"
weight = 3.0
portion = 2.0
[[jobs]]
cpu = "100m"
memory = "1Mi"
runtime = "50ms"
spec_bytes = 600
[[jobs]]
cpu = "50m"
memory = "1Mi"
runtime = "20ms"
count = 3
portion = 0.2
"#;

/// Runs it with what stands between white space as arguments.
pub(super) fn loadtest(url: &str, line: &str) -> Output {
    let program = Program::built("muster-loadtest").unwrap();
    program.env("MUSTER_URL", url).args(line.split_whitespace()).output().unwrap()
}

pub(super) fn said(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    parts.join("\n")
}

fn path(site: &Site, name: &str) -> PathBuf {
    site.log_dir().join(name)
}

fn json(path: &PathBuf) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) async fn every_format_of_bodies_is_submitted_and_audited(site: &Site) {
    let (report, ids) = (path(site, "submit.json"), path(site, "submit.ids"));
    let files = format!("--json {} --ids {}", report.display(), ids.display());
    for (format, compress) in [("ndjson", "gzip"), ("json", "none"), ("arrow", "zstd")] {
        let line = format!(
            "submit --format {format} --compress {compress} --jobs 60 --queues 2 --jobs-per-request 7 \
             --connections 3 --spec-bytes 500 --distinct --cpu 50m --memory 1Mi --runtime 20ms \
             --audit 60s {files}"
        );
        let output = loadtest(&site.url(), &line);
        assert_eq!(output.status.code(), Some(0), "{format}: {}", said(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("60 jobs acknowledged, 0 refused"), "{text}");
        assert!(text.contains("audit passed: 60 jobs in 2 job sets acknowledged"), "{text}");
        let report = json(&report);
        let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap();
        assert_eq!((number("/submit/accepted"), number("/submit/rejected")), (60, 0));
        assert_eq!((number("/audit/found"), number("/audit/findings")), (60, 0));
        assert_eq!(number("/submit/requestLatency/count"), 60_u64.div_ceil(7));
        let ids = std::fs::read_to_string(&ids).unwrap();
        assert_eq!(ids.lines().filter(|line| !line.contains("\t?\t")).count(), 60);
    }
    // Without ids: a document is answered with a summary, too.
    for format in ["ndjson", "json", "arrow"] {
        let line = format!("submit --format {format} --jobs 20 --summary --cpu 1m");
        let output = loadtest(&site.url(), &line);
        assert_eq!(output.status.code(), Some(0), "{format}: {}", said(&output));
        assert!(said(&output).contains("20 jobs acknowledged, 0 refused"), "{}", said(&output));
    }
}

pub(crate) async fn what_is_refused_is_counted_and_is_a_failure(site: &Site) {
    let run = |line: &str| {
        let output = loadtest(&site.url(), line);
        (output.status.code(), said(&output))
    };
    let (code, text) = run("submit --jobs 5 --spec-bytes 70000");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("refused as payload_too_large: 5"), "{text}");
    assert_eq!(run("submit --jobs many").0, Some(2));
    let (code, text) = run("--url ftp://x submit");
    assert_eq!(code, Some(2), "{text}");
    let scenario = path(site, "refused.toml");
    let line = format!("run {}", scenario.display());
    let refused = SCENARIO.replace("\"1Mi\"", "\"-1Mi\"").replace("\"2s\"", "\"500ms\"");
    std::fs::write(&scenario, refused).unwrap();
    let (code, text) = run(&line);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("0 records acknowledged, 16 refused"), "{text}");
    std::fs::write(&scenario, "duration = \"1s\"").unwrap();
    let (code, text) = run(&line);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("missing field"), "{text}");
}

pub(crate) async fn a_scenario_is_run_reported_and_audited(site: &Site) {
    let scenario = path(site, "scenario.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let [html, report, ids] = ["run.html", "run.json", "run.ids"].map(|name| path(site, name));
    let line = format!(
        "run {} --html {} --json {} --ids {}",
        scenario.display(),
        html.display(),
        report.display(),
        ids.display()
    );
    let output = loadtest(&site.url(), &line);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["19 requests", "LATENCY (ms)", "submit to lease", "scenario-b", "audit passed"] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }

    let report = json(&report);
    let number =
        |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    assert_eq!((number("/requests"), number("/failedRequests")), (19, 0), "{report}");
    assert_eq!((number("/accepted"), number("/rejected")), (76, 0));
    assert!(number("/audit/acknowledged") > 76, "tasks are counted one by one");
    let sum = |of: &str| -> u64 {
        report["seconds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|second| second[of].as_u64().unwrap())
            .sum()
    };
    assert_eq!((sum("submitted"), sum("finished")), (76, number("/audit/acknowledged")));
    assert_eq!(sum("leased"), number("/audit/acknowledged"));
    assert_eq!(number("/submitLatency/count"), 19);
    assert_eq!(number("/leaseLatency/count"), number("/audit/acknowledged"));
    let shares = report["shares"].as_array().unwrap();
    // Whether a queue holds anything when the shares are looked at, is chance; that it is told of,
    // is not.
    for name in ["scenario-a", "scenario-b"] {
        assert!(shares.iter().any(|share| share["queue"] == name), "{name}: {shares:?}");
    }

    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.matches("<svg").count() >= 3 && page.contains("<path d="), "it has plots");
    for foreign in ["src=", "href=", "@import", "url("] {
        assert!(!page.contains(foreign), "it needs nothing else: `{foreign}`");
    }
    // What it wrote down can be held against the deployment again.
    let again = loadtest(&site.url(), &format!("audit --ids {}", ids.display()));
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
}
