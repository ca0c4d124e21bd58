//! `muster-bench-kubernetes`: rows of docs/benchmarks.md on a Kubernetes cluster: a real API server
//! on a real store, with its controllers and scheduler; only the nodes are virtual. All of it, the
//! deployment and the load share this machine.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command line")]

mod bare;
mod memory;
mod plant;
mod runs;
mod store;
mod watch;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use muster_loadtest::measure::table::{Met, Row, table};
use muster_tests::usage;

/// Measures the executor on a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Only these rows
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Vec<Rows>,
    /// Rounds of the executor, and as many of the bare client, at least one
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Pods of a round
    #[arg(long, default_value_t = 1_000)]
    pods: usize,
    /// Pods of the memory rows, one row each
    #[arg(long, value_delimiter = ',', default_values_t = [20_000, 100_000])]
    kept_pods: Vec<usize>,
    /// Nodes of the memory rows
    #[arg(long, default_value_t = 5_000)]
    kept_nodes: usize,
}

/// Rows that are measured on one cluster, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// Pods a second, beside a bare client
    Pods,
    /// Requests of the API server for each pod
    Requests,
    /// From lease to pod
    Latency,
    /// Memory with many pods and nodes
    Memory,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let chosen = Rows::value_variants().iter().copied();
    let chosen: Vec<Rows> =
        chosen.filter(|part| arguments.rows.is_empty() || arguments.rows.contains(part)).collect();
    eprintln!("load average at the start: {:.1}", usage::load()?);
    let mut rows = Vec::new();
    if chosen.iter().any(|part| *part != Rows::Memory) {
        rows.extend(runtime.block_on(runs::rows(&chosen, &arguments))?);
    }
    if chosen.contains(&Rows::Memory) {
        let (pods, nodes) = (&arguments.kept_pods, arguments.kept_nodes);
        rows.extend(runtime.block_on(memory::rows(pods, nodes))?);
    }
    eprintln!("load average at the end: {:.1}", usage::load()?);
    print!("{}", table(&rows));
    Ok(())
}

fn row(what: String, measured: String, beside: String, goal: &str, met: Met) -> Row {
    let row = Row { what, measured, beside, goal: goal.to_owned(), met };
    // A table is printed at the end; this is for whoever waits.
    eprintln!("{row}");
    row
}
