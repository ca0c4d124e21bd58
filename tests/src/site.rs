//! A deployment that a suite runs against without knowing how it is built: one process on a
//! directory (`muster up`), or all roles as processes on a NATS server and an S3 server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use muster_client::Client;
use tempfile::TempDir;

use crate::deployment::{Deployment, Size, patient_client};
use crate::http::Http;
use crate::process::{Process, Program, free_port};

/// How long a process may take until it answers.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Everything is there twice, so that it matters who answers.
const SIZE: Size = Size { gateways: 2, shards: 2, executors: 2 };
/// What would keep a suite waiting with the defaults. And patience with headers: all themes of a
/// suite share one thread, which is busy for seconds on a machine with other work.
const SETTINGS: [(&str, &str); 4] = [
    ("MUSTER_GATEWAY__HEADER_TIMEOUT", "20s"),
    ("MUSTER_SHARD__HISTORY_INTERVAL", "1s"),
    ("MUSTER_SHARD__CHECKPOINT_RECORDS", "5000"),
    ("MUSTER_SHARD__ROUNDS_INTERVAL", "1s"),
];

/// What runs the jobs of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cluster {
    /// Processes of this machine.
    Local,
    /// Nothing; the executor pretends.
    Simulated,
}

/// A running deployment.
#[derive(Debug)]
pub struct Site {
    cluster: Cluster,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    Up(Box<Up>),
    Processes(Box<Deployment>),
}

/// One `muster up`.
#[derive(Debug)]
struct Up {
    program: Program,
    process: Process,
    starts: usize,
    port: u16,
    directory: TempDir,
}

impl Site {
    /// `muster up` on a directory: the memory bus, the store of files, local processes.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn memory_and_file() -> Result<Self> {
        let directory = TempDir::with_prefix("muster-site-")?;
        let port = free_port()?;
        let program = Program::built("muster")?
            .args(["up", "--cpu", "16", "--memory", "16Gi"])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(directory.path().join("data"));
        let process = program.spawn("up", directory.path())?;
        let mut up = Up { program, process, starts: 1, port, directory };
        up.until_ready().await?;
        Ok(Self { cluster: Cluster::Local, parts: Parts::Up(Box::new(up)) })
    }

    /// Two gateways, two shard workers, two executors with simulated clusters, as processes on a
    /// NATS server and an S3 server.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn nats_and_s3() -> Result<Self> {
        Self::deployed(SIZE, &SETTINGS).await
    }

    /// One process of each role, on a NATS server and an S3 server, that writes checkpoints often:
    /// so there is soon something that nobody needs any more.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn nats_and_s3_with_garbage() -> Result<Self> {
        let size = Size { gateways: 1, shards: 1, executors: 1 };
        let often = ("MUSTER_SHARD__CHECKPOINT_RECORDS", "50");
        Self::deployed(size, &[&SETTINGS[..], &[often]].concat()).await
    }

    async fn deployed(size: Size, settings: &[(&'static str, &'static str)]) -> Result<Self> {
        let deployment = Deployment::start_with(size, settings).await?;
        Ok(Self { cluster: Cluster::Simulated, parts: Parts::Processes(Box::new(deployment)) })
    }

    /// What runs its jobs.
    pub fn cluster(&self) -> Cluster {
        self.cluster
    }

    /// The URL of a gateway; the same after its restart.
    pub fn url(&self) -> String {
        match &self.parts {
            Parts::Up(up) => up.url(),
            Parts::Processes(deployment) => deployment.url(0),
        }
    }

    /// The URL of another gateway, where there is one.
    pub fn other_url(&self) -> String {
        match &self.parts {
            Parts::Up(up) => up.url(),
            Parts::Processes(deployment) => deployment.url(1),
        }
    }

    /// A plain client.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn http(&self) -> Result<Http> {
        Http::new(&self.url())
    }

    /// A plain client of the other gateway.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn other_http(&self) -> Result<Http> {
        Http::new(&self.other_url())
    }

    /// The project's client, more patient than any restart is long.
    ///
    /// # Errors
    /// Never for a running site.
    pub fn client(&self) -> Result<Client> {
        patient_client(&self.url())
    }

    /// The URL of its store, and what a program needs in its environment to open it.
    pub fn store(&self) -> (String, BTreeMap<String, String>) {
        match &self.parts {
            Parts::Up(_) => (format!("file://{}", self.store_dir().display()), BTreeMap::new()),
            Parts::Processes(deployment) => (deployment.s3.url("prefix"), deployment.s3.env()),
        }
    }

    /// Where the store keeps its objects, as files below this directory.
    pub fn store_dir(&self) -> PathBuf {
        match &self.parts {
            Parts::Up(up) => up.directory.path().join("data/store"),
            Parts::Processes(deployment) => deployment.log_dir().join("s3"),
        }
    }

    /// Where the logs of its processes are.
    pub fn log_dir(&self) -> &Path {
        match &self.parts {
            Parts::Up(up) => up.directory.path(),
            Parts::Processes(deployment) => deployment.log_dir(),
        }
    }

    /// SIGKILL to whatever owns shards, and started again: every shard has another owner then.
    ///
    /// # Errors
    /// When it cannot be killed or started.
    pub async fn replace_owners(&mut self) -> Result<()> {
        match &mut self.parts {
            Parts::Up(up) => up.kill_and_restart().await,
            Parts::Processes(deployment) => {
                let log_dir = deployment.log_dir().to_owned();
                for member in &mut deployment.shards {
                    member.kill9_and_restart(&log_dir)?;
                }
                Ok(())
            }
        }
    }

    /// SIGKILL to the gateway at [`Site::url`], and started again.
    ///
    /// # Errors
    /// When it cannot be killed or started.
    pub async fn restart_gateway(&mut self) -> Result<()> {
        match &mut self.parts {
            Parts::Up(up) => up.kill_and_restart().await,
            Parts::Processes(deployment) => {
                let log_dir = deployment.log_dir().to_owned();
                let ready = format!("{}/health/ready", deployment.url(0));
                deployment.gateways[0].kill9_and_restart(&log_dir)?;
                deployment.gateways[0].process().until_ready(&ready, READY_TIMEOUT).await
            }
        }
    }

    /// SIGKILL to every executor, and started again.
    ///
    /// # Errors
    /// When one cannot be killed or started.
    pub async fn restart_executors(&mut self) -> Result<()> {
        match &mut self.parts {
            Parts::Up(up) => up.kill_and_restart().await,
            Parts::Processes(deployment) => {
                let log_dir = deployment.log_dir().to_owned();
                for member in &mut deployment.executors {
                    member.kill9_and_restart(&log_dir)?;
                }
                Ok(())
            }
        }
    }
}

impl Up {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn until_ready(&mut self) -> Result<()> {
        // It listens before all its shards are recovered: only then it says so.
        let url = format!("{}/health/ready", self.url());
        self.process.until_logged("ready http://", READY_TIMEOUT).await?;
        self.process.until_ready(&url, READY_TIMEOUT).await
    }

    async fn kill_and_restart(&mut self) -> Result<()> {
        self.process.kill9()?;
        // Files of its own: what the last process said is not what this one says.
        self.starts += 1;
        self.process = self.program.spawn(&format!("up-{}", self.starts), self.directory.path())?;
        self.until_ready().await
    }
}
