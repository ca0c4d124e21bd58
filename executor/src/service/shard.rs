//! Talking to one shard: reports, payloads, and the comparison of what both sides believe.

use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::{
    self, GetPayloads, JobPayload, ReportRuns, RunPage, ShardReply, ShardRequest, Sync, subject,
};
use muster_core::id::{CommandId, JobId, JobRef, ShardId};
use muster_runtime::bus::{Bus, Message};
use muster_runtime::retry;

use super::{Done, Executor};
use crate::limits;
use crate::metrics::RequestLabel;
use crate::runs::{Claim, Now};

/// The state of the talk with a shard.
pub(super) struct ShardWork {
    shard: ShardId,
    report: Line,
    payloads: Line,
    sync: Line,
    sync_interval: Duration,
    is_synced: bool,
}

/// One kind of request, of which one is in flight at a time.
struct Line {
    is_busy: bool,
    /// Not before this moment.
    at: Duration,
    delays: Option<retry::Delays>,
}

/// What became of a request to a shard.
pub(super) struct ShardOutcome {
    place: usize,
    outcome: Outcome,
}

enum Outcome {
    Reported(Result<Vec<bool>, String>),
    Payloads(Vec<JobId>, Result<Vec<JobPayload>, String>),
    Synced(Box<Claim>, Result<RunPage, String>),
}

impl ShardWork {
    pub(super) fn new(shard: ShardId, now: Duration) -> Self {
        let line = || Line { is_busy: false, at: now, delays: None };
        let (report, payloads, sync) = (line(), line(), line());
        Self { shard, report, payloads, sync, sync_interval: Duration::ZERO, is_synced: false }
    }

    /// Whether both sides have been compared at least once.
    pub(super) fn is_synced(&self) -> bool {
        self.is_synced
    }
}

impl Line {
    fn is_due(&self, now: Now) -> bool {
        !self.is_busy && now.monotonic >= self.at
    }

    /// There is somebody else to ask: what failed before says nothing of that one.
    fn begin_anew(&mut self, now: Now) {
        if self.delays.take().is_some() && !self.is_busy {
            self.at = now.monotonic;
        }
    }

    fn succeeded(&mut self, now: Now) {
        (self.is_busy, self.at, self.delays) = (false, now.monotonic, None);
    }

    /// Says whether the request before it had not failed.
    fn failed(&mut self, now: Now, random: &muster_runtime::Random) -> bool {
        self.is_busy = false;
        let is_first = self.delays.is_none();
        let delays =
            self.delays.get_or_insert_with(|| retry::Policy::default().delays(random.clone()));
        self.at = now.monotonic + delays.next().expect("the policy never gives up");
        is_first
    }
}

impl Executor {
    /// Sends the shard what is due; gives when something may be.
    pub(super) fn turn_shard(&mut self, place: usize, now: Now) -> Duration {
        let mut wake = self.turn_reports(place, now);
        let work = &mut self.shards[place];
        if work.payloads.is_due(now) {
            let jobs = self.runs.payloads_wanted(work.shard);
            if !jobs.is_empty() {
                work.payloads.is_busy = true;
                self.fetch(place, jobs);
            }
        }
        if self.shards[place].sync.is_due(now) {
            self.shards[place].sync.is_busy = true;
            let claim = self.runs.claim(self.shards[place].shard);
            self.compare(place, Box::new(claim), None);
        }
        let work = &self.shards[place];
        for line in [&work.payloads, &work.sync] {
            if !line.is_busy && line.at > now.monotonic {
                wake = wake.min(line.at);
            }
        }
        wake
    }

    /// Sends the shard the reports that are due; gives when some may be.
    pub(super) fn turn_reports(&mut self, place: usize, now: Now) -> Duration {
        let bytes_max = self.bytes_max();
        let random = &self.deps.random;
        let work = &mut self.shards[place];
        let far = now.monotonic + super::IDLE;
        if !work.report.is_due(now) {
            return if work.report.is_busy { far } else { work.report.at };
        }
        let command = || CommandId(random.u128());
        let Some((command, reports)) = self.runs.message(work.shard, command, bytes_max) else {
            return far;
        };
        work.report.is_busy = true;
        let cluster = self.config.cluster.clone();
        let request = ShardRequest::Report(ReportRuns { command, cluster, reports });
        self.ask(place, request, |reply| {
            Outcome::Reported(reply.and_then(|reply| match reply {
                ShardReply::Reported(verdicts) => Ok(verdicts),
                other => Err(unexpected(&other)),
            }))
        });
        far
    }

    /// A shard has another owner, or so it was said.
    pub(super) fn on_owner(&mut self, message: &Message) {
        let Some(shard) = self.owners.heard(message) else { return };
        let now = self.now();
        if let Some(work) = self.shards.get_mut(usize::from(shard.0)) {
            for line in [&mut work.report, &mut work.payloads, &mut work.sync] {
                line.begin_anew(now);
            }
        }
    }

    /// Compares notes with all shards soon, and not all clusters at once.
    pub(super) fn compare_soon(&mut self, now: Now) {
        for work in &mut self.shards {
            let at = now.monotonic + limits::COMPARED_WITHIN.mul_f64(self.deps.random.unit());
            work.sync.at = work.sync.at.min(at);
            work.sync_interval = Duration::ZERO;
        }
    }

    pub(super) fn on_shard(&mut self, outcome: ShardOutcome) {
        let ShardOutcome { place, outcome } = outcome;
        match outcome {
            Outcome::Reported(reply) => self.on_reported(place, reply),
            Outcome::Payloads(asked, reply) => self.on_payloads(place, asked, reply),
            Outcome::Synced(claim, reply) => self.on_compared(place, claim, reply),
        }
    }

    fn on_reported(&mut self, place: usize, reply: Result<Vec<bool>, String>) {
        let now = self.now();
        let work = &mut self.shards[place];
        match reply {
            Ok(verdicts) => {
                work.report.succeeded(now);
                let refused = self.runs.on_verdicts(work.shard, &verdicts, now) as u64;
                let labels = self.cluster_labels();
                let metrics = &self.deps.metrics;
                metrics.reports.get_or_create(&labels).inc_by(verdicts.len() as u64);
                metrics.reports_refused.get_or_create(&labels).inc_by(refused);
            }
            Err(reason) => {
                let is_first = work.report.failed(now, &self.deps.random);
                self.note_retry(place, RequestLabel::Report, is_first, &reason);
            }
        }
    }

    fn fetch(&mut self, place: usize, jobs: Vec<JobId>) {
        let request = ShardRequest::Payloads(GetPayloads { jobs: jobs.clone() });
        self.ask(place, request, |reply| {
            let payloads = reply.and_then(|reply| match reply {
                ShardReply::Payloads(payloads) if !payloads.is_empty() => Ok(payloads),
                other => Err(unexpected(&other)),
            });
            Outcome::Payloads(jobs, payloads)
        });
    }

    fn on_payloads(
        &mut self,
        place: usize,
        asked: Vec<JobId>,
        reply: Result<Vec<JobPayload>, String>,
    ) {
        let now = self.now();
        let line = &mut self.shards[place].payloads;
        match reply {
            Ok(payloads) => {
                line.succeeded(now);
                self.runs.on_payloads(asked, payloads);
            }
            Err(reason) => {
                let is_first = line.failed(now, &self.deps.random);
                self.runs.on_payloads_failed(asked);
                self.note_retry(place, RequestLabel::Payloads, is_first, &reason);
            }
        }
    }

    fn compare(&mut self, place: usize, claim: Box<Claim>, after: Option<JobRef>) {
        let cluster = self.config.cluster.clone();
        let (count, digest) = (claim.count, claim.digest);
        let request = ShardRequest::Sync(Sync { cluster, count, digest, after });
        self.ask(place, request, |reply| {
            let page = reply.and_then(|reply| match reply {
                ShardReply::Runs(page) => Ok(page),
                other => Err(unexpected(&other)),
            });
            Outcome::Synced(claim, page)
        });
    }

    fn on_compared(&mut self, place: usize, mut claim: Box<Claim>, reply: Result<RunPage, String>) {
        let now = self.now();
        let page = match reply {
            Ok(page) => page,
            Err(reason) => {
                let is_first = self.shards[place].sync.failed(now, &self.deps.random);
                self.note_retry(place, RequestLabel::Sync, is_first, &reason);
                return;
            }
        };
        let last = page.runs.last().map(|believed| believed.run.job);
        let is_agreed = page.agreed;
        let is_more = page.more && last.is_some();
        if !is_agreed {
            self.runs.on_believed(&mut claim, page.runs, now);
        }
        if is_more {
            self.compare(place, claim, last);
            return;
        }
        let repairs = if is_agreed { 0 } else { self.runs.on_believed_all(*claim, now) };
        self.note_sync(place, is_agreed, repairs, now);
    }

    /// Comparisons of a busy cluster differ by what is on its way; where that is all, they are made
    /// less often.
    fn note_sync(&mut self, place: usize, is_agreed: bool, repairs: usize, now: Now) {
        let labels = self.cluster_labels();
        let interval = self.config.sync_interval.0;
        let work = &mut self.shards[place];
        work.is_synced = true;
        work.sync_interval = if is_agreed || repairs > 0 {
            interval
        } else {
            (work.sync_interval * 2).clamp(interval, interval.max(limits::SYNC_INTERVAL_MAX))
        };
        work.sync.succeeded(now);
        work.sync.at = now.monotonic + self.deps.random.jitter(work.sync_interval, 0.1);
        if repairs > 0 {
            self.deps.metrics.repairs.get_or_create(&labels).inc_by(repairs as u64);
            let (cluster, shard) = (&self.config.cluster, work.shard);
            tracing::info!(%cluster, %shard, repairs, "runs differ from what the shard believes");
        }
    }

    fn note_retry(&self, place: usize, request: RequestLabel, is_first: bool, reason: &str) {
        let (cluster, shard) = (&self.config.cluster, self.shards[place].shard);
        self.deps.metrics.retried(cluster, request);
        if is_first {
            tracing::warn!(%cluster, %shard, ?request, reason, "request failed and is sent again");
        } else {
            tracing::debug!(%cluster, %shard, ?request, reason, "request is sent again");
        }
    }

    fn ask(
        &mut self,
        place: usize,
        request: ShardRequest,
        read: impl FnOnce(Result<ShardReply, String>) -> Outcome + Send + 'static,
    ) {
        let shard = self.shards[place].shard;
        let subject = subject::shard(shard);
        let bus = Arc::clone(&self.deps.bus);
        // The owner that was asked may be asleep.
        let moved = self.owners.change(shard);
        self.work.push(Box::pin(async move {
            let reply = tokio::select! {
                biased;
                reply = request_shard(&*bus, &subject, &request) => reply,
                () = moved => Err("the shard has another owner".to_owned()),
            };
            Done::Shard(ShardOutcome { place, outcome: read(reply) })
        }));
    }
}

async fn request_shard(
    bus: &dyn Bus,
    subject: &str,
    request: &ShardRequest,
) -> Result<ShardReply, String> {
    let reply = bus.request(subject, bus::encode(request), limits::SHARD_TIMEOUT).await;
    let reply = bus::decode(&reply.map_err(|error| error.to_string())?);
    match reply.map_err(|error| error.to_string())? {
        ShardReply::Error(problem) => Err(problem.detail),
        reply => Ok(reply),
    }
}

fn unexpected(reply: &ShardReply) -> String {
    let mut text = format!("unexpected answer {reply:?}");
    text.truncate(text.floor_char_boundary(200));
    text
}
