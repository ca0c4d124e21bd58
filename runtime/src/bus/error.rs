//! What can go wrong on the bus, in terms of what the caller should do.

use std::time::Duration;

/// A failed bus operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody subscribes to the subject of a request: nothing was delivered.
    #[error("no responders on `{subject}`")]
    NoResponders {
        /// The subject asked.
        subject: String,
    },
    /// No answer came in time; the operation may have been carried out.
    #[error("no answer from `{subject}` within {timeout:?}")]
    Timeout {
        /// The subject or key asked.
        subject: String,
        /// The time waited.
        timeout: Duration,
    },
    /// The server cannot be reached or refuses to work; an operation in flight may have been
    /// carried out.
    #[error("bus is unavailable: {0}")]
    Unavailable(String),
    /// The payload is larger than the bus carries.
    #[error("payload has {bytes} bytes, limit is {limit}")]
    PayloadTooLarge {
        /// Size of the payload, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A key to be created has a live entry.
    #[error("key `{key}` exists")]
    Exists {
        /// The key.
        key: String,
    },
    /// A key to be updated or deleted does not have the expected revision.
    #[error("key `{key}` does not have revision {revision}")]
    Conflict {
        /// The key.
        key: String,
        /// The revision that the caller expected.
        revision: u64,
    },
    /// A subject, key, group or bucket name that the bus does not accept.
    #[error("`{name}` is not a valid {what}")]
    InvalidName {
        /// Which kind of name: `subject`, `key`, `bucket`, `group`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The address of the bus cannot be used.
    #[error("bus address is invalid: {reason}")]
    InvalidUrl {
        /// What is wrong with it, without secrets.
        reason: String,
    },
    /// The server is too old for what Muster needs.
    #[error("NATS server is version `{version}`, at least {required} is needed")]
    ServerTooOld {
        /// The server's version.
        version: String,
        /// The oldest version that serves.
        required: &'static str,
    },
}

impl Error {
    /// Whether the same call may succeed later without anything being changed by the caller. A
    /// retried operation must be idempotent: after a [`Error::Timeout`] or [`Error::Unavailable`]
    /// the first attempt may have been carried out.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoResponders { .. } | Self::Timeout { .. } | Self::Unavailable(_) => true,
            Self::PayloadTooLarge { .. }
            | Self::Exists { .. }
            | Self::Conflict { .. }
            | Self::InvalidName { .. }
            | Self::InvalidUrl { .. }
            | Self::ServerTooOld { .. } => false,
        }
    }
}
