//! Jobs one by one: one file an operation.

use muster_core::id::JobRef;

use crate::problem::{Answer, Failure};

mod get;
mod list;
mod logs;
mod why;

pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use logs::logs;
pub(crate) use why::{ahead, why};

/// The job that a path names; what cannot be an id is not found either.
fn parse_id(text: &str) -> Answer<JobRef> {
    text.parse()
        .map_err(|error: muster_core::id::ParseIdError| Failure::not_found(error.to_string()))
}
