//! Fuzzes the target `arrow_body`.
#![no_main]

fuzz::fuzz_target!(|bytes: &[u8]| fuzz::run("arrow_body", bytes));
