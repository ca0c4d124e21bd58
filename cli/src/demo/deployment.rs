//! A `muster up` of its own, on a temporary directory.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use muster_runtime::blocking::Blocking;
use muster_runtime::clock::Clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Lines of the log that are shown when something goes wrong.
const LOG_LINES: usize = 20;

/// A running deployment. Dropping it kills it.
pub(super) struct Deployment {
    pub(super) url: String,
    child: Child,
    /// Kept open: the deployment may print more.
    _stdout: BufReader<ChildStdout>,
    directory: TempDir,
}

impl Deployment {
    pub(super) async fn start(clock: &Clock) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("muster-demo-")?;
        let log = File::create(directory.path().join("up.log"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("up")
            .arg("--data")
            .arg(directory.path().join("data"))
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for us; we stop it tidily.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("`muster up` cannot be started")?;
        let stdout = child.stdout.take().expect("it is piped");
        let mut stdout = BufReader::new(stdout);
        let url = tokio::select! {
            url = ready(&mut stdout) => url,
            () = clock.sleep(READY_WITHIN) => Err(anyhow!("it was not ready after {READY_WITHIN:?}")),
        };
        let url =
            url.with_context(|| format!("`muster up` did not start:\n{}", end_of_log(&directory)))?;
        Ok(Self { url, child, _stdout: stdout, directory })
    }

    /// Asks it to end, and expects exit code 0.
    pub(super) async fn stop(&mut self, clock: &Clock) -> anyhow::Result<()> {
        let Some(id) = self.child.id() else { bail!("`muster up` ended before it was asked to") };
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGINT)?;
        let status = tokio::select! {
            status = self.child.wait() => status?,
            () = clock.sleep(STOP_WITHIN) => {
                self.child.kill().await?;
                bail!("`muster up` had not ended {STOP_WITHIN:?} after it was asked to");
            }
        };
        ensure!(status.success(), "`muster up` ended with {status}");
        Ok(())
    }

    /// The last lines that it logged.
    pub(super) fn log_end(&self) -> String {
        end_of_log(&self.directory)
    }

    /// Removes its directory.
    pub(super) async fn remove(self) -> anyhow::Result<()> {
        let directory = self.directory;
        let blocking = Blocking::new(1);
        let removed = blocking.run(move || {
            super::remove::empty(directory.path())?;
            directory.close()
        });
        removed.await?.context("the temporary directory cannot be removed")
    }
}

/// Waits for the line `ready URL`.
async fn ready(stdout: &mut BufReader<ChildStdout>) -> anyhow::Result<String> {
    let mut line = String::new();
    while stdout.read_line(&mut line).await? > 0 {
        if let Some(url) = line.trim().strip_prefix("ready ") {
            return Ok(url.to_owned());
        }
        line.clear();
    }
    bail!("it ended at once")
}

fn end_of_log(directory: &TempDir) -> String {
    // A log that cannot be read is no reason to hide the failure that it would explain.
    let text = std::fs::read(directory.path().join("up.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
