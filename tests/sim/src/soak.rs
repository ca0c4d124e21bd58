//! Many seeds: on all cores, until they are through or the time is up, with a watch over each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_runtime::Clock;

use crate::memory::Samples;
use crate::{Options, Outcome, run};

/// How long one seed may take by the wall clock, without a simulated moment passing, before it
/// counts as caught in a loop. Seeds take seconds.
const SEED_TIME_MAX: Duration = Duration::from_secs(600);

/// Runs of this length show whether memory is given back.
const MEMORY_FROM: Duration = Duration::from_secs(60);

/// What many seeds came to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Seeds that ran to their end.
    pub seeds: u64,
    /// Seeds that broke a promise, and how.
    pub broken: Vec<Outcome>,
    /// Time that passed in the simulations.
    pub simulated: Duration,
    /// Time that it took.
    pub took: Duration,
    /// Faults injected, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Operations of clients whose outcome was checked.
    pub operations: u64,
    /// Jobs, tasks one by one.
    pub jobs: u64,
    /// Takeovers of shards.
    pub takeovers: u64,
    /// Memory of the process after each seed.
    pub memory: Samples,
    /// Objects of logs and checkpoints that were collected.
    pub collected: u64,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.operations += outcome.operations;
        self.jobs += outcome.jobs;
        self.takeovers += outcome.takeovers;
        self.collected += outcome.collected;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        if !outcome.findings.is_empty() {
            self.broken.push(outcome);
        }
    }

    /// As text for people.
    #[must_use]
    pub fn text(&self) -> String {
        let seconds = self.took.as_secs_f64().max(f64::EPSILON);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.seeds as f64 / seconds;
        let mut text = format!(
            "{} seeds in {seconds:.0} s ({rate:.2} seeds/s), {:.1} simulated hours, {} jobs, {} takeovers, \
             {} objects collected, {} operations checked, {} seeds broke a promise\n",
            self.seeds,
            self.simulated.as_secs_f64() / 3600.0,
            self.jobs,
            self.takeovers,
            self.collected,
            self.operations,
            self.broken.len(),
        );
        for (kind, count) in &self.faults {
            text += &format!("  {count:>9} × {kind}\n");
        }
        if self.took >= MEMORY_FROM {
            text += &self.memory.plot();
        }
        text
    }
}

/// Which seeds to run, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Soak {
    /// The first seed; the others follow.
    pub first: u64,
    /// How many at most.
    pub seeds_max: u64,
    /// No seed is begun after this long.
    pub time_max: Duration,
    /// Seeds at once.
    pub threads: usize,
    /// Whether the first broken promise ends it.
    pub stops_at_broken: bool,
}

/// Runs seeds; `seen` is told of each.
///
/// # Errors
/// When the simulation itself fails, or a seed is caught in a loop.
pub fn soak(soak: &Soak, seen: impl Fn(&Outcome) + Sync) -> anyhow::Result<Summary> {
    let clock = Clock::system();
    let next = Mutex::new(0_u64);
    let summary = Mutex::new(Summary::default());
    let stop = AtomicBool::new(false);
    let began = clock.monotonic();
    let work = || -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) && clock.monotonic() - began < soak.time_max {
            let number = {
                let mut next = next.lock().expect("no code panics while it holds this lock");
                *next += 1;
                *next - 1
            };
            if number >= soak.seeds_max {
                break;
            }
            let outcome = watched(soak.first.wrapping_add(number), Options::default())?;
            seen(&outcome);
            if soak.stops_at_broken && !outcome.findings.is_empty() {
                stop.store(true, Ordering::Relaxed);
            }
            let mut summary = summary.lock().expect("no code panics while it holds this lock");
            summary.add(outcome);
            summary.memory.take(clock.monotonic() - began);
        }
        Ok(())
    };
    let threads = soak.threads.max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ends = threads.into_iter().map(|thread| thread.join().expect("it does not panic"));
        ends.collect::<anyhow::Result<Vec<()>>>()
    })?;
    let mut summary = summary.into_inner().expect("no code panics while it holds this lock");
    summary.took = clock.monotonic() - began;
    Ok(summary)
}

/// Runs a seed in a thread of its own, which is given up when it is caught in a loop.
pub(crate) fn watched(seed: u64, options: Options) -> anyhow::Result<Outcome> {
    let (sender, outcome) = std::sync::mpsc::sync_channel(1);
    let name = format!("seed-{seed}");
    let sender = Arc::new(sender);
    std::thread::Builder::new().name(name).spawn(move || {
        // Nobody waits any more only after this seed was given up.
        let _ = sender.send(run(seed, options));
    })?;
    match outcome.recv_timeout(SEED_TIME_MAX) {
        Ok(outcome) => outcome,
        Err(error) => anyhow::bail!("seed {seed} has not ended after {SEED_TIME_MAX:?}: {error}"),
    }
}
