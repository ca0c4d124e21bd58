//! Fuzzes the target `submission`.
#![no_main]

fuzz::fuzz_target!(|bytes: &[u8]| fuzz::run("submission", bytes));
