//! The events of a job set: in order, none missed, none twice, across lost connections.

use muster_api::http::{Event, Problem};
use reqwest::Method;
use serde::Deserialize;

use crate::gateways::{Attempts, Target};
use crate::lines::Lines;
use crate::transport::{Failure, Patience, Request};
use crate::{Client, Error};

/// Whether a stream waits for what is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// It ends with what there is.
    No,
    /// It goes on until the caller stops.
    Yes,
}

/// A line of the stream.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Event(Box<Event>),
    Failed {
        error: Problem,
    },
    /// Nothing happened up to here.
    Place {
        cursor: String,
    },
}

/// Events as they come. It connects when first asked.
pub struct EventStream {
    client: Client,
    path: [String; 2],
    cursor: Option<String>,
    follow: Follow,
    lines: Option<Lines>,
    attempts: Attempts,
}

impl Client {
    /// The events of a job set behind `after` (all of them without one).
    #[must_use]
    pub fn events(
        &self,
        queue: &str,
        job_set: &str,
        after: Option<String>,
        follow: Follow,
    ) -> EventStream {
        EventStream {
            client: self.clone(),
            path: [queue.to_owned(), job_set.to_owned()],
            cursor: after,
            follow,
            lines: None,
            attempts: self.attempts(),
        }
    }
}

impl EventStream {
    /// Where the stream stands: `after` for the next one.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The next event; none when all have been given and the stream does not follow. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// What the deployment refuses at once, and what remains unavailable after all retries.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let failure = match self.step().await {
                Ok(Step::Event(event)) => return Ok(Some(*event)),
                Ok(Step::Nothing) => continue,
                Ok(Step::End) if self.follow == Follow::No => return Ok(None),
                // The gateway went away tidily; another one goes on.
                Ok(Step::End) => {
                    self.lines = None;
                    self.client.reopen(&mut self.attempts).await;
                    continue;
                }
                Err(failure) => failure,
            };
            self.lines = None;
            self.client.try_again(&mut self.attempts, failure).await?;
        }
    }

    async fn step(&mut self) -> Result<Step, Failure> {
        if self.lines.is_none() {
            let request = self.request()?;
            let response = self.client.send_once(&request, self.attempts).await?;
            let silence_max = self.client.silence_max(request.patience);
            self.lines = Some(Lines::new(response, silence_max));
            self.attempts.succeeded();
        }
        let lines = self.lines.as_mut().expect("it was opened above");
        match lines.next().await? {
            Some(line) => {
                let parsed = crate::transport::parse::<Line>(lines.url(), &line)?;
                self.take(parsed)
            }
            None => Ok(Step::End),
        }
    }

    fn take(&mut self, line: Line) -> Result<Step, Failure> {
        match line {
            Line::Event(event) => {
                self.cursor = Some(event.cursor.clone());
                Ok(Step::Event(event))
            }
            Line::Place { cursor } => {
                self.cursor = Some(cursor);
                Ok(Step::Nothing)
            }
            Line::Failed { error: problem } => {
                let status = problem.code.http_status();
                Err(Error::Refused { status, problem }.into())
            }
        }
    }

    fn request(&self) -> Result<Request, Error> {
        let watch = if self.follow == Follow::Yes { "true" } else { "false" };
        let mut query = vec![("watch", watch)];
        query.extend(self.cursor.as_deref().map(|cursor| ("after", cursor)));
        let path = ["queues", &self.path[0], "job-sets", &self.path[1], "events"];
        let mut request = Request::new(Method::GET, Target::new(&path, &query));
        request.header("accept", "application/x-ndjson")?;
        request.patience = Patience::Lines;
        Ok(request)
    }
}

enum Step {
    Event(Box<Event>),
    Nothing,
    End,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, retry_after: None }
    }
}
