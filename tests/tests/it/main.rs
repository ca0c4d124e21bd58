//! Everything that is tested from outside of one crate: the harness itself, the tidiness of the
//! tree, and the system end to end. Tests here may panic with `unwrap`: a failure is what they are
//! for.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

mod admin;
mod bus_tls;
mod chaos;
mod deployment;
mod door;
mod failures;
mod full_disk;
mod kubernetes;
mod memory_and_file;
mod nats_and_s3;
mod nats_server;
mod processes;
mod s3_server;
mod scale;
mod simulate;
mod suite;
mod tidy;
mod up;
