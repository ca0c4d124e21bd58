//! Fuzzes the target `log_object`.
#![no_main]

fuzz::fuzz_target!(|bytes: &[u8]| fuzz::run("log_object", bytes));
