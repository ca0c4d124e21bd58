//! Amounts of named resources: what a job asks for, what a node has.

use std::collections::BTreeMap;

use crate::Name;
use crate::quantity::Quantity;

/// The name of the cpu resource.
pub const CPU: &str = "cpu";
/// The name of the memory resource, in bytes.
pub const MEMORY: &str = "memory";
/// The name of the resource that counts pods: every job takes one.
pub const PODS: &str = "pods";

/// Amounts by resource name, in the order of names; a resource that is not named is none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resources(BTreeMap<Name, Quantity>);

impl Resources {
    /// No resources.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How much of `name` there is.
    #[must_use]
    pub fn get(&self, name: &str) -> Quantity {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Sets how much of `name` there is; nothing removes it.
    pub fn set(&mut self, name: Name, quantity: Quantity) {
        if quantity == Quantity::ZERO {
            self.0.remove(&name);
        } else {
            self.0.insert(name, quantity);
        }
    }

    /// Adds every amount of `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, quantity) in &other.0 {
            let sum = self.get(name).plus(*quantity);
            self.set(name.clone(), sum);
        }
    }

    /// Adds every amount of `other` so many times; what is more than can be said stays the most.
    pub fn add_times(&mut self, other: &Self, times: u64) {
        let most = Quantity::from_units(i64::MAX);
        for (name, quantity) in &other.0 {
            let more = quantity.nanos().checked_mul(i128::from(times.min(1 << 40)));
            let more = more.and_then(Quantity::from_nanos).unwrap_or(most);
            let sum = self.get(name).plus(more);
            self.set(name.clone(), sum);
        }
    }

    /// Raises every amount to that of `other`, where that is more.
    pub fn raise_to(&mut self, other: &Self) {
        for (name, quantity) in &other.0 {
            if *quantity > self.get(name) {
                self.set(name.clone(), *quantity);
            }
        }
    }

    /// Names and amounts, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Quantity)> {
        self.0.iter().map(|(name, quantity)| (name, *quantity))
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Name, Quantity)> for Resources {
    fn from_iter<I: IntoIterator<Item = (Name, Quantity)>>(items: I) -> Self {
        let mut all = Self::new();
        for (name, quantity) in items {
            all.set(name, quantity);
        }
        all
    }
}

/// An amount in the solver's dense unit: thousandths for cpu, whole units for everything else,
/// rounded up for requests (see [`Quantity::millis_ceil`]).
#[must_use]
pub fn dense(name: &str, quantity: Quantity) -> i64 {
    if name == CPU { quantity.millis_ceil() } else { quantity.units_ceil() }
}

/// The amount behind a dense value of [`dense`].
#[must_use]
pub fn from_dense(name: &str, value: i64) -> Quantity {
    if name == CPU { Quantity::from_millis(value) } else { Quantity::from_units(value) }
}
