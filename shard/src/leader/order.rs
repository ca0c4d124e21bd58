//! The order of a queue's jobs over all priority classes. Shards tell an order for each class,
//! since they do not know what the classes mean; here they are put together.

use std::cmp::Reverse;

use muster_core::control::Control;

use super::table::{QueueState, Run};

/// What is known of a queue's order: class priority descending, then job priority ascending. Of
/// classes of one priority, at one job priority, the one whose name is first goes first.
pub(super) fn ordered<'a>(queue: &'a QueueState, control: &Control) -> Vec<&'a Run> {
    let mut runs: Vec<(Reverse<i32>, &Run)> = Vec::new();
    for (name, class) in &queue.classes {
        let priority = Reverse(control.class_in_effect(name).priority);
        runs.extend(class.runs().map(|run| (priority, run)));
    }
    // What a class tells is in order by itself and stays so: the sort is stable.
    if queue.classes.len() > 1 {
        runs.sort_by_key(|(class, (priority, ..))| (*class, *priority));
    }
    runs.into_iter().map(|(_, run)| run).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_core::control::PriorityClass;
    use muster_core::resources::Resources;
    use muster_core::shape::Shape;
    use muster_core::time::Timestamp;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::leader::keyed::Keyed;
    use crate::leader::table::ClassState;

    /// A queue with these jobs: (class, job priority). Counts tell them apart.
    fn queue(jobs: &[(&'static str, u32)]) -> QueueState {
        let mut queue = QueueState::default();
        for (n, (class, priority)) in (1..).zip(jobs) {
            let shape = Shape { class: (*class).into(), ..Shape::of_request(Resources::new()) };
            let state: &mut ClassState = queue.classes.entry((*class).into()).or_default();
            state.head.push((*priority, Keyed::new(Arc::new(shape)), n, Timestamp(0)));
        }
        for class in queue.classes.values_mut() {
            class.head.sort_by_key(|(priority, ..)| *priority);
            // A part of it was found behind the head.
            class.search.runs = class.head.split_off(class.head.len() / 2);
        }
        queue
    }

    fn control(classes: &[(&str, i32)]) -> Control {
        let mut control = Control::default();
        for (name, priority) in classes {
            let class = PriorityClass { priority: *priority, preemptible: false };
            control = control.with_class(name, class).unwrap();
        }
        control
    }

    fn counts(queue: &QueueState, control: &Control) -> Vec<u64> {
        ordered(queue, control).iter().map(|(_, _, count, _)| *count).collect()
    }

    #[test]
    fn the_higher_class_goes_first_and_within_equal_classes_the_lower_number() {
        let queue = queue(&[("a", 5), ("b", 1), ("urgent", 9), ("a", 0), ("b", 5), ("gone", 3)]);
        let urgent = control(&[("urgent", 2000), ("a", 1000), ("b", 1000)]);
        assert_eq!(
            counts(&queue, &urgent),
            [3, 4, 2, 6, 1, 5],
            "a class that is gone is `default`"
        );
        let turned = control(&[("urgent", -1), ("a", 10), ("b", 20), ("default", 30)]);
        assert_eq!(counts(&queue, &turned), [6, 2, 5, 4, 1, 3]);
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_all_jobs_sorted(
            jobs in vec((prop::sample::select(vec!["a", "b", "c", "d"]), 0..5u32), 0..40),
            priorities in vec(-2..3i32, 4),
        ) {
            let classes: Vec<_> = ["a", "b", "c", "d"].into_iter().zip(priorities).collect();
            let (queue, control) = (queue(&jobs), control(&classes));
            let mut expected: Vec<(u64, &(&str, u32))> = (1..).zip(&jobs).collect();
            expected.sort_by_key(|(n, (class, priority))| {
                (Reverse(control.class_in_effect(class).priority), *priority, *class, *n)
            });
            let expected: Vec<u64> = expected.into_iter().map(|(n, _)| n).collect();
            prop_assert_eq!(counts(&queue, &control), expected);
        }
    }
}
