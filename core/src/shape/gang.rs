//! Gangs: jobs of a queue that run together or not at all.

use std::fmt::Write as _;

use super::{eat, put, take};
use crate::Name;

/// The gang of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gang {
    /// What its queue calls it.
    pub id: Name,
    /// How many jobs it has, at least 2.
    pub cardinality: u32,
    /// The label of which all of its nodes have the same value, if it asks for one.
    pub uniformity: Option<Name>,
}

impl Gang {
    /// Its part of a shape's canonical text.
    pub(super) fn write(&self, text: &mut String) {
        put(text, &self.id);
        let _ = write!(text, "{},", self.cardinality);
        match &self.uniformity {
            Some(label) => put(text, label),
            None => text.push('*'),
        }
    }

    /// Reads what [`Gang::write`] wrote.
    pub(super) fn read(rest: &mut &str) -> Option<Self> {
        let id = take(rest)?;
        let (cardinality, behind) = rest.split_once(',')?;
        *rest = behind;
        let cardinality = cardinality.parse().ok()?;
        let uniformity = if eat(rest, '*') { None } else { Some(take(rest)?) };
        Some(Self { id, cardinality, uniformity })
    }
}
