//! The commit and fencing protocol of one shard as a model: what workers, the store and the bus's
//! lease do, step by step, with everything that may happen between two steps.
//!
//! | step of the model | code |
//! | --- | --- |
//! | [`Action::Look`], [`Action::Renew`] | `Leases::renew`, `Leases::look`, `Asker::renewed` |
//! | [`Action::Lose`] | `Leases::take_lost`, and the cancellation in `Worker::turn` |
//! | [`Action::Swap`], [`Action::Claim`] | `Leases::take`: a key watched, a key missing |
//! | [`Action::Reap`] | `Worker::reap`, `Leases::give_back` |
//! | [`Action::Cancel`] | `Worker::hand_over`, `Worker::stop`; a takeover that fails |
//! | [`Action::Advance`], [`Step::Begun`], [`Step::Listed`] | the listings of `Replay::fence` |
//! | …, [`Step::Fenced`] | `Replay::refuse_overtaken`, `Replay::read_checkpoint` |
//! | …, [`Step::Loaded`] | `Replay::read_log`; whether to wait: `owner::run` |
//! | …, [`Role::Waiting`] | the waits of `owner::run` |
//! | [`Action::Deliver`] | `Owner::on_request`, `Owner::execute_as`, `Owner::reply` |
//! | [`Action::Seal`] | `Owner::seal`, also by `Owner::release` |
//! | [`Action::Put`] of a commit | `Log::append`, `Log::classify`, `Owner::on_landed` |
//! | [`Action::Put`] of a fence | `Replay::put_fence` |
//! | [`Action::PutUnheard`] | `Objects::put_once` carried out and not answered |
//! | [`Action::PutLate`], [`Action::Land`] | … carried out after it was given up, or never |
//! | [`Action::Checkpoint`] | `Log::write_checkpoint` |
//! | [`Action::Doom`], [`Action::Delete`] | `Collector::pass`: its rule, and its requests |
//! | [`Action::DropCheckpoint`] | … for checkpoints |
//! | [`Store::read`] | what `Log::take_over` applies |
//! | [`Owner::shown`] | what `Owner::read` and `Owner::reply` wait for |
//!
//! `Leases` and `Asker` are in `shard/src/lease.rs`, `Worker` in `shard/src/worker.rs`, `Owner` in
//! `shard/src/owner`, `Log`, `Replay` and `Objects` in `runtime/src/log`, `Collector` in
//! `runtime/src/collect`.
//!
//! A put that fails before it writes, a 409, a read that fails and is tried again, a message that
//! is lost or a process that sleeps are steps that change nothing: they need no action of their
//! own. A message may arrive twice and at any time, since a command can be delivered at any time.
//!
//! Time is a count of ticks; all clocks run alike. Histories, events, leases to clusters and
//! back-pressure are not modelled: the simulation has them.

pub mod commands;
mod events;
mod flaw;
mod lease;
mod owner;
mod promises;
mod state;
mod store;
mod take_over;

pub use flaw::Flaw;
pub use promises::Promise;
pub use state::{
    COMMANDS_MAX, Flight, Owner, Role, Seen, Spent, State, Step, Taking, WORKERS_MAX, Worker,
    WorkerState,
};
pub use store::{Checkpoint, Created, Kind, LATE_MAX, Late, Object, SEQUENCES_MAX, Slot, Store};

use crate::checker::Model;
use commands::Command;

/// How much may happen. What is not bounded here is bounded by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Workers, [`WORKERS_MAX`] at most.
    pub workers: u8,
    /// Commands of clients, [`COMMANDS_MAX`] at most.
    pub commands: u8,
    /// For how many ticks a lease is trusted.
    pub ttl: u8,
    /// Takeovers begun.
    pub takeovers: u8,
    /// Processes killed.
    pub crashes: u8,
    /// Losses of all that the bus knows.
    pub wipes: u8,
    /// Puts that are answered late.
    pub lates: u8,
    /// Checkpoints written.
    pub checkpoints: u8,
    /// Checkpoints that become unreadable.
    pub breaks: u8,
    /// Objects deleted.
    pub collections: u8,
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Time passes.
    Tick,
    /// The bus forgets all it knows.
    Wipe,
    /// A client's command reaches a worker that serves, perhaps not for the first time.
    Deliver(Worker, Command),
    /// An owner sends its open commit on its way, or the mark that it gives the shard up.
    Seal(Worker),
    /// A put is carried out and answered.
    Put(Worker),
    /// A put is carried out, and nobody hears of it.
    PutUnheard(Worker),
    /// A put is given up by its sender; it may be carried out later.
    PutLate(Worker),
    /// A put that was given up is carried out.
    Land(usize),
    /// A put is given up, and by a flaw counts as failed.
    FailPut(Worker),
    /// A worker looks at the lease's key.
    Look(Worker),
    /// A worker that looked renews its lease. By coincidence the revision that it knows may be
    /// that of another's key, in a bucket that is new.
    Renew(Worker, Coincidence),
    /// A worker takes a lease that it watched run out.
    Swap(Worker, Coincidence),
    /// A worker takes a lease that nobody has.
    Claim(Worker),
    /// A worker notices that it trusts its lease no more.
    Lose(Worker),
    /// A worker ends what it does about the shard, in good order if it can.
    Cancel(Worker),
    /// A worker gives the lease back of what has ended.
    Reap(Worker),
    /// A process is killed, and another is started in its place.
    Crash(Worker),
    /// A takeover's next step that is no put.
    Advance(Worker),
    /// A checkpoint of the state after a commit is stored. Its owner may be gone.
    Checkpoint(u8),
    /// A checkpoint becomes unreadable.
    Break(u8),
    /// A log object is found to be collectable.
    Doom(u8),
    /// What stands under the number that was found is deleted.
    Delete,
    /// A checkpoint that is superseded twice is deleted.
    DropCheckpoint(u8),
}

/// Whether a bucket that is new has, by coincidence, the revision that a worker knows of the old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coincidence {
    /// It has not.
    No,
    /// It has.
    Yes,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// How much may happen.
    pub bounds: Bounds,
    /// What is done wrongly.
    pub flaw: Option<Flaw>,
    /// The promises that are looked after.
    pub promises: &'static [Promise],
}

impl Protocol {
    /// The protocol as it should be, and all its promises.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        assert!(usize::from(bounds.workers) <= WORKERS_MAX, "there is no room for more workers");
        assert!(usize::from(bounds.commands) <= COMMANDS_MAX, "there is no room for more commands");
        let sequences = 2 * bounds.takeovers + bounds.commands;
        assert!(sequences <= SEQUENCES_MAX, "a log of {sequences} objects has no room");
        Self { bounds, flaw: None, promises: &Promise::ALL }
    }

    /// With a flaw.
    #[must_use]
    pub fn with_flaw(self, flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..self }
    }

    /// Looking after some promises only.
    #[must_use]
    pub fn only(self, promises: &'static [Promise]) -> Self {
        Self { promises, ..self }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn workers(&self) -> impl Iterator<Item = Worker> {
        0..self.bounds.workers
    }

    /// What nothing depends on any more is forgotten, so that states that differ in it are one.
    fn forget(&self, state: &mut State) {
        let no_more = state.spent.takeovers == self.bounds.takeovers;
        for worker in &mut state.workers {
            if !worker.held {
                (worker.renewing, worker.trust) = (false, 0);
            }
            if no_more {
                worker.seen = None;
            }
            if no_more && !worker.held {
                worker.is_witness = true;
            }
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        State::new()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        self.environment_actions(state, actions);
        for worker in self.workers() {
            self.lease_actions(state, worker, actions);
            self.take_over_actions(state, worker, actions);
            self.owner_actions(state, worker, actions);
        }
    }

    fn next(&self, state: &State, action: Action) -> State {
        let mut next = *state;
        match action {
            Action::Tick => Self::tick(&mut next),
            Action::Wipe => Self::wipe(&mut next),
            Action::Deliver(worker, command) => self.deliver(&mut next, worker, command),
            Action::Seal(worker) => Self::seal(&mut next, worker),
            Action::Put(worker) => self.put(&mut next, worker),
            Action::PutUnheard(worker) => Self::put_unheard(&mut next, worker),
            Action::PutLate(worker) => Self::put_late(&mut next, worker),
            Action::Land(late) => Self::land(&mut next, late),
            Action::FailPut(worker) => Self::fail_put(&mut next, worker),
            Action::Look(worker) => self.look(&mut next, worker),
            Action::Renew(worker, coincidence) => self.renew(&mut next, worker, coincidence),
            Action::Swap(worker, _) => self.swap(&mut next, worker),
            Action::Claim(worker) => self.claim(&mut next, worker),
            Action::Lose(worker) => Self::lose(&mut next, worker),
            Action::Cancel(worker) => Self::cancel(&mut next, worker),
            Action::Reap(worker) => Self::reap(&mut next, worker),
            Action::Crash(worker) => Self::crash(&mut next, worker),
            Action::Advance(worker) => self.advance(&mut next, worker),
            Action::Checkpoint(sequence) => Self::write_checkpoint(&mut next, sequence),
            Action::Break(sequence) => Self::break_checkpoint(&mut next, sequence),
            Action::Doom(sequence) => next.store.doomed = Some(sequence),
            Action::Delete => Self::delete(&mut next),
            Action::DropCheckpoint(sequence) => *next.store.checkpoint_mut(sequence) = None,
        }
        self.forget(&mut next);
        next
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        self.first_broken(state)
    }

    fn seen(&self, before: &State, action: Action, after: &State) -> u64 {
        events::seen(self, before, action, after)
    }

    fn events(&self) -> &'static [&'static str] {
        &events::NAMES
    }

    fn is_settled(&self, state: &State) -> bool {
        (0..usize::from(self.bounds.commands)).all(|command| state.answers[command].is_some())
    }

    /// Who may begin no other takeover is stuck when its owner dies: that is of the bound, not of
    /// the protocol.
    fn owes_settling(&self, state: &State) -> bool {
        state.spent.takeovers < self.bounds.takeovers
    }
}
