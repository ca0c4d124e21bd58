//! What Muster's parts say to each other and to the world: wire types, and nothing else.
//!
//! `bus` holds the messages between gateways, shard workers and executors (MessagePack with field
//! names, so that fields can be added), `http` the JSON of the public API, `batch` the columns of a
//! submission (Arrow). Domain types are never serialised: they are converted here.

pub mod batch;
pub mod bus;
pub mod convert;
pub mod http;
pub mod job_text;
pub mod offers;
pub mod request;
pub mod running;
pub mod shape;
pub mod text;
