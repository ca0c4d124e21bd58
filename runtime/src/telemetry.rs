//! Logging: everything goes to stderr, as text for people or JSON for machines.
//!
//! `MUSTER_LOG`, or else `RUST_LOG`, says how much (`info` by default, e.g.
//! `debug,muster_shard=trace`). A panic is logged and ends the process: its state is elsewhere, so
//! a restart is safe and a half-dead process is not.

use std::{io::IsTerminal, str::FromStr};

use tracing_subscriber::{EnvFilter, fmt::time::SystemTime};

/// What the client of NATS says of each event of its connection, also of each message that a slow
/// reader was not given: [`crate::bus::nats`] says it in a way that fills no disk.
const NATS_EVENTS: &str = "async_nats=warn";

/// What a panicking process leaves with, as Rust's own runtime does.
const EXIT_PANIC: i32 = 101;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not a log format: `text` or `json`")),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter in the environment cannot be read.
    #[error("`{variable}` is not a log filter: {reason}")]
    Filter {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Something else has set up logging in this process.
    #[error("logging is already set up")]
    AlreadySet,
}

/// Sets up logging and the panic hook for this process.
pub fn init(format: Format) -> Result<(), Error> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter()?)
        .with_timer(SystemTime)
        // It would be told to standard error too, with a panic where that fails: a process whose
        // log is on a full disk goes on without.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_| Error::AlreadySet)?;
    std::panic::set_hook(Box::new(on_panic));
    Ok(())
}

fn filter() -> Result<EnvFilter, Error> {
    for variable in ["MUSTER_LOG", "RUST_LOG"] {
        let Ok(text) = std::env::var(variable) else { continue };
        let filter = EnvFilter::try_new(with_nats_events(&text));
        return filter.map_err(|error| Error::Filter { variable, reason: error.to_string() });
    }
    Ok(EnvFilter::new(with_nats_events("info")))
}

/// What is asked for comes behind, and so counts, also for the client of NATS where it names it.
fn with_nats_events(asked: &str) -> String {
    if asked.is_empty() { String::new() } else { format!("{NATS_EVENTS},{asked}") }
}

#[expect(clippy::disallowed_methods, reason = "a process that panicked has nothing to drain")]
fn on_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let reason = crate::tasks::panic_text(panic.payload());
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(%reason, %location, %backtrace, "panicked");
    std::process::exit(EXIT_PANIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_of_nats_says_no_more_than_warnings_unless_more_of_it_is_asked_for() {
        let of = |asked: &str| {
            let filter = EnvFilter::try_new(with_nats_events(asked)).unwrap().to_string();
            let mut directives: Vec<String> = filter.split(',').map(str::to_owned).collect();
            directives.sort();
            directives
        };
        assert_eq!(of("debug"), ["async_nats=warn", "debug"]);
        assert_eq!(of("async_nats=info,debug"), ["async_nats=info", "debug"]);
        assert_eq!(with_nats_events(""), "", "which says nothing");
    }

    #[test]
    fn formats_are_read() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!("xml".parse::<Format>().is_err());
    }
}
