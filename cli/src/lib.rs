//! The command line `muster`: talks to a deployment over its HTTP API, and starts the roles of one.
//!
//! Data goes to stdout, everything else to stderr.

mod args;
mod commands;
mod context;
mod demo;
mod exit;
mod input;
mod process;
mod roles;
mod settings;
mod settings_docs;
mod show;
mod up;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

pub use args::Cli;

/// Reads the arguments of this process and does what they say.
///
/// # Panics
/// When the system gives no threads.
#[must_use]
pub fn main() -> ExitCode {
    // A local executor starts this program once more for each run.
    if let Some(code) = muster_executor::keep_run(std::env::args_os()) {
        return code;
    }
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the system must give threads and a poller");
    let result = runtime.block_on(commands::run(cli));
    // Not dropped: that would wait for a read of stdin that nobody needs any more.
    runtime.shutdown_timeout(Duration::ZERO);
    exit::code(result)
}
