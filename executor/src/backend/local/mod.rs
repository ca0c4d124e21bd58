//! This machine as a cluster of one node: a pod's container runs as a process group.
//!
//! Needs Linux. Processes are not children to be waited for only: what there is
//! to know of them is in their directory, so that they outlive the executor and the next one takes
//! them over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muster_core::quantity::Quantity;
use muster_core::resources::{CPU, MEMORY, PODS, Resources};
use muster_runtime::tasks::{Policy, Supervisor};
use muster_runtime::{Blocking, Clock};
use tokio::sync::mpsc;

use crate::backend::handle::{Handle, handle};
use crate::backend::{
    Adopted, ClusterBackend, EPHEMERAL_STORAGE, Error, Grace, Node, NodeChange, Opened, Piece,
    Start,
};
use crate::config::LocalConfig;
use crate::limits;
use crate::runs::RunKey;

mod folder;
mod keeper;
mod output;
mod plan;
mod process;
mod worker;

use folder::Folders;
pub use keeper::keep_run;
use worker::{Command, Shared, Worker};

/// Processes that are being started at the same time.
const STARTS_AT_ONCE: usize = 2;

/// What the back end is made of.
pub struct Params {
    /// The cluster's name.
    pub cluster: String,
    /// Its settings.
    pub config: LocalConfig,
    /// Where runs are kept, in a directory of the cluster's own.
    pub state_dir: PathBuf,
    /// The time.
    pub clock: Clock,
    /// Who runs its task.
    pub tasks: Supervisor,
}

struct Local {
    node: Node,
    shared: Arc<Shared>,
    commands: Handle<Command>,
}

/// Opens the back end with the runs that are in its directory.
///
/// # Errors
/// When the directory cannot be used or the machine does not say what it has.
pub async fn open(params: Params) -> Result<Opened, Error> {
    let Params { cluster, config, state_dir, clock, tasks } = params;
    let root = worker::root(&state_dir, &cluster);
    let what = format!("opening `{}`", root.display());
    let folders = Folders::open(root).map_err(|source| Error::Io { what, source })?;
    let node = node(&config, &state_dir)?;
    let keeper = match config.keeper.clone() {
        Some(keeper) => keeper,
        None => std::env::current_exe().map_err(io("finding this program"))?,
    };
    let (commands, commands_out) = handle();
    let (events, events_out) = mpsc::channel(limits::EVENTS_MAX);
    let inherited = worker::inherited_variables();
    let blocking = Blocking::new(STARTS_AT_ONCE);
    let cleaning = Blocking::new(1);
    let shared =
        Arc::new(Shared { config, keeper, folders, clock, blocking, cleaning, inherited, events });
    let worker = Worker::new(Arc::clone(&shared), commands_out);
    tasks.spawn_once(format!("local-cluster-{cluster}"), Policy::VITAL, |c| worker.run(c));
    Ok(Opened { backend: Arc::new(Local { node, shared, commands }), events: events_out })
}

#[async_trait]
impl ClusterBackend for Local {
    async fn nodes(&self) -> Result<Vec<Node>, Error> {
        Ok(vec![self.node.clone()])
    }

    async fn node_changes(&self) -> Result<Vec<NodeChange>, Error> {
        std::future::pending().await
    }

    async fn adopt(&self) -> Result<Vec<Adopted>, Error> {
        self.commands.ask(Command::Adopt).await?
    }

    async fn start(&self, start: Start) {
        self.commands.tell(Command::Start(Box::new(start))).await;
    }

    async fn stop(&self, run: RunKey, grace: Grace) {
        self.commands.tell(Command::Stop(run, grace)).await;
    }

    async fn settle(&self, run: RunKey) {
        self.commands.tell(Command::Settle(run)).await;
    }

    async fn logs(
        &self,
        run: RunKey,
        offset: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Piece, Error> {
        output::read(&self.shared, run, offset, limit, wait).await
    }
}

/// The node: named after the host, with what the machine has unless the settings say less (or
/// more).
fn node(config: &LocalConfig, state_dir: &Path) -> Result<Node, Error> {
    let host = host_name()?;
    let mut allocatable = Resources::new();
    allocatable.set(CPU.into(), given(&config.cpu)?.map_or_else(machine_cpu, Ok)?);
    allocatable.set(MEMORY.into(), given(&config.memory)?.map_or_else(machine_memory, Ok)?);
    allocatable.set(PODS.into(), Quantity::from_units(i64::from(config.pods)));
    allocatable.set(EPHEMERAL_STORAGE.into(), storage(state_dir)?);
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let labels = BTreeMap::from([
        ("kubernetes.io/arch".into(), arch.into()),
        ("kubernetes.io/hostname".into(), host.as_str().into()),
        ("kubernetes.io/os".into(), std::env::consts::OS.into()),
        ("muster.dev/backend".into(), "local".into()),
    ]);
    Ok(Node { name: host.into(), labels, taints: Vec::new(), allocatable, schedulable: true })
}

fn given(text: &str) -> Result<Option<Quantity>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |error| Error::State { path: "settings".to_owned(), reason: format!("{error}") };
    text.parse().map(Some).map_err(bad)
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    |source| Error::Io { what, source }
}

fn host_name() -> Result<String, Error> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    Ok(name.map_err(io("reading the host's name"))?.trim().to_owned())
}

fn machine_cpu() -> Result<Quantity, Error> {
    let cores = std::thread::available_parallelism().map_err(io("counting the cores"))?;
    Ok(Quantity::from_units(i64::try_from(cores.get()).unwrap_or(i64::MAX)))
}

fn machine_memory() -> Result<Quantity, Error> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(io("reading /proc/meminfo"))?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<i64>().ok());
    let unknown = || std::io::Error::other("it does not say `MemTotal`");
    let kibibytes = kibibytes.ok_or_else(unknown).map_err(io("reading /proc/meminfo"))?;
    Ok(Quantity::from_units(kibibytes.saturating_mul(1024)))
}

fn storage(folder: &Path) -> Result<Quantity, Error> {
    let stat = nix::sys::statvfs::statvfs(folder)
        .map_err(|error| io("reading the size of the disk")(error.into()))?;
    let bytes = stat.blocks().saturating_mul(stat.fragment_size());
    Ok(Quantity::from_units(i64::try_from(bytes).unwrap_or(i64::MAX)))
}
