//! The open loop: requests become due by the scenario's rhythm, whatever happens to those before
//! them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use muster_client::{Client, Submission, Submitted};
use muster_core::limits::LINE_BYTES_MAX;
use muster_runtime::clock::Clock;
use muster_runtime::random::Random;

use super::watchers::Live;
use crate::acknowledged::{Acknowledged, Record};
use crate::job::Template;
use crate::scenario::{Scenario, pick};
use crate::submit::read_answers;

/// What was sent.
pub(super) struct Sent {
    pub(super) requests: u64,
    pub(super) failed_requests: u64,
    pub(super) acknowledged: Acknowledged,
}

struct Request {
    /// When it was meant to be sent.
    due: Duration,
    queue: usize,
    /// The kind of each job.
    kinds: Vec<usize>,
    /// The number of the first job.
    first: u64,
}

struct Answer {
    due: Duration,
    queue: usize,
    kinds: Vec<usize>,
    submitted: Result<Submitted, muster_client::Error>,
}

struct Generator<'a> {
    client: &'a Client,
    clock: &'a Clock,
    scenario: &'a Scenario,
    job_set: &'a str,
    templates: Vec<Template>,
    live: &'a Live,
    sent: Sent,
}

/// Sends for as long as the scenario lasts, and until every request is answered or has failed.
pub(super) async fn send(
    client: &Client,
    clock: &Clock,
    scenario: &Scenario,
    job_set: &str,
    random: Random,
    live: &Live,
) -> Sent {
    let templates = scenario.jobs.iter().map(|jobs| Template::distinct(&jobs.kind())).collect();
    let mut acknowledged = Acknowledged::default();
    for queue in &scenario.queues {
        acknowledged.job_set(&queue.name, job_set);
    }
    let sent = Sent { requests: 0, failed_requests: 0, acknowledged };
    let mut generator = Generator { client, clock, scenario, job_set, templates, live, sent };
    generator.run(&random).await;
    generator.sent
}

impl Generator<'_> {
    async fn run(&mut self, random: &Random) {
        let arrivals = &self.scenario.arrivals;
        let began = self.clock.monotonic();
        let end = began + self.scenario.duration.0;
        let mut due = began + arrivals.gap(random);
        let mut waiting: VecDeque<Request> = VecDeque::new();
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < arrivals.in_flight_max {
                let Some(request) = waiting.pop_front() else { break };
                in_flight.push(self.request(request));
            }
            let over = due >= end;
            if over && in_flight.is_empty() && waiting.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                () = self.clock.sleep_until(due), if !over => {
                    waiting.push_back(self.draw(due, random));
                    due += arrivals.gap(random);
                }
                Some(answer) = in_flight.next(), if !in_flight.is_empty() => self.take(answer),
            }
        }
    }

    fn draw(&mut self, due: Duration, random: &Random) -> Request {
        let jobs = self.scenario.arrivals.jobs_per_request;
        let queues: Vec<f64> = self.scenario.queues.iter().map(|queue| queue.portion).collect();
        let portions: Vec<f64> = self.scenario.jobs.iter().map(|jobs| jobs.portion).collect();
        let kinds = (0..jobs).map(|_| pick(&portions, random)).collect();
        let first = self.sent.requests * jobs as u64;
        self.sent.requests += 1;
        Request { due, queue: pick(&queues, random), kinds, first }
    }

    fn request(&self, request: Request) -> impl Future<Output = Answer> + use<> {
        let Request { due, queue, kinds, first } = request;
        let mut body = BytesMut::new();
        for (at, kind) in kinds.iter().enumerate() {
            self.templates[*kind].write(first + at as u64, &mut body);
        }
        debug_assert!(self.templates.iter().all(|kind| kind.line_bytes() <= LINE_BYTES_MAX));
        let submission = Submission {
            queue: self.scenario.queues[queue].name.clone(),
            job_set: self.job_set.to_owned(),
            body: vec![body.freeze()],
            ..Submission::default()
        };
        let client = self.client.clone();
        async move { Answer { due, queue, kinds, submitted: client.submit(&submission).await } }
    }

    fn take(&mut self, answer: Answer) {
        let latency = self.clock.monotonic().saturating_sub(answer.due);
        let queue = &self.scenario.queues[answer.queue].name;
        let job_set = self.sent.acknowledged.job_set(queue, self.job_set);
        let answers = match answer.submitted {
            Ok(Submitted::Each(answers)) => answers,
            Ok(Submitted::Summary(_)) => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, queue, "a request failed for good");
                self.sent.failed_requests += 1;
                // Refused is certain; of anything else nobody knows what became of it.
                if error.is_unavailable() {
                    job_set.unanswered += answer.kinds.len() as u64;
                }
                return;
            }
        };
        let mut records: Vec<Record> = Vec::with_capacity(answers.len());
        let mut refusals = Vec::new();
        for (answer, kind) in answers.iter().zip(&answer.kinds) {
            let tasks = self.scenario.jobs[*kind].count;
            read_answers(std::slice::from_ref(answer), tasks, &mut records, &mut refusals);
        }
        self.live.submitted(self.clock.now(), records.len() as u64, refusals.len() as u64, latency);
        job_set.records.extend(records);
    }
}
