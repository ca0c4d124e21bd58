//! The rows on one cluster whose nodes take pods: pods a second beside a bare client, requests for
//! each, and how long it takes from lease to pod.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use muster_client::Follow;
use muster_core::time::Timestamp;
use muster_loadtest::latency::Latency;
use muster_loadtest::measure;
use muster_loadtest::measure::table::{Met, Row, grouped};
use muster_tests::kubernetes::{NodeSpec, Target};
use muster_tests::usage;
use muster_tests::wait::eventually;

use crate::bare::{self, Fate, REQUESTS, Template};
use crate::plant::{CLEANING, CLUSTER, NAMESPACE, PATIENCE, Plant, Spent, between};
use crate::watch::Watch;
use crate::{Arguments, Rows, row};

/// The nodes have room for all pods of a round at once.
const NODES: usize = 40;
const QUEUE: &str = "rounds";
/// How often it is looked how far the executor is.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const LIGHT_QUEUE: &str = "light";
const LIGHT_JOBS: u32 = 200;
const LIGHT_INTERVAL: Duration = Duration::from_millis(250);
const COUNTED_QUEUE: &str = "counted";
const COUNTED_JOBS: usize = 500;
/// How large a part of what the cluster can do the executor is to bring about.
const RATIO_GOAL: f64 = 0.9;
const REQUESTS_GOAL: f64 = 4.0;

/// What came of a round.
struct Round {
    pods_per_second: f64,
    wall: Duration,
    spent: Spent,
}

pub(crate) async fn rows(chosen: &[Rows], arguments: &Arguments) -> Result<Vec<Row>> {
    let mut plant = Plant::start(NodeSpec::many(NODES, "node", "64", "256Gi")).await?;
    let mut rows = Vec::new();
    if chosen.contains(&Rows::Pods) {
        rows.extend(pods(&mut plant, arguments.rounds, arguments.pods).await?);
    }
    if chosen.contains(&Rows::Requests) {
        rows.push(requests(&mut plant).await?);
    }
    if chosen.contains(&Rows::Latency) {
        rows.push(latency(&mut plant).await?);
    }
    Ok(rows)
}

/// The rounds, each kind by the number of the round.
#[derive(Default)]
struct Rounds {
    executor: Vec<Round>,
    bare: Vec<Round>,
    idle: Vec<Round>,
}

async fn pods(plant: &mut Plant, rounds: u32, count: usize) -> Result<Vec<Row>> {
    let mut template = template(plant).await?;
    // What comes first makes caches and connections.
    bare_round(plant, &mut template, count / 4, Fate::Run).await?;
    executor_round(plant, count / 4).await?;
    let mut done = Rounds::default();
    let load = usage::load()?;
    for number in 1..=rounds {
        let bare = bare_round(plant, &mut template, count, Fate::Run).await?;
        let executor = executor_round(plant, count).await?;
        let idle = bare_round(plant, &mut template, count, Fate::Idle).await?;
        let told = [("executor", &executor), ("bare client", &bare), ("nobody runs them", &idle)];
        for (kind, round) in told {
            let Round { pods_per_second, wall, .. } = round;
            let by = shares(round);
            eprintln!("round {number}, {kind}: {pods_per_second:.0} pods/s in {wall:.1?}: {by}");
        }
        eprintln!("load average {:.1}", usage::load()?);
        done.executor.push(executor);
        done.bare.push(bare);
        done.idle.push(idle);
    }
    Ok(vec![rate_row(&done, count, load), processor_row(&done, count)])
}

fn rate_row(done: &Rounds, count: usize, load: f64) -> Row {
    let pairs = done.executor.iter().zip(&done.bare);
    let ratios: Vec<f64> = pairs.map(|(a, b)| a.pods_per_second / b.pods_per_second).collect();
    let ratio = median(&ratios);
    let rate = |rounds: &[Round]| {
        median(&rounds.iter().map(|round| round.pods_per_second).collect::<Vec<_>>())
    };
    let each: Vec<String> = ratios.iter().map(|it| format!("{:.0} %", it * 100.0)).collect();
    row(
        format!(
            "pods created, run and cleaned, {} a round, median of {} rounds",
            grouped(count as u64),
            ratios.len()
        ),
        format!("{:.0} pods/s, {:.0} % of the bare client's", rate(&done.executor), ratio * 100.0),
        format!(
            "the bare client {:.0} pods/s, at most {REQUESTS} requests under way for either, in turn ({}); pods that nobody schedules, created and deleted by it: {:.0} pods/s; who took the two cores: {}; load average {load:.1} before",
            rate(&done.bare),
            each.join(", "),
            rate(&done.idle),
            shares(middle(&done.executor)),
        ),
        "≥ 90 %",
        Met::at_least(ratio, RATIO_GOAL),
    )
}

fn processor_row(done: &Rounds, count: usize) -> Row {
    let of = |rounds: &[Round], name: &str| {
        let each = rounds.iter().map(|round| seconds_of(round, name));
        median(&each.map(|seconds| seconds * 1000.0 / count as f64).collect::<Vec<_>>())
    };
    let seconds = |name: &str| of(&done.executor, name);
    row(
        "processor time of the executor for 1,000 pods created, run and cleaned".to_owned(),
        format!("{:.2} s", seconds("executor")),
        format!(
            "API server {:.2} s ({:.2} s for the bare client's), etcd {:.2} s, scheduler {:.2} s, controllers {:.2} s, virtual kubelet {:.2} s, shard worker {:.2} s",
            seconds("kube-apiserver"),
            of(&done.bare, "kube-apiserver"),
            seconds("etcd"),
            seconds("kube-scheduler"),
            seconds("kube-controller-manager"),
            seconds("virtual kubelet"),
            seconds("shard worker"),
        ),
        "–",
        Met::NoGoal,
    )
}

/// A pod as an executor makes it of the jobs of these rows.
async fn template(plant: &mut Plant) -> Result<Template> {
    let client = plant.cluster.client();
    let kubeconfig = plant.cluster.kubeconfig().to_owned();
    let executor = plant.executor(&kubeconfig, &[]).await?;
    plant.queue(QUEUE, false).await?;
    plant.submit(QUEUE, 1).await?;
    let api = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let ours = ListParams::default().labels(&format!("muster.dev/cluster={CLUSTER}"));
    let pod = eventually(PATIENCE, "a pod has ended", async || {
        let listed = api.list(&ours).await?.items;
        let pod = listed.into_iter().next().context("there is none yet")?;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        ensure!(phase == Some("Succeeded"), "{phase:?}");
        Ok(pod)
    })
    .await?;
    plant.stop(executor).await?;
    api.delete(pod.metadata.name.as_deref().unwrap_or_default(), &DeleteParams::default()).await?;
    let nodes = Api::<Node>::all(client).list(&ListParams::default()).await?.items;
    let nodes = nodes.into_iter().filter_map(|node| node.metadata.name).collect();
    Template::of(&serde_json::to_value(pod)?, nodes)
}

async fn executor_round(plant: &mut Plant, count: usize) -> Result<Round> {
    plant.queue(QUEUE, true).await?;
    plant.submit(QUEUE, count).await?;
    let all = plant.client.job_set(QUEUE, measure::JOB_SET).await?.counts.values().sum();
    let executor = plant.leased_executor().await?;
    let before = plant.spent(Some(&executor))?;
    plant.queue(QUEUE, false).await?;
    let wall = until_cleaned(plant, all).await?;
    let after = plant.spent(Some(&executor))?;
    plant.stop(executor).await?;
    Ok(round(count, wall, between(&before, &after)))
}

/// From the executor's first pod until all jobs have succeeded and no pod is left. The API server
/// is asked only at both ends: looks in between are work for it that the bare client does not make.
async fn until_cleaned(plant: &Plant, jobs: u64) -> Result<Duration> {
    let api = Api::<Pod>::namespaced(plant.cluster.client(), NAMESPACE);
    let one = ListParams::default().labels(&format!("muster.dev/cluster={CLUSTER}")).limit(1);
    let is_there = async || anyhow::Ok(!api.list(&one).await?.items.is_empty());
    until(plant, "a pod of the executor", &is_there).await?;
    let began = plant.clock.monotonic();
    until(plant, "the end of all jobs", async || {
        let counts = plant.client.job_set(QUEUE, measure::JOB_SET).await?.counts;
        Ok(counts.get("succeeded").copied().unwrap_or_default() == jobs)
    })
    .await?;
    until(plant, "the end of the last pod", async || Ok(!is_there().await?)).await?;
    Ok(plant.clock.monotonic() - began)
}

/// Looks until it is so.
async fn until(plant: &Plant, what: &str, is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let until = plant.clock.monotonic() + PATIENCE;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        looks.tick().await;
        if is_so().await? {
            return Ok(());
        }
        ensure!(plant.clock.monotonic() < until, "{what} does not come");
    }
}

async fn bare_round(
    plant: &mut Plant,
    template: &mut Template,
    count: usize,
    fate: Fate,
) -> Result<Round> {
    let before = plant.spent(None)?;
    let watch = bare::run(&plant.cluster.client(), &plant.clock, template, count, fate).await?;
    let after = plant.spent(None)?;
    Ok(round(count, watch.span(), between(&before, &after)))
}

fn round(count: usize, wall: Duration, spent: Spent) -> Round {
    Round { pods_per_second: count as f64 / wall.as_secs_f64(), wall, spent }
}

/// Everything that goes through the API server on behalf of the executor, counted on the way.
async fn requests(plant: &mut Plant) -> Result<Row> {
    plant.queue(COUNTED_QUEUE, true).await?;
    plant.submit(COUNTED_QUEUE, COUNTED_JOBS).await?;
    let proxy = plant.cluster.proxy()?;
    let kubeconfig = proxy.kubeconfig(plant.cluster.kubeconfig())?;
    let mut executor = plant.executor(&kubeconfig, &CLEANING).await?;
    executor.until_logged("leader answers", PATIENCE).await?;
    let mut watch = Watch::open(&plant.cluster.client(), &plant.clock, CLUSTER).await?;
    let before = proxy.requests();
    plant.queue(COUNTED_QUEUE, false).await?;
    watch.until_gone(COUNTED_JOBS).await?;
    let after = proxy.requests();
    plant.stop(executor).await?;
    let mut all: Vec<(Target, u64)> = after
        .into_iter()
        .map(|(target, count)| {
            let since = count - before.get(&target).copied().unwrap_or_default();
            (target, since)
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let sum: u64 = all.iter().map(|(_, count)| count).sum();
    let each = sum as f64 / COUNTED_JOBS as f64;
    let named = all.iter().map(|(it, count)| format!("{} {} {count}", it.verb, it.resource));
    Ok(row(
        format!("requests to the API server for each of {COUNTED_JOBS} pods"),
        format!("{each:.2}"),
        format!(
            "all that the executor sent in {:.1?}: {}",
            watch.span(),
            named.collect::<Vec<_>>().join(", ")
        ),
        "≤ 4",
        Met::at_most(each, REQUESTS_GOAL),
    ))
}

async fn latency(plant: &mut Plant) -> Result<Row> {
    plant.queue(LIGHT_QUEUE, false).await?;
    let executor = plant.leased_executor().await?;
    let mut watch = Watch::open(&plant.cluster.client(), &plant.clock, CLUSTER).await?;
    let load = usage::load()?;
    let light =
        measure::light(&plant.client, &plant.clock, LIGHT_QUEUE, LIGHT_JOBS, LIGHT_INTERVAL);
    let count = usize::try_from(LIGHT_JOBS)?;
    let (light, ()) = futures::future::try_join(light, watch.until_gone(count)).await?;
    plant.stop(executor).await?;
    let leased = leased(plant).await?;
    let mut visible = Latency::default();
    for (job, at) in &leased {
        let name = format!("muster-{job}-1");
        let seen = watch.seen.get(&name).with_context(|| format!("{name} was never seen"))?;
        visible.add(Duration::from_millis((seen.0 - at.0).max(0).unsigned_abs()));
    }
    let (visible, queued) = (visible.percentiles(), light.leased.percentiles());
    Ok(row(
        format!(
            "lease → pod visible in a watch, {LIGHT_JOBS} single jobs, one at random in every 250 ms"
        ),
        format!("p50 {:.0} ms, p99 {:.0} ms", visible.p50_ms, visible.p99_ms),
        format!(
            "queue → lease of these jobs p50 {:.0} ms, p99 {:.0} ms; load average {load:.1} before",
            queued.p50_ms, queued.p99_ms
        ),
        "–",
        Met::NoGoal,
    ))
}

/// When each job of the latency row was leased.
async fn leased(plant: &Plant) -> Result<BTreeMap<String, Timestamp>> {
    let mut leased = BTreeMap::new();
    let mut events = plant.client.events(LIGHT_QUEUE, measure::JOB_SET, None, Follow::No);
    while let Some(event) = events.next().await? {
        if event.event == "leased" {
            let at: jiff::Timestamp = event.at.parse().context("an event's time")?;
            leased.insert(event.job_id, Timestamp(at.as_millisecond()));
        }
    }
    Ok(leased)
}

fn seconds_of(round: &Round, name: &str) -> f64 {
    round.spent.iter().filter(|(of, _)| *of == name).map(|(_, seconds)| seconds).sum()
}

/// Who spent how large a part of what two cores have, the largest first.
fn shares(round: &Round) -> String {
    let all = 2.0 * round.wall.as_secs_f64();
    let mut spent = round.spent.clone();
    spent.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let texts =
        spent.iter().map(|(name, seconds)| format!("{name} {:.0} %", seconds / all * 100.0));
    texts.collect::<Vec<_>>().join(", ")
}

/// The round whose rate is in the middle.
fn middle(rounds: &[Round]) -> &Round {
    let mut sorted: Vec<&Round> = rounds.iter().collect();
    sorted.sort_by(|a, b| a.pods_per_second.total_cmp(&b.pods_per_second));
    sorted[sorted.len() / 2]
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (lower, upper) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    f64::midpoint(sorted[lower], sorted[upper])
}
