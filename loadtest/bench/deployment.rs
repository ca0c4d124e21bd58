//! `muster up` as a process, for as long as a row needs it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use muster_api::http::QueueSettings;
use muster_client::{Client, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A running deployment on a directory of its own.
pub(crate) struct Deployment {
    child: Child,
    pub(crate) client: Client,
    _directory: TempDir,
}

impl Deployment {
    pub(crate) fn start(cluster: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let muster = std::env::current_exe()?.with_file_name("muster");
        let mut child = Command::new(&muster)
            .args(["up", "--listen", "127.0.0.1:0", "--cluster", cluster, "--data"])
            .arg(directory.path().join("data"))
            .env("MUSTER_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("`{}` does not start", muster.display()))?;
        let out = child.stdout.take().context("its output was asked for")?;
        let mut ready = String::new();
        BufReader::new(out).read_line(&mut ready)?;
        let url = ready.trim().strip_prefix("ready ").context("it did not become ready")?;
        let client = Client::new(url, Options::default())?;
        Ok(Self { child, client, _directory: directory })
    }

    /// Creates a queue; a cordoned one keeps what it is given.
    pub(crate) async fn queue(&self, name: &str, cordoned: bool) -> anyhow::Result<()> {
        let settings = QueueSettings { cordoned, ..QueueSettings::default() };
        self.client.put_queue(name, &settings).await?;
        Ok(())
    }

    /// Bytes of memory that the process holds.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most that it ever held.
    pub(crate) fn peak_bytes(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find(|line| line.starts_with(field)).context("no such field")?;
        let kilobytes: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        let process = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        // It may be gone already; then there is nothing to stop.
        let _ = kill(process, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
