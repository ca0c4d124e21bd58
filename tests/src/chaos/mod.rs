//! Chaos on real servers: all roles as processes on a NATS cluster and an S3 server, a steady load
//! of submissions and cancellations, and a schedule of faults that follows from a seed. What was
//! acknowledged decides in the end: the audit of the load tester, the executors' own diaries, and
//! watchers that saw every event once.
//!
//! Only the schedule follows from the seed. What the processes make of it does not: a seed that
//! fails once may pass the next time.

mod follow;
mod load;
pub mod nemesis;
pub mod plant;
mod probe;
pub mod report;
pub mod schedule;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use muster_api::http::QueueSettings;
use muster_client::Client;
use muster_core::route::shard_of_queue;
use muster_loadtest::audit;
use muster_runtime::clock::Clock;

use follow::Follower;
use load::{Done, Load};
use nemesis::Account;
use plant::{Plant, SHARDS, Size};
use probe::{Probe, Seen};
use report::Report;
use schedule::{Fault, Kind, schedule};

/// How long the deployment may take until it does its work, at first and after the last fault.
const SETTLES: Duration = Duration::from_secs(300);
/// How long it may take from then until nothing lives any more.
const DRAIN: Duration = Duration::from_secs(300);
/// The disk of the S3 server: so much for a start, and so much for each second.
const STORE_BYTES: u64 = 64 * 1024 * 1024;
const STORE_BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;

/// What is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The schedule follows from it.
    pub seed: u64,
    /// How long faults go on.
    pub time: Duration,
    /// How many jobs are submitted.
    pub jobs_per_second: f64,
    /// What goes wrong; disks only where some can be mounted.
    pub kinds: Vec<Kind>,
    /// Whether the logs and the data stay behind when a promise was broken.
    pub keeps: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What it found.
    pub report: Report,
    /// Where the logs and the data are, if they were kept.
    pub kept: Option<PathBuf>,
}

/// Runs it. `say` hears of each step.
///
/// # Errors
/// When the processes cannot be run; what they do wrong is in the report.
pub async fn run(options: &Options, mut say: impl FnMut(&str)) -> Result<Outcome> {
    let size = Size::default();
    let clock = Clock::system();
    let store_bytes = STORE_BYTES + STORE_BYTES_PER_SECOND * options.time.as_secs();
    let mut plant = Plant::start(size, store_bytes).await?;
    say("all processes run");
    let result = with(&mut plant, options, &clock, &mut say).await;
    let is_kept = options.keeps && !result.as_ref().is_ok_and(Report::passed);
    let kept = is_kept.then(|| plant.keep().to_owned());
    if let Some(path) = &kept {
        say(&format!("logs and data stay in {}", path.display()));
    }
    Ok(Outcome { report: result?, kept })
}

async fn with(
    plant: &mut Plant,
    options: &Options,
    clock: &Clock,
    say: &mut impl FnMut(&str),
) -> Result<Report> {
    let clients = [plant.client(0)?, plant.client(1)?];
    let queues = queues_of_all_shards(&clients[0], "load").await?;
    // Of their own: what waits in the others is not what the probe is about.
    let probed = queues_of_all_shards(&clients[0], "probe").await?;
    let probe = Probe::new(plant.client(0)?, &probed, clock);
    works(&probe, "at first").await?;
    say("a first job has run in every shard");
    let (has_disks, kinds) = (plant.disks.is_ok(), options.kinds.iter().copied());
    let kinds = kinds.filter(|kind| has_disks || !kind.needs_disks()).collect::<Vec<_>>();
    let schedule = schedule(options.seed, options.time, plant.size(), &kinds);
    let load = Load::new(clients.to_vec(), &queues, options);
    let follower =
        |queue: &String| Ok(Follower::new(plant.client(1)?, queue, probe::JOB_SET, clock));
    let followers = probed.iter().map(follower).collect::<Result<Vec<_>>>()?;

    let faults = async {
        let account = survive(plant, &schedule, &probe, clock, &mut *say).await;
        load.stop();
        probe.stop();
        account
    };
    let work = async {
        let (account, done, seen) = tokio::join!(faults, load.run(), probe.run());
        let account = account?;
        let began = clock.monotonic();
        let mut report = judge(options, clock, &clients[1], account, done, seen).await?;
        for follower in &followers {
            match follower.check().await {
                Ok(events) => report.events_followed += events,
                Err(error) => report.findings.push(format!("{error:#}")),
            }
        }
        report.drain_seconds = (clock.monotonic() - began).as_secs_f64();
        Ok::<_, anyhow::Error>(report)
    };
    let following = try_join_all(followers.iter().map(Follower::run));
    let mut report = tokio::select! {
        biased;
        report = work => report?,
        ended = following => return Err(ended.err().context("watchers go on for ever")?),
    };
    report.no_disks = plant.disks.as_ref().err().map(|error| format!("{error:#}"));
    judge_processes(plant, &mut report)?;
    Ok(report)
}

/// A queue of each shard.
async fn queues_of_all_shards(client: &Client, prefix: &str) -> Result<Vec<String>> {
    let mut queues = Vec::new();
    for shard in 0..SHARDS {
        let mut names = (0..).map(|number| format!("{prefix}-{number}"));
        let name = names.find(|name| shard_of_queue(name, SHARDS).0 == shard);
        let name = name.context("every shard has queues")?;
        let settings = QueueSettings::default();
        client.put_queue(&name, &settings).await.with_context(|| format!("create {name}"))?;
        queues.push(name);
    }
    Ok(queues)
}

/// Waits until a job that is submitted now has run in every shard.
async fn works(probe: &Probe, when: &str) -> Result<()> {
    let round = tokio::time::timeout(SETTLES, probe.round()).await;
    let round = round.with_context(|| format!("no job runs within {SETTLES:?}, {when}"))?;
    round.with_context(|| when.to_owned()).map(drop)
}

/// Lets everything go wrong, puts it right, and waits until the deployment does its work again.
async fn survive(
    plant: &mut Plant,
    schedule: &[Fault],
    probe: &Probe,
    clock: &Clock,
    say: &mut impl FnMut(&str),
) -> Result<Account> {
    let mut account = nemesis::run(plant, schedule, clock, &mut *say).await?;
    account.load_average = load_average();
    plant.nats.until_ready().await?;
    works(probe, "after the last fault").await?;
    nemesis::look_after(plant, &mut account)?;
    say("all is well again; waiting until everything has ended");
    Ok(account)
}

/// Holds the deployment to what it has acknowledged.
async fn judge(
    options: &Options,
    clock: &Clock,
    client: &Client,
    account: Account,
    done: Done,
    seen: Seen,
) -> Result<Report> {
    let mut acknowledged = done.acknowledged;
    acknowledged.merge(seen.acknowledged);
    let jobs = acknowledged.jobs();
    let sets = acknowledged.job_sets.keys().cloned().collect::<Vec<_>>();
    let audit = audit::audit(client, clock, acknowledged, DRAIN).await?;
    let (mut finished, mut cancelled) = (0, 0);
    for (queue, name) in &sets {
        let counts = client.job_set(queue, name).await?.counts;
        finished += counts.get("succeeded").copied().unwrap_or_default();
        cancelled += counts.get("cancelled").copied().unwrap_or_default();
    }
    let mut findings = [done.findings, seen.findings].concat();
    if finished + cancelled != jobs {
        findings.push(format!("{finished} finished and {cancelled} cancelled of {jobs}"));
    }
    Ok(Report {
        seed: options.seed,
        seconds: options.time.as_secs_f64(),
        load_average: account.load_average,
        no_disks: None,
        acknowledged: jobs,
        finished,
        cancelled,
        lost: audit.lost,
        duplicated: audit.repeated,
        requests: done.requests,
        repeated: done.repeated,
        cancels: done.cancels,
        probes: seen.rounds.len() as u64,
        events_followed: 0,
        recoveries: report::recoveries(&account.happened, &seen.rounds),
        ended: account.ended,
        drain_seconds: 0.0,
        audit,
        findings,
    })
}

/// What the executors wrote down of what they really ran, and whether anything panicked.
fn judge_processes(plant: &Plant, report: &mut Report) -> Result<()> {
    let directories = (0..plant.size().executors).map(|number| plant.state_dir(number));
    let recorded = audit::runs::Runs::read(&directories.collect::<Vec<_>>())?;
    ensure!(recorded.count() >= report.finished, "{} runs were recorded", recorded.count());
    report.audit.take_runs(&recorded);
    report.duplicated = report.audit.repeated;
    for role in &plant.roles {
        let log = role.part.log()?;
        let panics = log.lines().filter(|line| line.contains("panic"));
        let name = role.part.name();
        report.findings.extend(panics.map(|line| format!("{name}: {line}")));
    }
    Ok(())
}

/// The machine's load over the last minute, where it says.
fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
