//! What every command works with.

use std::io::{self, IsTerminal, Write};

use muster_client::{Client, Options};
use muster_runtime::clock::Clock;
use serde::Serialize;

use crate::args::{Global, Output};
use crate::show;

/// The deployment, and how to print.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) output: Output,
    pub(crate) clock: Clock,
    /// Whether stdout shows colours.
    pub(crate) colour: bool,
}

impl Context {
    pub(crate) fn new(global: &Global) -> anyhow::Result<Self> {
        let client = Client::new(&global.url, Options::default())?;
        let colour = io::stdout().is_terminal() && !no_color();
        Ok(Self { client, output: global.output, clock: Clock::system(), colour })
    }

    /// Prints a value as asked for.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce(&Self, &T) -> String,
    ) -> anyhow::Result<()> {
        match self.output {
            Output::Table | Output::Page => write_out(&table(self, value)),
            Output::Json => write_out(&(serde_json::to_string_pretty(value)? + "\n")),
            Output::Yaml => write_out(&show::yaml(value)?),
        }
    }

    /// Prints one of many values that come one after the other: a line, or a document.
    pub(crate) fn show_item<T: Serialize>(
        &self,
        value: &T,
        line: impl FnOnce(&Self, &T) -> String,
    ) -> anyhow::Result<()> {
        match self.output {
            Output::Table | Output::Page => write_out(&(line(self, value) + "\n")),
            Output::Json => write_out(&(serde_json::to_string(value)? + "\n")),
            Output::Yaml => write_out(&format!("---\n{}", show::yaml(value)?)),
        }
    }
}

/// Writes data.
pub(crate) fn write_out(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Whether the user wants no colours (<https://no-color.org>).
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}
