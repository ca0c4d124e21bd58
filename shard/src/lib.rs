//! The shard worker: owns shards, leads pools.
//!
//! A worker holds leases on the bus: one for each shard that it owns and each pool that it leads.
//! Safety does not rest on them: a shard's log lets one writer win each sequence number, and
//! whoever lost stops. `owner` drives the state machine of one shard against its log; `leader`
//! shares one pool among the queues.

mod config;
mod leader;
mod lease;
mod metrics;
mod owner;
mod send;
mod worker;

pub use config::Config;
pub use leader::rehearsal::{Rehearsal, Rehearsed};
pub use leader::tree::shares as fair_shares;
pub use worker::{Deps, RoundWatch, run};
