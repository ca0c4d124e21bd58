//! Fuzzes the target `quantity`.
#![no_main]

fuzz::fuzz_target!(|bytes: &[u8]| fuzz::run("quantity", bytes));
