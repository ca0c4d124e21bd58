//! A stand-in for the leader of the pool and the owners of all shards: leases what it is told to,
//! judges reports by what it believes, and remembers all it hears.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_api::bus::{
    self, BelievedRun, GetLogs, JobPayload, LeaseAnswer, LeaseReply, LeaseRequest, LeasedRun,
    LogsReply, Report, RunPage, RunStatus, ShardReply, ShardRequest, StopRuns, subject,
};
use muster_api::shape::ShapeText;
use muster_core::id::{JobId, JobRef, ShardId, run_digest};
use muster_core::resources::Resources;
use muster_core::shape::Shape;
use muster_core::time::Timestamp;
use muster_executor::{Config, Deps, Metrics};
use muster_runtime::bus::memory::Memory;
use muster_runtime::bus::{Bus, Message, ReplyTo};
use muster_runtime::http::Health;
use muster_runtime::tasks::{Policy, Supervisor};
use muster_runtime::{Blocking, Clock, Random};
use tokio_util::sync::CancellationToken;

pub(crate) const SHARDS: u16 = 2;
pub(crate) const START: Timestamp = Timestamp(1_790_000_000_000);
const PAGE: usize = 1000;
const PAYLOADS_MAX: usize = 300;

/// Everything around an executor.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) bus: Arc<Memory>,
    pub(crate) clock: Clock,
    pub(crate) tasks: Supervisor,
    random: Random,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    unique: u64,
    payloads: BTreeMap<JobId, JobPayload>,
    pub(crate) believed: BTreeMap<(JobRef, u32), (LeasedRun, String)>,
    to_lease: Vec<LeasedRun>,
    unseen: Vec<LeasedRun>,
    /// Stop orders that the leader's answers repeat.
    pub(crate) stops: Vec<(String, u32)>,
    answer: u64,
    version: Option<u64>,
    /// Whether the request that is held shall be answered at once.
    is_due: bool,
    held: Option<(ReplyTo, usize)>,
    /// So many answers with leases get lost.
    pub(crate) answers_to_lose: usize,
    /// So many requests get lost that tell changes.
    pub(crate) requests_to_lose: usize,
    /// So many answers to reports get lost.
    pub(crate) verdicts_to_lose: usize,
    pub(crate) answers_sent: usize,
    pub(crate) requests: Vec<LeaseRequest>,
    pub(crate) nodes: BTreeMap<String, bus::Node>,
    pub(crate) reports: Vec<Report>,
    /// Ids of commands that were answered.
    commands: BTreeMap<u128, Vec<bool>>,
    pub(crate) repeated_commands: usize,
    pub(crate) payload_requests: Vec<Vec<JobId>>,
    pub(crate) heartbeats: usize,
}

/// An executor that runs.
pub(crate) struct Running {
    cancel: CancellationToken,
    task: muster_runtime::tasks::Task,
}

impl Running {
    /// Ends it as a shutdown does.
    pub(crate) async fn end(mut self) {
        self.cancel.cancel();
        self.task.finished().await.unwrap();
    }
}

impl World {
    pub(crate) async fn new(clock: Clock) -> Self {
        let world = Self {
            bus: Arc::new(Memory::default()),
            clock,
            tasks: Supervisor::new(Random::seeded(1)),
            random: Random::seeded(2),
            state: Arc::default(),
        };
        for shard in 0..SHARDS {
            world.serve(&subject::shard(ShardId(shard)), move |w, m| w.on_shard(ShardId(shard), m));
            tokio::task::yield_now().await;
        }
        world.serve(&subject::pool("default"), |w, m| w.on_lease(m));
        world.serve(subject::HEARTBEATS, |w, _| {
            w.lock().heartbeats += 1;
            None
        });
        tokio::task::yield_now().await;
        world
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Starts an executor in a directory.
    pub(crate) fn start(&self, config: Config) -> Running {
        let deps = Deps {
            bus: self.bus.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            tasks: self.tasks.clone(),
            blocking: Blocking::new(1),
            metrics: Metrics::default(),
            health: Health::new(),
        };
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let task = self.tasks.spawn_once("executor", Policy::VITAL, move |_| {
            muster_executor::run(config, deps, token)
        });
        Running { cancel, task }
    }

    /// A job with that pod spec and annotations; `count` makes it an array.
    pub(crate) fn job(&self, pod_spec: &str, annotations: &str, count: Option<u32>) -> JobId {
        let mut state = self.lock();
        state.unique += 1;
        let shard = ShardId(u16::try_from(state.unique).unwrap() % SHARDS);
        let job = JobId::new(START, shard, state.unique);
        let payload = JobPayload {
            job,
            found: true,
            queue: "q".into(),
            job_set: "s".into(),
            namespace: "default".into(),
            count,
            labels: bytes::Bytes::new(),
            annotations: annotations.to_owned().into(),
            network: bytes::Bytes::new(),
            pod_spec: pod_spec.to_owned().into(),
        };
        state.payloads.insert(job, payload);
        job
    }

    /// Leases an attempt at a job.
    pub(crate) fn lease(&self, job: JobRef, attempt: u32, node: &str, request: &[(&str, &str)]) {
        let run = leased(job, attempt, node, request);
        let mut state = self.lock();
        state.believed.insert((job, attempt), (run.clone(), "leased".into()));
        state.to_lease.push(run);
        drop(state);
        self.answer_held();
    }

    /// Makes the shard believe in a run that was never handed out.
    pub(crate) fn believe(&self, job: JobRef, attempt: u32, node: &str, state: &str) {
        let run = leased(job, attempt, node, &[]);
        self.lock().believed.insert((job, attempt), (run, state.into()));
    }

    /// Sends a stop order.
    pub(crate) async fn order_stop(&self, cluster: &str, job: JobRef, attempt: u32) {
        let order = StopRuns { runs: vec![(job.to_string(), attempt)] };
        self.bus.publish(&subject::cluster_stop(cluster), bus::encode(&order)).await.unwrap();
    }

    /// The final reports of a run.
    pub(crate) fn ends(&self, job: JobRef) -> Vec<Report> {
        let state = self.lock();
        let is_end = |r: &&Report| {
            r.job == job && !matches!(r.status, RunStatus::Pending | RunStatus::Running)
        };
        state.reports.iter().filter(is_end).cloned().collect()
    }

    /// Waits for the end of a run.
    pub(crate) async fn end_of(&self, job: JobRef) -> Report {
        self.eventually("the run ends", || self.ends(job).first().cloned()).await
    }

    /// Waits until a run is reported to be in a state.
    pub(crate) async fn reported(&self, job: JobRef, status: RunStatus) -> Report {
        let is_it = |r: &&Report| r.job == job && r.status == status;
        let find = || self.lock().reports.iter().find(is_it).cloned();
        self.eventually("the status is reported", find).await
    }

    /// Waits for something, at most half a minute.
    pub(crate) async fn eventually<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = self.clock.monotonic() + Duration::from_secs(30);
        while self.clock.monotonic() < deadline {
            if let Some(found) = look() {
                return found;
            }
            self.clock.sleep(Duration::from_millis(5)).await;
        }
        panic!("in vain: {what}");
    }

    /// All output of a run.
    pub(crate) async fn output(&self, cluster: &str, job: JobRef, attempt: u32) -> String {
        let mut text = Vec::new();
        loop {
            let offset = text.len() as u64;
            let request = GetLogs { job, attempt, offset, limit: 4096, wait_ms: 5000 };
            let subject = subject::cluster_logs(cluster);
            let reply =
                self.bus.request(&subject, bus::encode(&request), Duration::from_secs(10)).await;
            match bus::decode(&reply.unwrap()).unwrap() {
                LogsReply::Piece { data, end } => {
                    text.extend_from_slice(&data);
                    if end {
                        return String::from_utf8(text).unwrap();
                    }
                }
                LogsReply::Missing(why) => return format!("missing: {why}"),
            }
        }
    }

    fn serve(
        &self,
        subject: &str,
        answer: impl Fn(&Self, &Message) -> Option<bytes::Bytes> + Send + Sync + 'static,
    ) {
        let (world, subject, answer) = (self.clone(), subject.to_owned(), Arc::new(answer));
        self.tasks.spawn(format!("world {subject}"), Policy::DETACHED, move |_| {
            let (world, subject, answer) = (world.clone(), subject.clone(), answer.clone());
            async move {
                let mut messages = world.bus.subscribe(&subject, None).await.unwrap();
                while let Some(message) = messages.next().await {
                    let reply = answer(&world, &message);
                    if let (Some(reply), Some(to)) = (reply, &message.reply) {
                        world.bus.respond(to, reply).await.unwrap();
                    }
                }
                Ok::<(), Infallible>(())
            }
        });
    }

    fn on_lease(&self, message: &Message) -> Option<bytes::Bytes> {
        let request: LeaseRequest = bus::decode(&message.payload).unwrap();
        {
            let mut state = self.lock();
            // As the leader: what another process did not see, it finds by comparing notes.
            if state.requests.last().is_some_and(|last| last.instance != request.instance) {
                state.unseen.clear();
            }
            let is_change = request.nodes.base.is_some() && !request.nodes.nodes.is_empty();
            if state.requests_to_lose > 0 && is_change {
                state.requests_to_lose -= 1;
                return None;
            }
            state.requests.push(request.clone());
            match request.nodes.base {
                None => state.nodes.clear(),
                Some(base) if state.version.is_some_and(|held| base <= held) => {}
                Some(_) if state.version.is_some() => {
                    state.held = message.reply.clone().map(|to| (to, 0));
                    state.is_due = true;
                    drop(state);
                    self.answer_held();
                    return None;
                }
                Some(_) => return Some(bus::encode(&LeaseReply::TellAll)),
            }
            state.version = Some(request.nodes.version);
            for name in &request.nodes.removed {
                state.nodes.remove(name);
            }
            for node in &request.nodes.nodes {
                state.nodes.insert(node.name.clone(), node.clone());
            }
            if request.seen == Some(("leader".into(), state.answer)) {
                state.unseen.clear();
            }
            state.held = message.reply.clone().map(|to| (to, request.leases_max as usize));
            state.is_due = request.wait_ms == 0;
        }
        self.answer_held();
        None
    }

    fn answer_held(&self) {
        let mut state = self.lock();
        let Some((_, leases_max)) = &state.held else { return };
        // What was not seen is sent again before anything else is placed.
        let count = (*leases_max).min(state.to_lease.len());
        if state.unseen.is_empty() && count > 0 {
            state.answer += 1;
            state.unseen = state.to_lease.drain(..count).collect();
        }
        if state.unseen.is_empty() {
            if !state.is_due {
                return;
            }
            // As the leader: that it has heard of the nodes is an answer, too.
            state.answer += 1;
        }
        let Some((to, _)) = state.held.take() else { return };
        let answer = LeaseReply::Answer(LeaseAnswer {
            session: "leader".into(),
            answer: state.answer,
            version: state.version.unwrap(),
            leases: state.unseen.clone(),
            stops: state.stops.clone(),
        });
        state.answers_sent += 1;
        if state.answers_to_lose > 0 {
            state.answers_to_lose -= 1;
            return;
        }
        drop(state);
        let bus = self.bus.clone();
        self.tasks.spawn_once("answer", Policy::DETACHED, move |_| async move {
            bus.respond(&to, bus::encode(&answer)).await
        });
    }

    fn on_shard(&self, shard: ShardId, message: &Message) -> Option<bytes::Bytes> {
        let mut state = self.lock();
        let reply = match bus::decode(&message.payload).unwrap() {
            ShardRequest::Report(request) => {
                let verdicts = match state.commands.get(&request.command.0) {
                    Some(verdicts) => {
                        let verdicts = verdicts.clone();
                        state.repeated_commands += 1;
                        verdicts
                    }
                    None => {
                        let verdicts: Vec<bool> =
                            request.reports.iter().map(|r| state.judge(r)).collect();
                        state.commands.insert(request.command.0, verdicts.clone());
                        verdicts
                    }
                };
                if state.verdicts_to_lose > 0 {
                    state.verdicts_to_lose -= 1;
                    return None;
                }
                ShardReply::Reported(verdicts)
            }
            ShardRequest::Payloads(request) => {
                state.payload_requests.push(request.jobs.clone());
                let known = |job: &JobId| match state.payloads.get(job) {
                    Some(payload) => payload.clone(),
                    None => missing(*job),
                };
                ShardReply::Payloads(request.jobs.iter().take(PAYLOADS_MAX).map(known).collect())
            }
            ShardRequest::Sync(request) => ShardReply::Runs(state.compare(shard, &request)),
            other => panic!("executors do not ask {other:?}"),
        };
        Some(bus::encode(&reply))
    }
}

impl State {
    fn judge(&mut self, report: &Report) -> bool {
        self.reports.push(report.clone());
        let key = (report.job, report.attempt);
        let Some((_, state)) = self.believed.get_mut(&key) else { return false };
        match report.status {
            RunStatus::Pending => *state = "pending".into(),
            RunStatus::Running => *state = "running".into(),
            _ => {
                self.believed.remove(&key);
            }
        }
        true
    }

    fn compare(&self, shard: ShardId, request: &bus::Sync) -> RunPage {
        let mine: Vec<_> =
            self.believed.iter().filter(|((job, _), _)| job.job.shard() == shard).collect();
        let digest =
            mine.iter().fold(0, |sum, ((job, attempt), _)| sum ^ run_digest(*job, *attempt));
        let agreed = digest == request.digest && mine.len() as u64 == request.count;
        if agreed && request.after.is_none() {
            return RunPage { agreed, runs: Vec::new(), more: false };
        }
        let behind = mine.iter().filter(|((job, _), _)| request.after.is_none_or(|a| *job > a));
        let mut runs: Vec<BelievedRun> = behind
            .map(|(_, (run, state))| BelievedRun { run: run.clone(), state: state.clone() })
            .collect();
        let more = runs.len() > PAGE;
        runs.truncate(PAGE);
        RunPage { agreed: false, runs, more }
    }

    /// Jobs that a final report was heard of more than once.
    pub(crate) fn ended_twice(&self) -> BTreeSet<JobRef> {
        let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for report in &self.reports {
            let is_end = !matches!(report.status, RunStatus::Pending | RunStatus::Running);
            if is_end && !once.insert(report.job) {
                twice.insert(report.job);
            }
        }
        twice
    }
}

fn missing(job: JobId) -> JobPayload {
    JobPayload {
        job,
        found: false,
        queue: String::new(),
        job_set: String::new(),
        namespace: String::new(),
        count: None,
        labels: bytes::Bytes::new(),
        annotations: bytes::Bytes::new(),
        network: bytes::Bytes::new(),
        pod_spec: bytes::Bytes::new(),
    }
}

fn leased(job: JobRef, attempt: u32, node: &str, request: &[(&str, &str)]) -> LeasedRun {
    let request: Resources =
        request.iter().map(|(name, q)| ((*name).into(), q.parse().unwrap())).collect();
    let shape = ShapeText(Arc::new(Shape::of_request(request)));
    LeasedRun { job, attempt, node: node.into(), shape }
}

/// A pod that runs a shell script.
pub(crate) fn shell(script: &str) -> String {
    pod(script, "")
}

/// A pod that runs a shell script, and more fields of its spec.
pub(crate) fn pod(script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).unwrap();
    format!(r#"{{"containers":[{{"command":["sh","-c",{script}]}}]{more}}}"#)
}

/// Settings of a local executor.
pub(crate) fn local(folder: &Path) -> Config {
    let keeper = Some(env!("CARGO_BIN_EXE_muster-keep-run").into());
    Config {
        shards: SHARDS,
        state_dir: folder.to_owned(),
        local: muster_executor::config::LocalConfig { keeper, ..Default::default() },
        shutdown_timeout: muster_runtime::config::HumanDuration::secs(2),
        ..Config::default()
    }
}
