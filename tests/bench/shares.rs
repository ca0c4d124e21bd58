//! Whether shares hold end to end: many queues of random weights on many simulated clusters, with
//! several shard workers, while the one that leads the pool is killed again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use muster_api::http::{Pool, QueueSettings};
use muster_client::Client;
use muster_core::quantity::Quantity;
use muster_core::resources::{CPU, MEMORY, PODS, dense};
use muster_core::solve::{dominant_share, fair_shares};
use muster_loadtest::measure::table::{Met, Row, grouped};
use muster_loadtest::measure::{finished, submission};
use muster_runtime::clock::Clock;
use muster_runtime::random::Random;
use muster_tests::deployment::{Deployment, Size};
use muster_tests::journal;
use muster_tests::wait::eventually;
use serde::Serialize;

const QUEUES: u64 = 100;
const CLUSTERS: usize = 20;
const WORKERS: usize = 4;
/// What the pool is like, beside the number of clusters.
const SETTINGS: [(&str, &str); 7] = [
    ("MUSTER_EXECUTOR__SIMULATED__NODES", "500"),
    ("MUSTER_EXECUTOR__SIMULATED__CPU", "8"),
    ("MUSTER_EXECUTOR__SIMULATED__MEMORY", "64Gi"),
    ("MUSTER_EXECUTOR__RECORD_RUNS", "false"),
    ("MUSTER_EXECUTOR__LEASES_MAX", "2000"),
    // As by default: the deployments of tests have shorter leases than so many processes on two
    // cores can be sure to renew.
    ("MUSTER_SHARD__LEASE_TTL", "4s"),
    journal::JSON,
];
/// How long a job runs, evenly spread; long enough that the pool is not empty before a killed
/// leader has a successor.
const RUNTIME: &str = "15s..25s";
/// By then nothing runs any more that was placed before all queues had jobs.
const SETTLED_AFTER: Duration = Duration::from_secs(30);
const KILL_INTERVAL: Duration = Duration::from_secs(30);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// The pool counts as saturated while more is wanted than it has, and so much of it is held.
const SATURATED: f64 = 0.95;
/// No error is larger than this part of the pool, as promised.
const ERROR_MAX: f64 = 0.01;
/// How long it may take until somebody leads.
const LED_WITHIN: Duration = Duration::from_secs(60);
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(2_400);
const RESOURCES: [&str; 3] = [CPU, MEMORY, PODS];
/// Bodies on their way at once.
const CONNECTIONS: usize = 8;

/// The pool at a moment, as its leader tells.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    /// Seconds since all was submitted.
    at: f64,
    /// The part of the cpus that is held.
    held: f64,
    /// Whether more is wanted than there is, and next to all of it held.
    is_saturated: bool,
    /// The largest difference between what a queue has and what it should have, and the queue.
    error: f64,
    queue: String,
    /// Its ideal share, what it has, and its jobs.
    ideal: f64,
    actual: f64,
    queued: u64,
    running: u64,
    /// Nodes that the leader knew of: one that began to lead does not know all.
    nodes: u64,
    /// The same of queues with work.
    #[serde(skip)]
    known: BTreeSet<String>,
}

/// Runs so many jobs and gives the row; what was the case over time goes to `report`.
pub(crate) async fn shares(jobs: u64, report: Option<&Path>) -> Result<Row> {
    let clock = Clock::system();
    let size = Size { gateways: 1, shards: WORKERS, executors: CLUSTERS };
    let mut deployment = Deployment::start_with(size, &SETTINGS).await?;
    let client = deployment.client(0)?;
    let weights = queues(&client).await?;
    let led = async || client.shares("default").await.context("no leader has told of the pool yet");
    eventually(LED_WITHIN, "the pool is led", led).await?;
    let began = clock.monotonic();
    submit(&client, &weights, jobs / QUEUES).await?;
    let submitted = clock.monotonic();
    let (samples, kills) = watch(&mut deployment, &client, &clock).await?;
    let took = clock.monotonic() - began;
    for queue in weights.keys() {
        finished(&client, &clock, queue, jobs / QUEUES).await?;
    }
    if let Some(report) = report {
        std::fs::write(report, serde_json::to_vec_pretty(&samples)?)?;
    }
    let complete = complete(&samples);
    let counted: Vec<&Sample> = complete.iter().filter(|s| s.is_saturated).copied().collect();
    let worst = counted.iter().max_by(|a, b| a.error.total_cmp(&b.error));
    let worst = worst.context("the pool was never saturated")?;
    let mean = counted.iter().map(|sample| sample.error).sum::<f64>() / counted.len() as f64;
    let submitting = submitted - began;
    Ok(super::row(
        format!(
            "share error: {} jobs of {QUEUES} queues on {CLUSTERS} clusters of 500 nodes, \
             {WORKERS} shard workers, the leader killed every {} s",
            grouped(jobs),
            KILL_INTERVAL.as_secs()
        ),
        format!(
            "at most {:.2} % of the pool, {:.2} % in the mean",
            worst.error * 100.0,
            mean * 100.0
        ),
        format!(
            "the worst of {} looks at a saturated pool, of {} in all, is of a queue whose share is \
             {:.2} %; {kills} leaders killed; all submitted after {:.0} s, all over after {:.0} s: \
             {} jobs/s",
            counted.len(),
            samples.len(),
            worst.ideal * 100.0,
            submitting.as_secs_f64(),
            took.as_secs_f64(),
            grouped((jobs as f64 / took.as_secs_f64()) as u64),
        ),
        "≤ 1 %",
        Met::at_most(worst.error, ERROR_MAX),
    ))
}

/// Creates the queues, with weights from 1 to 10 that are the same in every run.
async fn queues(client: &Client) -> Result<BTreeMap<String, f64>> {
    let random = Random::seeded(7);
    let mut weights = BTreeMap::new();
    for number in 0..QUEUES {
        let (name, weight) = (format!("share-{number}"), 1.0 + random.below(9_001) as f64 / 1e3);
        let settings = QueueSettings { weight, ..QueueSettings::default() };
        client.put_queue(&name, &settings).await.with_context(|| format!("create {name}"))?;
        weights.insert(name, weight);
    }
    Ok(weights)
}

/// Submits so many jobs to each, a hundred of one, two and four cpus in turn.
async fn submit(client: &Client, queues: &BTreeMap<String, f64>, jobs: u64) -> Result<()> {
    let job = |number: u64| {
        let cpu = [1, 2, 4][(number / 100 % 3) as usize];
        format!(
            r#"{{"annotations":{{"muster.dev/simulated-runtime":"{RUNTIME}"}},"podSpec":{{"containers":[{{"name":"main","image":"x","command":["true"],"resources":{{"requests":{{"cpu":"{cpu}","memory":"1Gi"}},"limits":{{"cpu":"{cpu}","memory":"1Gi"}}}}}}]}}}}"#
        )
    };
    let mut body = String::new();
    (0..jobs).try_for_each(|number| writeln!(body, "{}", job(number)))?;
    let body = Bytes::from(body);
    let sent = queues.keys().map(|queue| {
        let submission = submission(queue, body.clone(), format!("shares-{queue}"));
        async move { client.submit(&submission).await.map(drop) }
    });
    stream::iter(sent).buffer_unordered(CONNECTIONS).try_collect::<()>().await?;
    Ok(())
}

/// Looks at the pool until all is over, and kills its leader on the way; how often.
async fn watch(
    deployment: &mut Deployment,
    client: &Client,
    clock: &Clock,
) -> Result<(Vec<Sample>, u32)> {
    let began = clock.monotonic();
    let (mut samples, mut kills) = (Vec::new(), 0);
    let mut kill_due = began + SETTLED_AFTER;
    let mut last = String::new();
    let mut looks = tokio::time::interval(SAMPLE_INTERVAL);
    loop {
        looks.tick().await;
        let now = clock.monotonic();
        ensure!(now - began < PATIENCE, "the jobs are not over after {PATIENCE:?}");
        let pool = client.shares("default").await?;
        if pool.at == last {
            continue;
        }
        last.clone_from(&pool.at);
        let work: u64 = pool.queues.iter().map(|queue| queue.queued + queue.running).sum();
        let is_over = work == 0 && pool.clusters.len() == CLUSTERS;
        if is_over && is_all_over(client).await? {
            return Ok((samples, kills));
        }
        if now - began >= SETTLED_AFTER {
            samples.push(sample(&pool, now - began)?);
        }
        if now >= kill_due {
            kill_due = now + KILL_INTERVAL;
            let leader = journal::holders(&deployment.shards, &[])?.leader;
            if let Some(leader) = leader {
                let log_dir = deployment.log_dir().to_path_buf();
                deployment.shards[leader].kill9_and_restart(&log_dir)?;
                kills += 1;
            }
        }
    }
}

/// Whether nothing waits or runs, by the shards themselves: a leader may not know all of them yet.
async fn is_all_over(client: &Client) -> Result<bool> {
    for number in 0..QUEUES {
        let set = client.job_set(&format!("share-{number}"), "bench").await?;
        let live = set.counts.iter().filter(|(state, _)| *state != "succeeded");
        if live.map(|(_, count)| count).sum::<u64>() > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sample(pool: &Pool, at: Duration) -> Result<Sample> {
    let total = amounts(&pool.capacity)?;
    let held = amounts(&pool.allocated)?;
    let mut demands = Vec::new();
    let mut actual = Vec::new();
    for queue in &pool.queues {
        demands.push(((queue.weight * 1e3).round() as u64, amounts(&queue.demand)?));
        actual.push(dominant_share(&total, &amounts(&queue.allocated)?));
    }
    let shares = fair_shares(&total, &demands);
    let errors = shares.iter().zip(&actual).map(|(share, actual)| (share.ideal - actual).abs());
    let worst = errors.zip(0..).max_by(|(a, _), (b, _)| a.total_cmp(b));
    let (error, place) = worst.unwrap_or((0.0, usize::MAX));
    let wanted: f64 = shares.iter().map(|share| share.demand).sum();
    let held = dominant_share(&total, &held);
    let worst = pool.queues.get(place);
    Ok(Sample {
        at: at.as_secs_f64(),
        held,
        is_saturated: wanted > 1.0 && held >= SATURATED,
        error,
        queue: worst.map(|queue| queue.queue.clone()).unwrap_or_default(),
        ideal: shares.get(place).map(|share| share.ideal).unwrap_or_default(),
        actual: actual.get(place).copied().unwrap_or_default(),
        queued: worst.map(|queue| queue.queued).unwrap_or_default(),
        running: worst.map(|queue| queue.running).unwrap_or_default(),
        nodes: pool.nodes,
        known: pool.queues.iter().map(|queue| queue.queue.clone()).collect(),
    })
}

/// The samples in which all nodes are known, and no queue is missing that is there later.
fn complete(samples: &[Sample]) -> Vec<&Sample> {
    let all = samples.iter().map(|sample| sample.nodes).max().unwrap_or_default();
    let mut later: BTreeSet<&str> = BTreeSet::new();
    let mut complete = Vec::new();
    for sample in samples.iter().rev() {
        let knows_queues = later.iter().all(|queue| sample.known.contains(*queue));
        if knows_queues && sample.nodes == all {
            complete.push(sample);
        }
        later.extend(sample.known.iter().map(String::as_str));
    }
    complete
}

fn amounts(quantities: &BTreeMap<String, String>) -> Result<Vec<i64>> {
    let amount = |name: &&str| {
        let text = quantities.get(*name).map_or("0", String::as_str);
        let quantity: Quantity = text.parse().with_context(|| format!("an amount of {name}"))?;
        Ok(dense(name, quantity))
    };
    RESOURCES.iter().map(amount).collect()
}
