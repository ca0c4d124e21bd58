//! The task of the back end: it owns the table of pods and the view of the nodes, feeds them what
//! the watches and the API server say, and carries out what they want, as many requests at a time
//! as the API server takes well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use muster_core::Name;
use muster_core::id::ShardId;
use muster_core::resources::Resources;
use muster_runtime::http::Health;
use muster_runtime::{Clock, Random};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::calls::{self, Outcome};
use super::client::Api;
use super::labels;
use super::lease::Lease;
use super::nodes::Nodes;
use super::object::{Node, Object, Pod};
use super::pace::{Pace, Ticket};
use super::table::{Call, Place, Table};
use super::usage::{self, Look};
use super::watch::{Said, Watched, watch};
use crate::backend::handle::Commands;
use crate::backend::{self, Adopted, Error, Event, Grace, NodeChange, Start};
use crate::config::KubernetesConfig;
use crate::metrics::Kubernetes as Metrics;
use crate::runs::{Now, RunKey};

/// How far ahead the task looks when nothing is due.
const IDLE: Duration = Duration::from_mins(1);
/// Changes of nodes are told at least so far apart: each is a message to the pool's leader.
const CHANGES_INTERVAL: Duration = Duration::from_millis(100);
/// How long giving back the lease may take at the end.
const RELEASE_TIME: Duration = Duration::from_secs(2);
/// Pods of others that have ended take nothing.
const FOREIGN_FIELDS: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// What the back end is told and asked.
pub(super) enum Command {
    Adopt(oneshot::Sender<Vec<Adopted>>),
    Nodes(oneshot::Sender<Vec<backend::Node>>),
    NodeChanges(oneshot::Sender<Vec<NodeChange>>),
    Start(Box<Start>),
    Stop(RunKey, Grace),
    Settle(RunKey),
    Place(RunKey, oneshot::Sender<Option<Place>>),
}

/// What the task is made of.
pub(super) struct Parts {
    pub(super) api: Api,
    pub(super) config: KubernetesConfig,
    pub(super) cluster: String,
    pub(super) random: Random,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// The executor's name among the parts of its process.
    pub(super) part: String,
    pub(super) commands: Commands<Command>,
    pub(super) events: mpsc::Sender<Event>,
}

/// A request that has come to its end.
enum Done {
    Call(Ticket, Outcome),
    Lease(Box<Lease>, Result<(), Error>),
    Usage(Result<Vec<Look>, kube::Error>),
}

/// The task.
pub(super) struct Worker {
    api: Api,
    config: KubernetesConfig,
    cluster: String,
    metrics: Metrics,
    health: Health,
    /// The API server's name among the parts of the process.
    part: String,
    clock: Clock,
    commands: Commands<Command>,
    events: mpsc::Sender<Event>,
    table: Table,
    nodes: Nodes,
    pace: Pace,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    watches: Watches,
    lease: Lease,
    is_renewing: bool,
    valid_until: Duration,
    /// Questions that wait for the first lists.
    questions: Vec<Command>,
    changes: NodeChanges,
    usage: UsageWork,
}

/// How the metrics API is asked.
#[derive(Default)]
struct UsageWork {
    is_asking: bool,
    /// When to ask again.
    at: Duration,
    /// Whether there is such an API, as far as is known.
    is_there: Option<bool>,
    /// The shards of whose pods it is still to be asked this time.
    rest: BTreeSet<ShardId>,
}

/// How changes of nodes are told.
#[derive(Default)]
struct NodeChanges {
    /// Who waits for some.
    wanted: Option<oneshot::Sender<Vec<NodeChange>>>,
    /// Not before this time, so that what changes together is told together.
    not_before: Duration,
    /// What pods took of their nodes, when all nodes were told last, whose runs were over.
    leftover: BTreeMap<Name, Resources>,
}

struct Watches {
    pods: BoxStream<'static, Said<Pod>>,
    foreign: BoxStream<'static, Said<Pod>>,
    nodes: BoxStream<'static, Said<Node>>,
    /// Which of them have listed all there is.
    listed: [bool; 3],
}

/// Runs the back end until it is cancelled; pods are left alone.
pub(super) async fn run(parts: Parts, cancel: CancellationToken) -> Result<(), Error> {
    let Parts { api, config, cluster, random, metrics, health, part, commands, events } = parts;
    let namespace = match config.lease_namespace.as_str() {
        "" => api.namespace.clone(),
        named => named.to_owned(),
    };
    let me = format!("{cluster}_{:016x}", random.u64());
    let (name, duration) = (config.lease_name.clone(), config.lease_duration.0);
    let mut lease = Lease::new(api.clone(), &namespace, &name, me, duration);
    tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(()),
        () = lease.acquire(&health, &part) => {}
    }
    health.not_ready(&part, "its cluster is being listed");
    tracing::info!(%cluster, namespace, lease = name, "executor serves the cluster");
    let mut worker = Worker {
        watches: Watches::new(&api, &config, &cluster, &random),
        table: Table::new(config.clone(), cluster.clone()),
        nodes: Nodes::new(&config),
        pace: Pace::new(config.requests_max),
        clock: api.clock.clone(),
        valid_until: lease.valid_until(),
        lease,
        is_renewing: false,
        work: FuturesUnordered::new(),
        questions: Vec::new(),
        changes: NodeChanges::default(),
        usage: UsageWork::default(),
        api,
        config,
        cluster,
        metrics,
        health,
        part: format!("{part}: API server"),
        commands,
        events,
    };
    let result = worker.work_until(&cancel).await;
    worker.release().await;
    result
}

impl Watches {
    fn new(api: &Api, config: &KubernetesConfig, cluster: &str, random: &Random) -> Self {
        let watched = |path, labels, fields| Watched {
            path,
            labels,
            fields,
            relist_interval: config.relist_interval.0,
        };
        let own = watched("/api/v1/pods", Some(labels::own(cluster)), None);
        let foreign = watched("/api/v1/pods", Some(labels::foreign(cluster)), Some(FOREIGN_FIELDS));
        let nodes = watched("/api/v1/nodes", None, None);
        Self {
            pods: watch(api.clone(), own, random.fork()).boxed(),
            foreign: watch(api.clone(), foreign, random.fork()).boxed(),
            nodes: watch(api.clone(), nodes, random.fork()).boxed(),
            listed: [false; 3],
        }
    }

    fn is_listed(&self) -> bool {
        self.listed.iter().all(|listed| *listed)
    }
}

impl Worker {
    async fn work_until(&mut self, cancel: &CancellationToken) -> Result<(), Error> {
        loop {
            self.turn();
            self.say().await;
            let wake = self.wake();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                Some(done) = self.work.next() => self.on_done(done)?,
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return Ok(()),
                },
                Some(said) = self.watches.pods.next() => self.on_pod(said),
                Some(said) = self.watches.nodes.next() => self.on_node(said),
                Some(said) = self.watches.foreign.next() => self.on_foreign(said),
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.now(), monotonic: self.clock.monotonic() }
    }

    /// Does what is due and sends what may be sent.
    fn turn(&mut self) {
        let now = self.now();
        if !std::mem::replace(&mut self.is_renewing, true) {
            let lease = self.lease.clone();
            self.work.push(Box::pin(async move {
                let (lease, result) = lease.renew().await;
                Done::Lease(Box::new(lease), result)
            }));
        }
        if !self.watches.is_listed() {
            return;
        }
        self.table.on_time(now);
        while now.monotonic < self.valid_until {
            let Some(ticket) = self.pace.begin(now.monotonic) else { break };
            let Some(call) = self.table.next_call() else {
                self.pace.give_back();
                break;
            };
            self.send(ticket, call);
        }
        self.metrics.window(&self.cluster, self.pace.window());
        self.tell_changes(now);
        self.ask_for_usage(now);
    }

    /// Tells who waits for it which nodes have changed.
    fn tell_changes(&mut self, now: Now) {
        if now.monotonic < self.changes.not_before || !self.nodes.have_changed() {
            return;
        }
        if let Some(to) = self.changes.wanted.take() {
            self.changes.not_before = now.monotonic + CHANGES_INTERVAL;
            // Who asked may have gone, and with it the need.
            let _ = to.send(self.nodes.take_changes(&self.changes.leftover));
        }
    }

    fn send(&mut self, ticket: Ticket, call: Call) {
        let uniformity = match &call {
            Call::Create { node, shape, .. } => {
                let label = shape.gang.as_ref().and_then(|gang| gang.uniformity.as_ref());
                label.and_then(|label| self.nodes.label(node, label))
            }
            _ => None,
        };
        self.metrics.called(&self.cluster, &call);
        let asked = calls::perform(
            self.api.clone(),
            self.config.clone(),
            self.cluster.clone(),
            uniformity,
            call,
        );
        self.work.push(Box::pin(async move { Done::Call(ticket, asked.await) }));
    }

    fn is_usage_wanted(&self) -> bool {
        let is_on = !self.config.usage_interval.0.is_zero();
        is_on && !self.usage.is_asking && self.table.len() > 0
    }

    /// Asks what pods use, if that is due: of the pods of one shard after those of another, since
    /// this API gives all that it is asked for at once, and not page by page.
    fn ask_for_usage(&mut self, now: Now) {
        if !self.is_usage_wanted() || now.monotonic < self.usage.at {
            return;
        }
        if self.usage.rest.is_empty() {
            self.usage.rest = self.table.shards();
        }
        let Some(shard) = self.usage.rest.pop_first() else {
            self.usage.at = now.monotonic + self.config.usage_interval.0;
            return;
        };
        self.usage.is_asking = true;
        let (api, own) = (self.api.clone(), labels::own_of_shard(&self.cluster, shard));
        self.work.push(Box::pin(async move { Done::Usage(calls::usage(&api, &own).await) }));
    }

    fn on_usage(&mut self, result: Result<Vec<Look>, kube::Error>) {
        let cluster = &self.cluster;
        let is_absent =
            matches!(&result, Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404));
        match &result {
            Ok(_) if self.usage.is_there != Some(true) => {
                tracing::info!(%cluster, "the metrics API tells what pods use");
            }
            Err(error) if self.usage.is_there != Some(false) => {
                tracing::info!(%cluster, %error, "what pods use is not known: the metrics API does not tell");
            }
            Ok(_) | Err(_) => {}
        }
        let now = self.now();
        for look in result.iter().flatten() {
            self.table.looked_at(look, now);
        }
        let rest = std::mem::take(&mut self.usage.rest);
        let interval = self.config.usage_interval.0;
        let wait = match &result {
            Ok(_) if !rest.is_empty() => Duration::ZERO,
            Err(_) if is_absent => interval.max(usage::ABSENT_INTERVAL),
            Ok(_) | Err(_) => interval,
        };
        let at = now.monotonic + wait;
        self.usage = UsageWork { is_asking: false, at, is_there: Some(result.is_ok()), rest };
    }

    async fn say(&mut self) {
        for event in self.table.take_events() {
            // Nobody listens only while the executor ends; the next one adopts the pods.
            let _ = self.events.send(event).await;
        }
        self.metrics.forced(&self.cluster, self.table.take_forced());
    }

    fn wake(&self) -> Duration {
        let now = self.clock.monotonic();
        let due = self.table.due().filter(|_| self.watches.is_listed());
        let is_to_tell = self.changes.wanted.is_some() && self.nodes.have_changed();
        let told = is_to_tell.then_some(self.changes.not_before);
        let looked = self.is_usage_wanted().then_some(self.usage.at);
        [due, told, looked, self.pace.wakes_at(now)]
            .into_iter()
            .flatten()
            .fold(now + IDLE, Duration::min)
    }

    fn on_done(&mut self, done: Done) -> Result<(), Error> {
        match done {
            Done::Call(ticket, outcome) => {
                let now = self.now();
                self.pace.answered(ticket, outcome.pace, now.monotonic);
                self.metrics.answered(&self.cluster, outcome.pace);
                outcome.tell(&mut self.table, now);
                Ok(())
            }
            Done::Lease(lease, result) => {
                self.valid_until = lease.valid_until();
                match lease.trouble() {
                    Some(why) => self.health.not_ready(&self.part, why),
                    None => self.health.ready(&self.part),
                }
                (self.lease, self.is_renewing) = (*lease, false);
                result
            }
            Done::Usage(result) => {
                self.on_usage(result);
                Ok(())
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Start(start) => self.table.start(*start, now),
            Command::Stop(run, grace) => self.table.stop(run, grace, now),
            Command::Settle(run) => self.table.settle(run, now),
            Command::NodeChanges(to) => self.changes.wanted = Some(to),
            question @ (Command::Adopt(_) | Command::Nodes(_) | Command::Place(..)) => {
                self.questions.push(question);
                self.answer();
            }
        }
    }

    /// Answers what was asked, once there is an answer. Who asked may have gone, and with it the
    /// need.
    fn answer(&mut self) {
        if !self.watches.is_listed() {
            return;
        }
        let now = self.now();
        for question in std::mem::take(&mut self.questions) {
            match question {
                Command::Adopt(to) => {
                    let adopted = self.table.adopt(now);
                    tracing::info!(cluster = %self.cluster, runs = adopted.len(), "pods are adopted");
                    let _ = to.send(adopted);
                }
                Command::Nodes(to) => {
                    self.changes.leftover = self.table.leftover();
                    let _ = to.send(self.nodes.all(&self.changes.leftover));
                    self.nodes.told();
                    self.metrics.pods(&self.cluster, self.table.len());
                }
                Command::Place(key, to) => {
                    let _ = to.send(self.table.place(key));
                }
                Command::NodeChanges(_)
                | Command::Start(_)
                | Command::Stop(..)
                | Command::Settle(_) => {}
            }
        }
    }

    fn on_pod(&mut self, said: Said<Pod>) {
        let now = self.now();
        match said {
            Said::Listing => self.table.listing(),
            Said::There(pod) => {
                if !self.table.seen(&pod, now) {
                    // Somebody has put our label on it: it takes its room all the same.
                    self.nodes.set_foreign(&pod);
                }
            }
            Said::Gone(pod) => {
                self.table.gone(&pod, now);
                self.nodes.remove_foreign(&pod.metadata.uid);
            }
            Said::Listed => {
                self.table.listed();
                self.listed(0);
            }
        }
    }

    fn on_foreign(&mut self, said: Said<Pod>) {
        match said {
            Said::Listing => self.nodes.foreign_listing(),
            Said::There(pod) => self.nodes.set_foreign(&pod),
            Said::Gone(pod) => self.nodes.remove_foreign(&pod.metadata.uid),
            Said::Listed => {
                self.nodes.foreign_listed();
                self.listed(1);
            }
        }
    }

    fn on_node(&mut self, said: Said<Node>) {
        match said {
            Said::Listing => self.nodes.nodes_listing(),
            Said::There(node) => self.nodes.set_node(&node),
            Said::Gone(node) => self.nodes.remove_node(&node.meta().name),
            Said::Listed => {
                self.nodes.nodes_listed();
                self.listed(2);
            }
        }
    }

    fn listed(&mut self, which: usize) {
        self.watches.listed[which] = true;
        self.answer();
    }

    async fn release(mut self) {
        // With the requests that are under way goes the renewal.
        self.work.clear();
        tokio::select! {
            biased;
            () = self.lease.release() => {}
            () = self.clock.sleep(RELEASE_TIME) => {}
        }
    }
}
