//! The gateway: HTTP in, requests to shards out.
//!
//! It keeps nothing: whatever it says is kept, a shard has made durable. Any number of gateways can
//! stand side by side. `routes` is the table of what it answers; each operation has a file of its
//! own.

mod admission;
mod cancel;
mod config;
mod control;
mod cordons;
mod events;
mod gateway;
mod health;
mod job_sets;
mod jobs;
mod leaders;
pub mod limits;
mod metrics;
mod observe;
mod openapi;
mod pools;
mod priority_classes;
mod problem;
mod queues;
mod reprioritize;
mod routes;
mod serve;
mod shards;
mod submit;
mod target;

pub use config::Config;
pub use gateway::{Deps, Gateway};
pub use openapi::OPENAPI;
pub use routes::{API_PREFIX, Operation, ROUTES, Route, router};
pub use serve::run;
pub use submit::lines;
