//! Trying things out: a workload on clusters that exist in memory only, scheduled by the shipped
//! gateway, shard worker, leader and executors under simulated time.
//!
//! Everything runs on one thread whose clock stands still while anybody works and then leaps to the
//! next thing that is due, so that a simulated day costs what its decisions cost. The same scenario
//! and seed give the same report.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use muster_runtime::clock::Stopwatch;

mod books;
mod cluster;
mod drive;
mod gateway;
mod hold;
pub mod report;
pub mod scenario;
mod series;
mod system;

pub use report::Report;
pub use scenario::Scenario;

/// How to run.
pub struct Options {
    /// What everything random is drawn from.
    pub seed: u64,
    /// Things are noticed at whole multiples of it: ends of runs, and what is to be submitted.
    pub step: Duration,
    /// The end, if it should not be that of the last job.
    pub until: Option<Duration>,
    /// Told now and then how far the simulated time has come, and how many jobs wait.
    pub progress: Box<dyn FnMut(Duration, u64) + Send>,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 0, step: Duration::from_secs(10), until: None, progress: Box::new(|_, _| {}) }
    }
}

impl Scenario {
    /// The seed that the workload's file names, if it names one.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }
}

/// Runs a scenario to its end, on the thread that asks.
///
/// # Errors
/// When jobs are refused, or a part of the simulated system fails.
pub fn run(scenario: Scenario, options: Options) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .context("the system gives no timers")?;
    runtime.block_on(simulate(scenario, options))
}

async fn simulate(scenario: Scenario, options: Options) -> anyhow::Result<Report> {
    let stopwatch = Stopwatch::start();
    let scenario = Arc::new(scenario);
    let Options { seed, step, until, progress } = options;
    let directory = tempfile::tempdir().context("a directory")?;
    let site = system::Site::new(seed, directory.path().to_owned());
    let books = books::Books::new(Arc::clone(&scenario), seed);
    let world = cluster::World::new(books, site.clock.clone(), step);
    let rounds: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let watched = Arc::clone(&rounds);
    let watch = Arc::new(move |took| {
        watched.lock().expect("no code panics while it holds this lock").push(took);
    });
    let gateway = site.start(&scenario, &world, watch).await?;
    let (coming, dependents) = drive::agenda(&scenario.templates);
    let tasks = site.tasks.clone();
    let drive =
        drive::Drive { scenario, site, world, gateway, step, until, coming, dependents, progress };
    let (world, end, moment) = drive.run().await?;
    // Nothing is to be kept: what still runs is dropped with the runtime.
    tasks.cancel();
    let rounds = std::mem::take(&mut *rounds.lock().expect("as above"));
    let figures = report::Figures { seed, step, end, moment, rounds, took: stopwatch.elapsed() };
    let inner = world.lock();
    Ok(report::of(&inner.books, figures))
}
