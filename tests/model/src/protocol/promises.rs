//! What is promised, as something that holds in every state.

use super::commands;
use super::{Flaw, Kind, Protocol, Role, SEQUENCES_MAX, State, Store};

/// A promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// What a client was answered is in the log when it is answered.
    AnsweredIsDurable,
    /// What a client was answered stays in the log, with that outcome.
    AnsweredIsNeverLost,
    /// A command that is sent again is answered as before.
    SameOutcome,
    /// No command is in the log twice.
    AppliedOnce,
    /// A command that was said to have failed has no effect.
    FailedHasNoEffect,
    /// No two objects that hold commands were ever stored under one number: no two owners go on
    /// from the same sequence, however long one slept.
    OneObjectANumber,
    /// From the newest readable checkpoint on, the log has no hole: whoever takes over reads all.
    Recoverable,
    /// A fence that began an ownership stays.
    FencesStay,
    /// A read that is answered sees every acknowledged command.
    ReadsSeeWhatIsAnswered,
    /// A read that is answered sees nothing that is not in the log.
    ReadsSeeNothingElse,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::AnsweredIsDurable,
        Self::AnsweredIsNeverLost,
        Self::SameOutcome,
        Self::AppliedOnce,
        Self::FailedHasNoEffect,
        Self::OneObjectANumber,
        Self::Recoverable,
        Self::FencesStay,
        Self::ReadsSeeWhatIsAnswered,
        Self::ReadsSeeNothingElse,
    ];

    /// What is wrong when it is broken.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::AnsweredIsDurable => "a command is answered that is not in the log",
            Self::AnsweredIsNeverLost => "a command that was answered is lost",
            Self::SameOutcome => "a command is answered in two ways",
            Self::AppliedOnce => "a command is in the log twice",
            Self::FailedHasNoEffect => "a command that was said to have failed is in the log",
            Self::OneObjectANumber => "a commit is stored under a number that another had",
            Self::Recoverable => "whoever takes over does not read what the log said",
            Self::FencesStay => "a fence is gone",
            Self::ReadsSeeWhatIsAnswered => "a read does not see what was answered before",
            Self::ReadsSeeNothingElse => "a read sees what is not in the log",
        }
    }

    fn is_kept(self, protocol: &Protocol, state: &State) -> bool {
        let truth = state.store.truth(SEQUENCES_MAX);
        match self {
            Self::AnsweredIsDurable | Self::SameOutcome | Self::OneObjectANumber => {
                state.broken != Some(self.text())
            }
            Self::AnsweredIsNeverLost => (0..).zip(&state.answers).all(|(command, answer)| {
                answer.is_none_or(|outcome| truth.place(command) == Some(outcome))
            }),
            Self::AppliedOnce => !truth.repeats(),
            Self::FailedHasNoEffect => {
                commands::each(state.failed).all(|command| truth.place(command).is_none())
            }
            Self::Recoverable => is_recoverable(&state.store),
            Self::FencesStay => Store::sequences().all(|sequence| {
                let slot = state.store.slot(sequence);
                slot.first.is_none_or(|o| o.kind != Kind::Fence || slot.now == slot.first)
            }),
            Self::ReadsSeeWhatIsAnswered => {
                let sees = |applied: commands::Commands| {
                    (0..).zip(&state.answers).all(|(command, answer)| {
                        answer.is_none() || applied.place(command).is_some()
                    })
                };
                // What is not durable yet is waited for.
                readers(protocol, state).all(|owner| sees(owner.applied))
            }
            Self::ReadsSeeNothingElse => readers(protocol, state).all(|owner| {
                let open = protocol.has(Flaw::ShowsTheOpenCommit);
                let shown = if open { owner.applied } else { owner.shown() };
                shown == truth.first(shown.len())
            }),
        }
    }
}

/// Whoever would answer a read.
fn readers<'a>(
    protocol: &'a Protocol,
    state: &'a State,
) -> impl Iterator<Item = &'a super::Owner> + 'a {
    let trusts = |trust: u8| trust > 0 || protocol.has(Flaw::AnswersWithoutTrust);
    state.workers.iter().filter_map(move |worker| match &worker.role {
        Role::Serving(owner) if trusts(worker.trust) => Some(owner),
        Role::Serving(_)
        | Role::Idle
        | Role::Taking(_)
        | Role::Waiting { .. }
        | Role::Releasing(_)
        | Role::Ended => None,
    })
}

/// Whether a takeover that nothing disturbs reads all that the log ever said.
fn is_recoverable(store: &Store) -> bool {
    let base = store.checkpoint_but(0);
    let fence = store.last(base.max(1)).unwrap_or(base) + 1;
    let is_end = Store::sequences().all(|s| (s < fence) == store.slot(s).first.is_some());
    let (base, applied) = store.base(fence);
    let read = store.read(base, applied, fence);
    is_end && read.is_some_and(|(state, _)| state == store.truth(SEQUENCES_MAX))
}

impl Protocol {
    pub(super) fn first_broken(&self, state: &State) -> Option<&'static str> {
        let broken = self.promises.iter().find(|promise| !promise.is_kept(self, state));
        broken.map(|promise| promise.text())
    }
}
