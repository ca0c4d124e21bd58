//! `muster-bench-processes`: rows of docs/benchmarks.md on a deployment as processes, on a NATS
//! server and an S3 server: a gateway, a shard worker and two executors; for shares many more.
//!
//! The S3 server is that of the tests: it runs in this process, and syncs nothing. What it takes
//! for a put of the same size is measured beside, in the same run.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command line")]

mod shares;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use muster_api::http::QueueSettings;
use muster_client::Client;
use muster_loadtest::latency::{Latency, Percentiles};
use muster_loadtest::measure::table::{Met, Row, grouped, table};
use muster_loadtest::measure::{self, work};
use muster_runtime::clock::Clock;
use muster_runtime::store;
use muster_tests::deployment::{Deployment, Size};
use muster_tests::s3::{ACCESS_KEY, REGION, S3Server, SECRET_KEY};
use muster_tests::usage;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutOptions};

/// Jobs of the bulk submission.
const BULK_JOBS: usize = 200_000;
/// Its connections: more than with a short commit interval, for each waits for commits.
const CONNECTIONS: usize = 16;
/// Jobs in one body of it.
const PER_BODY: usize = 10_000;
/// Queues of the bulk submission, all held back.
const QUEUES: [&str; 4] = ["qa", "qb", "qc", "qd"];
/// Single jobs of the latency rows, one in each interval.
const LIGHT_JOBS: u32 = 200;
const LIGHT_INTERVAL: Duration = Duration::from_millis(100);
/// What `muster shard` commits with by default.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes of a commit of one job.
const COMMIT_BYTES: usize = 6_000;

/// Measures a deployment as processes.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Only these rows
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Vec<Rows>,
    /// Jobs of the share row
    #[arg(long, default_value_t = 1_000_000)]
    share_jobs: u64,
    /// Where what was the case over time in the share row is written, as JSON
    #[arg(long)]
    share_report: Option<PathBuf>,
}

/// Rows that are measured on one deployment, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// Bulk submission, and single jobs under light load
    Submit,
    /// Shares of many queues while leaders are killed
    Shares,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows = Vec::new();
    let chosen = Rows::value_variants().iter();
    for part in chosen.filter(|part| arguments.rows.is_empty() || arguments.rows.contains(part)) {
        match part {
            Rows::Submit => rows.extend(runtime.block_on(submit())?),
            Rows::Shares => {
                let report = arguments.share_report.as_deref();
                rows.push(runtime.block_on(shares::shares(arguments.share_jobs, report))?);
            }
        }
    }
    print!("{}", table(&rows));
    Ok(())
}

async fn submit() -> Result<Vec<Row>> {
    let clock = Clock::system();
    let size = Size { gateways: 1, shards: 1, executors: 2 };
    let mut deployment = Deployment::start(size).await?;
    let client = deployment.client(0)?;
    let put = puts(&deployment.s3, &clock).await?;
    let mut rows = vec![bulk(&mut deployment, &client, &clock).await?];
    rows.extend(latency(&client, &clock, put).await?);
    Ok(rows)
}

async fn queue(client: &Client, name: &str, cordoned: bool) -> Result<()> {
    let settings = QueueSettings { cordoned, ..QueueSettings::default() };
    client.put_queue(name, &settings).await.with_context(|| format!("create {name}"))?;
    Ok(())
}

async fn bulk(deployment: &mut Deployment, client: &Client, clock: &Clock) -> Result<Row> {
    for name in QUEUES {
        queue(client, name, true).await?;
    }
    let bodies = work::bodies(BULK_JOBS, PER_BODY);
    let bytes: usize = bodies.iter().map(|body| body.len()).sum();
    let before = cpu_seconds(deployment)?;
    let wall = measure::bulk(client, clock, &QUEUES, &bodies, CONNECTIONS).await?;
    let spent = cpu_seconds(deployment)?.into_iter().zip(before);
    let spent = spent.map(|((role, after), (_, before))| format!("{role} {:.1} s", after - before));
    let spent = spent.collect::<Vec<_>>().join(", ");
    let rate = BULK_JOBS as f64 / wall.as_secs_f64();
    Ok(row(
        format!(
            "bulk submit, {} different specs of {} B over {CONNECTIONS} connections",
            grouped(BULK_JOBS as u64),
            grouped((bytes / BULK_JOBS) as u64)
        ),
        format!("{} jobs/s", grouped(rate as u64)),
        format!("{wall:.2?}; processor time: {spent}"),
        "≥ 100,000 jobs/s",
        Met::at_least(rate, 100_000.0),
    ))
}

async fn latency(client: &Client, clock: &Clock, put: Percentiles) -> Result<Vec<Row>> {
    queue(client, "light", false).await?;
    let light = measure::light(client, clock, "light", LIGHT_JOBS, LIGHT_INTERVAL).await?;
    let acknowledged = light.acknowledged.percentiles();
    let leased = light.leased.percentiles();
    let interval_ms = COMMIT_INTERVAL.as_secs_f64() * 1e3;
    let goal = 2.0 * put.p99_ms + interval_ms;
    Ok(vec![
        row(
            format!("acknowledge latency, {LIGHT_JOBS} single jobs, one at random in every 100 ms"),
            p50_p99(acknowledged),
            format!("a put alone {}; commit interval {interval_ms:.0} ms", p50_p99(put)),
            &format!("p99 ≤ 2 × put p99 + interval = {goal:.1} ms"),
            Met::at_most(acknowledged.p99_ms, goal),
        ),
        row(
            "queue → lease of these jobs, capacity free".to_owned(),
            p50_p99(leased),
            "from the events' times, in whole milliseconds".to_owned(),
            "p50 ≤ 250 ms, p99 ≤ 1 s",
            Met::at_most(leased.p50_ms, 250.0).and(Met::at_most(leased.p99_ms, 1_000.0)),
        ),
    ])
}

/// Processor time of each process so far.
fn cpu_seconds(deployment: &mut Deployment) -> Result<Vec<(&'static str, f64)>> {
    let nats = deployment.nats.process_id().context("nats-server runs")?;
    let processes = [
        ("gateway", deployment.gateways[0].process().id()),
        ("shard worker", deployment.shards[0].process().id()),
        ("NATS", nats),
        ("load generator and S3 server", std::process::id()),
    ];
    processes.into_iter().map(|(role, id)| Ok((role, usage::cpu_seconds(id)?))).collect()
}

/// What single puts of a small commit take on this server.
async fn puts(s3: &S3Server, clock: &Clock) -> Result<Percentiles> {
    let config = store::Config {
        endpoint: Some(s3.endpoint()),
        region: Some(REGION.to_owned()),
        access_key_id: Some(ACCESS_KEY.to_owned()),
        secret_access_key: Some(store::Secret::new(SECRET_KEY)),
        allow_http: true,
        ..store::Config::at(s3.url("floor"))
    };
    let objects = store::open(&config)?.objects();
    let mut puts = Latency::default();
    for number in 0..300 {
        let began = clock.monotonic();
        let options = PutOptions::from(PutMode::Create);
        let key = Path::from(format!("put/{number:020}"));
        objects.put_opts(&key, vec![7; COMMIT_BYTES].into(), options).await?;
        puts.add(clock.monotonic() - began);
    }
    Ok(puts.percentiles())
}

fn p50_p99(latency: Percentiles) -> String {
    format!("p50 {:.1} ms, p99 {:.1} ms", latency.p50_ms, latency.p99_ms)
}

fn row(what: String, measured: String, beside: String, goal: &str, met: Met) -> Row {
    let row = Row { what, measured, beside, goal: goal.to_owned(), met };
    // A table is printed at the end; this is for whoever waits.
    eprintln!("{row}");
    row
}
