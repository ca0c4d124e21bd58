//! What the runtime promises, against real parts.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod bus;
mod process;
