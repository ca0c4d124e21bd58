//! What shards tell the leaders of pools: offers, and windows into what lies behind them.

use std::collections::BTreeMap;

use muster_core::id::ShardId;
use muster_core::offer;
use serde::{Deserialize, Serialize};

use crate::shape::ShapeText;
use crate::text;

/// What a shard has waiting and held: all of it, or what changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Offers {
    /// The shard.
    pub shard: u16,
    /// Who owns it: offers of another owner replace everything known of the shard.
    pub owner: String,
    /// The owner's ownership of the shard: rises with each takeover.
    pub epoch: u64,
    /// Rises with each state that an owner tells of, published or in the reply to a lease.
    pub version: u64,
    /// The version that was published before it; another one than is known means that something
    /// was missed.
    pub previous: u64,
    /// Whether queues that are not named have nothing. A full set may come in several messages: the
    /// first is full, the others follow it.
    pub full: bool,
    /// Shapes that `queues` names by position.
    #[serde(with = "text::list")]
    pub shapes: Vec<ShapeText>,
    /// The queues.
    pub queues: Vec<QueueOffer>,
}

impl Offers {
    /// The shard that speaks.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        ShardId(self.shard)
    }
}

/// One queue's offer, by pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueOffer {
    /// The queue.
    pub queue: String,
    /// Whether these are further pools of a queue that the message before began with; otherwise
    /// pools that are not named have nothing of it.
    pub further: bool,
    /// The pools.
    pub pools: Vec<PoolOffer>,
}

/// One queue's offer to one pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolOffer {
    /// The pool.
    pub pool: String,
    /// The heads of its orders, by priority class.
    pub heads: Vec<Head>,
    /// How many jobs wait in all.
    pub waiting: u64,
    /// What they ask for in all, as quantities by resource.
    pub demand: BTreeMap<String, String>,
    /// How many jobs clusters hold.
    pub held: u64,
    /// What these have, as quantities by resource.
    pub holds: BTreeMap<String, String>,
}

/// The head of a queue's order for one pool and priority class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The priority class.
    pub class: String,
    /// The runs: (priority, shape by position in [`Offers::shapes`], count). There may be none,
    /// where nothing fits the message.
    pub runs: Vec<(u32, u32, u64)>,
    /// When the first job of each run was submitted, in milliseconds since 1970.
    #[serde(default)]
    pub since: Vec<i64>,
    /// Where the order goes on, if this is not all of it.
    pub behind: Option<Behind>,
    /// What clusters hold of the class's jobs, as quantities by resource: for limits of the class.
    pub holds: BTreeMap<String, String>,
}

/// A place in one of a queue's orders: (priority, runs of it before the place).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Behind(pub u32, pub u32);

impl From<offer::Behind> for Behind {
    fn from(behind: offer::Behind) -> Self {
        Self(behind.priority, behind.runs)
    }
}

impl From<Behind> for offer::Behind {
    fn from(Behind(priority, runs): Behind) -> Self {
        Self { priority, runs }
    }
}

/// See [`super::ShardRequest::Windows`]: a leader that could place nothing (more) of what queues
/// offered asks for what waits behind it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetWindows {
    /// The pool.
    pub pool: String,
    /// The most that a node of it has free, as quantities by resource: jobs that ask for more are
    /// passed over.
    pub free: BTreeMap<String, String>,
    /// Queues, priority classes, and from where on.
    pub queues: Vec<(String, String, Behind)>,
}

/// See [`super::ShardReply::Windows`]. Queues for which there was no room are left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Windows {
    /// Shapes that `queues` names by position.
    #[serde(with = "text::list")]
    pub shapes: Vec<ShapeText>,
    /// The windows.
    pub queues: Vec<QueueWindow>,
}

/// Runs from the middle of a queue's order for one priority class.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueueWindow {
    /// The queue.
    pub queue: String,
    /// The priority class.
    pub class: String,
    /// The runs: (priority, shape by position, count).
    pub runs: Vec<(u32, u32, u64)>,
    /// As in [`Head::since`].
    #[serde(default)]
    pub since: Vec<i64>,
    /// Where the order goes on, if anything is left.
    pub behind: Option<Behind>,
}
