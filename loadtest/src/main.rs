//! `muster-loadtest`: puts load on a deployment and audits it. The report goes to stdout, progress
//! to stderr.
//!
//! Exit codes: 0 done, 1 the audit failed, a request did or a job was refused, 2 the command line
//! is wrong.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command line")]

use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use muster_api::http::QueueSettings;
use muster_client::{Answers, Client, Compression, Error, Format, Options};
use muster_loadtest::acknowledged::Acknowledged;
use muster_loadtest::job::Kind;
use muster_loadtest::scenario::Scenario;
use muster_loadtest::{audit, report, run, submit};
use muster_runtime::clock::Clock;
use muster_runtime::config::HumanDuration;
use muster_runtime::random::Random;

const PROGRESS_PERIOD: Duration = Duration::from_millis(250);
/// How often progress is printed where nothing can be redrawn.
const LINE_PERIOD: Duration = Duration::from_secs(5);

/// The code of a command line that is wrong, as clap has it.
const USAGE: u8 = 2;

/// Puts load on a Muster deployment, and audits it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// The deployment: a gateway, or several with commas between them, of which the next is asked
    /// when one fails
    #[arg(
        long,
        global = true,
        env = "MUSTER_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Submit jobs as fast as they are taken
    Submit(SubmitArguments),
    /// Run a scenario, report, audit
    Run(RunArguments),
    /// Hold the deployment to what it acknowledged earlier (`--ids` of the other commands)
    Audit(AuditArguments),
}

#[derive(Debug, Args)]
struct SubmitArguments {
    /// Jobs in all
    #[arg(long, default_value_t = 100_000)]
    jobs: u64,
    /// Bytes of each pod spec, at least
    #[arg(long, default_value_t = 1024)]
    spec_bytes: usize,
    /// Jobs of one request
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    jobs_per_request: u64,
    /// Requests on their way at once
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Queues, `load-0` and so on; those that are missing are created
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    queues: u32,
    /// The job set; without it each run has its own
    #[arg(long)]
    job_set: Option<String>,
    /// The format of the bodies
    #[arg(long, value_enum, default_value = "ndjson")]
    format: BodyFormat,
    /// How the bodies are compressed
    #[arg(long, value_enum, default_value = "none")]
    compress: BodyCompression,
    /// Each job differs from every other one
    #[arg(long)]
    distinct: bool,
    /// Make each job an array of so many
    #[arg(long)]
    count: Option<u32>,
    /// What each job asks for
    #[arg(long, default_value = "100m")]
    cpu: String,
    /// What each job asks for
    #[arg(long, default_value = "64Mi")]
    memory: String,
    /// How long each job runs, where it is simulated
    #[arg(long)]
    runtime: Option<HumanDuration>,
    /// Ask for a summary, not for the ids: then nothing can be audited
    #[arg(long, conflicts_with_all = ["ids", "audit"])]
    summary: bool,
    /// Wait so long for the jobs to end, then audit
    #[arg(long, value_name = "DURATION")]
    audit: Option<HumanDuration>,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The scenario (TOML)
    scenario: PathBuf,
    /// Write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
struct AuditArguments {
    /// What was acknowledged
    #[arg(long, value_name = "FILE")]
    ids: PathBuf,
    /// How long jobs may still live
    #[arg(long, default_value = "60s", value_name = "DURATION")]
    drain: HumanDuration,
    /// State directory of an executor that records its runs (`executor.record_runs`), to compare
    /// with; may be repeated
    #[arg(long, value_name = "DIR")]
    executor_state: Vec<PathBuf>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Files {
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write what was acknowledged, for `audit`
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BodyFormat {
    /// A job a line
    Ndjson,
    /// One document, all or nothing
    Json,
    /// Columns, as an Arrow IPC stream
    Arrow,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BodyCompression {
    None,
    Gzip,
    Zstd,
}

#[tokio::main]
async fn main() -> ExitCode {
    match dispatch(Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            let is_usage = matches!(error.downcast_ref(), Some(Error::BadUrl { .. }));
            if is_usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether all is well.
async fn dispatch(cli: Cli) -> anyhow::Result<bool> {
    let client = Client::new(&cli.url, Options::default())?;
    let clock = Clock::system();
    match cli.command {
        Command::Submit(arguments) => run_submit(&client, &clock, arguments).await,
        Command::Run(arguments) => run_scenario(&client, &clock, arguments).await,
        Command::Audit(arguments) => run_audit(&client, &clock, &arguments).await,
    }
}

async fn run_submit(
    client: &Client,
    clock: &Clock,
    arguments: SubmitArguments,
) -> anyhow::Result<bool> {
    let plan = plan(&arguments);
    create_missing(client, &plan.queues).await?;
    let progress = Arc::new(submit::Progress::default());
    let bar = bar(plan.jobs);
    let sending = submit::submit(client, clock, plan, Arc::clone(&progress));
    let (report, acknowledged) = with_progress(clock, sending, || {
        bar.set_position(progress.answered.load(Ordering::Relaxed));
        None
    })
    .await?;
    bar.finish_and_clear();
    print!("{}", report.text());
    write_ids(arguments.files.ids.as_deref(), &acknowledged)?;
    let audit = match arguments.audit {
        Some(drain) => Some(audit::audit(client, clock, acknowledged, drain.0).await?),
        None => None,
    };
    if let Some(audit) = &audit {
        print!("{}", audit.text());
    }
    write_json(
        arguments.files.json.as_deref(),
        &serde_json::json!({ "submit": report, "audit": audit }),
    )?;
    Ok(report.rejected == 0 && audit.is_none_or(|audit| audit.passed()))
}

fn plan(arguments: &SubmitArguments) -> submit::Plan {
    let own_job_set = || format!("load-{:08x}", Random::from_os().u64() >> 32);
    submit::Plan {
        jobs: arguments.jobs,
        jobs_per_request: arguments.jobs_per_request,
        connections: arguments.connections,
        queues: (0..arguments.queues).map(|number| format!("load-{number}")).collect(),
        job_set: arguments.job_set.clone().unwrap_or_else(own_job_set),
        kind: Kind {
            cpu: arguments.cpu.clone(),
            memory: arguments.memory.clone(),
            runtime: arguments.runtime.map(Duration::from),
            failure_rate: None,
            count: arguments.count,
            spec_bytes: arguments.spec_bytes,
        },
        distinct: arguments.distinct,
        format: match arguments.format {
            BodyFormat::Ndjson => Format::Ndjson,
            BodyFormat::Json => Format::Json,
            BodyFormat::Arrow => Format::Arrow,
        },
        compression: match arguments.compress {
            BodyCompression::None => Compression::None,
            BodyCompression::Gzip => Compression::Gzip,
            BodyCompression::Zstd => Compression::Zstd,
        },
        answers: if arguments.summary { Answers::Summary } else { Answers::Each },
    }
}

async fn create_missing(client: &Client, queues: &[String]) -> anyhow::Result<()> {
    let there = client.queues().await?;
    for name in queues {
        if !there.iter().any(|queue| queue.name == *name) {
            client.put_queue(name, &QueueSettings::default()).await?;
        }
    }
    Ok(())
}

async fn run_scenario(
    client: &Client,
    clock: &Clock,
    arguments: RunArguments,
) -> anyhow::Result<bool> {
    let path = arguments.scenario.display().to_string();
    let text = std::fs::read_to_string(&arguments.scenario).with_context(|| path.clone())?;
    let scenario = Scenario::parse(&text).context(path)?;
    let live = Arc::new(run::Live::default());
    let running = run::run(client, clock, scenario, Arc::clone(&live));
    let (report, acknowledged) = with_progress(clock, running, || Some(live.line())).await?;
    print!("{}", report::text(&report));
    if let Some(path) = &arguments.html {
        std::fs::write(path, report::html(&report)).with_context(|| path.display().to_string())?;
    }
    write_ids(arguments.files.ids.as_deref(), &acknowledged)?;
    write_json(arguments.files.json.as_deref(), &report)?;
    Ok(report.passed())
}

async fn run_audit(
    client: &Client,
    clock: &Clock,
    arguments: &AuditArguments,
) -> anyhow::Result<bool> {
    let name = arguments.ids.display().to_string();
    let file = File::open(&arguments.ids).with_context(|| name.clone())?;
    let acknowledged = Acknowledged::read(&mut BufReader::new(file)).context(name)?;
    let mut report = audit::audit(client, clock, acknowledged, arguments.drain.0).await?;
    if !arguments.executor_state.is_empty() {
        report.take_runs(&audit::runs::Runs::read(&arguments.executor_state)?);
    }
    print!("{}", report.text());
    write_json(arguments.json.as_deref(), &report)?;
    Ok(report.passed())
}

/// Does the work, and says from time to time how far it is. `step` moves a bar, or gives a line to
/// show.
async fn with_progress<T>(
    clock: &Clock,
    work: impl Future<Output = T>,
    step: impl Fn() -> Option<String>,
) -> T {
    let terminal = std::io::stderr().is_terminal();
    let period = if terminal { PROGRESS_PERIOD } else { LINE_PERIOD };
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                if terminal {
                    eprint!("\r\x1b[K");
                }
                return done;
            }
            () = clock.sleep(period) => match step() {
                Some(line) if terminal => eprint!("\r\x1b[K{line}"),
                Some(line) => eprintln!("{line}"),
                None => {}
            }
        }
    }
}

fn bar(jobs: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:40} {human_pos} of {human_len} jobs, {per_sec}, {eta} left",
    );
    ProgressBar::new(jobs).with_style(style.expect("the template is sound"))
}

fn write_ids(path: Option<&Path>, acknowledged: &Acknowledged) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let name = || path.display().to_string();
    let mut file = BufWriter::new(File::create(path).with_context(name)?);
    acknowledged.write(&mut file).with_context(name)?;
    file.flush().with_context(name)
}

fn write_json<T: serde::Serialize>(path: Option<&Path>, value: &T) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(value)? + "\n";
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
