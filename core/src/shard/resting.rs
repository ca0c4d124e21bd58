//! Jobs and tasks that are tried again, and not at once: by when, and since when they wait. The
//! time is that of the machine's clock, which may have been ahead when a rest began: a rest that
//! began later than it is now is over, so that a clock put right does not keep a job waiting for
//! as long as it was wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::JobRef;
use crate::time::Timestamp;

/// By how much clocks of workers may differ without anybody's rest being cut short.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resting {
    spans: BTreeMap<JobRef, Span>,
    by_end: BTreeSet<(Timestamp, JobRef)>,
    by_begin: BTreeSet<(Timestamp, JobRef)>,
}

/// From when until when one of them rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) begin: Timestamp,
    pub(super) end: Timestamp,
}

impl Resting {
    pub(super) fn insert(&mut self, target: JobRef, span: Span) {
        self.remove(target);
        self.spans.insert(target, span);
        self.by_end.insert((span.end, target));
        self.by_begin.insert((span.begin, target));
    }

    pub(super) fn remove(&mut self, target: JobRef) {
        if let Some(span) = self.spans.remove(&target) {
            self.by_end.remove(&(span.end, target));
            self.by_begin.remove(&(span.begin, target));
        }
    }

    /// One whose rest is over, if there is any.
    pub(super) fn over(&self, now: Timestamp) -> Option<JobRef> {
        let ended = self.by_end.first().filter(|(end, _)| *end <= now);
        let unborn = || self.by_begin.last().filter(|(begin, _)| *begin > now.plus(CLOCK_SLACK));
        ended.or_else(unborn).map(|(_, target)| *target)
    }
}
