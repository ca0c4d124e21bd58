//! The gateway over a real bus in memory and real sockets; a responder stands for the shards.

mod harness;
mod http;
mod openapi;
mod submit;
