//! The keeper of a run: a small process between the executor and the command, which outlives the
//! executor. It writes down who it is and how the command ended, exit code or signal as the system
//! tells them apart; then it kills what is left of the group, as a container ends with its first
//! process.
//!
//! It is this very program once more, called as `keep-run DIRECTORY COMMAND ARGUMENT…`. Signals to
//! the group are for the command: the keeper catches them and goes on, and the command has its
//! default ones.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::getpgrp;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::folder::Folder;

/// The first argument of a keeper.
pub(super) const KEEP_RUN: &str = "keep-run";

/// The code of a command that cannot be started, as shells have it.
const CANNOT_START: i32 = 127;

/// Keeps a run, if that is what the arguments of this process, its name among them, ask for.
#[must_use]
pub fn keep_run(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next()? != KEEP_RUN {
        return None;
    }
    let kept = keep(arguments.next().map(PathBuf::from), arguments.collect());
    Some(match kept {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the run's output: whoever looks for the reason looks there. If
            // even that fails, there is nobody left to tell.
            let _ = writeln!(io::stderr(), "muster: the run cannot be kept: {error}");
            ExitCode::FAILURE
        }
    })
}

fn keep(folder: Option<PathBuf>, command: Vec<OsString>) -> io::Result<()> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "directory or command is missing");
    let folder = Folder::at(folder.ok_or_else(missing)?);
    let (program, arguments) = command.split_first().ok_or_else(missing)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut caught = Vec::new();
        for kind in [
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::terminate(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ] {
            caught.push(signal(kind)?);
        }
        folder.write_process()?;
        if folder.is_gone() {
            return Ok(None);
        }
        Command::new(program).args(arguments).status().await.map(Some)
    });
    let status = match ended {
        Ok(None) => return Ok(()),
        Ok(Some(status)) => status,
        Err(error) => {
            let _ = writeln!(io::stderr(), "muster: the command cannot be started: {error}");
            ExitStatus::from_raw(CANNOT_START << 8)
        }
    };
    folder.write_ended(status)?;
    killpg(getpgrp(), Signal::SIGKILL).map_err(io::Error::from)
}
