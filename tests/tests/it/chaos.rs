//! A minute of chaos on real servers; `make soak` has more of it.
//!
//! `MUSTER_CHAOS_SEED` gives another schedule of faults, `MUSTER_CHAOS_SECONDS` more of them.

use std::time::Duration;

use muster_tests::chaos::report::Report;
use muster_tests::process::Program;
use tempfile::TempDir;

use crate::deployment::TURN;

const SEED: u64 = 1;
const SECONDS: u64 = 60;
/// Few, since the machine may have two slow cores for all of it.
const JOBS_PER_SECOND: &str = "100";
/// How long everything may take beside the faults, by far.
const REST_MAX: Duration = Duration::from_secs(1200);

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

#[tokio::test]
async fn a_minute_of_chaos_loses_nothing_and_repeats_nothing() {
    let _turn = TURN.lock().await;
    let directory = TempDir::new().unwrap();
    let seed = number("MUSTER_CHAOS_SEED", SEED).to_string();
    let seconds = number("MUSTER_CHAOS_SECONDS", SECONDS);
    // A program of its own, since its disks are mounted in a namespace of its own.
    let program = Program::built("muster-chaos").unwrap();
    let program = program.args(["--json", "--seed", &seed, "--for", &format!("{seconds}s")]);
    let program = program.args(["--jobs-per-second", JOBS_PER_SECOND]);
    let mut process = program.spawn("muster-chaos", directory.path()).unwrap();
    let within = Duration::from_secs(seconds) + REST_MAX;
    let status = process.wait(within).await.unwrap();
    let log = process.log().unwrap();
    assert!(status.success(), "{status}\n{log}");
    let report: Report = serde_json::from_str(&process.out().unwrap()).unwrap();
    assert!(report.passed(), "{log}");
    assert!(report.acknowledged > 0 && report.events_followed > 0 && report.cancels > 0, "{log}");
    // Where nothing can be mounted, no disk is filled; that is said, and is not a failure.
    let without = |kind: &muster_tests::chaos::schedule::Kind| {
        report.no_disks.is_some() && kind.needs_disks()
    };
    let kinds = muster_tests::chaos::schedule::Kind::all().filter(|kind| !without(kind)).count();
    assert_eq!(report.recoveries.len(), kinds, "{log}");
}
