//! How far a run has come, as the executor sees it, and how many runs have come how far.

use muster_api::bus::Report;

/// How many runs are in which phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leased, their payload is not here yet.
    pub wanted: usize,
    /// Handed to the back end, which has not spoken of them yet.
    pub starting: usize,
    /// Pending or running.
    pub live: usize,
    /// Being stopped because their shard does not believe in them.
    pub condemned: usize,
    /// Ended, and their shard has not confirmed it.
    pub ended: usize,
}

/// How far a run has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Its payload is not here yet.
    Wanted,
    /// The back end has it and has not spoken of it yet.
    Starting,
    /// Pending or running, as last said.
    Live(Report),
    /// Being stopped, because its shard does not believe in it.
    Condemned,
    /// Over; its shard has not confirmed it.
    Ended,
}

impl Phase {
    pub(super) fn holds_node(&self) -> bool {
        match self {
            Self::Wanted | Self::Starting | Self::Live(_) | Self::Condemned => true,
            Self::Ended => false,
        }
    }

    pub(super) fn is_believed(&self) -> bool {
        match self {
            Self::Wanted | Self::Starting | Self::Live(_) | Self::Ended => true,
            Self::Condemned => false,
        }
    }
}

impl Counts {
    pub(super) fn of(&mut self, phase: &Phase) -> &mut usize {
        match phase {
            Phase::Wanted => &mut self.wanted,
            Phase::Starting => &mut self.starting,
            Phase::Live(_) => &mut self.live,
            Phase::Condemned => &mut self.condemned,
            Phase::Ended => &mut self.ended,
        }
    }
}
