//! What the pool's leader is known to know.

use muster_api::bus::NodeUpdate;

/// The state of the conversation with the leader.
#[derive(Debug, Default)]
pub struct Leasing {
    seen: Option<(String, u64)>,
    held: Option<u64>,
    /// What it holds if nothing that was sent was lost.
    sent: Option<u64>,
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
    /// An answer arrived. Answers may overtake each other: within a session only newer ones count,
    /// and of those that bring nothing new, which have one number, the newest version.
    pub(super) fn answered(&mut self, session: String, answer: u64, version: u64) {
        match &self.seen {
            Some((before, seen)) if *before == session && *seen > answer => {}
            Some((before, seen)) if *before == session && *seen == answer => {
                self.held = self.held.max(Some(version));
            }
            Some(_) | None => {
                self.seen = Some((session, answer));
                self.held = Some(version);
            }
        }
    }

    /// The leader wants to be told everything: it may have forgotten the cluster and what it has
    /// told it, and count its answers anew.
    pub(super) fn forgotten(&mut self) {
        *self = Self::default();
    }

    /// An update up to this version was sent. What is sent next builds on it, though it was not
    /// answered: a leader may hold a request for long, and everything since the last answer would
    /// be told again with every change.
    pub(super) fn sent(&mut self, version: u64) {
        self.sent = Some(version);
    }

    /// Something that was sent did not arrive, or may not have.
    pub(super) fn lost(&mut self) {
        self.sent = None;
    }

    pub(super) fn seen(&self) -> Option<(String, u64)> {
        self.seen.clone()
    }

    /// What the next update builds on.
    pub(super) fn base(&self) -> Option<u64> {
        self.sent.or(self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_a_session_told_of_is_held_until_it_wants_all() {
        let mut leasing = Leasing::default();
        let mut told = |number: u64, version: u64| {
            leasing.answered("s".into(), number, version);
            (leasing.seen(), leasing.base())
        };
        let seen = |number: u64| Some(("s".to_owned(), number));
        assert_eq!(told(1, 3), (seen(1), Some(3)));
        // Nothing new but the version, and one that was overtaken.
        assert_eq!(told(1, 5), (seen(1), Some(5)));
        assert_eq!(told(1, 4), (seen(1), Some(5)));
        assert_eq!(told(0, 6), (seen(1), Some(5)));
        assert_eq!(told(2, 7), (seen(2), Some(7)));
        // It has forgotten the cluster, and counts anew.
        leasing.forgotten();
        leasing.answered("s".into(), 0, 8);
        assert_eq!((leasing.seen(), leasing.base()), (seen(0), Some(8)));
    }

    #[test]
    fn an_update_builds_on_what_was_sent_until_that_is_lost() {
        let mut leasing = Leasing::default();
        leasing.sent(3);
        assert_eq!(leasing.base(), Some(3));
        leasing.answered("s".into(), 1, 3);
        leasing.sent(5);
        // An answer to what was sent before says nothing of it.
        leasing.answered("s".into(), 2, 4);
        assert_eq!(leasing.base(), Some(5));
        leasing.lost();
        assert_eq!(leasing.base(), Some(4));
        leasing.sent(6);
        leasing.forgotten();
        assert_eq!(leasing.base(), None);
    }
}
