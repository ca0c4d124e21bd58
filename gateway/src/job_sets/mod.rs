//! The job sets of a queue: one file an operation.

mod get;
mod list;

pub(crate) use get::get;
pub(crate) use list::list;
