//! What an owner does, and what becomes of its requests to the store.

use super::commands::{self, Command};
use super::state::Taking;
use super::store::{Checkpoint, Late};
use super::{
    Action, Created, Flaw, Flight, Kind, Object, Owner, Promise, Protocol, Role, SEQUENCES_MAX,
    State, Step, Store, Worker,
};

impl Role {
    /// The shard that it owns.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Waiting { owner, .. } | Self::Serving(owner) | Self::Releasing(owner) => {
                Some(owner)
            }
            Self::Idle | Self::Taking(_) | Self::Ended => None,
        }
    }

    fn owner_mut(&mut self) -> Option<&mut Owner> {
        match self {
            Self::Waiting { owner, .. } | Self::Serving(owner) | Self::Releasing(owner) => {
                Some(owner)
            }
            Self::Idle | Self::Taking(_) | Self::Ended => None,
        }
    }

    /// The put that it waits for.
    #[must_use]
    pub fn pending(&self) -> Option<(u8, Object)> {
        if let Self::Taking(Taking { writer, step: Step::Fencing { sequence }, .. }) = self {
            return Some((*sequence, Object::fence(*writer, *sequence)));
        }
        let owner = self.owner()?;
        owner.flight.as_ref().map(|flight| (owner.next(), owner.object(flight)))
    }
}

impl Protocol {
    pub(super) fn environment_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (spent, bounds) = (&state.spent, &self.bounds);
        actions.push(Action::Tick);
        if spent.wipes < bounds.wipes {
            actions.push(Action::Wipe);
        }
        let late = (0..).zip(&state.store.late).filter(|(_, late)| late.is_some());
        actions.extend(late.map(|(at, _)| Action::Land(at)));
        if spent.checkpoints < bounds.checkpoints {
            let commits = Store::sequences().filter(|sequence| {
                let found = state.store.slot(*sequence).first;
                found.is_some_and(|object| object.kind != Kind::Fence)
            });
            let new = commits.filter(|sequence| state.store.checkpoint(*sequence).is_none());
            actions.extend(new.map(Action::Checkpoint));
        }
        if spent.breaks < bounds.breaks {
            actions.extend(state.store.checkpoints().map(Action::Break));
        }
        if state.store.doomed.is_some() {
            actions.push(Action::Delete);
        } else if spent.collections < bounds.collections {
            actions.extend(self.collectable(&state.store).map(Action::Doom));
            let superseded = state.store.checkpoints().skip(2);
            actions.extend(superseded.map(Action::DropCheckpoint));
        }
    }

    /// Log objects at or below the newest checkpoint but one, so that a newest one that cannot be
    /// read can give way. Never a fence.
    fn collectable<'a>(&'a self, store: &'a Store) -> impl Iterator<Item = u8> + 'a {
        let newer = usize::from(!self.has(Flaw::CollectsUpToTheNewestCheckpoint));
        let through = store.checkpoint_but(newer);
        Store::sequences().take_while(move |sequence| *sequence <= through).filter(|sequence| {
            let found = store.slot(*sequence).now;
            found.is_some_and(|o| o.kind != Kind::Fence || self.has(Flaw::CollectsFences))
        })
    }

    pub(super) fn owner_actions(&self, state: &State, at: Worker, actions: &mut Vec<Action>) {
        let worker = state.worker(at);
        let Some(owner) = worker.role.owner() else { return };
        let is_serving = matches!(worker.role, Role::Serving(_));
        if is_serving && (worker.trust > 0 || self.has(Flaw::AnswersWithoutTrust)) {
            // Commands are alike: the first one sent may be called 0.
            let sent = (0..=state.spent.commands).take(usize::from(self.bounds.commands));
            let sent = sent.filter(|command| state.failed & commands::only(*command) == 0);
            actions.extend(sent.map(|command| Action::Deliver(at, command)));
        }
        let is_releasing = matches!(worker.role, Role::Releasing(_));
        let has_to = (is_serving && owner.open > 0) || is_releasing;
        if has_to && owner.flight.is_none() && owner.next() <= SEQUENCES_MAX {
            actions.push(Action::Seal(at));
        }
        if owner.flight.is_some() {
            self.put_actions(state, at, actions);
            if self.has(Flaw::TakesATimeoutForFailure) {
                actions.push(Action::FailPut(at));
            }
        }
    }

    pub(super) fn put_actions(&self, state: &State, at: Worker, actions: &mut Vec<Action>) {
        let Some((sequence, object)) = state.worker(at).role.pending() else { return };
        actions.push(Action::Put(at));
        if state.store.slot(sequence).now.is_none() {
            actions.push(Action::PutUnheard(at));
        }
        let late = Some(Late { sequence, object });
        let has_room = state.store.late.contains(&None) && !state.store.late.contains(&late);
        if state.spent.lates < self.bounds.lates && has_room {
            actions.push(Action::PutLate(at));
        }
    }

    pub(super) fn deliver(&self, state: &mut State, at: Worker, command: Command) {
        state.spent.commands = state.spent.commands.max(command + 1);
        let forgets = self.has(Flaw::ForgetsCommands);
        let early = self.has(Flaw::AnswersBeforeThePut);
        let Some(owner) = state.worker_mut(at).role.owner_mut() else { return };
        let known = owner.applied.place(command).filter(|_| !forgets);
        let outcome = known.unwrap_or(owner.applied.len());
        if known.is_none() {
            owner.applied = owner.applied.with(command);
            owner.open += 1;
        }
        if early {
            state.answer(command, outcome);
        } else if owner.open > 0 {
            owner.open_replies |= commands::only(command);
        } else if let Some(flight) = &mut owner.flight {
            flight.replies |= commands::only(command);
        } else {
            state.answer(command, outcome);
        }
    }

    pub(super) fn seal(state: &mut State, at: Worker) {
        let Some(owner) = state.worker_mut(at).role.owner_mut() else { return };
        let (len, replies) = (owner.open, owner.open_replies);
        (owner.open, owner.open_replies) = (0, 0);
        owner.flight = Some(Flight { len, released: len == 0, replies });
    }

    pub(super) fn put(&self, state: &mut State, at: Worker) {
        let Some((sequence, object)) = state.worker(at).role.pending() else { return };
        let created = state.create(sequence, object);
        let believed = created != Created::Theirs
            || (self.has(Flaw::DoesNotReadBack) && object.kind != Kind::Fence);
        let worker = state.worker_mut(at);
        if let Role::Taking(taking) = &mut worker.role {
            taking.step = match believed {
                true => Step::Fenced { fence: sequence },
                false => Step::Fencing { sequence: sequence + 1 },
            };
            if !believed && sequence == SEQUENCES_MAX {
                worker.role = Role::Ended;
            }
            return;
        }
        if !believed {
            worker.role = Role::Ended;
            return;
        }
        let Some(owner) = worker.role.owner_mut() else { return };
        let Some(flight) = owner.flight.take() else { return };
        owner.durable = sequence;
        let applied = owner.applied;
        if flight.released {
            worker.role = Role::Ended;
        }
        for command in commands::each(flight.replies) {
            if let Some(outcome) = applied.place(command) {
                state.answer(command, outcome);
            }
        }
    }

    pub(super) fn put_unheard(state: &mut State, at: Worker) {
        if let Some((sequence, object)) = state.worker(at).role.pending() {
            state.create(sequence, object);
        }
    }

    pub(super) fn put_late(state: &mut State, at: Worker) {
        let Some((sequence, object)) = state.worker(at).role.pending() else { return };
        state.spent.lates += 1;
        if let Some(room) = state.store.late.iter_mut().find(|room| room.is_none()) {
            *room = Some(Late { sequence, object });
        }
    }

    pub(super) fn land(state: &mut State, late: usize) {
        let Some(Late { sequence, object }) = state.store.late[late].take() else { return };
        // The places of late requests mean nothing.
        state.store.late.rotate_left(late);
        state.store.late[..].sort_by_key(Option::is_none);
        state.create(sequence, object);
    }

    pub(super) fn fail_put(state: &mut State, at: Worker) {
        let Some(owner) = state.worker_mut(at).role.owner_mut() else { return };
        let Some(flight) = owner.flight.take() else { return };
        let replies = flight.replies | owner.open_replies;
        owner.applied = owner.applied.first(owner.applied.len() - flight.len - owner.open);
        (owner.open, owner.open_replies) = (0, 0);
        state.failed |= replies;
    }

    /// The log up to there gives one state only, so it does not matter when it is taken.
    pub(super) fn write_checkpoint(state: &mut State, sequence: u8) {
        state.spent.checkpoints += 1;
        let says = state.store.truth(sequence);
        let checkpoint = Checkpoint { state: says, is_readable: true };
        *state.store.checkpoint_mut(sequence) = Some(checkpoint);
    }

    pub(super) fn break_checkpoint(state: &mut State, sequence: u8) {
        state.spent.breaks += 1;
        if let Some(checkpoint) = state.store.checkpoint_mut(sequence) {
            checkpoint.is_readable = false;
        }
    }

    pub(super) fn delete(state: &mut State) {
        state.spent.collections += 1;
        if let Some(sequence) = state.store.doomed.take() {
            state.store.slot_mut(sequence).now = None;
        }
    }
}

impl State {
    /// Carries a create out.
    fn create(&mut self, sequence: u8, object: Object) -> Created {
        let created = self.store.create(sequence, object);
        let first = self.store.slot(sequence).first;
        // A fence that comes to stand in the past begins no ownership.
        if created == Created::New && first != Some(object) && object.kind != Kind::Fence {
            self.breaks(Promise::OneObjectANumber.text());
        }
        created
    }

    /// Answers a client.
    fn answer(&mut self, command: Command, outcome: u8) {
        let truth = self.store.truth(SEQUENCES_MAX);
        let given = &mut self.answers[usize::from(command)];
        let before = *given.get_or_insert(outcome);
        if before != outcome {
            self.breaks(Promise::SameOutcome.text());
        } else if truth.place(command) != Some(outcome) {
            self.breaks(Promise::AnsweredIsDurable.text());
        }
    }
}
