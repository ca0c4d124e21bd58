//! The whole system in one thread, from one seed: gateways, shard workers, pool leaders and
//! executors as they ship, on a bus, a store and clusters in memory, with time that stands still
//! while anybody works. A nemesis breaks things; when everything was healed and has settled, the
//! checker holds the promises against the log, the history and what clients were told.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use muster_core::mutant::{self, Mutant};
use muster_runtime::Random;
use muster_runtime::bus::memory::Memory;
use object_store::memory::InMemory;
use serde_json::json;
use tokio::time::Instant;

mod audit;
mod background;
mod check;
mod client;
mod faults;
mod gangs;
mod garbage;
mod grants;
mod history;
mod http;
mod ledger;
mod memory;
pub mod mutants;
mod nemesis;
mod net;
mod observed;
mod panics;
mod plan;
mod process;
mod profile;
mod soak;
mod store;
mod terms;
mod trace;
mod watcher;
mod world;

pub use memory::Samples;
pub use soak::{Soak, Summary, soak};

use background::spawn;
use faults::Faults;
use ledger::Ledger;
use plan::Plan;
use process::Site;
use store::Landings;
use trace::{Trace, note};
use world::Shared;

/// Watchers of each job set.
const WATCHERS: usize = 1;
/// Job sets of each queue.
const JOB_SETS: usize = 2;
/// How long nothing may come further, once faults have stopped, while anything has still to finish.
const STALL_BOUND: Duration = Duration::from_secs(120);
/// How long everything may take to finish once faults have stopped.
const SETTLE_BOUND: Duration = Duration::from_secs(3_600);

/// How to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether every step is printed.
    pub trace: bool,
    /// The promise that is broken on purpose.
    pub mutant: Option<Mutant>,
}

/// What came of one seed.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What is wrong; empty when all promises were kept.
    pub findings: Vec<String>,
    /// A hash of everything that happened.
    pub digest: u64,
    /// How many things happened.
    pub steps: u64,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// Faults injected, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Operations of clients whose outcome was checked.
    pub operations: u64,
    /// Jobs in the logs, tasks one by one.
    pub jobs: u64,
    /// Records in the logs.
    pub records: u64,
    /// Fences in the logs.
    pub takeovers: u64,
    /// Pods that were started.
    pub pods: u64,
    /// Jobs that made room for others, as often as they did.
    pub preempted: u64,
    /// Objects of logs and checkpoints that were collected.
    pub collected: u64,
}

/// Runs one seed.
///
/// # Errors
/// When the simulation itself fails: it could not make its runtime or its directory, or has no
/// mutations.
pub fn run(seed: u64, options: Options) -> anyhow::Result<Outcome> {
    let has_mutants = mutant::choose(options.mutant);
    anyhow::ensure!(
        has_mutants || options.mutant.is_none(),
        "this build has no mutations: build it with `--features mutants`"
    );
    panics::watch();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .context("a runtime")?;
    let directory = tempfile::tempdir().context("a directory")?;
    // The checker runs code of the product, too, and what a mutation wrote may make it panic.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(simulate(seed, options, directory.path().to_owned()))
    }));
    drop(runtime);
    let mut outcome = match outcome {
        Ok(outcome) => outcome?,
        Err(_) => Outcome { seed, ..Outcome::default() },
    };
    outcome.findings.extend(panics::take());
    Ok(outcome)
}

async fn simulate(
    seed: u64,
    options: Options,
    directory: std::path::PathBuf,
) -> anyhow::Result<Outcome> {
    let random = Random::seeded(seed);
    let plan = Arc::new(Plan::draw(seed, &random));
    let trace = Trace::new(options.trace);
    let began = Instant::now();
    note!(trace, "seed {seed}: {plan:?}");
    let site = Site {
        bus: Memory::default(),
        objects: Arc::new(InMemory::new()),
        landings: Landings::new(began),
        faults: Faults::new(random.fork()),
        trace: trace.clone(),
        random: random.fork(),
        pods: observed::Pods::new(began),
        directory,
        began,
        plan: Arc::clone(&plan),
    };
    let shared = Shared::new(site, began + plan.busy);
    shared.start_all();
    spawn(shared.clone().orchestrate());
    let mut findings = Vec::new();
    let mut ledger = Ledger::default();
    if create_queues(&shared).await {
        findings.extend(work(&shared, &mut ledger, &random).await);
    } else {
        findings.push("queues could not be created in time".to_owned());
    }
    read(&shared, &mut ledger).await?;
    findings.extend(check::check(&shared, &ledger).await?);
    findings.extend(garbage::check(&shared, &ledger).await?);
    findings.extend(garbage::verify(&shared).await?);
    for slot in shared.processes().iter_mut() {
        slot.process.kill();
    }
    let (digest, steps) = trace.digest();
    let operations = shared.history.lock().operations;
    Ok(Outcome {
        seed,
        findings,
        digest,
        steps,
        simulated: began.elapsed(),
        faults: shared.site.faults.counts(),
        operations,
        jobs: ledger.tasks().count() as u64,
        records: ledger.records,
        takeovers: ledger.takeovers,
        pods: shared.site.pods.started(),
        preempted: ledger.preempted,
        collected: garbage::collected(&shared),
    })
}

async fn read(shared: &Shared, ledger: &mut Ledger) -> anyhow::Result<()> {
    let site = &shared.site;
    ledger.read(&site.landings, site.plan.shards).await
}

async fn create_queues(shared: &Shared) -> bool {
    for number in 0..shared.site.plan.queues {
        let settings = json!({ "weight": 1 + number });
        let path = client::queue_path(&client::queue(number));
        if !put_until_done(shared, &path, &settings).await {
            return false;
        }
    }
    let path = format!("/api/v1/priority-classes/{}", client::URGENT);
    let urgent = json!({ "priority": 5_000, "preemptible": false });
    !shared.site.plan.manners.has_classes || put_until_done(shared, &path, &urgent).await
}

async fn put_until_done(shared: &Shared, path: &str, settings: &serde_json::Value) -> bool {
    for gateway in 0..60 {
        if client::put(shared, gateway, path, settings).await {
            return true;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    false
}

/// Clients and nemesis at work, then peace; what did not come to its end.
async fn work(shared: &Shared, ledger: &mut Ledger, random: &Random) -> Vec<String> {
    let plan = &shared.site.plan;
    let clients: Vec<_> = (0..plan.clients)
        .map(|number| spawn(client::Client::new(shared.clone(), number, random.fork()).run()))
        .collect();
    for queue in (0..plan.queues).map(client::queue) {
        for (job_set, number) in
            (0..JOB_SETS).flat_map(|set| (0..WATCHERS).map(move |number| (set, number)))
        {
            let job_set = format!("set-{job_set}");
            let watch =
                watcher::watch(shared.clone(), queue.clone(), job_set, number, random.fork());
            spawn(watch);
        }
    }
    for gateway in 0..plan.gateways {
        for _ in 0..plan.manners.probers {
            let number = plan.clients + gateway;
            let prober = client::Client::new(shared.clone(), number, random.fork());
            spawn(prober.probe(gateway));
        }
    }
    spawn(nemesis::run(shared.clone(), random.fork()));
    tokio::time::sleep_until(shared.until).await;
    nemesis::heal(shared);
    let mut findings = Vec::new();
    for client in clients {
        if let Err(error) = client.await {
            findings.push(format!("a client ended badly: {error}"));
        }
    }
    // What troubles began, they end by themselves, at the latest when a cluster is back.
    nemesis::heal(shared);
    for queue in (0..plan.queues).map(client::queue) {
        let path = client::queue_path(&queue);
        if !put_until_done(shared, &path, &json!({ "weight": 1 })).await {
            findings.push(format!("{queue} could not be set once all was healed"));
        }
    }
    match settle(shared, ledger).await {
        Some(what) => findings.push(what),
        None => findings.extend(audit::audit(shared, ledger).await),
    }
    findings
}

/// Waits until all jobs have ended, history has them and watchers saw it.
async fn settle(shared: &Shared, ledger: &mut Ledger) -> Option<String> {
    let healed = Instant::now();
    let (mut before, mut moved) = (Progress::default(), healed);
    loop {
        let (progress, what) = match unsettled(shared, ledger).await {
            Ok((_, None)) => return None,
            Ok((progress, Some(what))) => (progress, what),
            Err(error) => return Some(format!("{error:#}")),
        };
        let now = Instant::now();
        if progress != before {
            (before, moved) = (progress, now);
        }
        let (stalled, took) = (now.duration_since(moved), now.duration_since(healed));
        if stalled >= STALL_BOUND || took >= SETTLE_BOUND {
            let why = why(shared, ledger).await;
            return Some(format!(
                "{took:?} after all was healed, {stalled:?} without a change: {what}{why}"
            ));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// What the system itself says of the first job that did not come to its end.
async fn why(shared: &Shared, ledger: &Ledger) -> String {
    let live = ledger.tasks().find(|(_, _, task)| !task.standing.is_final());
    let Some((reference, _, _)) = live else { return String::new() };
    let ask = http::Ask::get(format!("/api/v1/jobs/{reference}/why"));
    match http::ask(shared, 0, ask).await {
        Some(answer) => format!("; of {reference}: {}", String::from_utf8_lossy(&answer.body)),
        None => format!("; nothing is said of {reference}"),
    }
}

/// How far everything has come: jobs that ended, rows of the history, events that watchers saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    ended: usize,
    rows: usize,
    seen: usize,
}

async fn unsettled(
    shared: &Shared,
    ledger: &mut Ledger,
) -> anyhow::Result<(Progress, Option<String>)> {
    read(shared, ledger).await?;
    let (mut all, mut live) = (0, Vec::new());
    for (reference, _, task) in ledger.tasks() {
        all += 1;
        if !task.standing.is_final() {
            live.push(format!("{reference} is {}", task.standing.name()));
        }
    }
    let rows = check::history_rows(shared).await?.len();
    let kept = check::Kept::read(shared).await?;
    let books = shared.history.lock();
    let seen = books.watched.values().map(|watched| watched.events.len()).sum();
    let behind = check::watchers_behind(&books, ledger, &kept);
    let progress = Progress { ended: all - live.len(), rows, seen };
    let what = if !live.is_empty() {
        let some = live.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        Some(format!("{} jobs live: {some}", live.len()))
    } else if rows < all {
        Some(format!("history has {rows} rows of {all}"))
    } else {
        behind.into_iter().next()
    };
    Ok((progress, what))
}
