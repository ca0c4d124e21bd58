//! A real NATS server with JetStream, on a free port of loopback and a directory of its own.

mod cluster;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use crate::authority::Pair;
use crate::process::{Process, Program};
use crate::repo_root;
use crate::wait::eventually;
pub use cluster::NatsCluster;

/// The oldest version that has what the bus relies on (major, minor). Older ones accept fields they
/// do not know, and ignore them.
pub const VERSION_MIN: (u32, u32) = (2, 12);

/// How long the server may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A NATS server. It ends, and its directory goes, when dropped.
#[derive(Debug)]
pub struct NatsServer {
    directory: TempDir,
    port: u16,
    process: Option<Process>,
    tls: Option<Pair>,
}

impl NatsServer {
    /// Starts one on a free port and waits until it answers.
    ///
    /// # Errors
    /// When there is no server to start, it does not answer, or is older than [`VERSION_MIN`].
    pub async fn start() -> Result<Self> {
        Self::start_with(None).await
    }

    /// The same, for clients that speak TLS only.
    ///
    /// # Errors
    /// As for [`NatsServer::start`].
    pub async fn start_with_tls(tls: Pair) -> Result<Self> {
        Self::start_with(Some(tls)).await
    }

    async fn start_with(tls: Option<Pair>) -> Result<Self> {
        let directory = TempDir::with_prefix("muster-nats-")?;
        let mut process = spawn(directory.path(), None, tls.as_ref())?;
        let ports_file = directory.path().join(format!("nats-server_{}.ports", process.id()));
        let port = eventually(START_TIMEOUT, "nats-server says its port", async || {
            ensure!(process.is_running()?, "it has ended: {}", process.log()?);
            port_in(&std::fs::read_to_string(&ports_file)?)
        })
        .await?;
        let server = Self { directory, port, process: Some(process), tls };
        server.until_ready().await?;
        Ok(server)
    }

    /// Where it listens: `nats://127.0.0.1:PORT`, or `tls://…`. The same after a restart.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "tls" } else { "nats" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The id of its process, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL. Nothing listens on its port until [`NatsServer::restart`].
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill9(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill9(),
            None => Ok(()),
        }
    }

    /// Removes all that JetStream keeps. Only while it is down.
    ///
    /// # Errors
    /// When it runs, or the directory cannot be removed.
    pub fn wipe(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "nats-server runs: its data can be wiped while it is down");
        let store = self.directory.path().join("store");
        match std::fs::remove_dir_all(&store) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.with_context(|| format!("remove {}", store.display())),
        }
    }

    /// Kills it if it runs, and starts it on the same port and directory.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9()?;
        self.process = Some(spawn(self.directory.path(), Some(self.port), self.tls.as_ref())?);
        self.until_ready().await
    }

    /// SIGSTOP: connections stay open, and nothing answers.
    ///
    /// # Errors
    /// When it is down.
    pub fn suspend(&mut self) -> Result<()> {
        self.process.as_mut().context("nats-server is down")?.suspend()
    }

    /// SIGCONT after [`NatsServer::suspend`].
    ///
    /// # Errors
    /// When it is down.
    pub fn resume(&mut self) -> Result<()> {
        self.process.as_mut().context("nats-server is down")?.resume()
    }

    async fn until_ready(&self) -> Result<()> {
        let info =
            eventually(START_TIMEOUT, "nats-server answers", async || greeting(self.port).await)
                .await?;
        ensure!(info.jetstream, "nats-server runs without JetStream");
        let version = version_of(&info.version)?;
        ensure!(
            version >= VERSION_MIN,
            "nats-server is {}, at least {}.{} is needed",
            info.version,
            VERSION_MIN.0,
            VERSION_MIN.1
        );
        Ok(())
    }
}

/// What a server says first on every connection, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Greeting {
    version: String,
    #[serde(default)]
    jetstream: bool,
}

/// What the server writes beside its data about where it listens.
#[derive(Debug, Deserialize)]
struct Ports {
    nats: Vec<String>,
}

fn spawn(directory: &Path, port: Option<u16>, tls: Option<&Pair>) -> Result<Process> {
    let port = port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
    let mut program = Program::at(binary()?);
    if let Some(tls) = tls {
        program = program.arg("--tls").arg("--tlscert").arg(&tls.certificate);
        program = program.arg("--tlskey").arg(&tls.key);
    }
    program
        .args(["--addr", "127.0.0.1", "--port", &port, "--jetstream"])
        .arg("--store_dir")
        .arg(directory.join("store"))
        .arg("--ports_file_dir")
        .arg(directory)
        .spawn("nats-server", directory)
}

fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MUSTER_NATS_SERVER") {
        return Ok(path.into());
    }
    let path = repo_root().join(".tools/bin/nats-server");
    ensure!(
        path.is_file(),
        "{} is not installed: run `make tools`, or set MUSTER_NATS_SERVER to a server's path",
        path.display()
    );
    Ok(path)
}

fn port_in(ports_file: &str) -> Result<u16> {
    let ports: Ports = serde_json::from_str(ports_file).context("the ports file is not whole")?;
    let url = ports.nats.first().context("the ports file names no port")?;
    let (_, port) = url.rsplit_once(':').with_context(|| format!("no port in `{url}`"))?;
    Ok(port.parse()?)
}

async fn greeting(port: u16) -> Result<Greeting> {
    let mut line = String::new();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    BufReader::new(stream).read_line(&mut line).await?;
    let Some(info) = line.strip_prefix("INFO ") else { bail!("it greets with `{line}`") };
    Ok(serde_json::from_str(info)?)
}

fn version_of(text: &str) -> Result<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("`{text}` is no version"),
    }
}
