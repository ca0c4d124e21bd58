//! The commit and fencing protocol as a small model, and a checker that visits all of its states.
//!
//! The simulation runs the roles as they ship and draws what happens; this leaves most of them out
//! and tries everything that can happen, within a bound. What is modelled, and where it stands in
//! the code: [`protocol`].

mod bound;
pub mod checker;
pub mod protocol;

pub use bound::{Bound, Outcome, PLAIN, STATES_MAX, run};
