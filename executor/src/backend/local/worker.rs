//! The task of the local back end: takes commands and drives the futures of all runs, one each.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use muster_api::bus::{Exit, RunStatus};
use muster_core::shape::Shape;
use muster_core::time::Timestamp;
use muster_runtime::{Blocking, Clock};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::folder::{About, Folder, Folders};
use super::plan::{Plan, plan};
use super::process::{Handle, Outcome, Running, lost, outcome, spawn};
use crate::backend::handle::Commands;
use crate::backend::{Adopted, Error, Event, Grace, Start};
use crate::config::LocalConfig;
use crate::runs::RunKey;

/// How often directories of ended runs are cleaned up.
const CLEAN_INTERVAL: Duration = Duration::from_secs(30);

/// What the back end is told and asked.
pub(super) enum Command {
    Adopt(oneshot::Sender<Result<Vec<Adopted>, Error>>),
    Start(Box<Start>),
    Stop(RunKey, Grace),
    Settle(RunKey),
}

/// What every run needs.
pub(super) struct Shared {
    pub(super) config: LocalConfig,
    /// The program that keeps runs.
    pub(super) keeper: PathBuf,
    pub(super) folders: Folders,
    pub(super) clock: Clock,
    /// Starts processes.
    pub(super) blocking: Blocking,
    /// Removes directories, which may take long.
    pub(super) cleaning: Blocking,
    pub(super) inherited: BTreeMap<String, String>,
    pub(super) events: mpsc::Sender<Event>,
}

/// A future that has come to its end.
enum Done {
    Run(RunKey),
    Clean,
}

/// The task.
pub(super) struct Worker {
    shared: Arc<Shared>,
    commands: Commands<Command>,
    stops: BTreeMap<RunKey, watch::Sender<Option<Duration>>>,
    /// One future each run, and the clean-up. They share permits for blocking work, so all of them
    /// must be polled together: once there are runs, nothing else in this task may wait for such a
    /// permit.
    work: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, commands: Commands<Command>) -> Self {
        Self { shared, commands, stops: BTreeMap::new(), work: FuturesUnordered::new() }
    }

    /// Runs until it is cancelled; processes are left alone.
    pub(super) async fn run(mut self, cancel: CancellationToken) -> Result<(), Error> {
        let clock = self.shared.clock.clone();
        let mut clean_at = Some(clock.monotonic());
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    self.settle_rest();
                    return Ok(());
                }
                Some(done) = self.work.next() => match done {
                    Done::Run(key) => {
                        self.stops.remove(&key);
                    }
                    Done::Clean => clean_at = Some(clock.monotonic() + CLEAN_INTERVAL),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => return Ok(()),
                },
                () = clock.sleep_until(clean_at.unwrap_or_default()), if clean_at.is_some() => {
                    clean_at = None;
                    let shared = Arc::clone(&self.shared);
                    self.work.push(Box::pin(async move {
                        clean(shared).await;
                        Done::Clean
                    }));
                }
            }
        }
    }

    /// Puts aside what was settled before the end: the next executor is not to report it again.
    /// Starts are dropped: their shards have heard nothing of them yet and will name them.
    fn settle_rest(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Settle(key) => self.settle(key),
                Command::Adopt(_) | Command::Start(_) | Command::Stop(..) => {}
            }
        }
    }

    fn settle(&self, key: RunKey) {
        if let Err(error) = self.shared.folders.settle(key) {
            tracing::warn!(job = %key.job, %error, "directory of a run cannot be put aside");
        }
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Adopt(answer) => {
                let adopted = self.adopt().await;
                // Who asked may have gone, and with it the need.
                let _ = answer.send(adopted);
            }
            Command::Start(start) => {
                let stop = self.stop_of(start.key);
                let run = run(Arc::clone(&self.shared), *start, stop);
                self.work.push(Box::pin(async move { Done::Run(run.await) }));
            }
            Command::Stop(key, grace) => {
                if let Some(stop) = self.stops.get(&key) {
                    stop.send_replace(match grace {
                        Grace::OfPod => Some(Duration::MAX),
                        Grace::AtMost(most) => Some(most),
                    });
                }
            }
            Command::Settle(key) => self.settle(key),
        }
    }

    async fn adopt(&mut self) -> Result<Vec<Adopted>, Error> {
        let shared = Arc::clone(&self.shared);
        let found = self.shared.blocking.run(move || adopt_all(&shared)).await;
        let found = found.unwrap_or_else(|error| Err(io::Error::other(error)));
        let found = found
            .map_err(|source| Error::Io { what: "reading the runs' directory".into(), source })?;
        let mut adopted = Vec::new();
        for (run, running) in found {
            if let Some(running) = running {
                let (key, stop) = (run.key, self.stop_of(run.key));
                let events = self.shared.events.clone();
                self.work.push(Box::pin(async move {
                    let outcome = running.end(stop).await;
                    send(&events, key, outcome).await;
                    Done::Run(key)
                }));
            }
            adopted.push(run);
        }
        Ok(adopted)
    }

    fn stop_of(&mut self, key: RunKey) -> watch::Receiver<Option<Duration>> {
        let (sender, receiver) = watch::channel(None);
        self.stops.insert(key, sender);
        receiver
    }
}

/// Removes directories of runs that ended long ago.
async fn clean(shared: Arc<Shared>) {
    let age = i64::try_from(shared.config.retention.0.as_millis()).unwrap_or(i64::MAX);
    let oldest = Timestamp(shared.clock.now().0.saturating_sub(age));
    let blocking = shared.cleaning.clone();
    let cleaned =
        blocking.run(move || shared.folders.clean(oldest, shared.config.ended_runs_max)).await;
    match cleaned.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(0) => {}
        Ok(count) => tracing::debug!(count, "directories of ended runs removed"),
        Err(error) => tracing::warn!(%error, "ended runs cannot be cleaned up"),
    }
}

/// A run from its start to its end.
async fn run(shared: Arc<Shared>, start: Start, stop: watch::Receiver<Option<Duration>>) -> RunKey {
    let key = start.key;
    let started_at = shared.clock.now();
    let planned = plan(key, &start.payload, &start.shape, &shared.inherited);
    let plan = match planned {
        Ok(plan) => plan,
        Err(refusal) => {
            let outcome = failed(refusal.reason, refusal.message, started_at);
            send(&shared.events, key, outcome).await;
            return key;
        }
    };
    let folder = shared.folders.live(key);
    let about = about(&start, &plan, started_at);
    let (deadline, grace) = (Some(plan.deadline), plan.grace);
    let spawned = {
        let folder = folder.clone();
        let keeper = shared.keeper.clone();
        let work = move || folder.create(&about).and_then(|()| spawn(&keeper, &folder, &plan));
        shared.blocking.run(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    };
    let child = match spawned {
        Ok(child) => child,
        Err(error) => {
            send(&shared.events, key, not_started(&error, shared.clock.now())).await;
            return key;
        }
    };
    // Not the time of now: a short command may have ended before this thread came to it.
    let running = Outcome { status: RunStatus::Running, at: started_at, exit: Exit::default() };
    send(&shared.events, key, running).await;
    let running = Running {
        folder,
        child: Handle::Child(Box::new(child)),
        started_at,
        deadline,
        grace,
        output_bytes_max: shared.config.output_max.0,
        clock: shared.clock.clone(),
    };
    let outcome = running.end(stop).await;
    send(&shared.events, key, outcome).await;
    key
}

async fn send(events: &mpsc::Sender<Event>, key: RunKey, outcome: Outcome) {
    let Outcome { status, at, exit } = outcome;
    // Nobody listens only while the executor ends; the next one finds the run's directory.
    let _ = events.send(Event { key, status, at, exit, addresses: Vec::new() }).await;
}

fn about(start: &Start, plan: &Plan, started_at: Timestamp) -> About {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    About {
        job: start.key.job.to_string(),
        attempt: start.key.attempt,
        node: start.node.to_string(),
        shape: start.shape.canonical(),
        started_at_ms: started_at.0,
        deadline_ms: Some(millis(plan.deadline)),
        grace_ms: millis(plan.grace),
    }
}

fn failed(reason: &str, message: String, at: Timestamp) -> Outcome {
    let exit = Exit { reason: Some(reason.to_owned()), message: Some(message), ..Exit::default() };
    Outcome { status: RunStatus::Failed, at, exit }
}

/// What the job itself is to blame for fails it; what this machine lacks may be had elsewhere.
fn not_started(error: &io::Error, at: Timestamp) -> Outcome {
    use io::ErrorKind::{ArgumentListTooLong, InvalidInput, NotADirectory, NotFound};
    let message = format!("the command cannot be started: {error}");
    let outcome = failed("StartError", message, at);
    let is_of_job = [ArgumentListTooLong, InvalidInput, NotADirectory, NotFound]
        .contains(&error.kind())
        || error.kind() == io::ErrorKind::PermissionDenied;
    if is_of_job { outcome } else { Outcome { status: RunStatus::Returned, ..outcome } }
}

type Found = (Adopted, Option<Running>);

fn adopt_all(shared: &Shared) -> io::Result<Vec<Found>> {
    let mut all = Vec::new();
    for folder in shared.folders.all_live()? {
        match adopt_one(shared, &folder) {
            Ok(found) => all.push(found),
            Err(error) => {
                // It was cut off while it was created: no process ever ran in it.
                let run = folder.path().display();
                tracing::warn!(%run, %error, "directory of a run cannot be read, removed");
                std::fs::remove_dir_all(folder.path())?;
            }
        }
    }
    Ok(all)
}

fn adopt_one(shared: &Shared, folder: &Folder) -> io::Result<Found> {
    let about = folder.about()?;
    let job = about.job.parse().map_err(io::Error::other)?;
    let key = RunKey { job, attempt: about.attempt };
    let shape = Shape::from_canonical(&about.shape);
    let shape = shape.ok_or_else(|| io::Error::other("shape is malformed"))?;
    let started_at = Timestamp(about.started_at_ms);
    let deadline = about.deadline_ms.map(Duration::from_millis);
    let (outcome, process) = whereabouts(folder, deadline, started_at, shared.clock.now())?;
    let running = process.map(|process| Running {
        folder: folder.clone(),
        child: Handle::Adopted(process),
        started_at,
        deadline,
        grace: Duration::from_millis(about.grace_ms),
        output_bytes_max: shared.config.output_max.0,
        clock: shared.clock.clone(),
    });
    let Outcome { status, at, exit } = outcome;
    let report = Event { key, status, at, exit, addresses: Vec::new() }.into_report();
    Ok((Adopted { key, node: about.node.as_str().into(), shape: Arc::new(shape), report }, running))
}

/// What has become of the run of a directory, and its process if it still runs.
fn whereabouts(
    folder: &Folder,
    deadline: Option<Duration>,
    started_at: Timestamp,
    now: Timestamp,
) -> io::Result<(Outcome, Option<super::folder::Process>)> {
    let running = Outcome { status: RunStatus::Running, at: started_at, exit: Exit::default() };
    if folder.process().is_none() {
        // Either the keeper sees this before it starts the command, or we see that it has started.
        folder.write_gone()?;
    }
    match folder.process() {
        Some(process) if process.is_alive() => Ok((running, Some(process))),
        Some(_) | None => Ok((outcome(folder, deadline).unwrap_or_else(|| lost(now)), None)),
    }
}

/// What runs may use of this process's environment; the rest, secrets among it, is none of theirs.
pub(super) fn inherited_variables() -> BTreeMap<String, String> {
    let names = ["PATH", "LANG", "LC_ALL", "TZ", "HOME", "USER"];
    let present = names.into_iter().filter_map(|n| Some((n.to_owned(), std::env::var(n).ok()?)));
    present.collect()
}

/// Where the local back end keeps its runs.
pub(super) fn root(state_dir: &std::path::Path, cluster: &str) -> PathBuf {
    state_dir.join(format!("local-{cluster}"))
}
