//! What is seen while a scenario runs, by several tasks at once.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_api::http::{Event, Pool};
use muster_client::{Client, Error, Follow};
use muster_core::id::JobRef;
use muster_core::job::JobState;
use muster_core::time::Timestamp;
use muster_runtime::clock::Clock;
use muster_runtime::tasks::{Policy, Supervisor};

use super::{Second, ShareSample};
use crate::latency::Latency;
use crate::scenario::Scenario;

const SHARES_PERIOD: Duration = Duration::from_secs(1);
/// The job set is not known before its first job.
const APPEAR_PERIOD: Duration = Duration::from_millis(200);
const SETTLE_POLL: Duration = Duration::from_millis(50);
/// Seconds that are kept: a day.
const SECONDS_MAX: usize = 86_400;

/// What has been seen so far.
#[derive(Debug, Default)]
pub struct Live {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    began: Timestamp,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) leased: u64,
    pub(super) finished: u64,
    events: u64,
    pub(super) submit_latency: Latency,
    pub(super) lease_latency: Latency,
    pub(super) finish_latency: Latency,
    pub(super) seconds: Vec<Second>,
    pub(super) shares: Vec<ShareSample>,
}

impl Live {
    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let seen = self.lock();
        format!(
            "{} submitted, {} refused, {} leased, {} finished; submit p99 {:.1} ms",
            seen.accepted,
            seen.rejected,
            seen.leased,
            seen.finished,
            seen.submit_latency.percentiles().p99_ms
        )
    }

    pub(super) fn start(&self, now: Timestamp) {
        self.lock().began = now;
    }

    pub(super) fn submitted(
        &self,
        now: Timestamp,
        accepted: u64,
        rejected: u64,
        latency: Duration,
    ) {
        let mut seen = self.lock();
        seen.accepted += accepted;
        seen.rejected += rejected;
        seen.submit_latency.add(latency);
        if let Some(second) = seen.second(now) {
            second.submitted += accepted;
        }
    }

    /// Waits until as many events have been seen as there are, or for `within`.
    pub(super) async fn settle(&self, clock: &Clock, events: u64, within: Duration) {
        let deadline = clock.monotonic() + within;
        while self.lock().events < events && clock.monotonic() < deadline {
            clock.sleep(SETTLE_POLL).await;
        }
    }

    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut self.lock())
    }

    fn event(&self, event: &Event) {
        let mut seen = self.lock();
        seen.events += 1;
        let Some(at) = millis_of(&event.at) else { return };
        let Ok(reference) = event.job_id.parse::<JobRef>() else { return };
        let since_submit = at.since(reference.job.submitted_at());
        let count = u64::from(event.count);
        if event.event == "leased" {
            seen.leased += count;
            if event.attempt.is_none_or(|attempt| attempt <= 1) {
                seen.lease_latency.add(since_submit);
            }
            if let Some(second) = seen.second(at) {
                second.leased += count;
            }
        } else if JobState::from_name(&event.event).is_some_and(JobState::is_final) {
            seen.finished += count;
            seen.finish_latency.add(since_submit);
            if let Some(second) = seen.second(at) {
                second.finished += count;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no code panics while it holds this lock")
    }
}

impl Seen {
    /// The second that a moment falls into; none for what lies before the start.
    fn second(&mut self, at: Timestamp) -> Option<&mut Second> {
        let index = usize::try_from((at.0 - self.began.0).div_euclid(1000)).ok()?;
        if index >= SECONDS_MAX {
            return None;
        }
        if self.seconds.len() <= index {
            self.seconds.resize(index + 1, Second::default());
        }
        self.seconds.get_mut(index)
    }
}

/// Starts a watcher of each queue's events, and a sampler of shares.
pub(super) fn start(
    tasks: &Supervisor,
    client: &Client,
    clock: &Clock,
    scenario: &Scenario,
    job_set: &str,
    live: &Arc<Live>,
) {
    for queue in &scenario.queues {
        let (client, clock, live) = (client.clone(), clock.clone(), Arc::clone(live));
        let (queue, job_set) = (queue.name.clone(), job_set.to_owned());
        tasks.spawn_once(format!("events of {queue}"), Policy::DETACHED, async move |_| {
            watch(&client, &clock, &queue, &job_set, &live).await
        });
    }
    let (client, clock, live) = (client.clone(), clock.clone(), Arc::clone(live));
    let (pool, began) = (scenario.pool.clone(), clock.monotonic());
    let queues: Vec<_> = scenario.queues.iter().map(|queue| queue.name.clone()).collect();
    tasks.spawn_once("shares", Policy::DETACHED, async move |_| {
        loop {
            let at = clock.monotonic() - began;
            sample(&client, &pool, &queues, &live, at.as_secs_f64()).await;
            clock.sleep(SHARES_PERIOD).await;
        }
        #[expect(unreachable_code, reason = "gives the task its type")]
        Ok::<_, Error>(())
    });
}

async fn watch(
    client: &Client,
    clock: &Clock,
    queue: &str,
    job_set: &str,
    live: &Live,
) -> Result<(), Error> {
    let mut events = client.events(queue, job_set, None, Follow::Yes);
    loop {
        match events.next().await {
            Ok(Some(event)) => live.event(&event),
            Ok(None) => return Ok(()),
            Err(error) if error.is_not_found() || error.is_unavailable() => {
                clock.sleep(APPEAR_PERIOD).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn sample(client: &Client, pool: &str, queues: &[String], live: &Live, at: f64) {
    match client.shares(pool).await {
        Ok(shown) => live.lock().shares.extend(samples(&shown, queues, at)),
        Err(error) => tracing::debug!(%error, "no shares to be had"),
    }
}

/// One of each queue: one that is not shown holds nothing and waits for nothing.
fn samples(shown: &Pool, queues: &[String], at: f64) -> Vec<ShareSample> {
    let sample = |queue: &String| {
        let share = shown.queues.iter().find(|share| share.queue == *queue);
        let [ideal, actual] =
            share.map_or([0.0; 2], |share| [share.ideal_share, share.actual_share]);
        ShareSample { at, queue: queue.clone(), ideal, actual }
    };
    queues.iter().map(sample).collect()
}

fn millis_of(at: &str) -> Option<Timestamp> {
    at.parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use muster_api::http::QueueShare;
    use muster_core::id::{JobId, ShardId};

    use super::*;

    #[test]
    fn queues_that_are_not_shown_have_nothing_and_others_are_not_of_the_scenario() {
        let share = |queue: &str, ideal_share, actual_share| QueueShare {
            queue: queue.to_owned(),
            ideal_share,
            actual_share,
            ..QueueShare::default()
        };
        let queues = vec![share("b", 0.5, 0.25), share("foreign", 0.5, 0.5)];
        let shown = Pool { queues, ..Pool::default() };
        let of_it = ["a", "b"].map(str::to_owned);
        let sample = |queue: &str, ideal, actual| {
            let queue = queue.to_owned();
            ShareSample { at: 1.5, queue, ideal, actual }
        };
        let expected = [sample("a", 0.0, 0.0), sample("b", 0.5, 0.25)];
        assert_eq!(samples(&shown, &of_it, 1.5), expected);
    }

    #[test]
    fn events_become_latencies_and_seconds() {
        let live = Live::default();
        live.start(Timestamp(10_000));
        let id = JobId::new(Timestamp(10_500), ShardId(0), 1);
        let event = |name: &str, at: i64, attempt: u32| -> Event {
            let at = muster_api::http::time_text(Timestamp(at));
            let json = format!(
                "{{\"cursor\":\"1-1\",\"jobId\":\"{id}\",\"event\":\"{name}\",\"at\":\"{at}\",\
                 \"attempt\":{attempt}}}"
            );
            serde_json::from_str(&json).unwrap()
        };
        live.submitted(Timestamp(10_600), 1, 0, Duration::from_millis(80));
        live.event(&event("leased", 10_700, 1));
        live.event(&event("leased", 11_700, 2));
        live.event(&event("succeeded", 13_500, 2));
        let seen = live.take();
        assert_eq!((seen.leased, seen.finished, seen.events), (2, 1, 3));
        assert_eq!(seen.lease_latency.percentiles().count, 1);
        assert!((seen.lease_latency.percentiles().max_ms - 200.0).abs() < 1.0);
        assert!((seen.finish_latency.percentiles().max_ms - 3000.0).abs() < 5.0);
        let finished: Vec<_> = seen.seconds.iter().map(|second| second.finished).collect();
        assert_eq!((finished, seen.seconds[0].submitted), (vec![0, 0, 0, 1], 1));
    }
}
