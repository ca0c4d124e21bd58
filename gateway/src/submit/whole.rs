//! A submission as one JSON document: all of it, or nothing. It is one command, and so one commit.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use muster_api::batch::Builder;
use muster_api::bus::IdRun;
use muster_api::http::{ErrorCode, Problem};
use muster_api::job_text::Parser;
use muster_api::request::{SubmitAnswer, SubmitAnswers, SubmitRequest, SubmitSummary};
use muster_core::control::Control;
use muster_core::limits::{JOBS_PER_JSON_MAX, JSON_BODY_BYTES_MAX};
use muster_core::names;
use tokio::sync::OwnedSemaphorePermit;

use super::answers::{Line, each};
use super::classes::Classes;
use super::commands::{self, Answered, Command};
use super::dry::Trial;
use super::{Ids, Parameters, Target, body, response};
use crate::admission::Place;
use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};

pub(super) async fn submit(
    gateway: &Gateway,
    mut target: Target,
    headers: &HeaderMap,
    body: Body,
    Parameters { ids, dry_run: is_dry, .. }: Parameters,
    place: Arc<Place>,
) -> Answer {
    let (bytes, held) = read(gateway, headers, body, place).await?;
    gateway.counted().submit_bytes.inc_by(bytes.len() as u64);
    let parsed = parse_all(gateway, &target, bytes).await;
    let Parsed { job_set, jobs, batch } = parsed.inspect_err(|_| {
        gateway.counted().rejected.inc();
    })?;
    if let Some(job_set) = job_set {
        target.job_set = job_set;
    }
    names::job_set(&target.job_set)
        .map_err(|error| Failure::bad_request(format!("jobSet: {error}")))?;
    let max = commands::batch_bytes_max(gateway, &target);
    if batch.len() > max {
        let detail = format!(
            "the jobs have {} bytes, limit is {max} for a submission that is all or nothing: send \
             `application/x-ndjson`, or fewer at a time",
            batch.len()
        );
        return Err(Failure::new(ErrorCode::PayloadTooLarge, detail));
    }
    if is_dry {
        let lines = vec![(0, jobs)];
        let command = Command { batch: Some(batch), lines, ..Command::default() };
        let mut trial = Trial::default();
        trial.add(gateway, &target, command).await?;
        drop(held);
        return trial.answer(gateway).await;
    }
    let runs = commands::submit(gateway, &target, batch).await?;
    drop(held);
    gateway.counted().accepted.inc_by(u64::from(jobs));
    let body = match ids {
        Ids::All => answers(jobs, runs),
        Ids::None => {
            let accepted = u64::from(jobs);
            serde_json::to_vec(&SubmitSummary { accepted, ..SubmitSummary::default() })
        }
    };
    Ok(response("application/json", body.expect("answers are plain data")))
}

/// The jobs. Where one names a class that is not known here, they are read again with the newest
/// control data.
async fn parse_all(gateway: &Gateway, target: &Target, bytes: Bytes) -> Answer<Parsed> {
    let parsed_by = async |control: Arc<Control>| {
        let bytes = bytes.clone();
        let parsed = gateway.blocking().run(move || parse(&bytes, control)).await;
        parsed.map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?
    };
    let known = gateway.control();
    let parsed = parsed_by(Arc::clone(&known)).await;
    if parsed.as_ref().err().is_none_or(|failure| failure.0.code != ErrorCode::ClassUnknown) {
        return parsed;
    }
    target.look(gateway).await?;
    let newest = gateway.control();
    if newest.version > known.version { parsed_by(newest).await } else { parsed }
}

/// The body, and the right to hold it and the batch that it becomes. Every byte is counted as it
/// comes: many large bodies that come slowly are memory, too.
async fn read(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: Body,
    place: Arc<Place>,
) -> Answer<(Bytes, OwnedSemaphorePermit)> {
    let mut pieces = body::open(headers, body, JSON_BODY_BYTES_MAX as u64, place)?;
    let mut held = gateway.admit_bytes(0).await;
    let mut all = BytesMut::new();
    while let Some(piece) = body::next(gateway, &mut pieces).await {
        let piece = piece?;
        gateway.admit_more_bytes(&mut held, 2 * (all.len() + piece.len())).await?;
        all.extend_from_slice(&piece);
    }
    Ok((all.freeze(), held))
}

/// The id of each job, in order.
fn answers(jobs: u32, runs: Vec<IdRun>) -> serde_json::Result<Vec<u8>> {
    let lines = vec![(0, jobs)];
    let answered = Answered { lines, rejected: Vec::new(), outcome: Ok(runs) };
    let mut answers = SubmitAnswers::default();
    each(&answered, |_, line| {
        answers.jobs.push(match line {
            Line::Accepted(job_id) => SubmitAnswer::Accepted { job_id },
            Line::Rejected(problem) => SubmitAnswer::Rejected { error: problem.clone() },
        });
    });
    serde_json::to_vec(&answers)
}

struct Parsed {
    job_set: Option<String>,
    jobs: u32,
    batch: Bytes,
}

fn parse(body: &[u8], control: Arc<Control>) -> Answer<Parsed> {
    let request: SubmitRequest = body::object(body)?;
    let count = request.jobs.len();
    if count == 0 {
        return Err(Failure::bad_request("body: jobs is empty"));
    }
    if count > JOBS_PER_JSON_MAX {
        let detail = format!("body has {count} jobs, limit is {JOBS_PER_JSON_MAX}");
        return Err(Failure::new(ErrorCode::PayloadTooLarge, detail));
    }
    let (mut parser, mut builder) = (Parser::new(), Builder::new());
    let mut classes = Classes::new(control);
    for (at, text) in request.jobs.iter().enumerate() {
        let of_job = |mut problem: Problem| {
            problem.detail = format!("jobs[{at}]: {}", problem.detail);
            problem
        };
        let job = parser.parse(text.get().as_bytes()).map_err(|error| of_job(error.problem()))?;
        classes.check(&job.shape.shape).map_err(of_job)?;
        builder.push(at as u64, &job);
    }
    let jobs = u32::try_from(count).expect("the limit is less");
    Ok(Parsed { job_set: request.job_set, jobs, batch: builder.finish() })
}
