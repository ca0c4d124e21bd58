//! Submitting as fast as it is answered, over a number of connections.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use muster_api::batch::public::Writer;
use muster_api::request::SubmitAnswer;
use muster_client::{Answers, Client, Compression, Error, Format, Submission, Submitted, compress};
use muster_core::id::JobId;
use muster_runtime::clock::Clock;
use muster_runtime::random::Random;
use muster_runtime::tasks::{BoxError, OnCancel, OnError, Policy, Supervisor};
use serde::{Deserialize, Serialize};

use crate::acknowledged::{Acknowledged, Record};
use crate::job::{Kind, Template};
use crate::latency::{Latency, Percentiles};

/// What is submitted, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Jobs in all.
    pub jobs: u64,
    /// Jobs of one request.
    pub jobs_per_request: u64,
    /// Requests on their way at once.
    pub connections: usize,
    /// The queues, one after the other.
    pub queues: Vec<String>,
    /// The job set in each of them.
    pub job_set: String,
    /// What the jobs are like.
    pub kind: Kind,
    /// Whether each job differs from every other one.
    pub distinct: bool,
    /// The body's format.
    pub format: Format,
    /// The body's compression.
    pub compression: Compression,
    /// Whether the answer names each job; only then there is something to audit.
    pub answers: Answers,
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Records that were acknowledged.
    pub accepted: u64,
    /// Records that were refused.
    pub rejected: u64,
    /// Bytes of the bodies before compression.
    pub body_bytes: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Acknowledged records a second.
    pub jobs_per_second: f64,
    /// Of one request, from its first byte to the last one of its answer, repetitions included.
    pub request_latency: Percentiles,
    /// Why jobs were refused: code and how often.
    pub refusals: BTreeMap<String, u64>,
}

/// How far it is; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records that were answered.
    pub answered: AtomicU64,
}

#[derive(Debug, Default)]
struct Tally {
    report: Report,
    latency: Latency,
    acknowledged: Acknowledged,
    failure: Option<Error>,
}

struct Shared {
    plan: Plan,
    client: Client,
    clock: Clock,
    template: Template,
    next: AtomicU64,
    progress: Arc<Progress>,
    tally: Mutex<Tally>,
}

impl Report {
    /// A few lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let latency = &self.request_latency;
        let mut text = format!(
            "{} jobs acknowledged, {} refused, {:.1} MB in {:.2} s: {:.0} jobs/s, {:.1} MB/s\n\
             request latency: p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({} requests)\n",
            self.accepted,
            self.rejected,
            self.body_bytes as f64 / 1e6,
            self.seconds,
            self.jobs_per_second,
            self.body_bytes as f64 / 1e6 / self.seconds.max(1e-9),
            latency.p50_ms,
            latency.p90_ms,
            latency.p99_ms,
            latency.max_ms,
            latency.count,
        );
        for (code, count) in &self.refusals {
            text += &format!("refused as {code}: {count}\n");
        }
        text
    }
}

/// Submits all of it; gives what was acknowledged, too.
///
/// # Errors
/// The first request that failed for good.
///
/// # Panics
/// When a connection's task panics.
pub async fn submit(
    client: &Client,
    clock: &Clock,
    plan: Plan,
    progress: Arc<Progress>,
) -> Result<(Report, Acknowledged), Error> {
    let template =
        if plan.distinct { Template::distinct(&plan.kind) } else { Template::equal(&plan.kind) };
    let connections = plan.connections.max(1);
    let shared = Arc::new(Shared {
        plan,
        client: client.clone(),
        clock: clock.clone(),
        template,
        next: AtomicU64::new(0),
        progress,
        tally: Mutex::default(),
    });
    let tasks = Supervisor::new(Random::from_os());
    let policy = Policy { on_error: OnError::Shutdown, on_cancel: OnCancel::Abort };
    let began = clock.monotonic();
    let mut workers: Vec<_> = (0..connections)
        .map(|number| {
            let shared = Arc::clone(&shared);
            tasks.spawn_once(format!("connection {number}"), policy.clone(), async move |_| {
                work(&shared).await;
                Ok::<_, BoxError>(())
            })
        })
        .collect();
    for worker in &mut workers {
        worker.finished().await.expect("a connection keeps its failure in the tally");
    }
    let seconds = (clock.monotonic() - began).as_secs_f64();
    let mut tally = std::mem::take(&mut *shared.lock());
    if let Some(error) = tally.failure.take() {
        return Err(error);
    }
    tally.report.seconds = seconds;
    tally.report.jobs_per_second = tally.report.accepted as f64 / seconds.max(1e-9);
    tally.report.request_latency = tally.latency.percentiles();
    Ok((tally.report, tally.acknowledged))
}

async fn work(shared: &Shared) {
    let plan = &shared.plan;
    let requests = plan.jobs.div_ceil(plan.jobs_per_request.max(1));
    loop {
        let request = shared.next.fetch_add(1, Ordering::Relaxed);
        if request >= requests || shared.lock().failure.is_some() {
            return;
        }
        if let Err(error) = shared.send(request).await {
            shared.lock().failure.get_or_insert(error);
            return;
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().expect("no code panics while it holds this lock")
    }

    async fn send(&self, request: u64) -> Result<(), Error> {
        let plan = &self.plan;
        let first = request * plan.jobs_per_request;
        let count = plan.jobs_per_request.min(plan.jobs - first);
        let body = body(&self.template, plan.format, first, count);
        let body_bytes = body.len() as u64;
        let body = match plan.compression {
            Compression::None => body,
            compression => compress(&body, compression)
                .await
                .map_err(|error| Error::Unsendable { reason: error.to_string() })?,
        };
        let queue = &plan.queues[usize::try_from(request).unwrap_or(0) % plan.queues.len()];
        let submission = Submission {
            queue: queue.clone(),
            job_set: plan.job_set.clone(),
            key: None,
            format: plan.format,
            compression: plan.compression,
            answers: plan.answers,
            body: vec![body],
        };
        let began = self.clock.monotonic();
        let submitted = self.client.submit(&submission).await?;
        let took = self.clock.monotonic() - began;
        self.take(queue, &submitted, took, body_bytes);
        self.progress.answered.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn take(&self, queue: &str, submitted: &Submitted, took: Duration, body_bytes: u64) {
        let mut records = Vec::new();
        let (mut accepted, mut rejected) = (0, 0);
        let mut refusals = Vec::new();
        match submitted {
            Submitted::Each(answers) => {
                read_answers(answers, self.plan.kind.count, &mut records, &mut refusals);
                (accepted, rejected) = (records.len() as u64, refusals.len() as u64);
            }
            Submitted::Summary(summary) => {
                accepted += summary.accepted;
                rejected += summary.rejected;
                refusals.extend(summary.errors.iter().map(|line| code_text(line.error.code)));
            }
        }
        let mut tally = self.lock();
        tally.latency.add(took);
        tally.report.accepted += accepted;
        tally.report.rejected += rejected;
        tally.report.body_bytes += body_bytes;
        for code in refusals {
            *tally.report.refusals.entry(code).or_default() += 1;
        }
        tally.acknowledged.job_set(queue, &self.plan.job_set).records.extend(records);
    }
}

/// Sorts answers into records and the codes of refusals. An id that is none counts as a refusal.
pub(crate) fn read_answers(
    answers: &[SubmitAnswer],
    tasks: Option<u32>,
    records: &mut Vec<Record>,
    refusals: &mut Vec<String>,
) {
    for answer in answers {
        match answer {
            SubmitAnswer::Accepted { job_id } => match job_id.parse::<JobId>() {
                Ok(id) => records.push(Record::new(id, tasks)),
                Err(error) => refusals.push(error.to_string()),
            },
            SubmitAnswer::Rejected { error } => refusals.push(code_text(error.code)),
        }
    }
}

pub(crate) fn code_text(code: muster_api::http::ErrorCode) -> String {
    let text = serde_json::to_string(&code).expect("a code is a name");
    text.trim_matches('"').to_owned()
}

fn body(template: &Template, format: Format, first: u64, count: u64) -> Bytes {
    let numbers = first..first + count;
    match format {
        Format::Ndjson => lines(template, numbers),
        Format::Json => document(template, numbers),
        Format::Arrow => {
            let mut rows = Writer::new();
            numbers.for_each(|number| template.write_row(number, &mut rows));
            rows.finish()
        }
    }
}

fn lines(template: &Template, numbers: Range<u64>) -> Bytes {
    let count = usize::try_from(numbers.end - numbers.start).unwrap_or(0);
    let mut body = BytesMut::with_capacity(count.saturating_mul(template.line_bytes()));
    numbers.for_each(|number| template.write(number, &mut body));
    body.freeze()
}

fn document(template: &Template, numbers: Range<u64>) -> Bytes {
    let mut body = BytesMut::from(&b"{\"jobs\":["[..]);
    for number in numbers {
        template.write(number, &mut body);
        // The line's end becomes what stands between two jobs.
        let last = body.len() - 1;
        body[last] = b',';
    }
    body.truncate(body.len() - 1);
    body.extend_from_slice(b"]}");
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_what_they_are_called() {
        let kind = Kind {
            cpu: "1".to_owned(),
            memory: "1Mi".to_owned(),
            runtime: None,
            failure_rate: None,
            count: None,
            spec_bytes: 0,
        };
        let template = Template::distinct(&kind);
        let lines = body(&template, Format::Ndjson, 5, 3);
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 3);
        let json: serde_json::Value =
            serde_json::from_slice(&body(&template, Format::Json, 5, 3)).unwrap();
        assert_eq!(json["jobs"].as_array().unwrap().len(), 3);
        assert_eq!(lines.slice(..template.line_bytes() - 1), json_job(&template));
        let mut rows = muster_api::batch::public::Stream::new();
        rows.push(&body(&template, Format::Arrow, 5, 3));
        assert_eq!(rows.next_batch().unwrap().unwrap().len(), 3);
    }

    fn json_job(template: &Template) -> Bytes {
        let one = body(template, Format::Json, 5, 1);
        one.slice(9..one.len() - 2)
    }
}
