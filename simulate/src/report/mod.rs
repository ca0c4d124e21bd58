//! What came of a simulation: as data, as text, as a page.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::resources::{PODS, from_dense};
use serde::{Deserialize, Serialize};

use crate::books::{Books, Life, Pool as PoolBooks};

mod html;
mod plot;
mod text;

pub use html::html;
pub use text::text;

/// Pods of a node from which on their number is no limit worth showing.
const PODS_SHOWN_MAX: i64 = 10_000;

/// How a simulation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// All jobs have ended.
    Finished,
    /// The time was over.
    Until,
    /// Jobs wait, and nothing happens any more.
    Stalled,
}

/// What came of a simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The name of the clusters' file.
    pub clusters: String,
    /// The name of the workload.
    pub workload: String,
    /// The seed.
    pub seed: u64,
    /// Seconds of a step.
    pub step_seconds: f64,
    /// How it ended.
    pub end: End,
    /// Seconds that were simulated.
    pub simulated_seconds: f64,
    /// Seconds from the first submission to the end of the last job that ended; none if none did.
    pub makespan_seconds: Option<f64>,
    /// Rounds of the solver.
    pub rounds: u64,
    /// What was noticed in the files.
    pub notes: Vec<String>,
    /// By queue, in the order of the file.
    pub queues: Vec<Queue>,
    /// By pool, in the order of the file.
    pub pools: Vec<Pool>,
    /// How long it took on this machine; left out where reports are to be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Its name.
    pub queue: String,
    /// Its weight.
    pub weight: f64,
    /// Jobs that were to come.
    pub jobs: u64,
    /// Of these, those that were submitted.
    pub submitted: u64,
    /// Those that ran.
    pub started: u64,
    /// Those that ended well.
    pub succeeded: u64,
    /// Those that ended badly.
    pub failed: u64,
    /// How often its runs were told to stop, to make room for others.
    pub preemptions: u64,
    /// From a job's submission to its first start, in seconds; of jobs that started.
    pub wait_seconds: Option<Percentiles>,
}

/// A distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The mean.
    pub mean: f64,
    /// Half is at most this.
    pub p50: f64,
    /// Of ten, nine are.
    pub p90: f64,
    /// Of a hundred, 99 are.
    pub p99: f64,
    /// All are.
    pub max: f64,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Its name.
    pub pool: String,
    /// Its nodes.
    pub nodes: u64,
    /// What it has, by resource.
    pub capacity: BTreeMap<String, String>,
    /// The part of it that jobs held in the mean, by resource.
    pub mean_utilisation: BTreeMap<String, f64>,
    /// How fairly it was shared.
    pub fairness: Fairness,
    /// What was the case over time.
    pub series: Series,
}

/// How fairly a pool was shared while more was wanted than it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fairness {
    /// Seconds in which more was wanted than the pool has.
    pub contended_seconds: f64,
    /// The largest difference between actual and ideal share of any queue: its mean in that time.
    pub mean_error: f64,
    /// And its maximum.
    pub max_error: f64,
    /// By queue, the means of shares in that time.
    pub queues: Vec<Shares>,
}

/// Shares of a queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// The queue.
    pub queue: String,
    /// What it held.
    pub actual: f64,
    /// What it was entitled to.
    pub ideal: f64,
}

/// A pool over time: means over spans of equal length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The middle of each span, in seconds.
    pub at: Vec<f64>,
    /// By resource, the part that jobs held.
    pub utilisation: BTreeMap<String, Vec<f64>>,
    /// By queue.
    pub queues: Vec<QueueSeries>,
}

/// A queue in a pool over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueSeries {
    /// The queue.
    pub queue: String,
    /// Its dominant share.
    pub actual: Vec<f64>,
    /// The one that it was entitled to.
    pub ideal: Vec<f64>,
    /// Jobs that waited.
    pub waiting: Vec<f64>,
}

/// How long a simulation took on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// Seconds.
    pub real_seconds: f64,
    /// How many times as much was simulated.
    pub simulated_per_real: f64,
    /// Milliseconds that the solver took for a round: the median.
    pub round_ms_p50: f64,
    /// And of a hundred rounds, the one but longest.
    pub round_ms_p99: f64,
}

/// What a report is made of beside the books.
pub(crate) struct Figures {
    pub(crate) seed: u64,
    pub(crate) step: Duration,
    pub(crate) end: End,
    pub(crate) moment: Duration,
    pub(crate) rounds: Vec<Duration>,
    pub(crate) took: Duration,
}

impl Report {
    /// The same without what differs from machine to machine.
    #[must_use]
    pub fn without_timings(self) -> Self {
        Self { timings: None, ..self }
    }

    /// As JSON.
    ///
    /// # Panics
    /// Never: it is plain data.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is plain data") + "\n"
    }
}

/// The report on what the books say.
pub(crate) fn of(books: &Books, figures: Figures) -> Report {
    let scenario = &books.scenario;
    let all = || books.lives.iter().flatten();
    let first = all().filter_map(|life| life.submitted).min();
    let last = all().filter_map(|life| life.ended).max();
    let makespan = first.zip(last).map(|(first, last)| rounded((last - first).as_secs_f64()));
    Report {
        clusters: scenario.clusters_name.clone(),
        workload: scenario.workload_name.clone(),
        seed: figures.seed,
        step_seconds: figures.step.as_secs_f64(),
        end: figures.end,
        simulated_seconds: rounded(figures.moment.as_secs_f64()),
        makespan_seconds: makespan,
        rounds: figures.rounds.len() as u64,
        notes: scenario.notes.clone(),
        queues: (0..scenario.queues.len()).map(|place| queue(books, place)).collect(),
        pools: books.pools.iter().map(|of| pool(books, of)).collect(),
        timings: Some(timings(figures)),
    }
}

fn timings(mut figures: Figures) -> Timings {
    figures.rounds.sort_unstable();
    let millis = |part| quantile(&figures.rounds, part).unwrap_or_default().as_secs_f64() * 1e3;
    let real = figures.took.as_secs_f64();
    Timings {
        real_seconds: real,
        simulated_per_real: figures.moment.as_secs_f64() / real.max(1e-9),
        round_ms_p50: millis(0.5),
        round_ms_p99: millis(0.99),
    }
}

fn queue(books: &Books, place: usize) -> Queue {
    let scenario = &books.scenario;
    let templates = scenario.templates.iter().zip(&books.lives);
    let mine = templates.filter(|(template, _)| template.queue == place);
    let lives: Vec<&Life> = mine.flat_map(|(_, lives)| lives).collect();
    let count = |is: fn(&Life) -> bool| lives.iter().filter(|life| is(life)).count() as u64;
    let wait = |life: &&Life| Some(life.started?.saturating_sub(life.submitted?));
    let mut waits: Vec<Duration> = lives.iter().filter_map(wait).collect();
    waits.sort_unstable();
    Queue {
        queue: scenario.queues[place].name.clone(),
        weight: scenario.queues[place].settings.weight,
        jobs: lives.len() as u64,
        submitted: count(|life| life.submitted.is_some()),
        started: count(|life| life.started.is_some()),
        succeeded: count(|life| life.ended.is_some() && !life.is_failed),
        failed: count(|life| life.ended.is_some() && life.is_failed),
        preemptions: lives.iter().map(|life| u64::from(life.stops)).sum(),
        wait_seconds: percentiles(&waits),
    }
}

/// Of times in rising order.
fn percentiles(times: &[Duration]) -> Option<Percentiles> {
    let seconds = |part| quantile(times, part).map(|time| rounded(time.as_secs_f64()));
    let sum: f64 = times.iter().map(Duration::as_secs_f64).sum();
    Some(Percentiles {
        mean: rounded(sum / times.len().max(1) as f64),
        p50: seconds(0.5)?,
        p90: seconds(0.9)?,
        p99: seconds(0.99)?,
        max: seconds(1.0)?,
    })
}

/// The least of these that a part of them does not exceed.
fn quantile(times: &[Duration], part: f64) -> Option<Duration> {
    let place = (part * times.len() as f64).ceil() as usize;
    times.get(place.saturating_sub(1)).copied()
}

fn pool(books: &Books, pool: &PoolBooks) -> Pool {
    let names = &books.scenario.queues;
    let per_node = |total: i64| total / i64::try_from(pool.nodes.max(1)).unwrap_or(i64::MAX);
    let shown = pool.resources.iter().zip(&pool.total).enumerate();
    let shown: Vec<_> = shown
        .filter(|(_, (name, total))| ***name != *PODS || per_node(**total) <= PODS_SHOWN_MAX)
        .map(|(place, (name, total))| (place, name.to_string(), *total))
        .collect();
    let column = |place: usize| pool.series.column(place).into_iter().map(rounded).collect();
    let queue_series = |(number, queue): (usize, &crate::scenario::Queue)| {
        let first = pool.resources.len() + 3 * number;
        QueueSeries {
            queue: queue.name.clone(),
            actual: column(first),
            ideal: column(first + 1),
            waiting: column(first + 2),
        }
    };
    let fairness = &pool.fairness;
    let mean = |sum: f64| rounded(sum / fairness.contended.max(1e-9));
    let shares = names.iter().zip(&fairness.queues).map(|(queue, (actual, ideal))| Shares {
        queue: queue.name.clone(),
        actual: mean(*actual),
        ideal: mean(*ideal),
    });
    Pool {
        pool: pool.name.clone(),
        nodes: pool.nodes,
        capacity: shown
            .iter()
            .map(|(_, name, total)| (name.clone(), from_dense(name, *total).to_string()))
            .collect(),
        mean_utilisation: shown
            .iter()
            .map(|(place, name, _)| (name.clone(), rounded(pool.series.mean(*place))))
            .collect(),
        fairness: Fairness {
            contended_seconds: rounded(fairness.contended),
            mean_error: mean(fairness.errors),
            max_error: rounded(fairness.error_max),
            queues: shares.collect(),
        },
        series: Series {
            at: pool.series.times(),
            utilisation: shown
                .iter()
                .map(|(place, name, _)| (name.clone(), column(*place)))
                .collect(),
            queues: names.iter().enumerate().map(queue_series).collect(),
        },
    }
}

/// To six places behind the point: what lies behind them is noise.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests;
