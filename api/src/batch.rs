//! The columns of a submission.
