//! `muster completions`

use clap::CommandFactory;

use crate::args::Cli;
use crate::exit::Outcome;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "muster", &mut script);
    crate::context::write_out(&String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}
