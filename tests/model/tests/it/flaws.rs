//! What would go wrong if something was left out: each flaw breaks a promise, and the checker finds
//! the shortest way to it.

use model::checker::{self, Trace};
use model::protocol::{Action, Bounds, Flaw, Promise, Protocol};
use model::{PLAIN, STATES_MAX, run};

/// Commands of two clients, puts that land late.
const WRITERS: Bounds = Bounds { commands: 2, lates: 1, ..PLAIN };
/// A bus that forgets everything once.
const WIPED: Bounds = Bounds { wipes: 1, ..PLAIN };
/// Collection with two checkpoints.
const COLLECTED: Bounds = Bounds { commands: 2, checkpoints: 2, collections: 2, ..PLAIN };

/// The shortest way from the flaw to a broken promise, which has to be this one.
fn found(protocol: Protocol, flaw: Flaw, promise: Promise) -> Trace<Protocol> {
    let (report, _) = checker::explore(&protocol.with_flaw(flaw), STATES_MAX);
    let trace = report.counterexample.unwrap_or_else(|| panic!("nobody notices {flaw:?}"));
    println!("{flaw:?}: {} states, {}", report.states, trace.text());
    assert_eq!(trace.what, promise.text(), "{}", trace.text());
    trace
}

#[test]
fn without_a_fence_the_next_owner_misses_what_the_old_one_still_writes() {
    let protocol = Protocol::new(WRITERS);
    found(protocol, Flaw::SkipsTheFence, Promise::ReadsSeeWhatIsAnswered);
}

#[test]
fn an_answer_before_the_put_speaks_of_what_is_not_there() {
    let protocol = Protocol::new(WRITERS);
    found(protocol, Flaw::AnswersBeforeThePut, Promise::AnsweredIsDurable);
}

#[test]
fn a_timeout_that_is_taken_for_a_failure_is_a_lie_when_the_put_landed() {
    let protocol = Protocol::new(WRITERS);
    let trace = found(protocol, Flaw::TakesATimeoutForFailure, Promise::FailedHasNoEffect);
    assert!(trace.steps.iter().any(|(action, _)| matches!(action, Action::FailPut(_))));
}

#[test]
fn without_reading_back_the_fence_of_another_is_taken_for_ones_own_commit() {
    let protocol = Protocol::new(WRITERS);
    found(protocol, Flaw::DoesNotReadBack, Promise::AnsweredIsDurable);
}

#[test]
fn a_command_that_is_not_remembered_is_carried_out_twice() {
    found(Protocol::new(WRITERS), Flaw::ForgetsCommands, Promise::AppliedOnce);
}

#[test]
fn without_a_lease_that_holds_an_old_owner_answers_reads_from_an_old_state() {
    let protocol = Protocol::new(WRITERS);
    found(protocol, Flaw::AnswersWithoutTrust, Promise::ReadsSeeWhatIsAnswered);
}

#[test]
fn a_read_from_the_open_commit_sees_what_may_never_be() {
    found(Protocol::new(WRITERS), Flaw::ShowsTheOpenCommit, Promise::ReadsSeeNothingElse);
}

#[test]
fn without_the_wait_two_owners_answer_reads_when_a_lease_was_lost() {
    for flaw in [Flaw::DoesNotWait, Flaw::TrustsAMissingKey] {
        found(Protocol::new(WIPED), flaw, Promise::ReadsSeeWhatIsAnswered);
    }
}

#[test]
fn fences_in_another_order_than_leases_let_an_owner_answer_from_an_old_state() {
    found(Protocol::new(WIPED), Flaw::DoesNotConfirm, Promise::ReadsSeeWhatIsAnswered);
}

#[test]
fn a_revision_that_comes_again_in_a_new_bucket_gives_two_workers_one_lease() {
    found(Protocol::new(WIPED), Flaw::BelievesRevisions, Promise::ReadsSeeWhatIsAnswered);
}

#[test]
fn a_fence_that_is_collected_lets_an_old_owner_write() {
    let protocol = Protocol::new(COLLECTED);
    found(protocol, Flaw::CollectsFences, Promise::FencesStay);
    // What comes of it, for those who would let fences go.
    let lost = protocol.only(&[Promise::AnsweredIsDurable, Promise::AnsweredIsNeverLost]);
    found(lost, Flaw::CollectsFences, Promise::AnsweredIsNeverLost);
    let written = protocol.only(&[Promise::OneObjectANumber]);
    found(written, Flaw::CollectsFences, Promise::OneObjectANumber);
}

#[test]
fn a_takeover_that_slept_while_its_place_was_used_and_collected_owns_the_past() {
    let protocol = Protocol::new(COLLECTED);
    found(protocol, Flaw::TakesOverInThePast, Promise::ReadsSeeWhatIsAnswered);
}

#[test]
fn collecting_up_to_the_newest_checkpoint_leaves_nothing_to_fall_back_to() {
    let protocol = Protocol::new(Bounds { breaks: 1, ..COLLECTED });
    found(protocol, Flaw::CollectsUpToTheNewestCheckpoint, Promise::Recoverable);
}

#[test]
fn a_bound_without_takeovers_left_is_told_from_a_protocol_that_is_stuck() {
    let outcome = run(&Protocol::new(Bounds { takeovers: 1, crashes: 1, ..PLAIN }));
    assert!(outcome.is_kept(), "{}", outcome.text());
    let (event, depth) = outcome.report.seen[0];
    assert!(event == "every command is answered" && depth.is_some());
}
