//! Fuzzes the target `checkpoint`.
#![no_main]

fuzz::fuzz_target!(|bytes: &[u8]| fuzz::run("checkpoint", bytes));
