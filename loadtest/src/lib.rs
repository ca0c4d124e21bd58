//! Load on a deployment, from outside, over its HTTP API, and the proof afterwards that nothing was
//! lost and nothing done twice.
//!
//! [`submit`] sends as fast as it is answered; [`run`] sends when a scenario says so, however slow
//! the answers are, and measures from the moment that was meant. Both remember what was
//! acknowledged; [`audit`] holds the deployment to it.

pub mod acknowledged;
pub mod audit;
pub mod job;
pub mod latency;
pub mod measure;
pub mod report;
pub mod run;
pub mod scenario;
pub mod submit;
