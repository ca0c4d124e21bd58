//! Submitting: bodies of any format, sent again under their key until they are answered.

use std::io;

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use bytes::Bytes;
use futures::Stream;
use muster_api::http::Problem;
use muster_api::request::{DryRun, SubmitAnswer, SubmitAnswers, SubmitSummary};
use reqwest::{Method, Response};
use tokio::io::AsyncWriteExt;
use url::Url;

use crate::gateways::{Attempts, Target};
use crate::lines::Lines;
use crate::transport::{Failure, Patience, Request, parse};
use crate::{Client, Error};

/// What the body is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// A job a line; valid lines stand.
    #[default]
    Ndjson,
    /// `{"jobSet":…,"jobs":[…]}`: all or nothing.
    Json,
    /// An Arrow IPC stream.
    Arrow,
}

/// How the body is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// What is to be answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answers {
    /// Each job's id or error.
    #[default]
    Each,
    /// Only how many.
    Summary,
}

/// What a request to submit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The jobs are kept.
    Keep,
    /// It is only asked what would come of it.
    Try,
}

/// One submission. The body is a list of pieces so that it can be sent again without a copy.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// The queue.
    pub queue: String,
    /// The job set.
    pub job_set: String,
    /// The `Idempotency-Key`; [`Client::submit`] makes one if there is none.
    pub key: Option<String>,
    /// What the body is.
    pub format: Format,
    /// How it is compressed; see [`compress`].
    pub compression: Compression,
    /// What is to be answered.
    pub answers: Answers,
    /// The body.
    pub body: Vec<Bytes>,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// Each job's answer, in order.
    Each(Vec<SubmitAnswer>),
    /// How many.
    Summary(SubmitSummary),
}

impl Client {
    /// Submits, and sends again under the same key until it is answered or the retries are used up.
    /// What one gateway did not answer, another one does.
    ///
    /// # Errors
    /// Those of [`Error`]. After one that [`Error::is_unavailable`] it is unknown whether the jobs
    /// are kept; the same call with the same key finds out.
    pub async fn submit(&self, submission: &Submission) -> Result<Submitted, Error> {
        let key = submission.key.clone().unwrap_or_else(|| self.new_key());
        let request = self.submit_request(submission, Some(&key), Purpose::Keep)?;
        let mut attempts = self.attempts();
        loop {
            let failure = match self.submit_once(submission, &request, attempts).await {
                Ok(submitted) => return Ok(submitted),
                Err(failure) => failure,
            };
            self.try_again(&mut attempts, failure).await?;
        }
    }

    /// Asks what a submission would come to; nothing of it is kept. Its answers are those of
    /// [`DryRun`], whatever it asks for.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn try_submit(&self, submission: &Submission) -> Result<DryRun, Error> {
        let mut request =
            self.submit_request(submission, submission.key.as_deref(), Purpose::Try)?;
        request.patience = Patience::Stream;
        let mut attempts = self.attempts();
        loop {
            let failure = match self.try_once(&request, attempts).await {
                Ok(found) => return Ok(found),
                Err(failure) => failure,
            };
            self.try_again(&mut attempts, failure).await?;
        }
    }

    async fn try_once(&self, request: &Request, to: Attempts) -> Result<DryRun, Failure> {
        let (url, body) = whole(self.send_once(request, to).await?).await?;
        Ok(parse(&url, &body)?)
    }

    /// Submits a body that can be read only once: nothing is sent again. `submission.body` is not
    /// looked at, and a key is sent only if it names one.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn submit_stream<S>(
        &self,
        submission: &Submission,
        body: S,
    ) -> Result<Submitted, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let key = submission.key.as_deref();
        let mut request = self.submit_request(submission, key, Purpose::Keep)?;
        // The body may be silent for as long as it likes, and its answers with it.
        request.patience = Patience::Stream;
        let response = self.send_body(&request, reqwest::Body::wrap_stream(body)).await?;
        let read = self.read_answer(submission, request.patience, response).await;
        read.map_err(|failure| failure.error)
    }

    fn submit_request(
        &self,
        submission: &Submission,
        key: Option<&str>,
        purpose: Purpose,
    ) -> Result<Request, Error> {
        let mut query = vec![("jobSet", submission.job_set.as_str())];
        if purpose == Purpose::Try {
            query.push(("dryRun", "true"));
        }
        if submission.answers == Answers::Summary {
            query.push(("ids", "none"));
        }
        let target = Target::new(&["queues", &submission.queue, "jobs"], &query);
        let mut request = Request::new(Method::POST, target);
        request.header("content-type", submission.format.content_type())?;
        match submission.compression {
            Compression::None => {}
            Compression::Gzip => request.header("content-encoding", "gzip")?,
            Compression::Zstd => request.header("content-encoding", "zstd")?,
        }
        if let Some(key) = key {
            request.header("idempotency-key", key)?;
        }
        request.body.clone_from(&submission.body);
        request.patience = submission.patience();
        Ok(request)
    }

    async fn submit_once(
        &self,
        submission: &Submission,
        request: &Request,
        to: Attempts,
    ) -> Result<Submitted, Failure> {
        let response = self.send_once(request, to).await?;
        let submitted = self.read_answer(submission, request.patience, response).await?;
        // Lines that could not be kept right now are sent again with the rest, under the same key.
        match submitted.passing_error() {
            Some(problem) => {
                let (status, problem) = (problem.code.http_status(), problem.clone());
                Err(Error::Refused { status, problem }.into())
            }
            None => Ok(submitted),
        }
    }

    async fn read_answer(
        &self,
        submission: &Submission,
        patience: Patience,
        response: Response,
    ) -> Result<Submitted, Failure> {
        match (submission.answers, submission.format) {
            (Answers::Summary, _) => {
                let (url, body) = whole(response).await?;
                Ok(Submitted::Summary(parse(&url, &body)?))
            }
            (Answers::Each, Format::Json) => {
                let (url, body) = whole(response).await?;
                Ok(Submitted::Each(parse::<SubmitAnswers>(&url, &body)?.jobs))
            }
            (Answers::Each, Format::Ndjson | Format::Arrow) => {
                let mut lines = Lines::new(response, self.silence_max(patience));
                let mut answers = Vec::new();
                while let Some(line) = lines.next().await? {
                    answers.push(parse(lines.url(), &line)?);
                }
                Ok(Submitted::Each(answers))
            }
        }
    }
}

impl Submission {
    /// A long body takes long. Where its answer begins before its end, a gateway that has nothing
    /// to say for long is as good as gone; a summary comes when all is done.
    fn patience(&self) -> Patience {
        match (self.answers, self.format) {
            (Answers::Each, Format::Ndjson | Format::Arrow) => Patience::Lines,
            (Answers::Each, Format::Json) | (Answers::Summary, _) => Patience::Stream,
        }
    }
}

impl Submitted {
    fn passing_error(&self) -> Option<&Problem> {
        let passes = |problem: &&Problem| problem.code.is_retryable();
        match self {
            Self::Each(answers) => answers
                .iter()
                .filter_map(|answer| match answer {
                    SubmitAnswer::Accepted { .. } => None,
                    SubmitAnswer::Rejected { error } => Some(error),
                })
                .find(passes),
            Self::Summary(summary) => summary.errors.iter().map(|line| &line.error).find(passes),
        }
    }
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Json => "application/json",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

async fn whole(response: Response) -> Result<(Url, Bytes), Failure> {
    let url = response.url().clone();
    let body = response.bytes().await.map_err(|error| Failure::network(&url, &error))?;
    Ok((url, body))
}

/// The bytes, compressed.
///
/// # Errors
/// Those of the encoder.
pub async fn compress(body: &[u8], compression: Compression) -> io::Result<Bytes> {
    match compression {
        Compression::None => Ok(Bytes::copy_from_slice(body)),
        Compression::Gzip => {
            let mut encoder = GzipEncoder::new(Vec::with_capacity(body.len() / 4));
            encoder.write_all(body).await?;
            encoder.shutdown().await?;
            Ok(encoder.into_inner().into())
        }
        Compression::Zstd => {
            let mut encoder = ZstdEncoder::new(Vec::with_capacity(body.len() / 4));
            encoder.write_all(body).await?;
            encoder.shutdown().await?;
            Ok(encoder.into_inner().into())
        }
    }
}
