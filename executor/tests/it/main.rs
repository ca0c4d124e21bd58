//! The executor against a bus in memory and a stand-in for shards and leader that keeps their
//! promises.

#![expect(clippy::unwrap_used, reason = "a failed test says so by panicking")]

mod local;
mod protocol;
mod simulated;
mod world;
