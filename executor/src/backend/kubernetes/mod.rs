//! A Kubernetes cluster: a run is a pod.
//!
//! Nothing is kept beside the cluster: what a restart has to know stands on the pods, as labels and
//! annotations. One task (`worker.rs`) owns all state; what is decided is decided without IO
//! (`table.rs` and its parts, `state.rs`, `manifest.rs`, `network.rs`, `checks.rs`, `pace.rs`,
//! `nodes.rs`, `usage.rs`, `answer.rs`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muster_runtime::http::Health;
use muster_runtime::tasks::{Policy, Supervisor};
use muster_runtime::{Clock, Random};
use tokio::sync::mpsc;

use crate::backend::handle::{Handle, handle};
use crate::backend::{
    Adopted, ClusterBackend, Error, Grace, Node, NodeChange, Opened, Piece, Start,
};
use crate::config::KubernetesConfig;
use crate::limits;
use crate::metrics::Kubernetes as Metrics;
use crate::runs::RunKey;

mod answer;
mod calls;
mod certificate;
mod checks;
mod client;
mod labels;
mod lease;
mod logs;
mod manifest;
mod network;
mod nodes;
mod object;
mod pace;
mod state;
mod table;
mod usage;
mod watch;
mod worker;

pub(crate) use labels::is_label_value;
use logs::Logs;
pub(crate) use pace::Answer;
pub(crate) use table::Call;
use worker::Command;

/// What the back end is made of.
pub struct Params {
    /// The cluster's name.
    pub cluster: String,
    /// Its settings.
    pub config: KubernetesConfig,
    /// The time.
    pub clock: Clock,
    /// What jitter and the lease's identity are drawn from.
    pub random: Random,
    /// Who runs its task.
    pub tasks: Supervisor,
    /// What is counted.
    pub metrics: Metrics,
    /// Where it says why it cannot work yet, …
    pub health: Health,
    /// … under this name.
    pub part: String,
}

struct Kubernetes {
    logs: Logs,
    commands: Handle<Command>,
}

/// Opens the back end. It may have to wait for another executor, and for the API server: only then
/// it says what nodes and runs there are.
///
/// # Errors
/// When the settings name no cluster.
pub async fn open(params: Params) -> Result<Opened, Error> {
    let Params { cluster, config, clock, random, tasks, metrics, health, part } = params;
    let api = client::connect(&config, &clock).await?;
    let (commands, commands_out) = handle();
    let (events, events_out) = mpsc::channel(limits::EVENTS_MAX);
    let logs = Logs::new(api.clone());
    let name = format!("kubernetes-cluster-{cluster}");
    let parts = worker::Parts {
        api,
        config,
        cluster,
        random,
        metrics,
        health,
        part,
        commands: commands_out,
        events,
    };
    tasks.spawn_once(name, Policy::VITAL, |cancel| worker::run(parts, cancel));
    Ok(Opened { backend: Arc::new(Kubernetes { logs, commands }), events: events_out })
}

#[async_trait]
impl ClusterBackend for Kubernetes {
    async fn nodes(&self) -> Result<Vec<Node>, Error> {
        self.commands.ask(Command::Nodes).await
    }

    async fn node_changes(&self) -> Result<Vec<NodeChange>, Error> {
        self.commands.ask(Command::NodeChanges).await
    }

    async fn adopt(&self) -> Result<Vec<Adopted>, Error> {
        self.commands.ask(Command::Adopt).await
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
        let place = self.commands.ask(|answer| Command::Place(run, answer)).await?;
        let place = place.ok_or(Error::NoOutput { job: run.job, attempt: run.attempt })?;
        self.logs.read(run, &place, offset, limit, wait).await
    }
}
