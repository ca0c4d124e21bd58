//! Priority classes: which jobs of a queue go first, and which may be told to give way.

use std::collections::BTreeMap;

use super::{Control, Error};
use crate::limits;
use crate::names;
use crate::shape::DEFAULT_CLASS;

/// What a priority class means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorityClass {
    /// Higher goes first.
    pub priority: i32,
    /// Whether its jobs may be told to stop so that others run.
    pub preemptible: bool,
}

/// The priority of all classes that are there without being set.
const PRIORITY_BUILT_IN: i32 = 1000;

/// Classes that are there without being set: that of jobs that name none, and Armada's.
pub const CLASSES_BUILT_IN: [(&str, PriorityClass); 3] = [
    ("armada-default", PriorityClass { priority: PRIORITY_BUILT_IN, preemptible: false }),
    ("armada-preemptible", PriorityClass { priority: PRIORITY_BUILT_IN, preemptible: true }),
    (DEFAULT_CLASS, PriorityClass { priority: PRIORITY_BUILT_IN, preemptible: false }),
];

impl Control {
    /// The class of that name, set or built in.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<PriorityClass> {
        let built_in = || CLASSES_BUILT_IN.iter().find(|(known, _)| *known == name);
        self.classes.get(name).copied().or_else(|| built_in().map(|(_, class)| *class))
    }

    /// The class that counts for jobs of that name: one that is gone counts as the default one.
    #[must_use]
    pub fn class_in_effect(&self, name: &str) -> PriorityClass {
        let default = || self.class(DEFAULT_CLASS).expect("the default class is built in");
        self.class(name).unwrap_or_else(default)
    }

    /// All classes there are, by name.
    #[must_use]
    pub fn all_classes(&self) -> BTreeMap<&str, PriorityClass> {
        let mut all: BTreeMap<&str, PriorityClass> = CLASSES_BUILT_IN.into_iter().collect();
        all.extend(self.classes.iter().map(|(name, class)| (name.as_str(), *class)));
        all
    }

    /// The next version, with the class created or changed; a built-in one too.
    ///
    /// # Errors
    /// When the name is not allowed or there are too many classes.
    pub fn with_class(&self, name: &str, class: PriorityClass) -> Result<Self, Error> {
        names::priority_class(name)?;
        let mut next = self.clone();
        next.version += 1;
        next.classes.insert(name.to_owned(), class);
        if next.classes.len() > limits::PRIORITY_CLASSES_MAX {
            return Err(Error::TooManyClasses(self.classes.len()));
        }
        Ok(next)
    }

    /// The next version, without what was set for the class: a built-in one is as it was built in.
    /// `None` when nothing was set.
    #[must_use]
    pub fn without_class(&self, name: &str) -> Option<Self> {
        let mut next = self.clone();
        next.classes.remove(name)?;
        next.version += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(priority: i32) -> PriorityClass {
        PriorityClass { priority, preemptible: true }
    }

    #[test]
    fn a_built_in_class_is_changed_by_an_entry_and_is_back_without_it() {
        let control = Control::default();
        let built_in = control.class("armada-preemptible").unwrap();
        assert_eq!((built_in.priority, built_in.preemptible), (1000, true));
        let changed = control.with_class("armada-preemptible", class(-5)).unwrap();
        assert_eq!((changed.version, changed.class("armada-preemptible")), (1, Some(class(-5))));
        assert_eq!(changed.all_classes().len(), CLASSES_BUILT_IN.len());
        let back = changed.without_class("armada-preemptible").unwrap();
        assert_eq!((back.version, back.class("armada-preemptible")), (2, Some(built_in)));
        assert_eq!(back.without_class("armada-preemptible"), None, "nothing is set");
    }

    #[test]
    fn a_class_that_is_gone_counts_as_the_default_one() {
        let control = Control::default().with_class("urgent", class(5000)).unwrap();
        assert_eq!(control.class_in_effect("urgent"), class(5000));
        let control = control.without_class("urgent").unwrap();
        assert_eq!(control.class("urgent"), None);
        let control = control.with_class(DEFAULT_CLASS, class(7)).unwrap();
        assert_eq!(control.class_in_effect("urgent"), class(7));
    }

    #[test]
    fn there_are_as_many_classes_as_the_limit_and_no_more() {
        let mut control = Control::default();
        for n in 0..limits::PRIORITY_CLASSES_MAX {
            control = control.with_class(&format!("c{n}"), class(0)).unwrap();
        }
        let max = limits::PRIORITY_CLASSES_MAX;
        assert_eq!(control.with_class("more", class(0)), Err(Error::TooManyClasses(max)));
        assert!(control.with_class("c0", class(1)).is_ok(), "one that is there is changed");
        assert!(control.with_class("No Name", class(1)).is_err());
    }
}
