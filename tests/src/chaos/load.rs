//! A steady load that does not wait for the deployment: submissions of every age, some sent twice
//! under one key, some cancelled job by job, some job sets cancelled as a whole.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::BytesMut;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use muster_api::request::SubmitAnswer;
use muster_client::{Client, Output, Selection, Submission, Submitted};
use muster_core::job::JobState;
use muster_loadtest::acknowledged::{Acknowledged, Record};
use muster_loadtest::audit::live;
use muster_loadtest::job::{Kind, Template};
use muster_runtime::clock::Clock;

use super::Options;

/// Jobs of one request.
const JOBS_PER_REQUEST: u64 = 20;
/// Requests on their way at once; those that come due meanwhile are sent late.
const IN_FLIGHT_MAX: usize = 256;
/// Job sets that follow each other: each is read as a whole in the end, and that takes its time.
const SETS: u32 = 6;
/// How long jobs run that are there to be cancelled.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);
/// One of so many job sets is cancelled as a whole.
const CANCELLED_SETS: u64 = 3;
/// Of one of so many requests, each job is cancelled by its id.
const CANCELLED_REQUESTS: u64 = 9;
/// One of so many requests is sent a second time, to the other gateway.
const REPEATED_REQUESTS: u64 = 7;

/// What was done, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// What was acknowledged.
    pub(super) acknowledged: Acknowledged,
    /// Submissions.
    pub(super) requests: u64,
    /// Submissions that were sent twice.
    pub(super) repeated: u64,
    /// Cancellations.
    pub(super) cancels: u64,
    /// What was not as promised.
    pub(super) findings: Vec<String>,
}

/// The load.
#[derive(Debug)]
pub(super) struct Load {
    clients: Vec<Client>,
    queues: Vec<String>,
    requests_per_second: f64,
    seed: u64,
    set_lasts: Duration,
    clock: Clock,
    templates: [Template; 2],
    stopped: AtomicBool,
}

/// A submission.
#[derive(Debug, Clone)]
struct Request {
    number: u64,
    set: u64,
    queue: String,
}

/// What came to its end.
enum Ended {
    Submitted(Request, Result<Submitted, String>),
    Repeated(Vec<String>, Result<Submitted, String>),
    Cancelled(Result<(), String>),
}

/// What is under way.
type Pending<'a> = FuturesUnordered<BoxFuture<'a, Ended>>;

impl Load {
    /// None yet; see [`Load::run`]. The first client is the one that most requests go through.
    pub(super) fn new(clients: Vec<Client>, queues: &[String], options: &Options) -> Self {
        let kind = |runtime| Kind {
            cpu: "100m".to_owned(),
            memory: "64Mi".to_owned(),
            runtime: Some(runtime),
            failure_rate: None,
            count: None,
            spec_bytes: 512,
        };
        Self {
            clients,
            queues: queues.to_vec(),
            requests_per_second: options.jobs_per_second / JOBS_PER_REQUEST as f64,
            seed: options.seed,
            set_lasts: options.time / SETS,
            clock: Clock::system(),
            templates: [SHORT, LONG].map(|runtime| Template::distinct(&kind(runtime))),
            stopped: AtomicBool::new(false),
        }
    }

    /// Begins nothing more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Goes on until [`Load::stop`], and until everything that was begun is answered.
    pub(super) async fn run(&self) -> Done {
        let gap = Duration::from_secs_f64(1.0 / self.requests_per_second);
        let began = self.clock.monotonic();
        let (mut due, mut number) = (began, 0);
        let mut late: VecDeque<Request> = VecDeque::new();
        let mut pending = Pending::new();
        let mut open: BTreeMap<(u64, String), u64> = BTreeMap::new();
        let mut done = Done::default();
        loop {
            while pending.len() < IN_FLIGHT_MAX {
                let Some(request) = late.pop_front() else { break };
                pending.push(self.submission(request).boxed());
            }
            let is_over = self.stopped.load(Ordering::Relaxed);
            if is_over && pending.is_empty() && late.is_empty() {
                return done;
            }
            tokio::select! {
                biased;
                () = self.clock.sleep_until(due), if !is_over => {
                    let set = self.set(due - began);
                    let queue = usize::try_from(number).unwrap_or(0) % self.queues.len();
                    let request = Request { number, set, queue: self.queues[queue].clone() };
                    *open.entry((set, request.queue.clone())).or_default() += 1;
                    late.push_back(request);
                    (number, due) = (number + 1, due + gap);
                    done.requests += 1;
                }
                Some(ended) = pending.next(), if !pending.is_empty() => {
                    let newest = self.set(due - began);
                    self.take(ended, &mut open, &pending, &mut done);
                    self.cancel_sets(newest, &mut open, &pending, &mut done);
                }
            }
        }
    }

    fn take<'a>(
        &'a self,
        ended: Ended,
        open: &mut BTreeMap<(u64, String), u64>,
        pending: &Pending<'a>,
        done: &mut Done,
    ) {
        match ended {
            Ended::Submitted(request, answer) => {
                if let Some(count) = open.get_mut(&(request.set, request.queue.clone())) {
                    *count -= 1;
                }
                let name = set_name(request.set);
                let job_set = done.acknowledged.job_set(&request.queue, &name);
                let ids = match answer.and_then(|submitted| ids(&submitted)) {
                    Ok(ids) => ids,
                    Err(error) => {
                        job_set.unanswered += JOBS_PER_REQUEST;
                        done.findings.push(format!("submission {}: {error}", request.number));
                        return;
                    }
                };
                for id in &ids {
                    match id.parse() {
                        Ok(id) => job_set.records.push(Record::new(id, None)),
                        Err(error) => done.findings.push(format!("{id}: {error}")),
                    }
                }
                if request.number.is_multiple_of(REPEATED_REQUESTS) {
                    done.repeated += 1;
                    pending.push(self.repetition(request, ids).boxed());
                } else if request.number.is_multiple_of(CANCELLED_REQUESTS) {
                    done.cancels += 1;
                    pending.push(self.cancellation(ids).boxed());
                }
            }
            Ended::Repeated(first, answer) => match answer.and_then(|submitted| ids(&submitted)) {
                Ok(second) if second == first => {}
                Ok(second) => {
                    done.findings.push(format!("one key, two answers: {first:?} and {second:?}"));
                }
                Err(error) => done.findings.push(format!("a submission sent again: {error}")),
            },
            Ended::Cancelled(Ok(())) => {}
            Ended::Cancelled(Err(error)) => done.findings.push(error),
        }
    }

    /// Cancels job sets that take no more jobs and whose submissions are all answered.
    fn cancel_sets<'a>(
        &'a self,
        newest: u64,
        open: &mut BTreeMap<(u64, String), u64>,
        pending: &Pending<'a>,
        done: &mut Done,
    ) {
        open.retain(|(set, queue), count| {
            if *set >= newest || *count > 0 {
                return true;
            }
            if is_cancelled_set(*set) {
                done.cancels += 1;
                pending.push(self.cancellation_of_set(queue.clone(), set_name(*set)).boxed());
            }
            false
        });
    }

    /// The job set that takes jobs so long after the start.
    fn set(&self, since: Duration) -> u64 {
        (since.as_secs_f64() / self.set_lasts.as_secs_f64()) as u64
    }

    fn client(&self, number: u64) -> &Client {
        &self.clients[usize::try_from(number).unwrap_or(0) % self.clients.len()]
    }

    async fn submission(&self, request: Request) -> Ended {
        let submitted = self.client(request.number).submit(&self.body(&request)).await;
        Ended::Submitted(request, submitted.map_err(|error| error.to_string()))
    }

    async fn repetition(&self, request: Request, first: Vec<String>) -> Ended {
        let submitted = self.client(request.number + 1).submit(&self.body(&request)).await;
        Ended::Repeated(first, submitted.map_err(|error| error.to_string()))
    }

    fn body(&self, request: &Request) -> Submission {
        let is_long =
            is_cancelled_set(request.set) || request.number.is_multiple_of(CANCELLED_REQUESTS);
        let template = &self.templates[usize::from(is_long)];
        let first = request.number * JOBS_PER_REQUEST;
        let mut body = BytesMut::new();
        (first..first + JOBS_PER_REQUEST).for_each(|job| template.write(job, &mut body));
        Submission {
            queue: request.queue.clone(),
            job_set: set_name(request.set),
            key: Some(format!("chaos-{}-{}", self.seed, request.number)),
            body: vec![body.freeze()],
            ..Submission::default()
        }
    }

    /// Cancels jobs; what reads it afterwards has to see it.
    async fn cancellation(&self, ids: Vec<String>) -> Ended {
        let client = self.client(0);
        let cancelled = async {
            client.cancel(Selection::Ids(ids.clone()), None).await?;
            client.job(&ids[0], Output::State).await
        };
        Ended::Cancelled(match cancelled.await {
            Ok(job) if JobState::from_name(&job.state).is_some_and(JobState::is_final) => Ok(()),
            Ok(job) => Err(format!("{} is {} after it was cancelled", job.job_id, job.state)),
            Err(error) => Err(format!("cancelling {}: {error}", ids[0])),
        })
    }

    async fn cancellation_of_set(&self, queue: String, job_set: String) -> Ended {
        let client = self.client(1);
        let (states, of_set) = (Vec::new(), (queue.clone(), job_set.clone()));
        let cancelled = async {
            let (queue, job_set) = of_set.clone();
            client.cancel(Selection::JobSet { queue, job_set, states }, None).await?;
            client.job_set(&of_set.0, &of_set.1).await
        };
        Ended::Cancelled(match cancelled.await {
            Ok(counts) if live(&counts) == 0 => Ok(()),
            Ok(counts) => {
                Err(format!("{queue}/{job_set} lives after it was cancelled: {:?}", counts.counts))
            }
            Err(error) => Err(format!("cancelling {queue}/{job_set}: {error}")),
        })
    }
}

fn set_name(set: u64) -> String {
    format!("set-{set}")
}

fn is_cancelled_set(set: u64) -> bool {
    set % CANCELLED_SETS == 1
}

/// The ids of an answer in which every job was taken.
pub(super) fn ids(submitted: &Submitted) -> Result<Vec<String>, String> {
    let Submitted::Each(answers) = submitted else { return Err("a summary".to_owned()) };
    let id = |answer: &SubmitAnswer| match answer {
        SubmitAnswer::Accepted { job_id } => Ok(job_id.clone()),
        SubmitAnswer::Rejected { error } => Err(format!("a job is refused: {}", error.detail)),
    };
    answers.iter().map(id).collect()
}
