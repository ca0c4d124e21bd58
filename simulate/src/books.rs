//! The books of a simulation: what became of each job when, and what each queue held and was
//! entitled to. No IO, no clock.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::Exit;
use muster_api::job_text::retry;
use muster_core::control::{self, Control, weight_millis};
use muster_core::id::JobRef;
use muster_core::resources::{Resources, dense};
use muster_core::retry::{Ending, Fate, fate};
use muster_core::solve::{self, Share};
use muster_core::{Name, job};
use muster_runtime::Random;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::scenario::{Queue, Scenario, Shifted, Template};
use crate::series::Series;

/// The annotation by which a job of the simulation is known: template, `/`, number.
pub(crate) const JOB_ANNOTATION: &str = "muster.dev/simulated-job";
/// By so much a demand has to be above what a queue is entitled to, for the pool to count as one
/// that is contended for.
const LEAST: f64 = 1e-9;

/// A job: the place of its template, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) template: usize,
    pub(crate) number: u32,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Life {
    pub(crate) submitted: Option<Duration>,
    /// When it was first started.
    pub(crate) started: Option<Duration>,
    pub(crate) ended: Option<Duration>,
    pub(crate) is_failed: bool,
    is_running: bool,
    pub(crate) stops: u32,
}

/// A pool.
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) nodes: u64,
    pub(crate) resources: Vec<Name>,
    pub(crate) total: Vec<i64>,
    /// By queue, then resource.
    held: Vec<Vec<i64>>,
    demand: Vec<Vec<i64>>,
    waiting: Vec<u64>,
    shares: Vec<Share>,
    /// Whether something changed since the shares were looked at.
    is_stale: bool,
    pub(crate) series: Series,
    pub(crate) fairness: Fairness,
}

/// How fairly a pool was shared while more was wanted than it has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fairness {
    /// Seconds.
    pub(crate) contended: f64,
    /// The largest difference between actual and ideal share of any queue, times seconds.
    pub(crate) errors: f64,
    pub(crate) error_max: f64,
    /// By queue: actual and ideal share times seconds.
    pub(crate) queues: Vec<(f64, f64)>,
}

/// All of them.
pub(crate) struct Books {
    pub(crate) scenario: Arc<Scenario>,
    seed: u64,
    pub(crate) pools: Vec<Pool>,
    /// Of each template, its pool and what one of its jobs asks for there.
    requests: Vec<(usize, Vec<i64>)>,
    /// The queues with their weights, and how they stand below each other.
    control: Control,
    names: Vec<Name>,
    /// By queue, whether its jobs fail that make room for others.
    fails_if_stopped: Vec<bool>,
    /// By template and number.
    pub(crate) lives: Vec<Vec<Life>>,
    /// By template, jobs that are not over.
    left: Vec<u32>,
    waiting: u64,
    /// When a job was started or ended last.
    pub(crate) moved: Duration,
    sampled: Duration,
}

/// What the books read of a job's annotations.
#[derive(Deserialize)]
struct Known<'a> {
    #[serde(borrow, rename = "muster.dev/simulated-job")]
    job: Cow<'a, str>,
}

impl Books {
    pub(crate) fn new(scenario: Arc<Scenario>, seed: u64) -> Self {
        let queues = scenario.queues.len();
        let mut pools: Vec<Pool> = Vec::new();
        for cluster in &scenario.clusters {
            if pools.iter().all(|pool| pool.name != cluster.pool) {
                pools.push(Pool::new(&scenario, &cluster.pool, queues));
            }
        }
        let of = |template: &Template| {
            let named = |pool: &Pool| *pool.name == *template.shape.pool;
            // A job of a pool that nobody belongs to waits for ever, and counts nowhere.
            let pool = pools.iter().position(named).unwrap_or(usize::MAX);
            let request = pools.get(pool).map(|pool| pool.amounts(&template.shape.request));
            (pool, request.unwrap_or_default())
        };
        let in_control = |queue: &Queue| {
            let weight_millis = weight_millis(queue.settings.weight).unwrap_or(1_000);
            let parent = queue.settings.parent.clone();
            let settings = control::Queue { weight_millis, parent, ..control::Queue::default() };
            (queue.name.clone(), settings)
        };
        let control = Control {
            queues: scenario.queues.iter().map(in_control).collect(),
            ..Control::default()
        };
        Self {
            requests: scenario.templates.iter().map(of).collect(),
            control,
            names: scenario.queues.iter().map(|queue| queue.name.as_str().into()).collect(),
            fails_if_stopped: scenario.queues.iter().map(fails_if_stopped).collect(),
            lives: scenario
                .templates
                .iter()
                .map(|template| vec![Life::default(); template.number as usize])
                .collect(),
            left: scenario.templates.iter().map(|template| template.number).collect(),
            pools,
            scenario,
            seed,
            waiting: 0,
            moved: Duration::ZERO,
            sampled: Duration::ZERO,
        }
    }

    /// The job that is known to the system by that reference.
    pub(crate) fn job_of(&self, reference: JobRef, annotations: &[u8]) -> Option<Job> {
        let known: Known<'_> = serde_json::from_slice(annotations).ok()?;
        let (template, first) = known.job.split_once('/')?;
        let (template, first): (usize, u32) = (template.parse().ok()?, first.parse().ok()?);
        let number = first.checked_add(reference.index.unwrap_or(0))?;
        self.lives.get(template)?.get(number as usize)?;
        Some(Job { template, number })
    }

    /// How long a job runs, pending included, and how it ends if it fails: the same in each
    /// attempt, and in each simulation with this seed, whatever is decided there.
    pub(crate) fn fate(&self, job: &Job) -> (Duration, Option<Exit>) {
        let template = &self.scenario.templates[job.template];
        let text = format!("{}/{}/{}", self.seed, template.id, job.number);
        let random = Random::seeded(xxh3_64(text.as_bytes()));
        let (part, failing) = template.failures;
        let is_failing = random.unit() < part;
        let runtime = if is_failing { failing } else { template.runtime };
        let failure = is_failing.then(|| template.failure.clone());
        (draw(self.scenario.pending, &random) + draw(runtime, &random), failure)
    }

    /// All jobs of a template were submitted.
    pub(crate) fn submitted(&mut self, template: usize, moment: Duration) {
        for life in &mut self.lives[template] {
            life.submitted = Some(moment);
        }
        let number = self.scenario.templates[template].number;
        self.waiting += u64::from(number);
        self.moved = moment;
        self.change(template, i64::from(number), i64::from(number), 0);
    }

    pub(crate) fn started(&mut self, job: &Job, moment: Duration) {
        let life = &mut self.lives[job.template][job.number as usize];
        let was_over = life.ended.take().is_some();
        life.started.get_or_insert(moment);
        life.is_running = true;
        self.moved = moment;
        if was_over {
            // It failed, and is tried again.
            self.left[job.template] += 1;
            self.change(job.template, 0, 1, 1);
        } else {
            self.waiting = self.waiting.saturating_sub(1);
            self.change(job.template, -1, 0, 1);
        }
    }

    pub(crate) fn ended(&mut self, job: &Job, moment: Duration, is_good: bool) {
        let life = &mut self.lives[job.template][job.number as usize];
        life.ended = Some(moment);
        life.is_running = false;
        life.is_failed = !is_good;
        self.moved = moment;
        self.left[job.template] = self.left[job.template].saturating_sub(1);
        self.change(job.template, 0, -1, -1);
    }

    /// A run was told to stop, to make room: its job waits again, unless its queue has it fail.
    pub(crate) fn stopped(&mut self, job: &Job, moment: Duration) {
        let template = &self.scenario.templates[job.template];
        let fails = self.fails_if_stopped[template.queue] && template.gang.is_none();
        let life = &mut self.lives[job.template][job.number as usize];
        life.stops += 1;
        if fails {
            return self.ended(job, moment, false);
        }
        life.is_running = false;
        self.moved = moment;
        self.waiting += 1;
        self.change(job.template, 1, 0, -1);
    }

    /// Jobs that were submitted and do not run.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Whether all jobs of a template are over.
    pub(crate) fn is_over(&self, template: usize) -> bool {
        self.left[template] == 0
    }

    fn change(&mut self, template: usize, waiting: i64, demand: i64, held: i64) {
        let (pool, request) = &self.requests[template];
        let queue = self.scenario.templates[template].queue;
        let Some(pool) = self.pools.get_mut(*pool) else { return };
        pool.is_stale = true;
        pool.waiting[queue] = pool.waiting[queue].saturating_add_signed(waiting);
        let sums = pool.demand[queue].iter_mut().zip(&mut pool.held[queue]);
        for ((wants, has), amount) in sums.zip(request) {
            *wants += amount * demand;
            *has += amount * held;
        }
    }

    /// What has been the case since the last sample, up to `moment`.
    pub(crate) fn sample(&mut self, moment: Duration) {
        let from = std::mem::replace(&mut self.sampled, moment);
        let lasted = moment.saturating_sub(from);
        if lasted.is_zero() {
            return;
        }
        for pool in &mut self.pools {
            pool.sample(&self.control, &self.names, from, lasted);
        }
    }
}

impl Pool {
    fn new(scenario: &Scenario, name: &str, queues: usize) -> Self {
        let clusters = || scenario.clusters.iter().filter(|cluster| cluster.pool == name);
        let nodes = || clusters().flat_map(|cluster| &cluster.nodes);
        let of_nodes = nodes().flat_map(|node| node.allocatable.iter().map(|(name, _)| name));
        let of_jobs = scenario.templates.iter().filter(|template| *template.shape.pool == *name);
        let of_jobs = of_jobs.flat_map(|t| t.shape.request.iter().map(|(name, _)| name));
        let resources: BTreeSet<&Name> = of_nodes.chain(of_jobs).collect();
        let resources: Vec<Name> = resources.into_iter().cloned().collect();
        let mut total = vec![0_i64; resources.len()];
        for node in nodes() {
            for (sum, name) in total.iter_mut().zip(&resources) {
                *sum = sum.saturating_add(dense(name, node.allocatable.get(name)));
            }
        }
        let none = || vec![vec![0; resources.len()]; queues];
        Self {
            name: name.to_owned(),
            nodes: nodes().count() as u64,
            held: none(),
            demand: none(),
            waiting: vec![0; queues],
            shares: vec![Share::default(); queues],
            is_stale: false,
            series: Series::new(resources.len() + 3 * queues),
            fairness: Fairness { queues: vec![(0.0, 0.0); queues], ..Fairness::default() },
            resources,
            total,
        }
    }

    fn amounts(&self, request: &Resources) -> Vec<i64> {
        self.resources.iter().map(|name| dense(name, request.get(name))).collect()
    }

    fn sample(&mut self, control: &Control, names: &[Name], from: Duration, lasted: Duration) {
        if std::mem::take(&mut self.is_stale) {
            let demands = names.iter().zip(self.demand.iter().cloned()).collect();
            self.shares = muster_shard::fair_shares(control, &self.total, demands);
        }
        let mut values = Vec::with_capacity(self.resources.len() + 3 * names.len());
        for (place, total) in self.total.iter().enumerate() {
            let held: i64 = self.held.iter().map(|of_queue| of_queue[place]).sum();
            values.push(if *total > 0 { held as f64 / *total as f64 } else { 0.0 });
        }
        let is_contended = self.shares.iter().any(|share| share.demand > share.ideal + LEAST);
        let seconds = lasted.as_secs_f64();
        let mut error: f64 = 0.0;
        for (queue, share) in self.shares.iter().enumerate() {
            let actual = solve::dominant_share(&self.total, &self.held[queue]);
            values.extend([actual, share.ideal, self.waiting[queue] as f64]);
            error = error.max((actual - share.ideal).abs());
            if is_contended {
                let (actual_sum, ideal_sum) = &mut self.fairness.queues[queue];
                *actual_sum += actual * seconds;
                *ideal_sum += share.ideal * seconds;
            }
        }
        if is_contended {
            self.fairness.contended += seconds;
            self.fairness.errors += error * seconds;
            self.fairness.error_max = self.fairness.error_max.max(error);
        }
        self.series.add(from, lasted, &values);
    }
}

/// Whether jobs of a queue fail that make room for others.
fn fails_if_stopped(queue: &Queue) -> bool {
    let policy = retry::policy(&queue.settings.retry).ok().flatten();
    let exit = job::Exit::preempted(&Name::default());
    fate(policy.as_deref(), Ending::Preempted, &exit, 0, false) == Fate::Fails
}

/// A time that is distributed so.
fn draw(time: Shifted, random: &Random) -> Duration {
    let tail = -(1.0 - random.unit()).ln() * time.tail_mean.as_secs_f64();
    time.minimum + Duration::try_from_secs_f64(tail).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_minimum_and_the_mean_that_lies_above_it() {
        let (minimum, tail_mean) = (Duration::from_secs(60), Duration::from_secs(30));
        let random = Random::seeded(3);
        let drawn: Vec<f64> = (0..20_000)
            .map(|_| draw(Shifted { minimum, tail_mean }, &random).as_secs_f64())
            .collect();
        assert!(drawn.iter().all(|time| *time >= 60.0));
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        assert!((mean - 90.0).abs() < 1.0, "{mean}");
        let beyond = drawn.iter().filter(|time| **time > 60.0 + 30.0).count() as f64;
        assert!((beyond / drawn.len() as f64 - 0.368).abs() < 0.02, "e^-1 lie beyond the mean");
    }
}
