//! Why a call failed, by what the caller can do about it.

use muster_api::http::Problem;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The base URL is not one of HTTP.
    #[error("`{url}` is not the URL of a deployment: {reason}")]
    BadUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The deployment refused, and said why.
    #[error("{}", problem.detail)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        problem: Problem,
    },
    /// Something answered that does not speak this API.
    #[error("{url} answered {status}: {text}")]
    Foreign {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        text: String,
    },
    /// No connection, or it was lost, also after all retries.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The answer is not what this API gives.
    #[error("answer of {url} cannot be read: {reason}")]
    Unreadable {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request itself cannot be made.
    #[error("request cannot be built: {reason}")]
    Unsendable {
        /// Why.
        reason: String,
    },
}

impl Error {
    /// Whether there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether the same call may succeed later: the deployment is away or has too much to do.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { problem, .. } => problem.code.is_retryable(),
            Self::Foreign { status, .. } => matches!(status, 429 | 502 | 503 | 504),
            Self::BadUrl { .. } | Self::Unreadable { .. } | Self::Unsendable { .. } => false,
        }
    }

    /// Whether there is too much to do: to ask another gateway at once would add to it.
    #[must_use]
    pub(crate) fn is_overload(&self) -> bool {
        matches!(self, Self::Refused { status: 429, .. } | Self::Foreign { status: 429, .. })
    }
}
