//! Short texts of requests.

use std::fmt::Display;
use std::str::FromStr;

use muster_api::text::Cursor;
use muster_core::id::{CommandId, JobId, JobRef};
use muster_core::quantity::Quantity;

use super::refused;

/// A quantity of Kubernetes.
pub(crate) fn quantity(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Quantity>() {
        Ok(quantity) => {
            let (units, millis) = (quantity.units_ceil(), quantity.millis_ceil());
            assert!(units <= millis.max(units), "{text}");
            let nanos = Quantity::from_nanos(quantity.nanos());
            assert_eq!(nanos, Some(quantity), "{text}");
            let written = quantity.to_string();
            assert_eq!(written.parse::<Quantity>(), Ok(quantity), "{text} is written {written}");
        }
        Err(error) => refused(&error),
    }
}

/// Cursors and ids.
pub(crate) fn cursor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(read) = parse::<Cursor>(text) {
        assert_eq!(parse::<Cursor>(&read.to_string()).map(|again| again.0), Some(read.0));
    }
    same::<JobRef>(text);
    same::<JobId>(text);
    if let Some(read) = parse::<CommandId>(text) {
        assert_eq!(parse::<CommandId>(&read.to_string()), Some(read), "{text}");
    }
}

/// Each has one spelling.
fn same<T>(text: &str)
where
    T: FromStr<Err: std::error::Error> + Display,
{
    if let Some(read) = parse::<T>(text) {
        assert_eq!(read.to_string(), text);
    }
}

fn parse<T: FromStr<Err: std::error::Error>>(text: &str) -> Option<T> {
    text.parse().inspect_err(|error| refused(error)).ok()
}
