//! The gateway over a real bus in memory and real sockets; a responder stands for the shards.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod classes;
mod harness;
mod http;
mod openapi;
mod submit;
mod why;
