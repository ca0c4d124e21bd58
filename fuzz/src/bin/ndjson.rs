//! Fuzzes the target `ndjson`.
#![no_main]

fuzz::fuzz_target!(|bytes: &[u8]| fuzz::run("ndjson", bytes));
