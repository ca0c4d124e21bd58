//! The harness of the end-to-end tests: it starts real servers and the project's own binaries,
//! breaks them in the ways the tests ask for, and waits for what must come true.
//!
//! Everything it starts listens on loopback, on a port of its own, and ends with the value that
//! stands for it. Nothing here imitates a part that can run: the NATS server is the real one, the
//! S3 server speaks S3 over HTTP and keeps its objects on disk.

pub mod authority;
pub mod chaos;
mod connections;
pub mod crowd;
pub mod deployment;
pub mod disk;
pub mod http;
pub mod journal;
pub mod kubernetes;
pub mod nats;
pub mod network;
pub mod pods;
pub mod process;
pub mod s3;
pub mod shard_log;
pub mod site;
pub mod tampering;
pub mod traffic;
pub mod usage;
pub mod wait;
pub mod whole;

use std::path::{Path, PathBuf};

/// The root of the source tree.
pub fn repo_root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("this crate's directory stands in the root").to_owned()
}
