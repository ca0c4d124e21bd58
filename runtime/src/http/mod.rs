//! HTTP as every process serves it: where it may listen, connections that are counted, bounded and
//! drained, errors as `application/problem+json`, and the three things that orchestrators and
//! scrapers ask of a process: `GET /health/live`, `GET /health/ready`, `GET /metrics`.
//!
//! The gateway serves these beside its API; a process without an API serves them alone ([`admin`]).

pub mod admin;
mod health;
mod listen;
mod patient;
mod places;
mod problem;
mod server;

pub use health::{Health, live, metrics, ready};
pub use listen::{ListenError, bind, exposed};
pub use problem::respond;
pub use server::{Counted, Limits, Server};
