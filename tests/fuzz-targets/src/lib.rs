//! What reads bytes of others, as functions that are given any bytes: each asserts what has to hold
//! of what it reads, and that what it refuses is refused with words.
//!
//! The fuzzer (`fuzz/`) calls them with what it makes up, and a test with the committed corpora and
//! mutations of them, so that what was found once stays found.

mod forged;
pub mod mutate;
pub mod seeds;
mod targets;

use std::path::PathBuf;

/// One reader of foreign bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, also that of its corpus.
    pub name: &'static str,
    /// Reads bytes; panics if something is wrong with that.
    pub run: fn(&[u8]),
    /// Bytes of memory that it may take for each byte of input, beyond [`BYTES_FREE`].
    pub bytes_factor: usize,
}

/// Bytes of memory that any target may take.
pub const BYTES_FREE: usize = 8 * 1024 * 1024;

/// All of them.
pub const TARGETS: [Target; 11] = [
    Target { name: "job_json", run: targets::jobs::json, bytes_factor: 64 },
    Target { name: "ndjson", run: targets::jobs::lines, bytes_factor: 16 },
    Target { name: "arrow_body", run: targets::jobs::arrow, bytes_factor: 64 },
    Target { name: "submission", run: targets::bus::submission, bytes_factor: 256 },
    Target { name: "bus_message", run: targets::bus::message, bytes_factor: 256 },
    Target { name: "log_object", run: targets::objects::log, bytes_factor: 64 },
    Target { name: "checkpoint", run: targets::objects::checkpoint, bytes_factor: 64 },
    Target { name: "cells", run: targets::objects::cells, bytes_factor: 64 },
    Target { name: "quantity", run: targets::texts::quantity, bytes_factor: 16 },
    Target { name: "cursor", run: targets::texts::cursor, bytes_factor: 16 },
    Target { name: "settings", run: targets::settings::file, bytes_factor: 256 },
];

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Where a target's corpus is.
#[must_use]
pub fn corpus(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("../../fuzz/corpus").join(name)
}
