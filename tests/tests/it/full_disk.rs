//! A store of files whose disk is full: nothing is acknowledged, nothing acknowledged is lost, and
//! the service is back when there is room.
//!
//! A disk is filled in two ways. Everywhere, the process may make no file any longer (its limit of
//! file sizes is set to nothing): its log has no room either. Where mounting is allowed, its data
//! lie on a small file system that is filled to the last byte.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_loadtest::submit::Progress;
use muster_tests::deployment::{audited, create_queues, patient_client, submit_jobs};
use muster_tests::disk;
use muster_tests::process::{Process, Program, free_port};
use muster_tests::traffic::Traffic;
use tempfile::TempDir;

use crate::deployment::{DRAIN, TURN, WAIT};

/// How long an answer is waited for that must not come.
const NO_ANSWER: Duration = Duration::from_secs(4);
const DISK: &str = "size=48m";
const JOB: &str = "{\"podSpec\":{\"containers\":[{\"name\":\"m\",\"command\":[\"true\"]}]}}\n";

/// How its disk is filled.
trait Full {
    fn fill(&self, process: &Process) -> Result<()>;
    fn free(&self, process: &Process) -> Result<()>;
}

/// By the limit of what files the process may write.
struct Limit;

/// By a file beside the data, seen through the process's own view of its directories.
struct Ballast(PathBuf);

impl Full for Limit {
    fn fill(&self, process: &Process) -> Result<()> {
        limit(process, "0")
    }

    fn free(&self, process: &Process) -> Result<()> {
        limit(process, "unlimited")
    }
}

impl Full for Ballast {
    fn fill(&self, process: &Process) -> Result<()> {
        disk::fill(&self.seen_by(process))
    }

    fn free(&self, process: &Process) -> Result<()> {
        disk::free(&self.seen_by(process))
    }
}

impl Ballast {
    fn seen_by(&self, process: &Process) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", process.id()));
        root.join(self.0.strip_prefix("/").unwrap())
    }
}

fn limit(process: &Process, bytes: &str) -> Result<()> {
    let output = Command::new("prlimit")
        .args(["--pid", &process.id().to_string(), &format!("--fsize={bytes}:unlimited")])
        .output()
        .context("start prlimit")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// `muster up` behind a command of the shell that ends with `exec "$@"`; `$0` is the directory.
fn up(before: &str, data: &Path, port: u16) -> Program {
    let muster = Program::built("muster").unwrap();
    Program::at("sh")
        .args(["-c", &format!("{before}; exec \"$@\"")])
        .arg(data)
        .arg(muster.path())
        .args(["up", "--cluster", "simulated:1x20x16x64Gi"])
        .args(["--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(data)
}

/// Whether a submission is acknowledged within a while.
async fn is_acknowledged(url: &str, queue: &str) -> bool {
    let answer = reqwest::Client::new()
        .post(format!("{url}/api/v1/queues/{queue}/jobs?jobSet=refused"))
        .header("content-type", "application/x-ndjson")
        .body(JOB)
        .timeout(NO_ANSWER)
        .send()
        .await;
    match answer {
        Ok(answer) => answer.text().await.is_ok_and(|text| text.contains("\"jobId\"")),
        Err(_) => false,
    }
}

async fn a_full_disk_costs_time_only(program: Program, port: u16, logs: &Path, full: impl Full) {
    let url = format!("http://127.0.0.1:{port}");
    let client = patient_client(&url).unwrap();
    let mut process = program.spawn("up", logs).unwrap();
    process.until_logged("ready http://", WAIT).await.unwrap();
    let queues = create_queues(&client, 2).await.unwrap();
    let progress = Arc::new(Progress::default());
    let mut all = submit_jobs(&client, &queues, "before", 500, progress).await.unwrap();
    let traffic = Traffic::new(&client, &queues, "during");
    let failing = async {
        traffic.goes_on(3, WAIT).await.unwrap();
        full.fill(&process).unwrap();
        // What was under way when it was filled has come to its end with the first of these.
        assert!(
            !is_acknowledged(&url, &queues[0]).await || !is_acknowledged(&url, &queues[0]).await
        );
        let so_far = traffic.acknowledged();
        assert!(!is_acknowledged(&url, &queues[1]).await, "acknowledged on a full disk");
        assert_eq!(traffic.acknowledged(), so_far, "acknowledged on a full disk");
        full.free(&process).unwrap();
        traffic.goes_on(3, WAIT).await.unwrap();
        traffic.stop();
    };
    let (acknowledged, ()) = tokio::join!(traffic.run(), failing);
    all.merge(acknowledged.unwrap());
    audited(&client, all.clone(), DRAIN).await.unwrap();
    let log = process.log().unwrap();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_process_that_can_write_no_file_acknowledges_nothing_and_loses_nothing() {
    let _turn = TURN.lock().await;
    let directory = TempDir::new().unwrap();
    let (data, port) = (directory.path().join("data"), free_port().unwrap());
    // The signal that says so is ignored: what fails is the write.
    let program = up("trap '' XFSZ", &data, port);
    a_full_disk_costs_time_only(program, port, directory.path(), Limit).await;
}

#[tokio::test]
async fn a_store_on_a_full_disk_acknowledges_nothing_and_loses_nothing() {
    let _turn = TURN.lock().await;
    let directory = TempDir::new().unwrap();
    let (data, port) = (directory.path().join("data"), free_port().unwrap());
    std::fs::create_dir(&data).unwrap();
    let mount = format!("mount -t tmpfs -o {DISK} tmpfs \"$0\" || exit 9");
    let own = ["--mount", "--propagation", "private"];
    let inside = |program: &Program| {
        let command = program.command();
        let args = command.get_args().map(ToOwned::to_owned).collect::<Vec<_>>();
        Program::at("unshare").args(own).arg(command.get_program()).args(args)
    };
    let allowed = Program::at("sh").args(["-c", &format!("{mount}; true")]).arg(&data);
    let allowed = inside(&allowed).output();
    if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
        // The promise is held by the test above; that this way of breaking it is not tried is said.
        let mut out = std::io::stderr();
        writeln!(out, "NO DISK WAS FILLED: nothing can be mounted here: {allowed:?}").unwrap();
        return;
    }
    let program = inside(&up(&mount, &data, port));
    a_full_disk_costs_time_only(program, port, directory.path(), Ballast(data)).await;
}
