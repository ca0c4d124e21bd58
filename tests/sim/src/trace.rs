//! What happened, in order: a line each, hashed, and printed where somebody wants to read it. The
//! same seed gives the same lines.

use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// Takes lines. Clones write to the same trace.
#[derive(Clone)]
pub(crate) struct Trace {
    start: Instant,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    hash: Xxh3,
    lines: u64,
    prints: bool,
}

impl Trace {
    pub(crate) fn new(prints: bool) -> Self {
        let inner = Inner { hash: Xxh3::new(), lines: 0, prints };
        Self { start: Instant::now(), inner: Arc::new(Mutex::new(inner)) }
    }

    /// Notes a line under the simulated time.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let at = self.start.elapsed();
        let line = format!("{:>10.6} {what}\n", at.as_secs_f64());
        let mut inner = self.lock();
        inner.hash.update(line.as_bytes());
        inner.lines += 1;
        if inner.prints {
            // Nobody reads any more: the run goes on, its outcome is the exit code.
            let _ = std::io::stdout().write_all(line.as_bytes());
        }
    }

    /// The hash of all lines, and how many there are.
    pub(crate) fn digest(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.hash.digest(), inner.lines)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }
}

/// `note!(trace, "format {}", …)`.
macro_rules! note {
    ($trace:expr, $($text:tt)*) => { $trace.note(format_args!($($text)*)) };
}
pub(crate) use note;
