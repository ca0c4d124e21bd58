//! The whole thing on Kubernetes: all roles as processes on NATS and an S3 server, with two real
//! control planes. Five queues share first one cluster and then both; jobs, gangs, arrays, jobs
//! that fail and jobs that are tried again run while one cluster is taken away and brought back,
//! and the other is removed. Nobody but its own executor is ever told of a cluster.
//!
//! Nothing rests on a moment: what has to be there when a cluster goes (pods that do not end by
//! themselves) is there for as long as it takes.

mod plant;
pub mod report;
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_api::http::{Job, PriorityClassSettings, QueueSettings};
use muster_client::{Client, Follow, Output, Selection};
use muster_core::id::JobId;
use muster_loadtest::audit;
use muster_runtime::clock::Clock;

use crate::wait::eventually;
use plant::{Plant, job_set_of};
use report::Report;
use work::{BLOCK, Kind, Sent, URGENT, blocks};

/// The queues and their weights. The last one is there first, and alone.
const QUEUES: [(&str, u32); 5] =
    [("astronomy", 1), ("biology", 1), ("chemistry", 2), ("design", 2), ("economics", 2)];
/// The queue of the few jobs that show that a cluster is there, or was.
const PROBES: &str = "probes";
const PRIORITY: i32 = 2000;
/// How many jobs a queue may have more or less than its share: one, and what the room of half a cpu
/// makes of it.
const SHARE_SLACK: f64 = 1.5;
/// How long a step may take.
const WAIT: Duration = Duration::from_secs(300);
/// How many jobs end in a second at least, in the mean.
const PACE_MIN: u64 = 4;
/// How long a job runs.
const RUNS: Duration = Duration::from_millis(500);
/// Jobs of which a cluster's nodes are enough of one.
const JOBS_PER_NODE: usize = 1000;
const NODES_MAX: usize = 20;
/// The job sets.
const HOLD: &str = "hold";
const FLOW: &str = "flow";

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Jobs of the five queues in all: a multiple of 100, and at least 300.
    pub jobs: usize,
}

/// Runs it. `say` hears of each step.
///
/// # Errors
/// When something does not come true that has to; what was done wrong is in the report.
pub async fn run(options: Options, say: impl FnMut(&str)) -> Result<Report> {
    let blocks = options.jobs / (BLOCK * QUEUES.len());
    let is_whole = blocks * BLOCK * QUEUES.len() == options.jobs;
    ensure!(blocks >= 3 && is_whole, "{} jobs are no multiple of 100 from 300 on", options.jobs);
    let nodes = (options.jobs / JOBS_PER_NODE).clamp(2, NODES_MAX);
    let plant = Plant::start(nodes).await?;
    let client = plant.deployment.client_of_all()?;
    let clock = Clock::system();
    let began = clock.monotonic();
    let report = Report { slots: plant.slots(), ..Report::default() };
    let mut run = Run { plant, client, clock, began, say, sent: Sent::default(), report };
    match run.all(blocks).await {
        Ok(()) => Ok(run.report),
        Err(error) => {
            let so_far = run.report.text();
            Err(error.context(format!("{}\n{so_far}", run.plant.log_ends())))
        }
    }
}

struct Run<S> {
    plant: Plant,
    client: Client,
    clock: Clock,
    began: Duration,
    say: S,
    sent: Sent,
    report: Report,
}

impl<S: FnMut(&str)> Run<S> {
    fn step(&mut self, what: impl Into<String>) {
        let what = what.into();
        (self.say)(&what);
        self.report.steps.push((self.clock.monotonic() - self.began, what));
    }

    async fn all(&mut self, blocks: usize) -> Result<()> {
        self.prepare().await?;
        self.share().await?;
        self.flow(blocks).await?;
        self.judge().await
    }

    async fn prepare(&mut self) -> Result<()> {
        for (queue, weight) in QUEUES.into_iter().chain([(PROBES, 1)]) {
            let settings = QueueSettings { weight: f64::from(weight), ..QueueSettings::default() };
            self.client.put_queue(queue, &settings).await.context(queue)?;
        }
        let urgent = PriorityClassSettings { priority: PRIORITY, preemptible: false };
        self.client.put_priority_class(URGENT, &urgent).await?;
        self.plant.berlin.add(&mut self.plant.deployment)?;
        self.step("all processes run, and berlin has an executor");
        Ok(())
    }

    /// One queue has all of a cluster, then others come and a further cluster does.
    async fn share(&mut self) -> Result<()> {
        // They stay where they are until berlin is taken away.
        let anchors = [Kind::Anchor, Kind::Anchor];
        self.sent.submit(&self.client, (PROBES, "first"), &anchors, RUNS).await?;
        self.until_probes("first", |job| job.state == "running" || has_ended(job)).await?;
        let slots = self.plant.slots();
        let weights: u32 = QUEUES.iter().map(|(_, weight)| weight).sum();
        let (others, [(early, _)]) = QUEUES.split_at(QUEUES.len() - 1) else { return Ok(()) };
        self.hold(early, 2 * slots).await?;
        let all = u64::try_from(slots)?;
        self.until("one queue has all of berlin", async |plant| {
            let running = plant.berlin.running(HOLD).await?;
            ensure!(running == BTreeMap::from([((*early).to_owned(), all)]), "{running:?}");
            Ok(())
        })
        .await?;
        for (queue, weight) in others {
            let share = 2 * slots * usize::try_from(*weight)? / usize::try_from(weights)?;
            self.hold(queue, share + slots / 2).await?;
        }
        self.until("five queues share berlin fairly", async |plant| {
            fair(&plant.berlin.running(HOLD).await?, slots)
        })
        .await?;
        self.plant.paris.add(&mut self.plant.deployment)?;
        self.until("five queues share berlin and paris fairly", async |plant| {
            let mut running = plant.berlin.running(HOLD).await?;
            for (queue, count) in plant.paris.running(HOLD).await? {
                *running.entry(queue).or_default() += count;
            }
            fair(&running, 2 * slots)
        })
        .await
    }

    async fn hold(&mut self, queue: &str, jobs: usize) -> Result<()> {
        let kinds = vec![Kind::Held; jobs];
        self.sent.submit(&self.client, (queue, HOLD), &kinds, RUNS).await?;
        Ok(())
    }

    /// The jobs that all of this is for, while berlin goes and comes back, and paris goes.
    async fn flow(&mut self, count: usize) -> Result<()> {
        let began = self.clock.monotonic();
        let (first, second) = (count * 2 / 5, count * 3 / 10);
        let (first, second) = (first.max(1), second.max(1));
        self.wave("one", first).await?;
        self.until_ended(first * BLOCK / 4).await?;
        self.plant.berlin.take_away(&mut self.plant.deployment)?;
        self.step("the API server and the executor of berlin are killed");
        self.wave("two", second).await?;
        self.until_probes("first", has_ended).await?;
        self.step("what ran in berlin is given up, and has run again");
        // Only now nothing is given to berlin any more, and they stay until paris is removed.
        let anchors = [Kind::Anchor, Kind::Anchor];
        self.sent.submit(&self.client, (PROBES, "second"), &anchors, RUNS).await?;
        self.until_probes("second", |job| job.state == "running" || has_ended(job)).await?;
        self.until_ended(first * BLOCK).await?;
        self.step("as many jobs as wave one had have ended");

        self.plant.berlin.bring_back(&mut self.plant.deployment).await?;
        self.step("the API server of berlin is back, and its executor is started");
        let probe = [Kind::Probe("berlin")];
        self.sent.submit(&self.client, (PROBES, "third"), &probe, RUNS).await?;
        self.until_probes("third", has_ended).await?;
        self.step("berlin is back, and runs what is sent there");
        self.wave("three", count - first - second).await?;
        self.client.cordon_cluster("paris", Some("it is removed".to_owned())).await?;
        self.until("paris has nothing left but what does not end", async |plant| {
            let pods = plant.paris.live_pods().await?;
            let left = pods.iter().filter(|pod| job_set_of(pod) == Some(FLOW)).count();
            ensure!(left == 0, "{left} are left");
            Ok(())
        })
        .await?;
        self.plant.paris.remove(&mut self.plant.deployment).await?;
        self.step("the executor of paris has ended");
        self.until_probes("second", has_ended).await?;
        self.step("what ran in paris is given up, and has run again");
        self.until_ended(count * BLOCK).await?;
        self.report.took = self.clock.monotonic() - began;
        self.step("all jobs have ended");
        Ok(())
    }

    async fn wave(&mut self, name: &str, count: usize) -> Result<()> {
        for (queue, _) in QUEUES {
            let kinds = blocks(count, &format!("{queue}-{name}"));
            self.sent.submit(&self.client, (queue, FLOW), &kinds, RUNS).await?;
        }
        self.step(format!("wave {name}: {} jobs are submitted", count * BLOCK * QUEUES.len()));
        Ok(())
    }

    /// Lets go of what holds nodes, and looks at everything.
    async fn judge(&mut self) -> Result<()> {
        for (queue, _) in QUEUES {
            let (queue, job_set) = (queue.to_owned(), HOLD.to_owned());
            let all = Selection::JobSet { queue, job_set, states: Vec::new() };
            self.client.cancel(all, Some("it has held for long enough".to_owned())).await?;
        }
        self.until("berlin has no pod left that has not ended", async |plant| {
            let left = plant.berlin.live_pods().await?;
            let names: Vec<_> = left.iter().filter_map(|pod| pod.metadata.name.as_ref()).collect();
            ensure!(left.is_empty(), "{names:?}");
            Ok(())
        })
        .await?;
        let acknowledged = self.sent.acknowledged.clone();
        let of_flow = |(key, set): (&(String, String), &muster_loadtest::acknowledged::JobSet)| {
            if key.1 == FLOW { set.jobs() } else { 0 }
        };
        self.report.jobs = acknowledged.job_sets.iter().map(of_flow).sum();
        self.report.others = acknowledged.jobs() - self.report.jobs;
        for (queue, job_set) in acknowledged.job_sets.keys() {
            let (preempted, requeued) = self.counts(queue, job_set).await?;
            self.report.preempted += preempted;
            self.report.requeued += requeued;
        }
        let Report { preempted, requeued, .. } = self.report;
        ensure!(preempted > 0 && requeued > 0, "{preempted} preempted, {requeued} queued again");
        let mut report = audit::audit(&self.client, &self.clock, acknowledged, WAIT).await?;
        let executors = [0, 1].map(|executor| self.plant.deployment.state_dir(executor));
        let runs = audit::runs::Runs::read(&executors)?;
        report.recorded = Some(runs.count());
        self.report.audit = report;
        let twice = runs.findings_of_attempts().into_iter();
        self.report.findings = twice.map(|(job, what)| format!("{job}: {what}")).collect();
        self.report.findings.extend(self.sent.faults(&self.client).await?);
        self.report.findings.extend(self.plant.panics()?);
        Ok(())
    }

    /// How many runs made room for others, and how many jobs were queued again.
    async fn counts(&self, queue: &str, job_set: &str) -> Result<(u64, u64)> {
        let mut events = self.client.events(queue, job_set, None, Follow::No);
        let (mut preempted, mut requeued) = (0, 0);
        while let Some(event) = events.next().await? {
            preempted += u64::from(event.event == "preempted");
            requeued += u64::from(event.event == "requeued");
        }
        Ok((preempted, requeued))
    }

    /// Waits until a look at the clusters is content.
    async fn until(&mut self, what: &str, look: impl AsyncFn(&Plant) -> Result<()>) -> Result<()> {
        eventually(WAIT, what, async || look(&self.plant).await).await?;
        self.step(what);
        Ok(())
    }

    /// Waits until a look at each job of a set of probes is content.
    async fn until_probes(&self, job_set: &str, is_so: impl Fn(&Job) -> bool) -> Result<()> {
        let key = (PROBES.to_owned(), job_set.to_owned());
        let set = self.sent.acknowledged.job_sets.get(&key).context("no such probes")?;
        for record in &set.records {
            let id = JobId::from_bytes(record.id).to_string();
            eventually(WAIT, &format!("a probe of set {job_set}"), async || {
                let job = self.client.job(&id, Output::State).await?;
                ensure!(is_so(&job), "{job:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until each of the queues has so many jobs that have ended.
    async fn until_ended(&self, jobs: usize) -> Result<()> {
        let jobs = u64::try_from(jobs)?;
        let within = WAIT + Duration::from_secs(jobs * QUEUES.len() as u64 / PACE_MIN);
        eventually(within, &format!("{jobs} jobs of each queue end"), async || {
            for (queue, _) in QUEUES {
                let set = self.client.job_set(queue, FLOW).await?;
                let ended = set.counts.values().sum::<u64>() - audit::live(&set);
                ensure!(ended >= jobs, "{ended} of {queue}: {:?}", set.counts);
            }
            Ok(())
        })
        .await
    }
}

/// Where and how is the judge's concern.
fn has_ended(job: &Job) -> bool {
    job.state == "succeeded"
}

/// Whether so many places are all taken, and shared by the queues' weights.
fn fair(running: &BTreeMap<String, u64>, slots: usize) -> Result<()> {
    let weights: u32 = QUEUES.iter().map(|(_, weight)| weight).sum();
    let taken: u64 = running.values().sum();
    ensure!(taken == slots as u64, "{taken} of {slots}: {running:?}");
    for (queue, weight) in QUEUES {
        let share = slots as f64 * f64::from(weight) / f64::from(weights);
        let has = running.get(queue).copied().unwrap_or_default() as f64;
        ensure!((has - share).abs() <= SHARE_SLACK, "{queue} has {has} of {share}: {running:?}");
    }
    Ok(())
}
