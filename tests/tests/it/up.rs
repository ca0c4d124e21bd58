//! `muster up`: one process on a directory, stopped and started again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_loadtest::submit::Progress;
use muster_tests::deployment::{audited, create_queues, patient_client, submit_jobs};
use muster_tests::process::{Process, Program, free_port};
use tempfile::TempDir;

use crate::deployment::TURN;

const WAIT: Duration = Duration::from_secs(30);

fn up(data: &Path, port: u16) -> Program {
    Program::built("muster")
        .unwrap()
        .args(["up", "--cluster", "simulated:1x20x16x64Gi"])
        .args(["--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(data)
}

async fn started(program: &Program, logs: &Path) -> Process {
    let mut process = program.spawn("up", logs).unwrap();
    process.until_logged("ready http://", WAIT).await.unwrap();
    process
}

#[tokio::test]
async fn it_goes_on_where_it_was_and_keeps_a_second_one_out() {
    let _turn = TURN.lock().await;
    let directory = TempDir::new().unwrap();
    let (data, port) = (directory.path().join("data"), free_port().unwrap());
    let url = format!("http://127.0.0.1:{port}");
    let client = patient_client(&url).unwrap();
    let program = up(&data, port);
    let mut process = started(&program, directory.path()).await;
    let second = up(&data, free_port().unwrap()).output().unwrap();
    let refusal = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && refusal.contains("another muster runs"), "{refusal}");

    let queues = create_queues(&client, 2).await.unwrap();
    let progress = || Arc::new(Progress::default());
    let ended = submit_jobs(&client, &queues, "ended", 300, progress()).await.unwrap();
    audited(&client, ended.clone(), WAIT).await.unwrap();
    // These are on their way when the process is asked to stop.
    let mut all = submit_jobs(&client, &queues, "later", 3_000, progress()).await.unwrap();
    all.merge(ended);
    process.interrupt().unwrap();
    assert!(process.wait(WAIT).await.unwrap().success());

    // A file of its own: what the first process said is not what the second one says.
    let mut process = program.spawn("up-again", directory.path()).unwrap();
    process.until_logged("ready http://", WAIT).await.unwrap();
    audited(&client, all, WAIT).await.unwrap();
    process.interrupt().unwrap();
    assert!(process.wait(WAIT).await.unwrap().success());

    // Jobs would be looked for in shards where they are not.
    let other = program.args(["--shards", "8"]).output().unwrap();
    let refusal = String::from_utf8_lossy(&other.stderr);
    let says = refusal.contains("set to 8 shards") && refusal.contains("has 4");
    assert!(!other.status.success() && says, "{refusal}");
}
