//! Jobs: reading, cancelling, reprioritising, logs.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use muster_api::http::{Applied, Job, JobPage, Why};
use muster_api::request::{CancelRequest, ReprioritizeRequest};
use reqwest::Method;

use crate::gateways::Target;
use crate::transport::{Patience, Request};
use crate::{Client, Error, Follow};

/// Which jobs a listing shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this job set.
    pub job_set: Option<String>,
    /// In one of these states; none named means any.
    pub states: Vec<String>,
}

/// Which jobs a change concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Ids(Vec<String>),
    /// Those of a job set that are in one of the states; none named means every live one.
    JobSet {
        /// The queue.
        queue: String,
        /// The job set.
        job_set: String,
        /// The states.
        states: Vec<String>,
    },
}

/// How much of a job is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Without what was submitted.
    State,
    /// With it.
    StateAndSpec,
}

/// What a run printed, as it comes.
pub type LogStream = BoxStream<'static, Result<Bytes, Error>>;

impl Client {
    /// A job, a task, or an array as a whole.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn job(&self, id: &str, output: Output) -> Result<Job, Error> {
        match output {
            Output::State => self.get(&["jobs", id], &[]).await,
            Output::StateAndSpec => self.get(&["jobs", id], &[("spec", "true")]).await,
        }
    }

    /// Why a job does not run.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn why(&self, id: &str) -> Result<Why, Error> {
        self.get(&["jobs", id, "why"], &[]).await
    }

    /// A page of jobs, by rising id; `cursor` is that of the page before.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<JobPage, Error> {
        let (limit, states) = (limit.to_string(), filter.states.join(","));
        let mut query = vec![("limit", limit.as_str())];
        query.extend(filter.queue.as_deref().map(|queue| ("queue", queue)));
        query.extend(filter.job_set.as_deref().map(|job_set| ("jobSet", job_set)));
        query.extend((!states.is_empty()).then_some(("state", states.as_str())));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        self.get(&["jobs"], &query).await
    }

    /// Cancels jobs.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn cancel(
        &self,
        selection: Selection,
        reason: Option<String>,
    ) -> Result<Applied, Error> {
        let body = match selection {
            Selection::Ids(job_ids) => CancelRequest { job_ids, reason, ..Default::default() },
            Selection::JobSet { queue, job_set, states } => CancelRequest {
                job_ids: Vec::new(),
                queue: Some(queue),
                job_set: Some(job_set),
                states,
                reason,
            },
        };
        self.with_json(Method::POST, &["cancel"], &body).await
    }

    /// Gives jobs another priority.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn reprioritize(
        &self,
        selection: Selection,
        priority: u32,
    ) -> Result<Applied, Error> {
        let body = match selection {
            Selection::Ids(job_ids) => {
                ReprioritizeRequest { job_ids, priority, ..Default::default() }
            }
            Selection::JobSet { queue, job_set, states } => ReprioritizeRequest {
                job_ids: Vec::new(),
                queue: Some(queue),
                job_set: Some(job_set),
                states,
                priority,
            },
        };
        self.with_json(Method::POST, &["reprioritize"], &body).await
    }

    /// What the job's run printed; with [`Follow::Yes`] until it ends. A connection lost in the
    /// middle is an error: output has no place to go on from.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn logs(&self, id: &str, follow: Follow) -> Result<LogStream, Error> {
        let follow = if follow == Follow::Yes { "true" } else { "false" };
        let target = Target::new(&["jobs", id, "logs"], &[("follow", follow)]);
        let mut request = Request::new(Method::GET, target);
        request.patience = Patience::Stream;
        let response = self.open(&request).await?;
        let url = response.url().clone();
        let lost = move |error: reqwest::Error| Error::Unreachable {
            url: url.to_string(),
            reason: format!("lost while reading: {error}"),
        };
        Ok(response.bytes_stream().map(move |chunk| chunk.map_err(&lost)).boxed())
    }
}
