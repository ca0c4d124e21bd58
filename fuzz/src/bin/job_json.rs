//! Fuzzes the target `job_json`.
#![no_main]

fuzz::fuzz_target!(|bytes: &[u8]| fuzz::run("job_json", bytes));
