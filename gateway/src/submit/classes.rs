//! Which priority classes jobs may name: those of the control data.

use std::sync::Arc;

use muster_api::http::{ErrorCode, Problem};
use muster_core::Name;
use muster_core::control::Control;
use muster_core::shape::Shape;

/// Classes that a refusal names; more are counted.
const NAMED_MAX: usize = 10;

/// The classes at one version of the control data.
pub(super) struct Classes {
    control: Arc<Control>,
    /// The one that was found last: most jobs of a submission are of one class.
    found: Option<Name>,
}

impl Classes {
    pub(super) fn new(control: Arc<Control>) -> Self {
        Self { control, found: None }
    }

    /// Refuses a job whose class there is not.
    pub(super) fn check(&mut self, shape: &Shape) -> Result<(), Problem> {
        if self.found.as_ref().is_some_and(|found| *found == shape.class) {
            return Ok(());
        }
        if self.control.class(&shape.class).is_none() {
            return Err(self.unknown(&shape.class));
        }
        self.found = Some(Arc::clone(&shape.class));
        Ok(())
    }

    fn unknown(&self, name: &str) -> Problem {
        let classes = self.control.all_classes();
        let named: Vec<String> =
            classes.keys().take(NAMED_MAX).map(|name| format!("`{name}`")).collect();
        let more = match classes.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let there = named.join(", ");
        let detail = format!(
            "podSpec.priorityClassName: there is no priority class `{name}`, there are {there}{more}"
        );
        Problem::new(ErrorCode::ClassUnknown, detail)
    }
}

#[cfg(test)]
mod tests {
    use muster_core::control::PriorityClass;
    use muster_core::resources::Resources;

    use super::*;

    #[test]
    fn a_refusal_names_what_there_is_and_counts_the_rest() {
        let class = PriorityClass { priority: 1, preemptible: false };
        let mut control = Control::default();
        for n in 0..20 {
            control = control.with_class(&format!("c{n:02}"), class).unwrap();
        }
        let mut classes = Classes::new(Arc::new(control));
        let mut shape = Shape::of_request(Resources::new());
        for good in ["default", "armada-preemptible", "c19", "c19"] {
            shape.class = good.into();
            assert_eq!(classes.check(&shape), Ok(()), "{good}");
        }
        shape.class = "c20".into();
        let problem = classes.check(&shape).unwrap_err();
        assert_eq!(problem.code, ErrorCode::ClassUnknown);
        assert!(problem.detail.contains("there is no priority class `c20`"), "{problem:?}");
        assert!(problem.detail.contains("`armada-default`"), "{problem:?}");
        assert!(problem.detail.ends_with("`c06`, `c07` and 13 more"), "{problem:?}");
    }
}
