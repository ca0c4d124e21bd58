//! The clients: they submit, cancel, reprioritise, read what they wrote, and note what they are
//! told. Each is a loop of random operations on random gateways.

use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;
use muster_core::id::{JobId, JobRef};
use muster_runtime::Random;
use serde_json::{Value, json};

use crate::gangs;
use crate::history::{CancelAsked, Cancelled, Line, Read, Submission, Target};
use crate::http::{Answer, Ask, ask};
use crate::plan::Plan;
use crate::terms::{self, Wishes};
use crate::trace::note;
use crate::world::Shared;

/// The annotation that names a line in the log.
pub(crate) const TAG: &str = "sim/line";

/// Jobs that were acknowledged last, and are read most.
const RECENT: usize = 40;

/// How often a submission is sent before its client gives up.
const ATTEMPTS_MAX: u32 = 12;

pub(crate) struct Client {
    shared: Shared,
    number: usize,
    random: Random,
    /// For the terms of jobs: whether there are any disturbs nothing else.
    terms: Random,
    submissions: usize,
}

/// A class above all others, whose jobs nobody preempts.
pub(crate) const URGENT: &str = "urgent";

/// The queue with that number.
pub(crate) fn queue(number: usize) -> String {
    format!("queue-{number}")
}

impl Client {
    pub(crate) fn new(shared: Shared, number: usize, random: Random) -> Self {
        let seed = shared.site.plan.manners.terms_in.map_or(0, |(_, seed)| seed);
        let terms = Random::seeded(seed ^ (number as u64) << 40);
        Self { shared, number, random, terms, submissions: 0 }
    }

    pub(crate) async fn run(mut self) {
        while self.shared.is_busy() {
            let manners = self.shared.site.plan.manners;
            match self.random.below(100 + manners.cancels) {
                0..45 => self.submit().await,
                45..55 => self.cancel_ids().await,
                55..58 => self.cancel_job_set().await,
                58..65 => self.reprioritize().await,
                65..85 => self.read_some().await,
                85..92 => self.count().await,
                92..100 => self.change_queue().await,
                _ => self.cancel_job_set().await,
            }
            let pause = Duration::from_millis(self.random.below(manners.pause));
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads jobs that were acknowledged a short while ago, by whomever, all the time and from one
    /// gateway: of whatever stands behind it, what is out of date shows for moments only.
    pub(crate) async fn probe(self, gateway: usize) {
        let probe_pause = self.shared.site.plan.manners.probe_pause;
        while self.shared.is_busy() {
            if let Some(job) = self.recent_task() {
                let patience = Duration::from_millis(200 + self.random.below(1_000));
                self.read(job, gateway, patience).await;
            }
            let pause = Duration::from_millis(50 + self.random.below(probe_pause));
            tokio::time::sleep(pause).await;
        }
    }

    fn gateway(&self) -> usize {
        if self.shared.site.plan.manners.at_one_gateway {
            return 0;
        }
        usize::try_from(self.random.below(2)).expect("it is small")
    }

    fn pick(&self, count: usize) -> usize {
        usize::try_from(self.random.below(count as u64)).expect("it is below a count")
    }

    fn queue(&self) -> String {
        queue(self.pick(self.shared.site.plan.queues))
    }

    fn job_set(&self) -> String {
        format!("set-{}", self.random.below(2))
    }

    fn line(&self, number: usize) -> (Line, Value) {
        let tag = format!("{}/{}/{number}", self.number, self.submissions);
        let client_id = (self.random.below(4) == 0).then(|| format!("id-{tag}"));
        let manners = self.shared.site.plan.manners;
        let count = (self.random.below(manners.array_in) == 0).then(|| 1 + self.pick(12) as u32);
        // Some are over before much is said of them, some last until their cluster counts as lost.
        let runtime = match self.random.below(12) {
            0..4 => 1 + self.random.below(200),
            4..6 => 5_000 + self.random.below(25_000),
            _ => 20 + self.random.below(4_000),
        };
        let runtime = match manners.runtime {
            Some((least, most)) => least + self.random.below(most - least),
            None => runtime,
        };
        let runtime = format!("{runtime}ms");
        let mut annotations = json!({ TAG: tag, "muster.dev/simulated-runtime": runtime });
        if self.random.below(manners.at_most_once_in) == 0 {
            annotations["muster.dev/at-most-once"] = "true".into();
        }
        if self.random.below(6) == 0 {
            annotations["muster.dev/simulated-failure-rate"] = "0.7".into();
        }
        let cpu = ["500m", "1", "2"][self.pick(3)];
        let container = json!({
            "name": "main", "image": "none",
            "resources": { "requests": { "cpu": cpu, "memory": "64Mi" } },
        });
        let mut job = json!({
            "priority": self.random.below(3),
            "annotations": annotations,
            "podSpec": { "containers": [container] },
        });
        if manners.has_classes {
            let classes = [URGENT, "default", "armada-preemptible", "armada-preemptible"];
            job["podSpec"]["priorityClassName"] = classes[self.pick(4)].into();
        }
        let spec = job["podSpec"].to_string();
        if let Some(client_id) = &client_id {
            job["clientId"] = client_id.clone().into();
        }
        if let Some(count) = count {
            job["count"] = count.into();
        }
        (Line { tag, client_id, count, spec, wishes: Wishes::default(), id: None }, job)
    }

    async fn submit(&mut self) {
        self.submissions += 1;
        let lines = 1 + self.pick(if self.random.below(5) == 0 { 40 } else { 6 });
        let (mut lines, mut jobs): (Vec<_>, Vec<_>) =
            (0..lines).map(|number| self.line(number)).unzip();
        let is_keyed = self.random.below(self.shared.site.plan.manners.keyless_in) > 0;
        let key = is_keyed.then(|| format!("key-{}-{}", self.number, self.submissions));
        let (queue, job_set) = (self.queue(), self.job_set());
        if let Some((one_in, _)) = self.shared.site.plan.manners.terms_in {
            let known = terms::known(&self.shared.history.lock(), &queue);
            terms::add(&self.terms, one_in, &known, &mut lines, &mut jobs);
        }
        let Plan { manners, executor, .. } = &*self.shared.site.plan;
        if manners.has_gangs {
            let nodes = &executor.simulated;
            let halves = 2 * u64::from(nodes.nodes) * nodes.cpu.parse().unwrap_or(1);
            gangs::add(&self.terms, halves, &mut lines, &mut jobs);
        }
        // Sending again is safe under a key, or when each line has a name of its own.
        let may_repeat = key.is_some() || lines.iter().all(|line| line.client_id.is_some());
        let submission = Submission { queue, job_set, key, lines, sent: 0 };
        let place = {
            let mut books = self.shared.history.lock();
            books.submissions.push(submission.clone());
            books.submissions.len() - 1
        };
        let attempts = if may_repeat { ATTEMPTS_MAX } else { 1 };
        for attempt in 0..attempts {
            if self.send(place, &submission, &jobs, attempt).await {
                self.read_back(place).await;
                return;
            }
            let pause = Duration::from_millis(50 + self.random.below(3_000));
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a submission; says whether every line has an answer that stands.
    async fn send(
        &self,
        place: usize,
        submission: &Submission,
        jobs: &[Value],
        attempt: u32,
    ) -> bool {
        self.shared.history.lock().submissions[place].sent += 1;
        let path =
            format!("/api/v1/queues/{}/jobs?jobSet={}", submission.queue, submission.job_set);
        let mut headers = vec![("content-type", "application/x-ndjson".to_owned())];
        headers.extend(submission.key.clone().map(|key| ("idempotency-key", key)));
        let text: Vec<String> = jobs.iter().map(|job| format!("{job}\n")).collect();
        // Cut only what comes again: of what does not, the lines that stand would be unknown.
        let is_cut = attempt == 0 && submission.key.is_some() && self.random.below(12) == 0;
        let mut body: Vec<Bytes> = text.into_iter().map(Bytes::from).collect();
        if is_cut && let Some(mut last) = body.pop() {
            body.push(last.split_to(last.len() / 2));
        } else if self.random.below(3) > 0 {
            body = vec![body.concat().into()];
        }
        let request = Ask { method: Method::POST, headers, body, is_cut, ..Ask::get(path) };
        let answer = ask(&self.shared, self.gateway(), request).await;
        self.shared.history.checked();
        note!(
            self.shared.site.trace,
            "client {} submission {place}: {:?}",
            self.number,
            answer.as_ref().map(|answer| (answer.status.as_u16(), answer.body.len()))
        );
        answer.is_some_and(|answer| self.note_answers(place, &answer))
    }

    /// Takes the answers down; says whether every line has one that stands.
    fn note_answers(&self, place: usize, answer: &Answer) -> bool {
        match answer.status.as_u16() {
            200 => {}
            429 | 503 => return false,
            other => {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                self.shared.history.find(format!("submission {place}: status {other}: {body}"));
                return false;
            }
        }
        let at = self.shared.elapsed();
        let whole = answer.body.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut findings = Vec::new();
        let mut books = self.shared.history.lock();
        let submission = &mut books.submissions[place];
        for (number, text) in answer.body[..whole].split(|byte| *byte == b'\n').enumerate() {
            if text.is_empty() {
                continue;
            }
            let Some(line) = submission.lines.get_mut(number) else {
                findings.push(format!("submission {place}: answer {number} to no line"));
                break;
            };
            let answer: Value = serde_json::from_slice(text).unwrap_or_default();
            match answer["jobId"].as_str().map(str::parse::<JobId>) {
                Some(Ok(id)) => match line.id {
                    Some((before, _)) if before != id => findings.push(format!(
                        "submission {place}: line {number} was {before}, and is {id} when sent again"
                    )),
                    Some(_) => {}
                    None => line.id = Some((id, at)),
                },
                Some(Err(_)) | None => {
                    let code = answer["error"]["code"].as_str().unwrap_or_default();
                    // A cut line is one that cannot be read.
                    let is_cut = code == "invalid_job" || code == "bad_request";
                    if !matches!(code, "unavailable" | "overloaded") && !is_cut {
                        findings.push(format!("submission {place}: line {number}: {answer}"));
                    }
                }
            }
        }
        let is_done = submission.lines.iter().all(|line| line.id.is_some());
        books.findings.extend(findings);
        is_done
    }

    /// A job of one's own that was acknowledged, and its tasks.
    fn own_line(&self) -> Option<(JobId, Option<u32>)> {
        let books = self.shared.history.lock();
        let prefix = format!("{}/", self.number);
        let ids: Vec<(JobId, Option<u32>)> = books
            .submissions
            .iter()
            .flat_map(|submission| &submission.lines)
            .filter(|line| line.tag.starts_with(&prefix))
            .filter_map(|line| line.id.map(|(id, _)| (id, line.count)))
            .collect();
        drop(books);
        (!ids.is_empty()).then(|| ids[self.pick(ids.len())])
    }

    /// One of the tasks that were acknowledged last.
    fn recent_task(&self) -> Option<JobRef> {
        let books = self.shared.history.lock();
        let lines = books.submissions.iter().rev().flat_map(|submission| &submission.lines);
        let known = lines.filter_map(|line| line.id.map(|(id, _)| (id, line.count)));
        let recent: Vec<(JobId, Option<u32>)> = known.take(RECENT).collect();
        drop(books);
        (!recent.is_empty()).then(|| self.task_of(recent[self.pick(recent.len())]))
    }

    fn own_job(&self) -> Option<JobId> {
        self.own_line().map(|(id, _)| id)
    }

    /// A job of one's own that is no array, or a task of one that is.
    fn own_task(&self) -> Option<JobRef> {
        self.own_line().map(|line| self.task_of(line))
    }

    fn task_of(&self, (id, count): (JobId, Option<u32>)) -> JobRef {
        match count.map(|count| self.pick(count as usize)) {
            Some(index) => JobRef::task(id, u32::try_from(index).expect("it is small")),
            None => JobRef::whole(id),
        }
    }

    async fn read_back(&self, place: usize) {
        let id = {
            let books = self.shared.history.lock();
            let lines = &books.submissions[place].lines;
            lines[self.pick(lines.len())].id
        };
        if let Some((id, _)) = id {
            self.read_any(JobRef::whole(id)).await;
        }
    }

    /// Reads a job a few times in a row, from any gateways: an answer that is old by a moment is
    /// seen only by who asks at that moment.
    async fn read_some(&self) {
        let Some(job) = self.own_task() else { return };
        for _ in 0..1 + self.random.below(6) {
            self.read_any(job).await;
            let pause = Duration::from_millis(self.random.below(400));
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads a job from any gateway.
    async fn read_any(&self, id: JobRef) -> Option<Value> {
        let patience = Duration::from_millis(200 + self.random.below(10_000));
        self.read(id, self.gateway(), patience).await
    }

    /// Reads a job that was acknowledged: it must be there.
    async fn read(&self, id: JobRef, gateway: usize, patience: Duration) -> Option<Value> {
        let asked = self.shared.elapsed();
        let question = Ask { patience, ..Ask::get(format!("/api/v1/jobs/{id}")) };
        let answer = ask(&self.shared, gateway, question).await?;
        let answered = self.shared.elapsed();
        self.shared.history.checked();
        match answer.status.as_u16() {
            200 if answer.is_whole => {
                let job: Value = serde_json::from_slice(&answer.body).ok()?;
                let state = job["state"].as_str().unwrap_or_default().to_owned();
                let read = Read { job: id, state, asked, answered };
                self.shared.history.lock().reads.push(read);
                Some(job)
            }
            200 | 429 | 503 => None,
            other => {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                self.shared.history.find(format!("{id} was acknowledged: {other}: {body}"));
                None
            }
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Option<Value> {
        let answer = ask(&self.shared, self.gateway(), Ask::post(path.to_owned(), body)).await?;
        self.shared.history.checked();
        match answer.status.as_u16() {
            200 if answer.is_whole => serde_json::from_slice(&answer.body).ok(),
            200 | 429 | 503 => None,
            other => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                self.shared.history.find(format!("{path} {body}: {other}: {text}"));
                None
            }
        }
    }

    async fn cancel_ids(&self) {
        let mut ids: Vec<JobId> = (0..1 + self.pick(3)).filter_map(|_| self.own_job()).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return;
        }
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let body = json!({ "jobIds": names, "reason": "enough" });
        let target = Target::Jobs(ids.clone());
        let Some(applied) = self.cancel(target, &body).await else { return };
        let at = self.shared.elapsed();
        note!(self.shared.site.trace, "client {} cancelled {names:?}: {applied}", self.number);
        let missing = applied["missing"].as_array().is_none_or(|missing| !missing.is_empty());
        if missing {
            self.shared
                .history
                .find(format!("cancel {names:?}: acknowledged jobs are missing: {applied}"));
        }
        self.shared.history.lock().cancelled.push(Cancelled { ids: ids.clone(), at });
        // Reads see acknowledged writes.
        let Some(job) = self.read_any(JobRef::whole(ids[0])).await else { return };
        let state = job["state"].as_str().unwrap_or_default();
        if !matches!(state, "cancelled" | "succeeded" | "failed") {
            self.shared.history.find(format!("{} is {state} after its cancellation", ids[0]));
        }
    }

    async fn cancel_job_set(&self) {
        let (queue, set) = (self.queue(), self.job_set());
        let body = json!({ "queue": queue, "jobSet": set, "states": ["queued"] });
        self.cancel(Target::JobSet(queue, set), &body).await;
    }

    async fn cancel(&self, target: Target, body: &Value) -> Option<Value> {
        let asked = self.shared.elapsed();
        let place = {
            let mut books = self.shared.history.lock();
            books.cancels.push(CancelAsked { target, asked, answered: None });
            books.cancels.len() - 1
        };
        let applied = self.post("/api/v1/cancel", body).await?;
        self.shared.history.lock().cancels[place].answered = Some(self.shared.elapsed());
        Some(applied)
    }

    async fn reprioritize(&self) {
        let priority = self.random.below(5);
        let body = match self.own_job() {
            Some(id) if self.random.below(2) == 0 => {
                json!({ "jobIds": [id.to_string()], "priority": priority })
            }
            _ => json!({ "queue": self.queue(), "jobSet": self.job_set(), "priority": priority }),
        };
        self.post("/api/v1/reprioritize", &body).await;
    }

    async fn count(&self) {
        let path = format!("/api/v1/queues/{}/job-sets?limit=10", self.queue());
        let _ = ask(&self.shared, self.gateway(), Ask::get(path)).await;
        let path = format!("/api/v1/jobs?queue={}&limit=20", self.queue());
        let _ = ask(&self.shared, self.gateway(), Ask::get(path)).await;
    }

    async fn change_queue(&self) {
        let queue = self.queue();
        let settings = json!({
            "weight": 1 + self.random.below(4), "cordoned": self.random.below(6) == 0,
        });
        put(&self.shared, self.gateway(), &queue_path(&queue), &settings).await;
    }
}

/// The path of a queue's settings.
pub(crate) fn queue_path(queue: &str) -> String {
    format!("/api/v1/queues/{queue}")
}

/// Sets what lies at a path; says whether that was acknowledged.
pub(crate) async fn put(shared: &Shared, gateway: usize, path: &str, settings: &Value) -> bool {
    let request = Ask { method: Method::PUT, ..Ask::post(path.to_owned(), settings) };
    let answer = ask(shared, gateway, request).await;
    answer.is_some_and(|answer| answer.status.is_success())
}
