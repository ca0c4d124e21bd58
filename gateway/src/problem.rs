//! What an operation fails with, and how a client is told.

use axum::response::{IntoResponse, Response};
use muster_api::http::{ErrorCode, Problem};

/// What an operation fails with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) Problem);

/// The result of an operation.
pub(crate) type Answer<T = Response> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    pub(crate) fn bad_request(detail: impl ToString) -> Self {
        Self::new(ErrorCode::BadRequest, detail.to_string())
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, detail)
    }

    pub(crate) fn no_queue(queue: &str) -> Self {
        Self::new(ErrorCode::QueueNotFound, format!("there is no queue `{queue}`"))
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, detail)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        muster_runtime::http::respond(&self.0)
    }
}
