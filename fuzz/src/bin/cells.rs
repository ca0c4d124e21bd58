//! Fuzzes the target `cells`.
#![no_main]

fuzz::fuzz_target!(|bytes: &[u8]| fuzz::run("cells", bytes));
