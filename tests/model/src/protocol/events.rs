//! What must be seen to happen: a model in which it cannot would promise nothing.

use super::commands::Command;
use super::state::Taking;
use super::{
    Action, Coincidence, Created, Kind, Protocol, Role, SEQUENCES_MAX, State, Step, Store, Worker,
};

/// The names, in the order of the bits.
pub(super) const NAMES: [&str; 17] = [
    "every command is answered",
    "an owner finds itself fenced",
    "a put that nobody heard of is recognised by reading back",
    "a put lands after its writer is gone",
    "a fence finds its number taken and goes on to the next",
    "a takeover after a release does not wait",
    "a takeover waits until the old lease has run out",
    "an owner without trust stands beside one that serves",
    "a lease is taken while another still trusts it",
    "a renewal finds its key lost",
    "a command is answered by another owner than the one that carried it out",
    "a command that died with its owner is carried out by the next",
    "a log object is collected",
    "something is created under a number that was collected",
    "a takeover finds its fence in the past and gives up",
    "a takeover finds an object missing and gives up",
    "a broken checkpoint gives way to the one before",
];

pub(super) fn seen(protocol: &Protocol, before: &State, action: Action, after: &State) -> u64 {
    let happened = [
        after.answers.iter().flatten().count() == usize::from(protocol.bounds.commands),
        is_fenced(before, action),
        is_recognised(before, action),
        lands_alone(before, action),
        is_fence_moved(before, action),
        serves_at_once(before, action, after),
        waits(action, after),
        has_zombie(after),
        is_taken_early(before, action),
        is_renewal_lost(before, action),
        is_remembered(before, action),
        is_repeated(before, action),
        matches!(action, Action::Delete),
        is_refilled(before, after),
        is_past(before, action),
        is_missing(before, action, after),
        is_fallback(before, action),
    ];
    (0..).zip(happened).fold(0, |bits, (bit, happened)| bits | u64::from(happened) << bit)
}

/// What the put of a step would come to.
fn put(state: &State, action: Action) -> Option<(Created, Kind)> {
    let Action::Put(worker) = action else { return None };
    let (sequence, object) = state.worker(worker).role.pending()?;
    let created = match state.store.slot(sequence).now {
        None => Created::New,
        Some(found) if found == object => Created::Ours,
        Some(_) => Created::Theirs,
    };
    Some((created, object.kind))
}

fn is_fenced(before: &State, action: Action) -> bool {
    matches!(put(before, action), Some((Created::Theirs, Kind::Commit | Kind::Released)))
}

fn is_recognised(before: &State, action: Action) -> bool {
    matches!(put(before, action), Some((Created::Ours, _)))
}

fn is_fence_moved(before: &State, action: Action) -> bool {
    matches!(put(before, action), Some((Created::Theirs, Kind::Fence)))
}

fn lands_alone(before: &State, action: Action) -> bool {
    let Action::Land(at) = action else { return false };
    let Some(late) = before.store.late[at] else { return false };
    let is_free = before.store.slot(late.sequence).now.is_none();
    let waits =
        before.workers.iter().any(|w| w.role.pending() == Some((late.sequence, late.object)));
    is_free && !waits
}

fn loading(state: &State, action: Action) -> Option<(Worker, Taking)> {
    let Action::Advance(worker) = action else { return None };
    match state.worker(worker).role {
        Role::Taking(taking) => Some((worker, taking)),
        Role::Idle | Role::Waiting { .. } | Role::Serving(_) | Role::Releasing(_) | Role::Ended => {
            None
        }
    }
}

fn serves_at_once(before: &State, action: Action, after: &State) -> bool {
    loading(before, action).is_some_and(|(worker, taking)| {
        let serves = matches!(after.worker(worker).role, Role::Waiting { clear: 0, .. });
        serves && taking.clear > 0 && !matches!(taking.step, Step::Loaded { fence: 1, .. })
    })
}

fn waits(action: Action, after: &State) -> bool {
    let Action::Tick = action else { return false };
    after.workers.iter().any(|worker| matches!(worker.role, Role::Waiting { clear: 0, .. }))
}

fn has_zombie(after: &State) -> bool {
    let serving = |trusts: bool| {
        let mut owners = after.workers.iter().filter(|w| matches!(w.role, Role::Serving(_)));
        owners.any(|worker| (worker.trust > 0) == trusts)
    };
    serving(true) && serving(false)
}

fn is_taken_early(before: &State, action: Action) -> bool {
    let (Action::Claim(worker) | Action::Swap(worker, _)) = action else { return false };
    let others = (0..).zip(&before.workers).filter(|(number, _)| *number != worker);
    others.into_iter().any(|(_, other)| other.trust > 0)
}

fn is_renewal_lost(before: &State, action: Action) -> bool {
    matches!(action, Action::Renew(worker, Coincidence::No) if before.key != Some(worker))
}

/// Who carried a command out, and whether the worker knows of it.
fn delivered(before: &State, action: Action) -> Option<(Worker, Command, bool)> {
    let Action::Deliver(worker, command) = action else { return None };
    let owner = before.worker(worker).role.owner()?;
    Some((worker, command, owner.applied.place(command).is_some()))
}

fn is_remembered(before: &State, action: Action) -> bool {
    delivered(before, action).is_some_and(|(worker, command, is_known)| {
        let writer = before.worker(worker).role.owner().map(|owner| owner.writer);
        let holder = Store::sequences()
            .filter_map(|sequence| before.store.slot(sequence).first)
            .find(|object| object.commands.place(command).is_some());
        is_known && holder.is_some_and(|object| Some(object.writer) != writer)
    })
}

fn is_repeated(before: &State, action: Action) -> bool {
    delivered(before, action).is_some_and(|(worker, command, is_known)| {
        let lost = before.store.truth(SEQUENCES_MAX).place(command).is_none();
        let elsewhere = (0..).zip(&before.workers).any(|(number, other)| {
            let owner = other.role.owner();
            number != worker && owner.is_some_and(|owner| owner.applied.place(command).is_some())
        });
        !is_known && lost && !elsewhere && command < before.spent.commands
    })
}

fn is_refilled(before: &State, after: &State) -> bool {
    Store::sequences().any(|sequence| {
        let (was, is) = (before.store.slot(sequence), after.store.slot(sequence));
        was.first.is_some() && was.now.is_none() && is.now.is_some()
    })
}

fn is_past(before: &State, action: Action) -> bool {
    loading(before, action).is_some_and(|(_, taking)| {
        matches!(taking.step, Step::Fenced { fence } if before.store.checkpoint_but(1) >= fence)
    })
}

fn is_missing(before: &State, action: Action, after: &State) -> bool {
    loading(before, action).is_some_and(|(worker, taking)| {
        matches!(taking.step, Step::Loaded { .. }) && after.worker(worker).role == Role::Ended
    })
}

fn is_fallback(before: &State, action: Action) -> bool {
    loading(before, action).is_some_and(|(_, taking)| {
        let Step::Fenced { fence } = taking.step else { return false };
        let newest = before.store.checkpoints().find(|sequence| *sequence < fence);
        let (base, _) = before.store.base(fence);
        base > 0 && newest.is_some_and(|newest| newest > base)
    })
}
