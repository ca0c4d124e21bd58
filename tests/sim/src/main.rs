//! Runs seeds of the simulation from the command line.

use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use muster_core::mutant::Mutant;
use muster_runtime::Random;
use muster_runtime::config::HumanDuration;
use sim::{Options, Outcome, Soak, mutants};

/// Run the whole system in one thread, from a seed, while things go wrong
///
/// Exit code 0: every promise was kept. 1: one was broken; the seed and what is wrong are printed.
#[derive(Debug, Parser)]
#[command(name = "sim", version)]
struct Args {
    /// Run one seed
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run the seeds from A to B - 1
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Option<Range<u64>>,
    /// Run fresh seeds for so long, such as 3m or 1h
    #[arg(long = "for", value_name = "TIME", conflicts_with_all = ["seed", "seeds"])]
    time: Option<HumanDuration>,
    /// Seeds at once (default: the machine's cores)
    #[arg(long)]
    threads: Option<usize>,
    /// Put each mutation in force, one after the other, and run seeds until it is found
    #[arg(long, conflicts_with_all = ["seed", "seeds", "time"])]
    mutants: bool,
    /// Seeds for each mutation, of those too for which no number is stated
    #[arg(long, requires = "mutants", value_name = "N")]
    seeds_max: Option<u64>,
    /// Put one mutation in force; for one seed
    #[arg(long, requires = "seed", value_name = "NAME", value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Print every step; for one seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Print what the roles log, as MUSTER_LOG says, to standard error
    #[arg(long)]
    log: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("it is A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let (from, to) = (number(from)?, number(to)?);
    if from < to { Ok(from..to) } else { Err(format!("{from} is not below {to}")) }
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let named = Mutant::ALL.into_iter().find(|mutant| mutants::about(*mutant).name == name);
    named.ok_or_else(|| {
        let names: Vec<&str> = Mutant::ALL.into_iter().map(|m| mutants::about(m).name).collect();
        format!("there are: {}", names.join(", "))
    })
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.log {
        muster_runtime::telemetry::init(muster_runtime::telemetry::Format::Text)
            .context("logging cannot be set up")?;
    }
    if let Some(seed) = args.seed {
        let outcome = sim::run(seed, Options { trace: args.trace, mutant: args.mutant })?;
        print(&outcome);
        return Ok(exit_code(outcome.findings.is_empty()));
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = args.threads.unwrap_or(cores);
    if args.mutants {
        return hunt(args.seeds_max, threads);
    }
    let seeds = args.seeds.unwrap_or(0..10);
    let soak = match args.time {
        Some(time) => Soak {
            // Small enough to be typed.
            first: Random::from_os().below(1 << 40),
            seeds_max: u64::MAX,
            time_max: time.0,
            threads,
            stops_at_broken: false,
        },
        None => Soak {
            first: seeds.start,
            seeds_max: seeds.end - seeds.start,
            time_max: Duration::MAX,
            threads,
            stops_at_broken: false,
        },
    };
    let summary = sim::soak(&soak, |outcome| {
        if args.time.is_none() || !outcome.findings.is_empty() {
            print(outcome);
        }
    })?;
    say(&summary.text());
    Ok(exit_code(summary.broken.is_empty()))
}

fn hunt(seeds_max: Option<u64>, threads: usize) -> anyhow::Result<ExitCode> {
    let caught = mutants::hunt(seeds_max, threads, |one| {
        let found =
            one.by.as_ref().map_or("not found".to_owned(), |(seed, _)| format!("seed {seed}"));
        eprint(&format!("{}: {found}", mutants::about(one.mutant).name));
    })?;
    say(&mutants::table(&caught));
    let is_found = caught.iter().all(|one| one.by.is_some());
    let summary = mutants::unmutated(&caught, threads)?;
    say(&format!("without a mutation: {}", summary.text().lines().next().unwrap_or_default()));
    Ok(exit_code(is_found && summary.broken.is_empty()))
}

fn exit_code(is_kept: bool) -> ExitCode {
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(outcome: &Outcome) {
    say(&format!(
        "seed {}: digest {:016x}, {} steps, {:.0} s simulated, {} jobs, {} records, {} takeovers, \
         {} pods, {} preempted, {} objects collected, {} operations, {} faults: {}",
        outcome.seed,
        outcome.digest,
        outcome.steps,
        outcome.simulated.as_secs_f64(),
        outcome.jobs,
        outcome.records,
        outcome.takeovers,
        outcome.pods,
        outcome.preempted,
        outcome.collected,
        outcome.operations,
        outcome.faults.values().sum::<u64>(),
        if outcome.findings.is_empty() { "kept" } else { "BROKEN" },
    ));
    for finding in &outcome.findings {
        say(&format!("  {finding}"));
    }
}

#[expect(clippy::print_stderr, reason = "how far it has come, while the table is not whole")]
fn eprint(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "this is what the command answers")]
fn say(text: &str) {
    println!("{text}");
}
