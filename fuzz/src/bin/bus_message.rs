//! Fuzzes the target `bus_message`.
#![no_main]

fuzz::fuzz_target!(|bytes: &[u8]| fuzz::run("bus_message", bytes));
