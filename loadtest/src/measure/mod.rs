//! What the benchmarks measure on a running deployment, whatever it stands on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::try_join_all;
use muster_client::{Answers, Client, Compression, Follow, Format, Submission};
use muster_runtime::{Clock, Random};

pub mod table;
pub mod work;

use crate::latency::Latency;

/// The job set of everything that is submitted here.
pub const JOB_SET: &str = "bench";
/// How long jobs may take to finish.
const PATIENCE: Duration = Duration::from_secs(600);

/// A body of jobs, answered with a summary.
#[must_use]
pub fn submission(queue: &str, body: Bytes, key: String) -> Submission {
    Submission {
        queue: queue.to_owned(),
        job_set: JOB_SET.to_owned(),
        key: Some(key),
        format: Format::Ndjson,
        compression: Compression::None,
        answers: Answers::Summary,
        body: vec![body],
    }
}

/// Submits the bodies over so many connections at once, each to one of `queues`: how long it took.
///
/// # Errors
/// When a body is refused.
pub async fn bulk(
    client: &Client,
    clock: &Clock,
    queues: &[&str],
    bodies: &[Bytes],
    connections: usize,
) -> anyhow::Result<Duration> {
    let run = Random::from_os().u64();
    let began = clock.monotonic();
    let lanes = (0..connections).map(|lane| async move {
        for (number, body) in bodies.iter().enumerate().skip(lane).step_by(connections) {
            let queue = queues[lane % queues.len()];
            let key = format!("bulk-{run}-{number}");
            client.submit(&submission(queue, body.clone(), key)).await?;
        }
        Ok::<(), muster_client::Error>(())
    });
    try_join_all(lanes).await?;
    Ok(clock.monotonic() - began)
}

/// Latencies of single jobs that come in at random moments, one in every `interval`.
#[derive(Debug, Default)]
pub struct Light {
    /// From the moment at which a job was to be sent to its acknowledgement.
    pub acknowledged: Latency,
    /// From a job's submission to its lease, by the times of its events, in whole milliseconds.
    pub leased: Latency,
}

/// Submits `jobs` jobs one by one and waits until they have finished. However late an answer is,
/// the next job is sent at its time.
///
/// # Errors
/// When a job is refused or does not finish.
pub async fn light(
    client: &Client,
    clock: &Clock,
    queue: &str,
    jobs: u32,
    interval: Duration,
) -> anyhow::Result<Light> {
    let body = work::short_jobs(1, "100ms");
    let random = Random::from_os();
    let run = random.u64();
    let began = clock.monotonic();
    let sent = (0..jobs).map(|number| {
        let at = began + interval * number + interval.mul_f64(random.unit());
        let submission = submission(queue, body.clone(), format!("light-{run}-{number}"));
        async move {
            clock.sleep_until(at).await;
            // The timer is late by up to its tick; that is not the deployment's.
            let at = clock.monotonic();
            client.submit(&submission).await?;
            Ok::<Duration, muster_client::Error>(clock.monotonic() - at)
        }
    });
    let mut light = Light::default();
    for latency in try_join_all(sent).await? {
        light.acknowledged.add(latency);
    }
    finished(client, clock, queue, u64::from(jobs)).await?;
    light.leased = lease_latencies(client, queue).await?;
    Ok(light)
}

/// Time from `submitted` to `leased` of every job of the job set.
async fn lease_latencies(client: &Client, queue: &str) -> anyhow::Result<Latency> {
    let mut submitted = BTreeMap::new();
    let mut latencies = Latency::default();
    let mut events = client.events(queue, JOB_SET, None, Follow::No);
    while let Some(event) = events.next().await? {
        let at: jiff::Timestamp = event.at.parse().context("an event's time")?;
        match event.event.as_str() {
            "submitted" => {
                submitted.insert(event.job_id, at);
            }
            "leased" => {
                let since = submitted.get(&event.job_id).context("leased before submitted")?;
                let millis = (at.as_millisecond() - since.as_millisecond()).max(0);
                latencies.add(Duration::from_millis(millis.unsigned_abs()));
            }
            _ => {}
        }
    }
    Ok(latencies)
}

/// Waits until so many jobs have succeeded; how many had, at which times.
///
/// # Errors
/// When they do not within ten minutes.
pub async fn finished(
    client: &Client,
    clock: &Clock,
    queue: &str,
    jobs: u64,
) -> anyhow::Result<Vec<(Duration, u64)>> {
    let until = clock.monotonic() + PATIENCE;
    let mut samples = Vec::new();
    loop {
        let set = client.job_set(queue, JOB_SET).await?;
        let succeeded = set.counts.get("succeeded").copied().unwrap_or(0);
        samples.push((clock.monotonic(), succeeded));
        if succeeded >= jobs {
            return Ok(samples);
        }
        anyhow::ensure!(clock.monotonic() < until, "jobs did not finish: {:?}", set.counts);
        clock.sleep(Duration::from_millis(50)).await;
    }
}

/// The lowest rate over any stretch of `window` in the samples, if they are that long.
#[must_use]
pub fn lowest_rate(samples: &[(Duration, u64)], window: Duration) -> Option<f64> {
    let rates = samples.iter().enumerate().filter_map(|(first, (from, before))| {
        let later = samples[first..].iter().find(|(to, _)| *to >= *from + window)?;
        Some((later.1 - before) as f64 / (later.0 - *from).as_secs_f64())
    });
    rates.min_by(f64::total_cmp)
}

/// The sum of all samples of a metric.
///
/// # Errors
/// When the deployment does not answer, or a value is no number.
pub async fn metric(client: &Client, name: &str) -> anyhow::Result<f64> {
    let text = client.metrics().await?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains(name));
    lines
        .map(|line| {
            let number = line.rsplit(' ').next().context("a metric has a value")?;
            Ok(number.parse::<f64>()?)
        })
        .sum()
}

/// Requests to the store since the start.
///
/// # Errors
/// Those of [`metric`].
pub async fn store_requests(client: &Client) -> anyhow::Result<f64> {
    metric(client, "store_requests_total").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_rate_is_that_of_the_slowest_stretch() {
        let at = |seconds: u64, done: u64| (Duration::from_secs(seconds), done);
        let samples = [at(0, 0), at(1, 100), at(2, 110), at(3, 120), at(4, 400)];
        assert_eq!(lowest_rate(&samples, Duration::from_secs(2)), Some(10.0));
        assert_eq!(lowest_rate(&samples, Duration::from_secs(5)), None);
    }
}
