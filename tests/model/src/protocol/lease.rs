//! The lease on the bus, and time.

use super::state::{Seen, Taking};
use super::{Action, Coincidence, Flaw, Protocol, Role, State, Step, Worker, WorkerState};

impl Protocol {
    pub(super) fn lease_actions(&self, state: &State, at: Worker, actions: &mut Vec<Action>) {
        let worker = state.worker(at);
        let takes = state.spent.takeovers < self.bounds.takeovers;
        if worker.held || takes {
            actions.push(Action::Look(at));
        }
        if worker.held && worker.renewing {
            actions.push(Action::Renew(at, Coincidence::No));
            if self.may_coincide(state, at) {
                actions.push(Action::Renew(at, Coincidence::Yes));
            }
        }
        if worker.held && worker.trust == 0 {
            actions.push(Action::Lose(at));
        }
        if worker.role == Role::Ended {
            actions.push(Action::Reap(at));
        }
        // Workers are alike: the first to own anything may be called 0.
        let is_first = state.spent.takeovers > 0 || at == 0;
        if takes && is_first && !worker.held && worker.role == Role::Idle {
            match worker.seen {
                Some(seen) if seen.age < self.bounds.ttl => {}
                Some(seen) if seen.is_current && state.key.is_some() => {
                    actions.push(Action::Swap(at, Coincidence::No));
                }
                Some(_) if self.may_coincide(state, at) => {
                    actions.push(Action::Swap(at, Coincidence::Yes));
                }
                Some(_) => {}
                None if state.key.is_none() => actions.push(Action::Claim(at)),
                None => {}
            }
        }
        let is_alive = worker.held || worker.role != Role::Idle;
        if is_alive && state.spent.crashes < self.bounds.crashes {
            actions.push(Action::Crash(at));
        }
        if !matches!(worker.role, Role::Idle | Role::Ended | Role::Releasing(_)) {
            actions.push(Action::Cancel(at));
        }
    }

    /// Whether the lease's key is of a bucket that is newer than what the worker knows, so that a
    /// revision may be the same by chance.
    fn may_coincide(&self, state: &State, at: Worker) -> bool {
        state.key.is_some() && !state.worker(at).is_witness
    }

    pub(super) fn tick(state: &mut State) {
        for worker in &mut state.workers {
            worker.trust = worker.trust.saturating_sub(1);
            if let Some(seen) = &mut worker.seen {
                // Older than it has to be is as old.
                seen.age = (seen.age + 1).min(3);
            }
            match &mut worker.role {
                Role::Waiting { clear, .. } | Role::Taking(Taking { clear, .. }) => {
                    *clear = clear.saturating_sub(1);
                }
                Role::Idle | Role::Serving(_) | Role::Releasing(_) | Role::Ended => {}
            }
        }
    }

    pub(super) fn wipe(state: &mut State) {
        state.spent.wipes += 1;
        state.key = None;
        Self::outdate(state);
        for worker in &mut state.workers {
            worker.is_witness = false;
        }
    }

    /// The key has another revision.
    fn outdate(state: &mut State) {
        for seen in state.workers.iter_mut().filter_map(|worker| worker.seen.as_mut()) {
            seen.is_current = false;
        }
    }

    pub(super) fn look(&self, state: &mut State, at: Worker) {
        let key = state.key;
        let believes = self.has(Flaw::BelievesRevisions);
        let worker = state.worker_mut(at);
        // Only a worker's own key, which nobody else writes, tells one bucket from the next.
        let may_be_same = |seen: &Seen| {
            seen.is_current
                || believes && !worker.is_witness && key.is_some_and(|holder| holder == seen.holder)
        };
        // In a bucket that is new, a revision says nothing of what is held.
        let is_lost = match key {
            Some(holder) if believes => holder != at,
            Some(_) | None => key != Some(at),
        };
        worker.seen = key.map(|holder| match worker.seen {
            Some(seen) if may_be_same(&seen) => Seen { is_current: true, ..seen },
            Some(_) | None => Seen { holder, age: 0, is_current: true },
        });
        worker.is_witness = true;
        if worker.held {
            worker.renewing = true;
            if is_lost {
                Self::lose(state, at);
            } else if self.bounds.wipes == 0 {
                // Nothing can come between.
                self.renew(state, at, Coincidence::No);
            }
        }
    }

    pub(super) fn renew(&self, state: &mut State, at: Worker, coincidence: Coincidence) {
        let ttl = self.bounds.ttl;
        let believes = self.has(Flaw::BelievesRevisions);
        let is_written = state.key == Some(at) || coincidence == Coincidence::Yes;
        let worker = state.worker_mut(at);
        let is_proof = worker.is_witness || believes;
        worker.renewing = false;
        if is_written && is_proof {
            worker.trust = ttl;
            if let Role::Waiting { is_confirmed, .. } = &mut worker.role {
                *is_confirmed = true;
            }
        }
        if is_written {
            state.key = Some(at);
            Self::outdate(state);
        }
        if !is_written || !is_proof {
            Self::lose(state, at);
        }
    }

    /// It is no longer trusted, and what ran under it is cancelled.
    pub(super) fn lose(state: &mut State, at: Worker) {
        let worker = state.worker_mut(at);
        (worker.held, worker.trust) = (false, 0);
        Self::cancel(state, at);
    }

    pub(super) fn cancel(state: &mut State, at: Worker) {
        let worker = state.worker_mut(at);
        worker.role = match worker.role {
            Role::Serving(owner) => Role::Releasing(owner),
            role @ (Role::Idle | Role::Releasing(_)) => role,
            Role::Taking(_) | Role::Waiting { .. } | Role::Ended => Role::Ended,
        };
    }

    pub(super) fn swap(&self, state: &mut State, at: Worker) {
        // Its own key tells whether the bucket is still the one in which it watched the lease.
        let is_proof = state.worker(at).is_witness || self.has(Flaw::BelievesRevisions);
        let clear = if is_proof { 0 } else { self.bounds.ttl };
        self.take(state, at, clear);
    }

    pub(super) fn claim(&self, state: &mut State, at: Worker) {
        let clear = if self.has(Flaw::TrustsAMissingKey) { 0 } else { self.bounds.ttl };
        self.take(state, at, clear);
    }

    fn take(&self, state: &mut State, at: Worker, clear: u8) {
        state.spent.takeovers += 1;
        state.key = Some(at);
        Self::outdate(state);
        let writer = state.spent.takeovers;
        let ttl = self.bounds.ttl;
        let worker = state.worker_mut(at);
        (worker.held, worker.trust) = (true, ttl);
        worker.role = Role::Taking(Taking { writer, clear, step: Step::Begun });
    }

    pub(super) fn reap(state: &mut State, at: Worker) {
        let worker = state.worker_mut(at);
        worker.role = Role::Idle;
        if std::mem::take(&mut worker.held) && state.key == Some(at) {
            state.key = None;
            Self::outdate(state);
        }
    }

    pub(super) fn crash(state: &mut State, at: Worker) {
        state.spent.crashes += 1;
        *state.worker_mut(at) = WorkerState { is_witness: true, ..WorkerState::default() };
    }
}
