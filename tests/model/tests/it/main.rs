//! The protocol keeps its promises within the small bounds, and the checker finds what would break
//! them. How long the way to a broken promise is, is printed and stands in docs/reliability.md.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test panics, and prints")]

mod flaws;

use std::collections::BTreeSet;

use model::checker::Model;
use model::protocol::{Protocol, State};
use model::{Bound, run};

#[test]
fn every_promise_is_kept_and_everything_can_happen_within_the_small_bounds() {
    let events = Protocol::new(Bound::SMALL[0].bounds).events();
    let mut unseen: BTreeSet<&str> = events.iter().copied().collect();
    for Bound { name, bounds } in Bound::SMALL {
        let outcome = run(&Protocol::new(bounds));
        println!("{name}: {}", outcome.text());
        assert!(outcome.is_kept(), "{name}: {}", outcome.text());
        for (event, _) in outcome.report.seen.iter().filter(|(_, depth)| depth.is_some()) {
            unseen.remove(event);
        }
    }
    assert!(unseen.is_empty(), "this never happens: {unseen:?}");
}

#[test]
fn a_state_is_small() {
    assert!(size_of::<State>() <= 256, "{} bytes", size_of::<State>());
}
