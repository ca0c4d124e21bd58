//! What the pool's leader is known to know.

use muster_api::bus::NodeUpdate;

/// The state of the conversation with the leader.
#[derive(Debug, Default)]
pub struct Leasing {
    seen: Option<(String, u64)>,
    held: Option<u64>,
}

/// The parts of a lease request that follow from the runs.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The last answer that arrived.
    pub seen: Option<(String, u64)>,
    /// What the leader does not know of the nodes.
    pub nodes: NodeUpdate,
    /// How many more runs can be taken in.
    pub leases_max: u32,
    /// Whether the leader knows only a part of the nodes after it.
    pub more: bool,
}

impl Leasing {
    /// An answer arrived. Answers may overtake each other: within a session only newer ones count.
    pub(super) fn answered(&mut self, session: String, answer: u64, version: u64) {
        let is_older = matches!(
            &self.seen,
            Some((seen_session, seen)) if *seen_session == session && *seen >= answer
        );
        if !is_older {
            self.seen = Some((session, answer));
            self.held = Some(version);
        }
    }

    /// The leader wants to be told everything.
    pub(super) fn forgotten(&mut self) {
        self.held = None;
    }

    pub(super) fn seen(&self) -> Option<(String, u64)> {
        self.seen.clone()
    }

    pub(super) fn held(&self) -> Option<u64> {
        self.held
    }
}
