//! Promises broken on purpose, one at a time, so that the simulation can show that it notices.
//!
//! A mutation is one line where a promise is kept: `if mutant::is(Mutant::…)`. Without the feature
//! `mutants`, which only the simulation has and which is off unless asked for, [`is`] is a constant
//! `false` and the compiler drops what it guards. With it, each thread has the mutation that was
//! chosen for it, or none: a simulation runs in one thread.

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Answers leave before their commit is durable.
    AcknowledgesEarly,
    /// A put without an answer counts as written.
    TimeoutIsSuccess,
    /// A put without an answer counts as not written: its commit is dropped, its number used again.
    TimeoutIsFailure,
    /// A key that is taken counts as taken by oneself, without a look.
    ConflictIsOurs,
    /// A takeover writes no fence.
    NoFence,
    /// An owner that is fenced goes on.
    IgnoresFence,
    /// The last record of a commit is not written.
    DropsLastRecord,
    /// A command that comes again is carried out again.
    CarriesOutTwice,
    /// A takeover does not read what was answered to whom.
    ForgetsAnswers,
    /// A takeover does not wait until the old lease has run out.
    TakesOverAtOnce,
    /// Trust in a lease does not end with its time.
    TrustsForEver,
    /// A read does not wait for the commit of what it shows.
    ReadsUncommitted,
    /// History is noted as written before it is.
    NotesHistoryEarly,
    /// History is written before its plan is durable.
    WritesUnplannedHistory,
    /// A checkpoint lacks a job.
    CheckpointLosesJob,
    /// A checkpoint lacks how often jobs were tried.
    CheckpointForgetsAttempts,
    /// A checkpoint lacks what jobs wait for, and what else they ask for.
    CheckpointForgetsTerms,
    /// Garbage collection deletes fences.
    CollectsFences,
    /// A reader of events that goes on at a cursor gets the event of the cursor again.
    RepeatsEvent,
    /// A report is believed whatever its attempt.
    ForgetsAttempt,
    /// A job that runs at most once is tried again when its cluster is lost.
    TriesAgain,
    /// A job that was cancelled while it waited goes on waiting.
    LeasesCancelled,
    /// A job runs although the one before it, which was to end well, did not.
    StartsAfterFailure,
    /// Retries are not counted.
    RetriesForEver,
    /// More tasks of an array run at once than may.
    RunsAllTasks,
    /// The last of a gang is not leased with the others.
    LeasesPartOfGang,
    /// What becomes of a member of a gang does not become of the others.
    TearsGangs,
    /// Ids follow the clock when it goes back.
    IdsGoBack,
    /// An executor starts runs without a look whether there is room.
    StartsWithoutRoom,
    /// An executor lets an older attempt run on beside the new one.
    KeepsOlderAttempt,
    /// An executor starts a run again that is over.
    StartsAgain,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 31] = [
        Self::AcknowledgesEarly,
        Self::TimeoutIsSuccess,
        Self::TimeoutIsFailure,
        Self::ConflictIsOurs,
        Self::NoFence,
        Self::IgnoresFence,
        Self::DropsLastRecord,
        Self::CarriesOutTwice,
        Self::ForgetsAnswers,
        Self::TakesOverAtOnce,
        Self::TrustsForEver,
        Self::ReadsUncommitted,
        Self::NotesHistoryEarly,
        Self::WritesUnplannedHistory,
        Self::CheckpointLosesJob,
        Self::CheckpointForgetsAttempts,
        Self::CheckpointForgetsTerms,
        Self::CollectsFences,
        Self::RepeatsEvent,
        Self::ForgetsAttempt,
        Self::TriesAgain,
        Self::LeasesCancelled,
        Self::StartsAfterFailure,
        Self::RetriesForEver,
        Self::RunsAllTasks,
        Self::LeasesPartOfGang,
        Self::TearsGangs,
        Self::IdsGoBack,
        Self::StartsWithoutRoom,
        Self::KeepsOlderAttempt,
        Self::StartsAgain,
    ];
}

#[cfg(not(feature = "mutants"))]
mod chosen {
    use super::Mutant;

    /// Whether this mutation is in force: in this build, none is.
    #[must_use]
    #[inline]
    pub const fn is(_: Mutant) -> bool {
        false
    }

    /// Chooses the mutation of this thread; `false` because this build has none.
    #[must_use]
    pub const fn choose(_: Option<Mutant>) -> bool {
        false
    }
}

#[cfg(feature = "mutants")]
mod chosen {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this mutation is in force in this thread.
    #[must_use]
    pub fn is(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }

    /// Chooses the mutation of this thread; `true` because this build has them.
    #[must_use]
    pub fn choose(mutant: Option<Mutant>) -> bool {
        CHOSEN.set(mutant);
        true
    }
}

pub use chosen::{choose, is};
