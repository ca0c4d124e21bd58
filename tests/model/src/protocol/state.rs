//! What the model knows of store, bus and workers. Every field is there because a step depends on
//! it or a promise speaks of it.

use super::commands::{CommandSet, Commands};
use super::store::{Object, Store};

/// As many workers as there is room for.
pub const WORKERS_MAX: usize = 3;
/// As many commands as there is room for.
pub const COMMANDS_MAX: usize = 3;

/// A worker, by its number.
pub type Worker = u8;

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The object store.
    pub store: Store,
    /// Who holds the lease's key; `None` when there is none.
    pub key: Option<Worker>,
    /// The workers.
    pub workers: [WorkerState; WORKERS_MAX],
    /// What clients were answered: the outcome of each command.
    pub answers: [Option<u8>; COMMANDS_MAX],
    /// Commands of which clients were told that they failed. Only a flaw does that.
    pub failed: CommandSet,
    /// How much of what is bounded has been used.
    pub spent: Spent,
    /// A promise that a step broke.
    pub broken: Option<&'static str>,
}

/// How much of what is bounded has been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Spent {
    /// Commands that clients have sent for the first time.
    pub commands: u8,
    /// Leases taken, and with them takeovers begun.
    pub takeovers: u8,
    /// Processes killed.
    pub crashes: u8,
    /// Losses of all that the bus knows.
    pub wipes: u8,
    /// Puts that are answered late.
    pub lates: u8,
    /// Checkpoints written.
    pub checkpoints: u8,
    /// Checkpoints that became unreadable.
    pub breaks: u8,
    /// Objects deleted.
    pub collections: u8,
}

/// One worker: its view of the lease, and what it does about the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WorkerState {
    /// What it saw of the lease's key when it last looked; `None` if there was none.
    pub seen: Option<Seen>,
    /// Whether the bus has forgotten nothing since it last looked.
    pub is_witness: bool,
    /// Whether it believes to hold the lease.
    pub held: bool,
    /// For how long it trusts its lease.
    pub trust: u8,
    /// It has looked, and is about to renew.
    pub renewing: bool,
    /// What it does.
    pub role: Role,
}

/// A revision of the lease's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Who wrote it.
    pub holder: Worker,
    /// For how long it has been seen.
    pub age: u8,
    /// Whether it still is the key's revision.
    pub is_current: bool,
}

/// What a worker does about the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Role {
    /// Nothing.
    #[default]
    Idle,
    /// It won the lease and takes the shard over.
    Taking(Taking),
    /// It owns the shard and waits until nobody else trusts the lease, and until it knows that
    /// nobody has taken the lease from it before its fence stood.
    Waiting {
        /// For how long.
        clear: u8,
        /// Whether its lease was renewed since its fence stands.
        is_confirmed: bool,
        /// What it owns.
        owner: Owner,
    },
    /// It owns the shard and takes requests.
    Serving(Owner),
    /// It takes no more requests, and finishes its log.
    Releasing(Owner),
    /// Its task has ended, the lease is still to be given back.
    Ended,
}

/// A takeover under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Taking {
    /// Who it is to others: different for each takeover.
    pub writer: u8,
    /// For how long others may trust the lease.
    pub clear: u8,
    /// How far it is.
    pub step: Step,
}

/// How far a takeover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The lease is won.
    Begun,
    /// The checkpoints are listed.
    Listed {
        /// The newest.
        base: u8,
    },
    /// The fence is being put.
    Fencing {
        /// Where.
        sequence: u8,
    },
    /// The fence stands.
    Fenced {
        /// Where.
        fence: u8,
    },
    /// The checkpoint is read.
    Loaded {
        /// Where the fence stands.
        fence: u8,
        /// The checkpoint's sequence, 0 if there was none.
        base: u8,
        /// What it says.
        applied: Commands,
    },
}

/// A shard owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Who it is to others.
    pub writer: u8,
    /// The sequence of its fence.
    pub epoch: u8,
    /// The last sequence that it knows to be durable.
    pub durable: u8,
    /// All that is applied: what is durable, then the commit under way, then the open one.
    pub applied: Commands,
    /// How many of these are in the open commit.
    pub open: u8,
    /// Whose replies wait for the open commit.
    pub open_replies: CommandSet,
    /// The commit under way.
    pub flight: Option<Flight>,
}

/// A commit on its way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flight {
    /// How many commands it holds.
    pub len: u8,
    /// Whether it gives the shard up.
    pub released: bool,
    /// Whose replies wait for it.
    pub replies: CommandSet,
}

impl Owner {
    /// What a read is answered from: a read of anything that is not durable waits until it is.
    #[must_use]
    pub fn shown(&self) -> Commands {
        let waiting = self.open + self.flight.map_or(0, |flight| flight.len);
        self.applied.first(self.applied.len() - waiting)
    }

    /// The number of the commit under way.
    #[must_use]
    pub fn next(&self) -> u8 {
        self.durable + 1
    }

    /// The object of the commit under way.
    #[must_use]
    pub fn object(&self, flight: &Flight) -> Object {
        let commands = self.applied.behind(self.shown().len()).first(flight.len);
        let released = flight.released;
        Object::commit(self.writer, self.epoch, commands, released)
    }
}

impl State {
    /// How it begins: an empty store, nobody holds the lease.
    #[must_use]
    pub fn new() -> Self {
        Self {
            store: Store::default(),
            key: None,
            workers: [WorkerState { is_witness: true, ..WorkerState::default() }; WORKERS_MAX],
            answers: [None; COMMANDS_MAX],
            failed: 0,
            spent: Spent::default(),
            broken: None,
        }
    }

    /// A worker.
    #[must_use]
    pub fn worker(&self, worker: Worker) -> &WorkerState {
        &self.workers[usize::from(worker)]
    }

    pub(super) fn worker_mut(&mut self, worker: Worker) -> &mut WorkerState {
        &mut self.workers[usize::from(worker)]
    }

    /// Notes that a promise is broken, if none was before.
    pub(super) fn breaks(&mut self, promise: &'static str) {
        self.broken.get_or_insert(promise);
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}
