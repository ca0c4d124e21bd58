//! Asking a process to stop: the first SIGINT or SIGTERM cancels a token, the second ends the
//! process at once with 130 or 143.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::tasks::{BoxError, OnCancel, OnError, Policy, Supervisor};

/// Exit codes as a shell gives them: 128 and the number of the signal.
const EXIT_INTERRUPTED: i32 = 130;
const EXIT_TERMINATED: i32 = 143;

/// The two signals that ask a process to stop.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

/// Cancels the returned token at the first signal that asks the process to stop. The task that
/// waits belongs to `tasks`, and goes on while they drain so that a second signal is heard.
///
/// # Errors
/// If the signals cannot be received.
pub fn stop_token(tasks: &Supervisor) -> io::Result<CancellationToken> {
    let mut signals = StopSignals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
    };
    let stop = CancellationToken::new();
    let token = stop.clone();
    let policy = Policy { on_error: OnError::Log, on_cancel: OnCancel::Abort };
    tasks.detached().spawn_once("signals", policy, async move |_| {
        let name = signals.next().await.0;
        tracing::info!(signal = name, "asked to stop");
        token.cancel();
        let (name, code) = signals.next().await;
        tracing::warn!(signal = name, "asked again to stop, leaving at once");
        exit(code);
        #[expect(unreachable_code, reason = "gives the task its type")]
        Ok::<_, BoxError>(())
    });
    Ok(stop)
}

impl StopSignals {
    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", EXIT_INTERRUPTED),
            _ = self.terminate.recv() => ("SIGTERM", EXIT_TERMINATED),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever asks twice wants no drain")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}
