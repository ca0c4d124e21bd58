//! A client that asks all the time whether the deployment does its work: one small job in a queue
//! of every shard, again and again. From what it saw follows how long each fault was felt.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use muster_client::{Client, Output, Submission};
use muster_core::job::JobState;
use muster_loadtest::acknowledged::{Acknowledged, Record};
use muster_runtime::clock::Clock;

use super::load::ids;

/// The job set of the probe.
pub(super) const JOB_SET: &str = "probe";
/// Between two rounds.
const PERIOD: Duration = Duration::from_millis(500);
/// Rounds under way at once.
const ROUNDS_MAX: usize = 100;
/// How often it looks whether a job has ended.
const LOOK: Duration = Duration::from_millis(100);
const JOB: &str = "{\"annotations\":{\"muster.dev/simulated-runtime\":\"50ms\"},\
    \"podSpec\":{\"containers\":[{\"name\":\"m\",\"command\":[\"true\"],\
    \"resources\":{\"requests\":{\"cpu\":\"10m\",\"memory\":\"1Mi\"}}}]}}\n";

/// A job in each queue: times by the clock of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    /// When it was sent.
    pub(super) began: Duration,
    /// When the last of its jobs was acknowledged.
    pub(super) acknowledged: Duration,
    /// When the last of its jobs was seen to have ended.
    pub(super) ended: Duration,
}

/// The probe.
#[derive(Debug)]
pub(super) struct Probe {
    client: Client,
    queues: Vec<String>,
    clock: Clock,
    stopped: AtomicBool,
    acknowledged: Mutex<Acknowledged>,
}

/// What it saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The rounds, in the order in which they came to their end.
    pub(super) rounds: Vec<Round>,
    /// What was acknowledged.
    pub(super) acknowledged: Acknowledged,
    /// What was not as promised.
    pub(super) findings: Vec<String>,
}

impl Probe {
    /// One that uses these queues.
    pub(super) fn new(client: Client, queues: &[String], clock: &Clock) -> Self {
        let (queues, clock) = (queues.to_vec(), clock.clone());
        let (stopped, acknowledged) = (AtomicBool::new(false), Mutex::default());
        Self { client, queues, clock, stopped, acknowledged }
    }

    /// Begins no more rounds.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Goes on until [`Probe::stop`], and until every round has come to its end; gives also what
    /// was acknowledged before it.
    pub(super) async fn run(&self) -> Seen {
        let mut seen = Seen::default();
        let mut rounds = FuturesUnordered::new();
        let mut due = self.clock.monotonic();
        loop {
            let is_over = self.stopped.load(Ordering::Relaxed);
            if is_over && rounds.is_empty() {
                seen.acknowledged = std::mem::take(&mut *self.lock());
                return seen;
            }
            tokio::select! {
                biased;
                () = self.clock.sleep_until(due), if !is_over => {
                    if rounds.len() < ROUNDS_MAX {
                        rounds.push(self.round());
                    }
                    due += PERIOD;
                }
                Some(round) = rounds.next(), if !rounds.is_empty() => match round {
                    Ok(round) => seen.rounds.push(round),
                    Err(error) => seen.findings.push(format!("a probe: {error:#}")),
                },
            }
        }
    }

    /// One round.
    ///
    /// # Errors
    /// When a job is refused, fails, or cannot be asked about for longer than clients are patient.
    pub(super) async fn round(&self) -> Result<Round> {
        let began = self.clock.monotonic();
        let ids = try_join_all(self.queues.iter().map(|queue| self.submit(queue))).await?;
        let acknowledged = self.clock.monotonic();
        try_join_all(ids.iter().map(|id| self.until_ended(id))).await?;
        let ended = self.clock.monotonic();
        Ok(Round { began, acknowledged, ended })
    }

    async fn submit(&self, queue: &str) -> Result<String> {
        let submission = Submission {
            queue: queue.to_owned(),
            job_set: JOB_SET.to_owned(),
            body: vec![JOB.into()],
            ..Submission::default()
        };
        let submitted = self.client.submit(&submission).await?;
        let mut ids = ids(&submitted).map_err(anyhow::Error::msg)?;
        ensure!(ids.len() == 1, "{} answers to one job", ids.len());
        let id = ids.remove(0);
        let record = Record::new(id.parse()?, None);
        self.lock().job_set(queue, JOB_SET).records.push(record);
        Ok(id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Acknowledged> {
        self.acknowledged.lock().expect("no code panics while it holds this lock")
    }

    async fn until_ended(&self, id: &str) -> Result<()> {
        loop {
            let job = self.client.job(id, Output::State).await?;
            let state = JobState::from_name(&job.state);
            ensure!(state != Some(JobState::Failed), "{id} failed: {:?}", job.runs);
            if state.is_some_and(JobState::is_final) {
                return Ok(());
            }
            self.clock.sleep_until(self.clock.monotonic() + LOOK).await;
        }
    }
}

/// How long it took from `moment` until a round that began later was acknowledged, and until it was
/// through. The probe goes on after the last fault until that is so.
pub(super) fn recovery(rounds: &[Round], moment: Duration) -> Option<(Duration, Duration)> {
    let later = || rounds.iter().filter(|round| round.began >= moment);
    let acknowledged = later().map(|round| round.acknowledged).min()?;
    let ended = later().map(|round| round.ended).min()?;
    Some((acknowledged - moment, ended - moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rounds_that_began_later_tell_of_a_recovery() {
        let round = |began, acknowledged, ended| Round {
            began: Duration::from_secs(began),
            acknowledged: Duration::from_secs(acknowledged),
            ended: Duration::from_secs(ended),
        };
        let rounds = [round(1, 9, 10), round(5, 8, 12), round(6, 9, 11)];
        let of = |moment| {
            let (acknowledged, ended) = recovery(&rounds, Duration::from_secs(moment))?;
            Some((acknowledged.as_secs(), ended.as_secs()))
        };
        assert_eq!(of(0), Some((8, 10)));
        assert_eq!(of(2), Some((6, 9)));
        assert_eq!(of(6), Some((3, 5)));
        assert_eq!(of(7), None);
    }
}
