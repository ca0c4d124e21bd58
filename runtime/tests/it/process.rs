//! What only a whole process can show: signals, exit codes, and what is logged on the way out.
//!
//! The test program starts itself again as the process under test.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    time::Duration,
};

use muster_runtime::{
    Random, Supervisor, signal,
    tasks::{BoxError, Policy},
    telemetry,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const ROLE: &str = "RUNTIME_TEST_ROLE";

#[test]
fn the_first_signal_drains_and_the_second_leaves_at_once() {
    for (signal, name, code) in [(Signal::SIGINT, "SIGINT", 130), (Signal::SIGTERM, "SIGTERM", 143)]
    {
        let mut process = Process::start("never drains");
        process.wait_for_line("ready");
        process.send(signal);
        let line = process.wait_for_line("asked to stop");
        assert!(line.contains(name), "{line}");
        process.wait_for_line("draining");
        process.send(signal);
        assert_eq!(process.end().code(), Some(code));
    }
}

#[test]
fn a_process_that_is_asked_once_drains_and_ends_well() {
    let mut process = Process::start("drains");
    process.wait_for_line("ready");
    process.send(Signal::SIGTERM);
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn a_panic_in_a_task_is_logged_and_ends_the_process() {
    let mut process = Process::start("panics");
    let line = process.wait_for_line("panicked");
    let record: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&record["level"], &record["reason"]), (&"ERROR".into(), &"no way on".into()));
    assert!(record["location"].as_str().unwrap().contains("process.rs"), "{line}");
    assert_eq!(process.end().code(), Some(101));
}

/// The process under test; passes at once when run as a test of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    telemetry::init(telemetry::Format::Json).unwrap();
    let tasks = Supervisor::new(Random::from_os());
    let stop = signal::stop_token(&tasks).unwrap();
    let drains = role == "drains";
    tasks.spawn("worker", Policy::VITAL, move |token| async move {
        token.cancelled().await;
        tracing::info!("draining");
        if !drains {
            std::future::pending::<()>().await;
        }
        Ok::<_, BoxError>(())
    });
    if role == "panics" {
        tasks.spawn("broken", Policy::VITAL, |_| async {
            assert!(!std::hint::black_box(true), "no way on");
            Ok::<_, BoxError>(())
        });
    }
    tracing::info!("ready");
    stop.cancelled().await;
    tasks.shutdown(Duration::from_secs(60)).await.unwrap();
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Process {
    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::child", "--nocapture"])
            .env(ROLE, role)
            .env("MUSTER_LOG", "info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    fn wait_for_line(&mut self, part: &str) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        lines.find(|line| line.contains(part)).expect("the process ended too early")
    }

    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}
