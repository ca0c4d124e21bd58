//! Checks the model of the protocol within a bound from the command line.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use model::protocol::Protocol;
use model::{Bound, run};
use muster_runtime::Clock;

/// Visit every state that the commit and fencing protocol can reach, within a bound
///
/// Exit code 0: every promise is kept in each of them. 1: one is broken, and the steps to it are
/// printed.
#[derive(Debug, Parser)]
#[command(name = "model", version)]
struct Args {
    /// How much may happen
    #[arg(long, value_enum, default_value_t = Size::Small)]
    bound: Size,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Size {
    /// What the tests check: seconds
    Small,
    /// Minutes, and some gigabytes of memory
    Large,
}

fn main() -> ExitCode {
    let clock = Clock::system();
    let bounds = match Args::parse().bound {
        Size::Small => &Bound::SMALL[..],
        Size::Large => &Bound::LARGE[..],
    };
    let mut is_kept = true;
    for Bound { name, bounds } in bounds {
        say(&format!("model, {name}: {bounds:?}"));
        let began = clock.monotonic();
        let outcome = run(&Protocol::new(*bounds));
        let took = clock.monotonic() - began;
        say(&format!("{}\n  took {:.1} s", outcome.text(), took.as_secs_f64()));
        is_kept &= outcome.is_kept();
    }
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "this is what the command answers")]
fn say(text: &str) {
    println!("{text}");
}
