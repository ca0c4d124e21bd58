//! `muster-bench`: measures what docs/benchmarks.md states, on this machine, and prints it as that
//! document's table.
//!
//! Each row is of one run, beside a floor measured in the same run where there is one. The
//! deployment is `muster up`, the binary beside this one, as a process of its own.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command line")]

mod core_rows;
mod deployment;
mod system_rows;

use clap::{Parser, ValueEnum};
use muster_loadtest::measure::table::{Met, Row, table};

/// Measures the system on this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Only these rows
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Vec<Rows>,
    /// Jobs of the bulk submission
    #[arg(long, default_value_t = 200_000)]
    jobs: usize,
    /// Single jobs of the latency rows
    #[arg(long, default_value_t = 1_000)]
    light: u32,
    /// Jobs run through simulated clusters
    #[arg(long, default_value_t = 1_000_000)]
    runs: usize,
    /// Queued jobs of the memory and takeover rows
    #[arg(long, default_value_t = 1_000_000)]
    queued: u64,
    /// Seconds of the idle row
    #[arg(long, default_value_t = 60)]
    idle: u64,
}

/// Rows that are measured together, in the order of the table. Memory comes first: what this
/// process has freed would be used again and not be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// Resident memory of queued jobs
    Memory,
    /// Takeover of a shard
    Takeover,
    /// Bulk submission, and an array
    Submit,
    /// Acknowledgements and leases under light load
    Latency,
    /// Jobs through simulated clusters
    Runs,
    /// The cost of doing nothing
    Idle,
}

fn row(what: &str, measured: String, beside: String, goal: &str, met: Met) -> Row {
    let row = Row { what: what.to_owned(), measured, beside, goal: goal.to_owned(), met };
    // A table is printed at the end; this is for whoever waits.
    eprintln!("{row}");
    row
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows = Vec::new();
    let chosen = Rows::value_variants().iter();
    for part in chosen.filter(|part| arguments.rows.is_empty() || arguments.rows.contains(part)) {
        rows.extend(match part {
            Rows::Memory => core_rows::memory(arguments.queued),
            Rows::Takeover => runtime.block_on(core_rows::takeover(arguments.queued))?,
            Rows::Submit => runtime.block_on(system_rows::submit(arguments.jobs))?,
            Rows::Latency => runtime.block_on(system_rows::latency(arguments.light))?,
            Rows::Runs => runtime.block_on(system_rows::runs(arguments.runs))?,
            Rows::Idle => vec![runtime.block_on(system_rows::idle(arguments.idle))?],
        });
    }
    print!("{}", table(&rows));
    Ok(())
}
