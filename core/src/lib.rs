//! The domain of Muster: jobs, queues, the state machine of a shard and the fair-share solver.
//!
//! Nothing here performs IO, reads a clock, draws a random number or knows an async runtime; time
//! and randomness are arguments. Everything is deterministic: the same calls give the same results.

pub mod command;
pub mod control;
pub mod fit;
pub mod history;
pub mod id;
pub mod job;
pub mod limits;
pub mod mutant;
pub mod names;
pub mod offer;
pub mod quantity;
pub mod record;
pub mod resources;
pub mod retry;
pub mod route;
pub mod shape;
pub mod shard;
pub mod solve;
pub mod terms;
pub mod time;

/// A short, shared, immutable string: a queue, job set, cluster, node or namespace.
pub type Name = std::sync::Arc<str>;
