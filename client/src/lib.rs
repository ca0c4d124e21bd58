//! The typed client of the public HTTP API (`/api/v1`): one method per call.
//!
//! Every call that may be sent twice is sent again when the deployment says `429` or `503` or
//! cannot be reached; a submission carries an `Idempotency-Key` for that, so that it is the same
//! submission. A client may know several gateways: one that is gone, silent or says `503` gives way
//! to the next. Event streams go on behind the last event seen.

mod cordons;
mod error;
mod events;
mod gateways;
mod jobs;
mod lines;
mod pools;
mod priority_classes;
mod queues;
mod submit;
mod transport;
mod views;

pub use error::Error;
pub use events::{EventStream, Follow};
pub use jobs::{JobFilter, LogStream, Output, Selection};
pub use submit::{Answers, Compression, Format, Submission, Submitted, compress};
pub use transport::{Client, Options};
