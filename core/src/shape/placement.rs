//! On which of the nodes that have room a job goes.

/// Which of the nodes that have room is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// The one on which the least is left: large jobs find room later.
    Pack,
    /// The one on which the most is left: jobs stand apart.
    Spread,
}

impl Placement {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pack, Self::Spread];

    /// Its name, as people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Spread => "spread",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|placement| placement.name() == name)
    }
}
