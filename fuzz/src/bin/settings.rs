//! Fuzzes the target `settings`.
#![no_main]

fuzz::fuzz_target!(|bytes: &[u8]| fuzz::run("settings", bytes));
