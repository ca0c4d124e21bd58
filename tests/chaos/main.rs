//! `muster-chaos`: a deployment as processes on real servers, broken for as long as it is told to,
//! and held to what it acknowledged. Exit code 0: every promise was kept. 1: one was broken.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command line")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use muster_runtime::config::HumanDuration;
use muster_runtime::random::Random;
use muster_tests::chaos::schedule::Kind;
use muster_tests::chaos::{self, Options};
use muster_tests::disk;
use muster_tests::kubernetes::{Cluster, NodeSpec, Spec};
use muster_tests::s3::S3Server;
use muster_tests::whole;
use tokio::signal::unix::{SignalKind, signal};

/// Run a deployment on real servers, break it, and hold it to what it acknowledged
#[derive(Debug, Parser)]
#[command(name = "muster-chaos", version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The faults follow from it (default: a fresh one)
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults go on, such as 90s or 5m
    #[arg(long = "for", value_name = "TIME", default_value = "1m")]
    time: HumanDuration,
    /// Jobs submitted in a second
    #[arg(long, default_value_t = 200.0)]
    jobs_per_second: f64,
    /// Only faults whose names contain one of these texts, such as `NATS`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Keep logs and data when a promise was broken
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve S3 from a directory, as the runs do in a process of its own
    ServeS3 {
        /// Address and port
        #[arg(long)]
        listen: SocketAddr,
        /// Where its objects are kept
        #[arg(long)]
        directory: PathBuf,
    },
    /// Start a Kubernetes cluster with virtual nodes, print its kubeconfig, and keep it
    ServeKubernetes {
        /// Nodes of 8 cpus
        #[arg(long, default_value_t = 3)]
        nodes: usize,
    },
    /// Run jobs on two Kubernetes clusters, of which one is taken away and brought back
    Kubernetes {
        /// Jobs in all: a multiple of 100, and at least 300
        #[arg(long, default_value_t = 20_000)]
        jobs: usize,
    },
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    match args.command {
        Some(Command::ServeS3 { listen, directory }) => return serve_s3(listen, &directory),
        Some(Command::ServeKubernetes { nodes }) => return serve_kubernetes(nodes),
        Some(Command::Kubernetes { jobs }) => return on_kubernetes(whole::Options { jobs }),
        None => {}
    }
    // Before any thread is there. Where it is refused the run does without disks, and says so.
    if let Err(error) = disk::enter_own_namespace() {
        eprintln!("no disk will be filled: {error:#}");
    }
    let options = Options {
        seed: args.seed.unwrap_or_else(|| Random::from_os().below(1 << 40)),
        time: args.time.0,
        jobs_per_second: args.jobs_per_second,
        kinds: kinds(&args.only)?,
        keeps: args.keep,
    };
    eprintln!("seed {}", options.seed);
    let report = until_stopped(chaos::run(&options, |step| eprintln!("{step}")))?.report;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        eprint!("{}", report.text());
    } else {
        print!("{}", report.text());
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The whole thing; `muster-chaos` has its programs, and the audit.
fn on_kubernetes(options: whole::Options) -> Result<ExitCode> {
    let report = until_stopped(whole::run(options, |step| eprintln!("{step}")))?;
    print!("{}", report.text());
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whoever stops it leaves no processes behind: they end with the future that is dropped.
fn until_stopped<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut asked = signal(SignalKind::terminate())?;
        tokio::select! {
            biased;
            outcome = work => outcome,
            _ = asked.recv() => bail!("stopped by SIGTERM"),
            _ = tokio::signal::ctrl_c() => bail!("stopped by SIGINT"),
        }
    })
}

/// The kinds that are meant; all of them where none is.
fn kinds(only: &[String]) -> Result<Vec<Kind>> {
    let is_meant = |kind: &Kind| only.iter().any(|text| kind.name().contains(text.as_str()));
    let kinds = Kind::all().filter(|kind| only.is_empty() || is_meant(kind)).collect::<Vec<_>>();
    let names = || Kind::all().map(Kind::name).collect::<Vec<_>>().join("; ");
    ensure!(!kinds.is_empty(), "{only:?} is in no name of these: {}", names());
    Ok(kinds)
}

/// Runs a cluster until it is told to end.
fn serve_kubernetes(nodes: usize) -> Result<ExitCode> {
    until_stopped(async {
        let nodes = NodeSpec::many(nodes, "n", "8", "16Gi");
        let cluster = Cluster::start(Spec::of(nodes)).await?;
        println!("{}", cluster.kubeconfig().display());
        std::future::pending().await
    })
}

/// Serves until it is killed.
fn serve_s3(listen: SocketAddr, directory: &std::path::Path) -> Result<ExitCode> {
    let _server = S3Server::start_on(directory, listen).context("serve S3")?;
    loop {
        std::thread::park_timeout(Duration::from_secs(60));
    }
}
