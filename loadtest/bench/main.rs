//! `muster-bench`: measures what docs/benchmarks.md states, on this machine, and prints it as a
//! table.
//!
//! Each row is one run's median, beside a floor measured in the same run where there is one. The
//! deployment is `muster up`, the binary beside this one, as a process of its own.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command line")]

mod core_rows;
mod deployment;
mod system_rows;
mod work;

use clap::Parser;

/// Measures the system on this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Jobs of the bulk submission
    #[arg(long, default_value_t = 200_000)]
    jobs: usize,
    /// Jobs run through simulated clusters
    #[arg(long, default_value_t = 50_000)]
    runs: usize,
    /// Queued jobs of the memory and takeover rows
    #[arg(long, default_value_t = 1_000_000)]
    queued: u64,
    /// Seconds of the idle row; 0 leaves it out
    #[arg(long, default_value_t = 60)]
    idle: u64,
}

/// One line of the table.
struct Row {
    what: String,
    measured: String,
    beside: String,
}

impl Row {
    fn new(what: &str, measured: impl Into<String>, beside: impl Into<String>) -> Self {
        let row = Self { what: what.to_owned(), measured: measured.into(), beside: beside.into() };
        eprintln!("{}: {} ({})", row.what, row.measured, row.beside);
        row
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows = Vec::new();
    rows.push(core_rows::memory(arguments.queued));
    rows.push(core_rows::memory(arguments.queued * 10));
    rows.extend(runtime.block_on(core_rows::takeover(arguments.queued))?);
    rows.extend(runtime.block_on(system_rows::submit(arguments.jobs))?);
    rows.extend(runtime.block_on(system_rows::light_load())?);
    rows.extend(runtime.block_on(system_rows::runs(arguments.runs))?);
    if arguments.idle > 0 {
        rows.push(runtime.block_on(system_rows::idle(arguments.idle))?);
    }
    println!("| what | measured | beside |\n| --- | --- | --- |");
    for row in rows {
        println!("| {} | {} | {} |", row.what, row.measured, row.beside);
    }
    Ok(())
}
