//! The process handle of the harness: output, signals, ends.

use std::time::Duration;

use muster_tests::process::{Program, free_port};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

/// A program that says so and then waits for ever.
fn waiting() -> Program {
    Program::at("sh").args(["-c", "echo up; echo $WORD >&2; exec tail -f /dev/null"])
}

#[tokio::test]
async fn output_is_kept_across_processes_of_one_name() {
    let logs = TempDir::new().unwrap();
    let mut first = waiting().env("WORD", "one").spawn("waiting", logs.path()).unwrap();
    first.until_logged("one", SOON).await.unwrap();
    first.kill9().unwrap();
    assert!(!first.is_running().unwrap());
    let mut second = waiting().env("WORD", "two").spawn("waiting", logs.path()).unwrap();
    second.until_logged("two", SOON).await.unwrap();
    assert_eq!(second.out().unwrap(), "up\nup\n");
    assert_eq!(second.log().unwrap(), "one\ntwo\n");
}

#[tokio::test]
async fn an_end_while_waiting_for_readiness_is_told_with_the_log() {
    let logs = TempDir::new().unwrap();
    let failing = Program::at("sh").args(["-c", "echo why >&2; exit 3"]);
    let mut process = failing.spawn("failing", logs.path()).unwrap();
    let url = format!("http://127.0.0.1:{}/health/ready", free_port().unwrap());
    let error = format!("{:#}", process.until_ready(&url, SOON).await.unwrap_err());
    assert!(error.contains("exit status: 3") && error.contains("why"), "{error}");
}

#[tokio::test]
async fn a_binary_that_is_not_built_is_named_with_the_remedy() {
    let error = Program::built("muster-no-such-program").unwrap_err().to_string();
    assert!(error.contains("is not built: run `make test`"), "{error}");
}

#[cfg(target_os = "linux")]
mod signals {
    //! Whether a process is stopped is read where Linux says it.

    use std::os::unix::process::ExitStatusExt;

    use anyhow::ensure;
    use muster_tests::process::Process;
    use muster_tests::wait::eventually;

    use super::{SOON, TempDir, waiting};

    async fn until_stopped(process: &Process, stopped: bool) {
        let status = format!("/proc/{}/stat", process.id());
        eventually(SOON, "the state changes", async || {
            let text = std::fs::read_to_string(&status)?;
            ensure!(text.contains(") T ") == stopped, "{text}");
            Ok(())
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn suspend_resume_and_end_it() {
        let logs = TempDir::new().unwrap();
        let mut process = waiting().spawn("waiting", logs.path()).unwrap();
        process.until_logged("up", SOON).await.unwrap();
        process.suspend().unwrap();
        until_stopped(&process, true).await;
        process.resume().unwrap();
        until_stopped(&process, false).await;
        process.terminate().unwrap();
        let status = process.wait(SOON).await.unwrap();
        assert_eq!(status.signal(), Some(15));
        assert!(process.suspend().is_err(), "it has ended");
    }
}
