//! The keeper of local runs as a program of its own, for tests of the executor without `muster`.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_executor::keep_run(std::env::args_os()).unwrap_or(ExitCode::FAILURE)
}
