//! A short list of commands, in the order in which they were applied: all that the model keeps of a
//! state machine. The outcome of a command is its place in it, so that a command which is applied
//! to another state has another outcome.

/// A command id.
pub type Command = u8;

/// Commands in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Commands {
    /// Two bits each, the first one lowest.
    ids: u8,
    len: u8,
}

impl Commands {
    /// As many as there is room for.
    pub const LEN_MAX: u8 = 4;

    /// How many.
    #[must_use]
    pub fn len(self) -> u8 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The commands in order.
    pub fn iter(self) -> impl Iterator<Item = Command> {
        (0..self.len).map(move |at| (self.ids >> (2 * at)) & 3)
    }

    /// Where a command stands first: its outcome.
    #[must_use]
    pub fn place(self, command: Command) -> Option<u8> {
        (0..).zip(self.iter()).find_map(|(at, found)| (found == command).then_some(at))
    }

    /// With one more at the end. Beyond the room it is left out, and its lack is a broken promise.
    #[must_use]
    pub fn with(self, command: Command) -> Self {
        if self.len == Self::LEN_MAX {
            return self;
        }
        Self { ids: self.ids | (command & 3) << (2 * self.len), len: self.len + 1 }
    }

    /// With others at the end.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        others.iter().fold(self, Self::with)
    }

    /// The first of them.
    #[must_use]
    pub fn first(self, len: u8) -> Self {
        let len = len.min(self.len);
        Self { ids: self.ids & !(0xff_u16 << (2 * len)) as u8, len }
    }

    /// All but the first.
    #[must_use]
    pub fn behind(self, len: u8) -> Self {
        let len = len.min(self.len);
        Self { ids: (u16::from(self.ids) >> (2 * len)) as u8, len: self.len - len }
    }

    /// Whether one stands in it twice.
    #[must_use]
    pub fn repeats(self) -> bool {
        (0..).zip(self.iter()).any(|(at, command)| self.place(command) != Some(at))
    }
}

/// A set of commands, a bit each.
pub type CommandSet = u8;

/// The set that holds one command.
#[must_use]
pub fn only(command: Command) -> CommandSet {
    1 << command
}

/// The commands of a set.
pub fn each(set: CommandSet) -> impl Iterator<Item = Command> {
    (0..8).filter(move |command| set & only(*command) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_and_joined_in_order() {
        let list = [2, 0, 1].into_iter().fold(Commands::default(), Commands::with);
        assert_eq!(list.iter().collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!((list.place(1), list.place(3), list.len()), (Some(2), None, 3));
        assert_eq!(list.first(1).and(list.behind(1)), list);
        assert!(!list.repeats() && list.with(0).repeats());
        assert_eq!(each(0b101).collect::<Vec<_>>(), [0, 2]);
    }
}
