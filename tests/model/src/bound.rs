//! The bounds that are checked, and what comes of it.

use crate::checker::{self, Report, Trace};
use crate::protocol::{Bounds, Protocol};

/// States that are visited at most: a bound beyond it is one too large.
pub const STATES_MAX: usize = 20_000_000;

/// A bound with a name. Each allows much of something and little of the rest: all of it at once are
/// too many states.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// What is looked at most.
    pub name: &'static str,
    /// How much may happen.
    pub bounds: Bounds,
}

/// Two workers, a command, one takeover of one from the other.
pub const PLAIN: Bounds = Bounds {
    workers: 2,
    commands: 1,
    ttl: 1,
    takeovers: 2,
    crashes: 0,
    wipes: 0,
    lates: 0,
    checkpoints: 0,
    breaks: 0,
    collections: 0,
};

impl Bound {
    /// What is checked with every test run.
    pub const SMALL: [Self; 3] = [
        Self { name: "writers", bounds: Bounds { commands: 2, crashes: 1, lates: 1, ..PLAIN } },
        Self { name: "leases", bounds: Bounds { crashes: 1, wipes: 1, ..PLAIN } },
        Self {
            name: "collection",
            bounds: Bounds { crashes: 1, checkpoints: 2, breaks: 1, collections: 1, ..PLAIN },
        },
    ];

    /// What is checked where there is time.
    pub const LARGE: [Self; 7] = [
        Self {
            name: "everything once",
            bounds: Bounds {
                crashes: 1,
                wipes: 1,
                lates: 1,
                checkpoints: 2,
                breaks: 1,
                collections: 1,
                ..PLAIN
            },
        },
        Self {
            name: "three owners",
            bounds: Bounds { takeovers: 3, crashes: 1, lates: 1, ..PLAIN },
        },
        Self { name: "three workers", bounds: Bounds { workers: 3, takeovers: 3, ..PLAIN } },
        Self { name: "three commands", bounds: Bounds { commands: 3, lates: 1, ..PLAIN } },
        Self { name: "long leases", bounds: Bounds { ttl: 2, crashes: 1, wipes: 1, ..PLAIN } },
        Self { name: "lost leases", bounds: Bounds { takeovers: 3, wipes: 1, ..PLAIN } },
        Self {
            name: "collection",
            bounds: Bounds { commands: 2, lates: 1, checkpoints: 2, collections: 2, ..PLAIN },
        },
    ];
}

/// What the exploration of one bound came to.
pub struct Outcome {
    /// The exploration.
    pub report: Report<Protocol>,
    /// A state from which nothing can be settled any more.
    pub stuck: Option<Trace<Protocol>>,
}

impl Outcome {
    /// Whether all was visited, and no promise is broken.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.report.is_complete && self.stuck.is_none()
    }

    /// As text for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Report { states, steps, depth, .. } = self.report;
        let mut text = format!("{states} states, {steps} steps, depth {depth}");
        if !self.report.is_complete {
            text += ", not all";
        }
        let seen = self.report.seen.iter();
        for (event, depth) in seen.filter_map(|(event, depth)| Some((event, (*depth)?))) {
            text += &format!("\n  after {depth:>2} steps: {event}");
        }
        for trace in self.report.counterexample.iter().chain(&self.stuck) {
            text += &format!("\nBROKEN: {}", trace.text());
        }
        text
    }
}

/// Explores a protocol, and asks whether it can get stuck.
#[must_use]
pub fn run(protocol: &Protocol) -> Outcome {
    let (report, visited) = checker::explore(protocol, STATES_MAX);
    let stuck = if report.is_complete { checker::stuck(protocol, &visited) } else { None };
    Outcome { report, stuck }
}
