//! Exit codes: part of the interface, like flags.

use std::io;
use std::process::ExitCode;

use muster_runtime::config::Problems;
use muster_runtime::http::ListenError;

/// What the codes mean, as the help shows it.
pub(crate) const HELP: &str = "\
Exit codes:
    0  done
    1  the request failed, or jobs were rejected, or (watch --exit-when-done) did not succeed
    2  the command line or the settings are wrong
    3  there is no such queue, priority class, cordon, job or job set
    4  the deployment cannot be reached, or has too much to do right now
  130  interrupted";

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const UNAVAILABLE: u8 = 4;
const INTERRUPTED: u8 = 130;

/// How a command ended that did not fail to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Done,
    /// It has said itself what is wrong.
    Failed,
    /// It has said itself what is missing.
    NotFound,
    /// Ctrl-C.
    Interrupted,
}

/// The command line says what it may not say.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Says what went wrong, and gives the exit code for it.
pub(crate) fn code(result: anyhow::Result<Outcome>) -> ExitCode {
    let error = match result {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::Failed) => return FAILED.into(),
        Ok(Outcome::NotFound) => return NOT_FOUND.into(),
        Ok(Outcome::Interrupted) => return INTERRUPTED.into(),
        Err(error) => error,
    };
    if is_broken_pipe(&error) {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    match error.downcast_ref::<Problems>() {
        // Each is an error of its own.
        Some(problems) => {
            for problem in problems.list() {
                crate::show::note(&format!("error: {problem}"));
            }
        }
        None => crate::show::note(&format!("error: {error:#}")),
    }
    classify(&error).into()
}

fn classify(error: &anyhow::Error) -> u8 {
    let is_exposed =
        || matches!(error.downcast_ref::<ListenError>(), Some(ListenError::Exposed(_)));
    if error.is::<Usage>() || error.is::<Problems>() || is_exposed() {
        return USAGE;
    }
    match error.downcast_ref::<muster_client::Error>() {
        Some(muster_client::Error::BadUrl { .. }) => USAGE,
        Some(error) if error.is_not_found() => NOT_FOUND,
        Some(error) if error.is_unavailable() => UNAVAILABLE,
        Some(_) | None => FAILED,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use muster_api::http::{ErrorCode, Problem};
    use muster_client::Error;

    use super::*;

    fn refused(code: ErrorCode) -> anyhow::Error {
        let problem = Problem::new(code, "no");
        anyhow::Error::from(Error::Refused { status: code.http_status(), problem }).context("while")
    }

    #[test]
    fn each_kind_of_failure_has_its_code() {
        assert_eq!(classify(&refused(ErrorCode::QueueNotFound)), NOT_FOUND);
        assert_eq!(classify(&refused(ErrorCode::Overloaded)), UNAVAILABLE);
        assert_eq!(classify(&refused(ErrorCode::InvalidJob)), FAILED);
        assert_eq!(classify(&Usage("x".to_owned()).into()), USAGE);
        assert_eq!(classify(&anyhow::anyhow!("x")), FAILED);
        assert_eq!(classify(&anyhow::Error::from(Problems::default()).context("while")), USAGE);
        assert_eq!(classify(&ListenError::Exposed("x".to_owned()).into()), USAGE);
        let reader_left = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(reader_left).context("writing")));
    }
}
