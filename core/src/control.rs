//! Control data: queues, priority classes and the number of shards, kept as one small versioned
//! document.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits;
use crate::names;
use crate::retry::Policy;

mod classes;
mod cordons;
mod limits_of_queues;
mod pools;
mod tree;

pub use classes::{CLASSES_BUILT_IN, PriorityClass};
pub use cordons::{Cordon, Cordons, Place};
pub use limits_of_queues::{Amount, Limit, Rate};
pub use pools::PoolSettings;

/// A queue: the unit of fair share.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Its weight in thousandths; its fair share is proportional to it.
    pub weight_millis: u64,
    /// Labels for people and tools.
    pub labels: BTreeMap<String, String>,
    /// Whether its queued jobs are kept from being leased.
    pub cordoned: bool,
    /// What its jobs may hold together.
    pub limits: Vec<Limit>,
    /// How many of its jobs may wait; none for any number.
    pub jobs_queued_max: Option<u64>,
    /// How fast its jobs are placed; none for at once.
    pub rate: Option<Rate>,
    /// What becomes of its jobs when their runs do not end well, where they do not say it
    /// themselves.
    pub retry: Option<Arc<Policy>>,
    /// The queue that it stands below: what that has is shared by those below it. One that is gone
    /// counts as none.
    pub parent: Option<String>,
    /// The version of the control data that created it; a queue deleted and created again has
    /// another.
    pub incarnation: u64,
}

impl Default for Queue {
    /// A queue of weight 1 without limits.
    fn default() -> Self {
        Self {
            weight_millis: 1000,
            labels: BTreeMap::new(),
            cordoned: false,
            limits: Vec::new(),
            jobs_queued_max: None,
            rate: None,
            retry: None,
            parent: None,
            incarnation: 0,
        }
    }
}

/// All control data at one version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Control {
    /// Rises by one with each change; 0 before the first.
    pub version: u64,
    /// How many shards the deployment has: the first process writes it, and it never changes, for
    /// queues and jobs stay where they are. `None` before that.
    pub shards: Option<u16>,
    /// Queues by name.
    pub queues: BTreeMap<String, Queue>,
    /// Priority classes by name, those that were set; see [`Control::class`] for those that are
    /// there.
    pub classes: BTreeMap<String, PriorityClass>,
    /// Clusters and nodes on which nothing new is placed.
    pub cordons: Cordons,
    /// What is set for pools, by name.
    pub pools: BTreeMap<String, PoolSettings>,
}

/// Why a change of the control data was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The name of a queue or priority class is not allowed.
    #[error(transparent)]
    Name(#[from] names::Error),
    /// The weight is not a positive number in range.
    #[error("weight {0} is not a number from 0.001 to 1000000")]
    Weight(String),
    /// Too many labels.
    #[error("queue has {0} labels, limit is {max}", max = limits::QUEUE_LABELS_MAX)]
    Labels(usize),
    /// A label that is too long.
    #[error(
        "a queue's label has a name or value of {0} bytes, limit is {max}",
        max = limits::QUEUE_LABEL_BYTES_MAX
    )]
    LabelBytes(usize),
    /// Too many limits.
    #[error("queue has {0} limits, limit is {max}", max = limits::QUEUE_LIMITS_MAX)]
    Limits(usize),
    /// Two limits of the same.
    #[error("limit `{0}` is there twice")]
    LimitTwice(String),
    /// A limit without a resource.
    #[error("limit `{0}` names no resource")]
    LimitOfNothing(String),
    /// A limit with too many resources.
    #[error("limit `{0}` names {1} resources, limit is {max}", max = limits::RESOURCES_PER_JOB_MAX)]
    LimitResources(String, usize),
    /// The amount of a limit is neither a quantity nor a percentage.
    #[error("`{0}` is neither a quantity from 0 on nor a percentage from 0% to 100%")]
    Amount(String),
    /// An amount is no quantity.
    #[error("`{0}` is not a quantity from 0 on")]
    Quantity(String),
    /// A pool lends to too many others.
    #[error("pool lends to {0} pools, limit is {max}", max = limits::LENDS_TO_MAX)]
    LendsTo(usize),
    /// A pool lends to itself.
    #[error("pool `{0}` cannot lend to itself")]
    LendsToItself(String),
    /// A word for how nodes are chosen that is none.
    #[error("placement `{0}` is neither `pack` nor `spread`")]
    Placement(String),
    /// The rate is not a positive number in range.
    #[error("rate of {0} a second is not a number from 0.001 to 1000000")]
    Rate(String),
    /// A retry policy that makes no sense.
    #[error("{0}: {1}")]
    Retry(String, String),
    /// Nothing may be placed at once.
    #[error("a burst is at least 1")]
    Burst,
    /// Too many queues.
    #[error("deployment has {0} queues, which is the limit")]
    TooManyQueues(usize),
    /// Too many priority classes.
    #[error("deployment has {0} priority classes, which is the limit")]
    TooManyClasses(usize),
    /// Too many cordons.
    #[error("deployment has {0} cordons, which is the limit")]
    TooManyCordons(usize),
    /// A queue's parent is none.
    #[error("there is no queue `{0}` to stand below")]
    NoParent(String),
    /// A queue would stand below itself.
    #[error("queue `{0}` cannot stand below `{1}`, which is itself or stands below it")]
    Circle(String, String),
    /// Too many levels of queues.
    #[error("{0} levels of queues, limit is {max}", max = limits::QUEUE_LEVELS_MAX)]
    TooDeep(usize),
    /// Settings for too many pools.
    #[error("deployment has settings for {0} pools, which is the limit")]
    TooManyPools(usize),
    /// Too many floating resources.
    #[error(
        "a pool has {0} floating resources, limit is {max}",
        max = limits::FLOATING_RESOURCES_MAX
    )]
    Floating(usize),
    /// A floating resource that nodes have.
    #[error("`{0}` is a resource of nodes: it cannot float")]
    FloatingOfNodes(String),
    /// Another number of shards than the deployment's.
    #[error(
        "this process is set to {given} shards, but the deployment has {kept} and keeps them: \
         queues would be looked for where they are not"
    )]
    Shards {
        /// What the deployment has.
        kept: u16,
        /// What this process is set to.
        given: u16,
    },
}

/// A weight as given by people, in thousandths.
///
/// # Errors
/// When it is not from 0.001 to 1,000,000; finer than a thousandth is rounded.
pub fn weight_millis(weight: f64) -> Result<u64, Error> {
    let millis = (weight * 1000.0).round();
    if (1.0..=1e9).contains(&millis) {
        // The range check leaves only whole numbers that fit.
        Ok(millis as u64)
    } else {
        Err(Error::Weight(weight.to_string()))
    }
}

impl Control {
    /// The same, or the next version, which keeps the number of shards.
    ///
    /// # Errors
    /// When another number is kept.
    pub fn with_shards(&self, given: u16) -> Result<Self, Error> {
        match self.shards {
            Some(kept) if kept == given => Ok(self.clone()),
            Some(kept) => Err(Error::Shards { kept, given }),
            None => Ok(Self { version: self.version + 1, shards: Some(given), ..self.clone() }),
        }
    }

    /// The next version, with the queue created or changed.
    ///
    /// # Errors
    /// When name, labels or the number of queues are out of bounds.
    pub fn with_queue(&self, name: &str, mut queue: Queue) -> Result<Self, Error> {
        names::queue(name)?;
        if queue.labels.len() > limits::QUEUE_LABELS_MAX {
            return Err(Error::Labels(queue.labels.len()));
        }
        let lengths = queue.labels.iter().map(|(name, value)| name.len().max(value.len()));
        if let Some(bytes) = lengths.max().filter(|bytes| *bytes > limits::QUEUE_LABEL_BYTES_MAX) {
            return Err(Error::LabelBytes(bytes));
        }
        limits_of_queues::check(&queue.limits)?;
        if let Some(parent) = &queue.parent {
            self.check_parent(name, parent)?;
        }
        let mut next = self.clone();
        next.version += 1;
        queue.incarnation = self.queues.get(name).map_or(next.version, |old| old.incarnation);
        next.queues.insert(name.to_owned(), queue);
        if next.queues.len() > limits::QUEUES_MAX {
            return Err(Error::TooManyQueues(self.queues.len()));
        }
        Ok(next)
    }

    /// The next version, without the queue; `None` when there is no such queue.
    #[must_use]
    pub fn without_queue(&self, name: &str) -> Option<Self> {
        let mut next = self.clone();
        next.queues.remove(name)?;
        next.version += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(weight_millis: u64) -> Queue {
        Queue { weight_millis, ..Queue::default() }
    }

    #[test]
    fn a_queue_created_again_is_another_incarnation() {
        let one = Control::default().with_queue("a", queue(1000)).unwrap();
        let changed = one.with_queue("a", queue(2000)).unwrap();
        assert_eq!(changed.queues["a"].incarnation, 1);
        let again = changed.without_queue("a").unwrap().with_queue("a", queue(1000)).unwrap();
        assert_eq!(again.queues["a"].incarnation, 4);
        assert_eq!(again.without_queue("b"), None);
    }

    #[test]
    fn the_number_of_shards_is_kept_for_ever() {
        let kept = Control::default().with_shards(8).unwrap();
        assert_eq!((kept.version, kept.shards), (1, Some(8)));
        let changed = kept.with_queue("a", queue(1000)).unwrap().without_queue("a").unwrap();
        assert_eq!(changed.with_shards(8), Ok(changed.clone()), "nothing new to write");
        assert_eq!(changed.with_shards(4), Err(Error::Shards { kept: 8, given: 4 }));
    }

    #[test]
    fn a_label_is_taken_at_the_limit_and_refused_one_past_it() {
        let of = |name: usize, value: usize| {
            let labels = [("n".repeat(name), "v".repeat(value))].into_iter().collect();
            Control::default().with_queue("a", Queue { labels, ..queue(1) })
        };
        let max = limits::QUEUE_LABEL_BYTES_MAX;
        assert!(of(max, max).is_ok());
        assert_eq!(of(max + 1, 0), Err(Error::LabelBytes(max + 1)));
        assert_eq!(of(1, max + 1), Err(Error::LabelBytes(max + 1)));
    }

    #[test]
    fn weights_are_positive_numbers() {
        assert_eq!(weight_millis(0.5), Ok(500));
        for bad in [0.0, -1.0, 0.0004, f64::NAN, f64::INFINITY, 1e7] {
            assert!(weight_millis(bad).is_err(), "{bad}");
        }
    }
}
