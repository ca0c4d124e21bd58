//! Queues and their job sets.

use muster_api::http::{JobSet, JobSetPage, Queue, QueueList, QueueSettings};
use reqwest::Method;

use crate::gateways::Target;
use crate::transport::Request;
use crate::{Client, Error};

impl Client {
    /// Creates the queue, or gives it these settings.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn put_queue(&self, name: &str, settings: &QueueSettings) -> Result<Queue, Error> {
        self.with_json(Method::PUT, &["queues", name], settings).await
    }

    /// A queue.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn queue(&self, name: &str) -> Result<Queue, Error> {
        self.get(&["queues", name], &[]).await
    }

    /// All queues, by name.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn queues(&self) -> Result<Vec<Queue>, Error> {
        Ok(self.get::<QueueList>(&["queues"], &[]).await?.queues)
    }

    /// Deletes a queue without live jobs.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn delete_queue(&self, name: &str) -> Result<(), Error> {
        let request = Request::new(Method::DELETE, Target::new(&["queues", name], &[]));
        self.open(&request).await.map(drop)
    }

    /// A job set with its counts.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn job_set(&self, queue: &str, job_set: &str) -> Result<JobSet, Error> {
        self.get(&["queues", queue, "job-sets", job_set], &[]).await
    }

    /// A page of a queue's job sets, by name.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn job_sets(
        &self,
        queue: &str,
        limit: Option<usize>,
        cursor: Option<&str>,
    ) -> Result<JobSetPage, Error> {
        let limit = limit.map(|limit| limit.to_string());
        let mut query = Vec::new();
        query.extend(limit.as_deref().map(|limit| ("limit", limit)));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        self.get(&["queues", queue, "job-sets"], &query).await
    }
}
