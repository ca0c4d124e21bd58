//! What the protocol could do wrongly: each must be found.

/// One thing that is done wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A new owner writes no fence.
    SkipsTheFence,
    /// A reply does not wait for the commit.
    AnswersBeforeThePut,
    /// A put that was not answered counts as failed: the client is told so, its command undone.
    TakesATimeoutForFailure,
    /// A key that is taken counts as written, without a look at the object.
    DoesNotReadBack,
    /// Fences are collected like other log objects.
    CollectsFences,
    /// Log objects are collected up to the newest checkpoint, not to the one before it.
    CollectsUpToTheNewestCheckpoint,
    /// After an unclean takeover nobody waits for the old lease to run out.
    DoesNotWait,
    /// A new owner does not ask whether the lease is still its own now that its fence stands.
    DoesNotConfirm,
    /// A lease that is missing is taken without a wait, as one that was watched.
    TrustsAMissingKey,
    /// Requests are answered whether the lease holds or not.
    AnswersWithoutTrust,
    /// Reads are answered from what is not yet durable.
    ShowsTheOpenCommit,
    /// A command that is known is carried out again.
    ForgetsCommands,
    /// A takeover does not ask whether its fence stands behind all that there is.
    TakesOverInThePast,
    /// A revision that is seen again is taken for the same, also in a bucket that is new.
    BelievesRevisions,
}
