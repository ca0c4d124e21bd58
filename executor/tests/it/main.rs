//! The executor against a bus in memory and a stand-in for shards and leader that keeps their promises.

mod local;
mod protocol;
mod simulated;
mod world;
