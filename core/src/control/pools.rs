//! Settings of pools: how fast jobs are placed in one, and what its jobs share that no node has.

use std::collections::{BTreeMap, BTreeSet};

use super::{Control, Error, Rate};
use crate::limits;
use crate::names;
use crate::quantity::Quantity;
use crate::resources::PODS;
use crate::shape::Placement;

/// What is set for a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolSettings {
    /// How fast jobs are placed in it, all queues together; none for at once.
    pub rate: Option<Rate>,
    /// Floating resources: what jobs may ask for that belongs to no node (licences, seats of a
    /// service), and how much of it the pool's jobs may hold together.
    pub floating: BTreeMap<String, Quantity>,
    /// How nodes are chosen for jobs that do not say it; none for the one on which the least is
    /// left.
    pub placement: Option<Placement>,
    /// Pools whose jobs may use what this one's jobs leave idle, until these need it.
    pub lends_to: BTreeSet<String>,
}

/// Resources that nodes have always.
const OF_NODES: [&str; 3] = ["cpu", "memory", PODS];

impl Control {
    /// The next version, with these settings for a pool, whether it has nodes so far or not.
    ///
    /// # Errors
    /// When a name is not allowed, a floating resource is one of nodes or there are too many, its
    /// amount is negative, it lends to itself or to too many, or there are settings for too many
    /// pools.
    pub fn with_pool(&self, name: &str, settings: PoolSettings) -> Result<Self, Error> {
        names::pool(name)?;
        if settings.floating.len() > limits::FLOATING_RESOURCES_MAX {
            return Err(Error::Floating(settings.floating.len()));
        }
        for (resource, amount) in &settings.floating {
            names::resource(resource)?;
            if OF_NODES.contains(&resource.as_str()) {
                return Err(Error::FloatingOfNodes(resource.clone()));
            }
            if amount.is_negative() {
                return Err(Error::Quantity(amount.to_string()));
            }
        }
        if settings.lends_to.len() > limits::LENDS_TO_MAX {
            return Err(Error::LendsTo(settings.lends_to.len()));
        }
        for other in &settings.lends_to {
            names::pool(other)?;
            if other == name {
                return Err(Error::LendsToItself(name.to_owned()));
            }
        }
        let mut next = self.clone();
        next.version += 1;
        next.pools.insert(name.to_owned(), settings);
        if next.pools.len() > limits::POOL_SETTINGS_MAX {
            return Err(Error::TooManyPools(self.pools.len()));
        }
        Ok(next)
    }

    /// The next version, without what was set for the pool; `None` when nothing was.
    #[must_use]
    pub fn without_pool(&self, name: &str) -> Option<Self> {
        let mut next = self.clone();
        next.pools.remove(name)?;
        next.version += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floating(names: &[&str], amount: i64) -> PoolSettings {
        let amount = Quantity::from_units(amount);
        let floating = names.iter().map(|name| ((*name).to_owned(), amount)).collect();
        PoolSettings { floating, ..PoolSettings::default() }
    }

    #[test]
    fn settings_are_taken_within_their_limits_and_refused_beyond() {
        let control = Control::default();
        let with = |settings| control.with_pool("p", settings);
        let set = with(floating(&["example.com/licence"], 3)).unwrap();
        assert_eq!((set.version, set.pools.len()), (1, 1));
        assert_eq!(set.without_pool("p").unwrap().pools.len(), 0);
        assert_eq!(set.without_pool("q"), None);
        for of_nodes in OF_NODES {
            let error = Err(Error::FloatingOfNodes(of_nodes.to_owned()));
            assert_eq!(with(floating(&[of_nodes], 1)), error);
        }
        assert_eq!(with(floating(&["a"], -1)), Err(Error::Quantity("-1".to_owned())));
        let names: Vec<String> =
            (0..=limits::FLOATING_RESOURCES_MAX).map(|n| format!("r{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(with(floating(&names[1..], 1)).is_ok());
        assert_eq!(with(floating(&names, 1)), Err(Error::Floating(names.len())));
        assert!(control.with_pool("", PoolSettings::default()).is_err());
        let lends = |to: &[String]| {
            with(PoolSettings { lends_to: to.iter().cloned().collect(), ..PoolSettings::default() })
        };
        assert!(lends(&["q".to_owned()]).is_ok());
        assert_eq!(lends(&["p".to_owned()]), Err(Error::LendsToItself("p".to_owned())));
        assert!(lends(&["a b".to_owned()]).is_err());
        let many: Vec<String> = (0..=limits::LENDS_TO_MAX).map(|n| format!("q{n}")).collect();
        assert_eq!(lends(&many), Err(Error::LendsTo(many.len())));
    }
}
