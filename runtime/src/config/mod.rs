//! Settings.

mod units;

pub use units::{ByteSize, HumanDuration};
