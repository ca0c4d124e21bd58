//! A `nats-server` process of the test's own, on a free port and in a directory of its own.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// How long the server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running server; it is killed and its data removed when this is dropped.
#[derive(Debug)]
pub struct NatsServer {
    directory: tempfile::TempDir,
    binary: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl NatsServer {
    /// The server's program: `MUSTER_NATS_SERVER`, or `.tools/bin/nats-server` of the workspace.
    /// `None` when neither is there.
    #[must_use]
    pub fn binary() -> Option<PathBuf> {
        let named = std::env::var_os("MUSTER_NATS_SERVER").map(PathBuf::from);
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let binary = named.unwrap_or_else(|| tools.join(".tools/bin/nats-server"));
        binary.is_file().then_some(binary)
    }

    /// Starts a server with JetStream on a free port and waits until it listens.
    ///
    /// # Errors
    /// If there is no program to start (see [`NatsServer::binary`]), or it does not start.
    pub async fn start() -> io::Result<Self> {
        let binary = Self::binary().ok_or_else(|| {
            let text = "no `nats-server`: set MUSTER_NATS_SERVER or install the project's tools";
            io::Error::new(io::ErrorKind::NotFound, text)
        })?;
        let directory = tempfile::tempdir()?;
        let mut server = Self { directory, binary, port: 0, process: None };
        server.launch().await?;
        Ok(server)
    }

    /// The server's address for [`crate::bus::open`].
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills the server as a crash would. Does nothing if it does not run.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // An error means that it has ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts the killed server again on the same port with the data it had.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.kill();
        self.launch().await
    }

    /// Removes all that the server has stored; it must have been killed.
    ///
    /// # Panics
    /// If the server runs.
    pub fn wipe(&self) -> io::Result<()> {
        assert!(self.process.is_none(), "a running server cannot be wiped");
        match std::fs::remove_dir_all(self.directory.path().join("store")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn launch(&mut self) -> io::Result<()> {
        let directory = self.directory.path();
        for file in ports_files(directory)? {
            std::fs::remove_file(file)?;
        }
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let process = Command::new(&self.binary)
            .args(["-a", "127.0.0.1", "-p", &port, "-js", "-sd"])
            .arg(directory.join("store"))
            .arg("--ports_file_dir")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.process = Some(process);
        let give_up = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(port) = read_port(directory)? {
                self.port = port;
                return Ok(());
            }
            if let Some(status) = self.process.as_mut().and_then(|p| p.try_wait().transpose()) {
                return Err(io::Error::other(format!("`nats-server` ended: {}", status?)));
            }
            if Instant::now() > give_up {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "`nats-server` did not start"));
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn ports_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ports") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The client port, once the server has written it down completely.
fn read_port(directory: &Path) -> io::Result<Option<u16>> {
    let Some(file) = ports_files(directory)?.pop() else { return Ok(None) };
    let Ok(ports) = serde_json::from_slice::<serde_json::Value>(&std::fs::read(file)?) else {
        return Ok(None);
    };
    let url = ports["nats"][0].as_str().unwrap_or_default();
    Ok(url.rsplit(':').next().and_then(|port| port.parse().ok()))
}
