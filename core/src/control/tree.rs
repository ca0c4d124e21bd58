//! The tree of queues: a queue may stand below another, and shares what that has with those beside
//! it.

use super::{Control, Error};
use crate::limits;

impl Control {
    /// The queues above one, from the next on up.
    pub fn above<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let parent = |name: &str| self.queues.get(name)?.parent.as_deref();
        // A queue that is gone has nobody below it any more; a tree has no circles.
        let known = move |name: &&str| self.queues.contains_key(*name);
        let first = parent(name).filter(known);
        std::iter::successors(first, move |name| parent(name).filter(known))
    }

    /// The queues right below one, by name.
    pub fn below<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let queues = self.queues.iter();
        queues.filter(move |(_, queue)| queue.parent.as_deref() == Some(name)).map(|(n, _)| &**n)
    }

    /// Whether any queue stands below another.
    #[must_use]
    pub fn has_tree(&self) -> bool {
        self.queues.values().any(|queue| queue.parent.is_some())
    }

    /// How many levels there are below a queue.
    fn levels_below(&self, name: &str) -> usize {
        let deepest = self.below(name).map(|child| self.levels_below(child) + 1);
        deepest.max().unwrap_or_default()
    }

    /// Whether a queue may stand below that parent.
    pub(super) fn check_parent(&self, name: &str, parent: &str) -> Result<(), Error> {
        if !self.queues.contains_key(parent) {
            return Err(Error::NoParent(parent.to_owned()));
        }
        if parent == name || self.above(parent).any(|above| above == name) {
            return Err(Error::Circle(name.to_owned(), parent.to_owned()));
        }
        let levels = self.above(parent).count() + 2 + self.levels_below(name);
        if levels > limits::QUEUE_LEVELS_MAX {
            return Err(Error::TooDeep(levels));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Queue;
    use super::*;

    fn below(parent: Option<&str>) -> Queue {
        Queue { parent: parent.map(str::to_owned), ..Queue::default() }
    }

    fn control(queues: &[(&str, Option<&str>)]) -> Control {
        let with = |control: Control, (name, parent): &(&str, Option<&str>)| {
            control.with_queue(name, below(*parent)).unwrap()
        };
        queues.iter().fold(Control::default(), with)
    }

    #[test]
    fn queues_stand_in_a_tree_without_circles() {
        let control = control(&[("a", None), ("b", Some("a")), ("c", Some("b")), ("d", None)]);
        assert_eq!(control.above("c").collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(control.below("a").collect::<Vec<_>>(), ["b"]);
        let moved = |name: &str, parent: &str| control.with_queue(name, below(Some(parent)));
        assert!(moved("d", "c").is_ok());
        assert_eq!(moved("a", "c"), Err(Error::Circle("a".to_owned(), "c".to_owned())));
        assert_eq!(moved("a", "a"), Err(Error::Circle("a".to_owned(), "a".to_owned())));
        assert_eq!(moved("a", "x"), Err(Error::NoParent("x".to_owned())));
        // Whoever stood below a queue that is gone stands at the top.
        let without = control.without_queue("b").unwrap();
        assert_eq!(without.above("c").count(), 0);
    }

    #[test]
    fn a_tree_is_as_deep_as_may_be_and_no_deeper() {
        let names: Vec<String> = (0..=limits::QUEUE_LEVELS_MAX).map(|n| format!("q{n}")).collect();
        let mut control = Control::default();
        for (at, name) in names.iter().take(limits::QUEUE_LEVELS_MAX).enumerate() {
            let parent = at.checked_sub(1).map(|above| &*names[above]);
            control = control.with_queue(name, below(parent)).unwrap();
        }
        let (last, before) = (&names[names.len() - 1], &names[names.len() - 2]);
        let deeper = control.with_queue(last, below(Some(before)));
        assert_eq!(deeper, Err(Error::TooDeep(limits::QUEUE_LEVELS_MAX + 1)));
        let other = control.with_queue("other", below(None)).unwrap();
        assert!(other.with_queue("q0", below(Some("other"))).is_err(), "with all that is below it");
    }
}
