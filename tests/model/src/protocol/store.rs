//! The object store of one shard: log, checkpoints, and requests that are late. What it does is
//! atomic; whether the answer arrives is another matter.

use super::commands::Commands;

/// As many log objects as there is room for.
pub const SEQUENCES_MAX: u8 = 9;
/// Puts that can be late at the same time.
pub const LATE_MAX: usize = 2;

/// What a log object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A fence: it begins an ownership.
    Fence,
    /// A commit.
    Commit,
    /// The last commit of an owner that gave the shard up.
    Released,
}

/// A log object. Two are equal if their bytes are: a writer puts one object under a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Who wrote it.
    pub writer: u8,
    /// Under which ownership.
    pub epoch: u8,
    /// Its records.
    pub commands: Commands,
}

impl Object {
    /// The fence of a takeover. Its number is the epoch.
    #[must_use]
    pub fn fence(writer: u8, sequence: u8) -> Self {
        Self { kind: Kind::Fence, writer, epoch: sequence, commands: Commands::default() }
    }

    /// A commit of an owner.
    #[must_use]
    pub fn commit(writer: u8, epoch: u8, commands: Commands, released: bool) -> Self {
        let kind = if released { Kind::Released } else { Kind::Commit };
        Self { kind, writer, epoch, commands }
    }
}

/// What is known of one number of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Slot {
    /// The first object that was created under it. Nothing that happens later changes what was.
    pub first: Option<Object>,
    /// What stands there: nothing before it is created, and nothing after it is collected.
    pub now: Option<Object>,
}

/// A checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    /// What it says.
    pub state: Commands,
    /// Whether it can be read.
    pub is_readable: bool,
}

/// A put that its sender has given up, and that may yet be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Late {
    /// Under which number.
    pub sequence: u8,
    /// What.
    pub object: Object,
}

/// The store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Store {
    log: [Slot; SEQUENCES_MAX as usize],
    checkpoints: [Option<Checkpoint>; SEQUENCES_MAX as usize],
    /// Puts that may yet be carried out.
    pub late: [Option<Late>; LATE_MAX],
    /// A log object that was found to be collectable; the request to delete it is on its way.
    pub doomed: Option<u8>,
}

/// What a create came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is there now.
    New,
    /// It was there.
    Ours,
    /// Another stands there.
    Theirs,
}

impl Store {
    /// The numbers of the log.
    pub fn sequences() -> impl DoubleEndedIterator<Item = u8> {
        1..=SEQUENCES_MAX
    }

    /// One number of the log.
    #[must_use]
    pub fn slot(&self, sequence: u8) -> &Slot {
        &self.log[usize::from(sequence - 1)]
    }

    pub(super) fn slot_mut(&mut self, sequence: u8) -> &mut Slot {
        &mut self.log[usize::from(sequence - 1)]
    }

    /// The checkpoint of the state after a number.
    #[must_use]
    pub fn checkpoint(&self, sequence: u8) -> Option<&Checkpoint> {
        self.checkpoints[usize::from(sequence - 1)].as_ref()
    }

    pub(super) fn checkpoint_mut(&mut self, sequence: u8) -> &mut Option<Checkpoint> {
        &mut self.checkpoints[usize::from(sequence - 1)]
    }

    /// The sequences of the checkpoints, the newest first.
    pub fn checkpoints(&self) -> impl Iterator<Item = u8> {
        Self::sequences().rev().filter(|sequence| self.checkpoint(*sequence).is_some())
    }

    /// Where the newest checkpoint but some stands; 0 if there are no more.
    #[must_use]
    pub fn checkpoint_but(&self, newer: usize) -> u8 {
        self.checkpoints().nth(newer).unwrap_or(0)
    }

    /// The last number from `first` on under which something stands.
    #[must_use]
    pub fn last(&self, first: u8) -> Option<u8> {
        Self::sequences().rev().find(|s| *s >= first && self.slot(*s).now.is_some())
    }

    /// Creates an object if its number is free.
    pub(super) fn create(&mut self, sequence: u8, object: Object) -> Created {
        let slot = self.slot_mut(sequence);
        match slot.now {
            Some(found) if found == object => Created::Ours,
            Some(_) => Created::Theirs,
            None => {
                slot.now = Some(object);
                slot.first.get_or_insert(object);
                Created::New
            }
        }
    }

    /// The state after a number, by all objects that ever were.
    #[must_use]
    pub fn truth(&self, through: u8) -> Commands {
        let objects = Self::sequences().take_while(|s| *s <= through);
        let objects = objects.filter_map(|sequence| self.slot(sequence).first);
        objects.fold(Commands::default(), |state, object| state.and(object.commands))
    }

    /// The newest readable checkpoint below a fence, and what it says.
    #[must_use]
    pub fn base(&self, fence: u8) -> (u8, Commands) {
        let readable = |sequence: u8| {
            let checkpoint = self.checkpoint(sequence).filter(|found| found.is_readable)?;
            Some((sequence, checkpoint.state))
        };
        self.checkpoints().filter(|s| *s < fence).find_map(readable).unwrap_or_default()
    }

    /// The state after the log between a checkpoint and a fence, and whether the last owner gave
    /// the shard up; nothing if an object is missing or of an owner who was fenced before.
    #[must_use]
    pub fn read(&self, base: u8, mut applied: Commands, fence: u8) -> Option<(Commands, bool)> {
        // Nothing follows the checkpoint: its own log object tells how the owner left.
        let own = (base > 0).then(|| self.slot(base).now).flatten();
        let mut released =
            base + 1 == fence && own.is_some_and(|object| object.kind == Kind::Released);
        let mut epoch = 0;
        for sequence in base + 1..fence {
            let object = self.slot(sequence).now.filter(|object| object.epoch >= epoch)?;
            epoch = object.epoch;
            released = object.kind == Kind::Released;
            applied = applied.and(object.commands);
        }
        Some((applied, released))
    }
}
