//! Files that people write: jobs and queues.

mod armada;
pub(crate) mod jobs;
pub(crate) mod limits;
pub(crate) mod queues;
pub(crate) mod retry;
pub(crate) mod source;
