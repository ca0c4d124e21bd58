//! Fuzzes the target `cursor`.
#![no_main]

fuzz::fuzz_target!(|bytes: &[u8]| fuzz::run("cursor", bytes));
