//! Taking a shard over: the fence, then checkpoint and log.

use super::state::Taking;
use super::{Action, Flaw, Owner, Protocol, Role, SEQUENCES_MAX, State, Step, Worker};

impl Protocol {
    pub(super) fn take_over_actions(&self, state: &State, at: Worker, actions: &mut Vec<Action>) {
        match state.worker(at).role {
            Role::Taking(Taking { step: Step::Fencing { .. }, .. }) => {
                self.put_actions(state, at, actions);
            }
            Role::Taking(_) | Role::Waiting { clear: 0, is_confirmed: true, .. } => {
                actions.push(Action::Advance(at));
            }
            Role::Waiting { .. }
            | Role::Idle
            | Role::Serving(_)
            | Role::Releasing(_)
            | Role::Ended => {}
        }
    }

    pub(super) fn advance(&self, state: &mut State, at: Worker) {
        let next = match state.worker(at).role {
            Role::Taking(taking) => self.advance_takeover(state, taking),
            Role::Waiting { owner, .. } => Role::Serving(owner),
            role @ (Role::Idle | Role::Serving(_) | Role::Releasing(_) | Role::Ended) => role,
        };
        state.worker_mut(at).role = next;
    }

    fn advance_takeover(&self, state: &State, taking: Taking) -> Role {
        let store = &state.store;
        let step = match taking.step {
            Step::Begun => Step::Listed { base: store.checkpoint_but(0) },
            Step::Listed { base } => {
                let sequence = store.last(base.max(1)).unwrap_or(base) + 1;
                if sequence > SEQUENCES_MAX {
                    return Role::Ended;
                }
                if self.has(Flaw::SkipsTheFence) {
                    Step::Fenced { fence: sequence }
                } else {
                    Step::Fencing { sequence }
                }
            }
            step @ Step::Fencing { .. } => step,
            Step::Fenced { fence } => {
                // The newest object of a log is never collected.
                let is_past = fence < SEQUENCES_MAX && store.last(fence + 1).is_some();
                if is_past && !self.has(Flaw::TakesOverInThePast) {
                    return Role::Ended;
                }
                let (base, applied) = store.base(fence);
                Step::Loaded { fence, base, applied }
            }
            Step::Loaded { fence, base, applied } => {
                let Some((applied, released)) = store.read(base, applied, fence) else {
                    return Role::Ended;
                };
                // Where no fence was written, the number is the first commit's.
                let durable = if self.has(Flaw::SkipsTheFence) { fence - 1 } else { fence };
                let owner = Owner {
                    writer: taking.writer,
                    epoch: fence,
                    durable,
                    applied,
                    open: 0,
                    open_replies: 0,
                    flight: None,
                };
                // The first object of a log has nobody before it.
                let is_clear = released || fence == 1 || self.has(Flaw::DoesNotWait);
                let clear = if is_clear { 0 } else { taking.clear };
                let is_confirmed = self.has(Flaw::DoesNotConfirm);
                return Role::Waiting { clear, is_confirmed, owner };
            }
        };
        Role::Taking(Taking { step, ..taking })
    }
}
