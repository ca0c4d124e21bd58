//! The processes of a chaos run: gateways, shard workers and executors on three NATS nodes and an
//! S3 server, each role behind links of its own that can be cut.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::deployment::patient_client_with;
use crate::disk::Disk;
use crate::nats::NatsCluster;
use crate::network::{Links, Network};
use crate::process::{Process, Program, free_port};
use crate::s3;

/// How long a role may take until it answers.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a client waits for a gateway that says nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of the disk of a NATS node.
const NATS_DISK_BYTES: u64 = 32 * 1024 * 1024;
/// Shards of the deployment.
pub const SHARDS: u16 = 4;

/// How many there are of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Gateways.
    pub gateways: usize,
    /// Shard workers.
    pub shards: usize,
    /// Executors.
    pub executors: usize,
    /// NATS nodes.
    pub nats: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { gateways: 2, shards: 4, executors: 4, nats: 3 }
    }
}

impl Size {
    /// Processes of Muster.
    pub fn roles(&self) -> usize {
        self.gateways + self.shards + self.executors
    }
}

/// A process that can be started again as it was.
#[derive(Debug)]
pub struct Part {
    name: String,
    program: Program,
    process: Option<Process>,
    /// Whether it was asked to end.
    is_asked: bool,
    log_dir: PathBuf,
}

/// A process of Muster and its links.
#[derive(Debug)]
pub struct Role {
    /// The process.
    pub part: Part,
    /// Its links to the NATS nodes.
    pub bus: Links,
    /// Its link to the S3 server; none for an executor.
    pub store: Links,
}

/// The disks that can be filled.
#[derive(Debug)]
pub struct Disks {
    /// That of the S3 server.
    pub store: Disk,
    /// Those of the NATS nodes.
    pub nats: Vec<Disk>,
}

/// All of it. It ends, and its directory goes, when dropped.
#[derive(Debug)]
pub struct Plant {
    /// Gateways first, then shard workers, then executors.
    pub roles: Vec<Role>,
    /// The bus.
    pub nats: NatsCluster,
    /// The store.
    pub store: Part,
    /// None where the system lets nobody mount any, and why.
    pub disks: Result<Disks>,
    size: Size,
    ports: Vec<u16>,
    directory: TempDir,
    /// Holds the links.
    _network: Network,
}

impl Part {
    fn start(name: String, program: Program, log_dir: &Path) -> Result<Self> {
        let log_dir = log_dir.to_owned();
        let mut part = Self { name, program, process: None, is_asked: false, log_dir };
        part.spawn()?;
        Ok(part)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it, if it does not run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&mut self) -> Result<()> {
        if self.process.is_none() {
            self.process = Some(self.program.spawn(&self.name, &self.log_dir)?);
            self.is_asked = false;
        }
        Ok(())
    }

    /// SIGTERM, if it runs.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn terminate(&mut self) -> Result<()> {
        self.is_asked = true;
        self.running()?.map_or(Ok(()), Process::terminate)
    }

    /// SIGSTOP, if it runs.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn freeze(&mut self) -> Result<()> {
        self.running()?.map_or(Ok(()), Process::suspend)
    }

    /// SIGCONT, if it runs.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn thaw(&mut self) -> Result<()> {
        self.running()?.map_or(Ok(()), Process::resume)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill9())
    }

    /// Starts it again if it has ended and was not killed; whether it had ended unasked.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn revive(&mut self) -> Result<bool> {
        if self.process.is_none() || self.running()?.is_some() {
            return Ok(false);
        }
        let was_asked = self.is_asked;
        self.process = None;
        self.spawn()?;
        Ok(!was_asked)
    }

    fn running(&mut self) -> Result<Option<&mut Process>> {
        match &mut self.process {
            Some(process) => Ok(process.is_running()?.then_some(process)),
            None => Ok(None),
        }
    }

    async fn until_ready(&mut self, url: &str) -> Result<()> {
        let process = self.process.as_mut().context("it was not started")?;
        process.until_ready(url, READY_TIMEOUT).await
    }

    /// What it has logged so far, its earlier lives included.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String> {
        let path = self.log_dir.join(format!("{}.log", self.name));
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }
}

impl Plant {
    /// Starts everything, with a disk of so many bytes for the S3 server, and waits until the
    /// gateways are ready.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(size: Size, store_bytes: u64) -> Result<Self> {
        let directory = TempDir::with_prefix("muster-chaos-")?;
        let nats_directory = TempDir::with_prefix_in("nats-", directory.path())?;
        let store_dir = directory.path().join("s3");
        std::fs::create_dir_all(&store_dir)?;
        let disks = mount(&store_dir, store_bytes, nats_directory.path(), size.nats);
        let nats = NatsCluster::start_in(nats_directory, size.nats).await?;
        let store_address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let program = Program::built("muster-chaos")?
            .args(["serve-s3", "--listen", &store_address.to_string(), "--directory"])
            .arg(&store_dir);
        let store = Part::start("s3".to_owned(), program, directory.path())?;
        let network = Network::start()?;
        let mut plant = Self {
            roles: Vec::new(),
            nats,
            store,
            disks,
            size,
            ports: Vec::new(),
            directory,
            _network: network,
        };
        for number in 0..size.gateways {
            let port = free_port()?;
            plant.ports.push(port);
            let listen = format!("127.0.0.1:{port}");
            let finish = |program: Program| program.args(["--listen", &listen]);
            plant.add("gateway", number, Some(store_address), finish)?;
        }
        for number in 0..size.shards {
            plant.add("shard", number, Some(store_address), |program| program)?;
        }
        for number in 0..size.executors {
            let (state_dir, cluster) = (plant.state_dir(number), format!("cluster-{number}"));
            std::fs::create_dir_all(&state_dir)?;
            let backend = ["--backend", "simulated", "--cluster", &cluster, "--state-dir"];
            plant.add("executor", number, None, |program| program.args(backend).arg(&state_dir))?;
        }
        for number in 0..size.gateways {
            let url = format!("{}/health/ready", plant.url(number));
            plant.roles[number].part.until_ready(&url).await?;
        }
        Ok(plant)
    }

    fn add(
        &mut self,
        role: &str,
        number: usize,
        store: Option<SocketAddr>,
        finish: impl FnOnce(Program) -> Program,
    ) -> Result<()> {
        let bus = Links::to(&self._network, &self.nats.addresses())?;
        let hosts = bus.addresses().iter().map(SocketAddr::to_string).collect::<Vec<_>>();
        let mut program = Program::built("muster")?
            .arg(role)
            .args(["--bus", &format!("nats://{}", hosts.join(","))])
            .args(["--shards", &SHARDS.to_string()])
            .envs(SETTINGS);
        let store = Links::to(&self._network, store.as_slice())?;
        if let [address] = store.addresses()[..] {
            let url = format!("s3://{}/chaos", s3::BUCKET);
            program = program.args(["--store", &url]).envs(s3::env_of(address));
        }
        let part = Part::start(format!("{role}-{number}"), finish(program), self.log_dir())?;
        self.roles.push(Role { part, bus, store });
        Ok(())
    }

    /// How many there are of everything.
    pub fn size(&self) -> &Size {
        &self.size
    }

    /// Where the logs are.
    pub fn log_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Where an executor keeps what must survive it.
    pub fn state_dir(&self, executor: usize) -> PathBuf {
        self.directory.path().join(format!("state-{executor}"))
    }

    /// The URL of a gateway; the same after its restart.
    pub fn url(&self, gateway: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[gateway])
    }

    /// A client of all gateways that asks this one first, and is more patient than any fault.
    ///
    /// # Errors
    /// Never for a running plant.
    pub fn client(&self, first: usize) -> Result<muster_client::Client> {
        let gateways = self.ports.len();
        let urls = (0..gateways).map(|number| self.url((first + number) % gateways));
        patient_client_with(&urls.collect::<Vec<_>>().join(","), ANSWER_TIMEOUT)
    }

    /// Keeps the directory with logs and data when this ends, and says where it is.
    pub fn keep(&mut self) -> &Path {
        self.directory.disable_cleanup(true);
        self.directory.path()
    }
}

/// What would make a minute too short, or keep the audit waiting.
const SETTINGS: [(&str, &str); 14] = [
    ("MUSTER_BUS__REPLICAS", "3"),
    ("MUSTER_SHARD__LEASE_TTL", "2s"),
    ("MUSTER_SHARD__HISTORY_INTERVAL", "1s"),
    ("MUSTER_SHARD__CHECKPOINT_RECORDS", "5000"),
    // Longer than any fault: otherwise a stopped cluster's runs may well overlap with new ones.
    ("MUSTER_SHARD__CLUSTER_TIMEOUT", "3m"),
    ("MUSTER_GATEWAY__WRITE_TIMEOUT", "10s"),
    ("MUSTER_GATEWAY__READ_TIMEOUT", "5s"),
    ("MUSTER_GATEWAY__KEEP_ALIVE", "2s"),
    ("MUSTER_EXECUTOR__RECORD_RUNS", "true"),
    ("MUSTER_EXECUTOR__SYNC_INTERVAL", "3s"),
    ("MUSTER_EXECUTOR__SIMULATED__NODES", "20"),
    ("MUSTER_EXECUTOR__SIMULATED__CPU", "16"),
    ("MUSTER_EXECUTOR__SIMULATED__RUNTIME", "200ms"),
    ("RUST_BACKTRACE", "1"),
];

fn mount(store_dir: &Path, store_bytes: u64, nats_dir: &Path, nodes: usize) -> Result<Disks> {
    let store = Disk::mount(store_dir, store_bytes)?;
    let nats =
        (0..nodes).map(|node| Disk::mount(&nats_dir.join(format!("n{node}")), NATS_DISK_BYTES));
    Ok(Disks { store, nats: nats.collect::<Result<_>>()? })
}
