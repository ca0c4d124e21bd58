//! The targets.

pub(crate) mod bus;
pub(crate) mod jobs;
pub(crate) mod objects;
pub(crate) mod settings;
pub(crate) mod texts;

/// What was refused, in words that are neither missing nor without end.
fn refused(error: &dyn std::error::Error) {
    let text = error.to_string();
    assert!(!text.trim().is_empty(), "it is refused without a word");
    assert!(text.len() < 100_000, "{} bytes are too many words", text.len());
}
