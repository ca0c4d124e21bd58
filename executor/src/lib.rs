//! The executor: the part of Muster that stands beside one cluster. It asks for leases with what
//! its cluster has free, starts the runs, and reports what becomes of them.
//!
//! [`runs`] decides and performs no IO; [`backend`] is what runs things; [`run`] joins the two and
//! the bus. Nothing here is the truth: what an executor forgets is settled with the shards when it
//! starts again.

pub mod backend;
pub mod config;
pub mod limits;
pub mod metrics;
pub mod runs;
mod service;

pub use backend::local::keep_run;
pub use config::Config;
pub use metrics::Metrics;
pub use service::{Deps, Error, run, run_on, run_through};
