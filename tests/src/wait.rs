//! Waiting for a condition with a deadline: the only place of the tests where time is spent.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// How long to wait after the first look. The pause doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// The longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Looks with `probe` until it answers `Ok`, and returns that answer. An `Err` of the probe means
/// "not yet" and says why.
///
/// # Errors
/// When `within` has passed: with `what`, and with what the last look said.
pub async fn eventually<T>(
    within: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut pause = PAUSE_MIN;
    let mut last = anyhow!("the first look did not come to an end");
    loop {
        match timeout_at(deadline, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => {
                return Err(last).with_context(|| format!("not within {within:?}: {what}"));
            }
        }
        if Instant::now() + pause >= deadline {
            return Err(last).with_context(|| format!("not within {within:?}: {what}"));
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
