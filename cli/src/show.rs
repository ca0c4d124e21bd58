//! How values look to people.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, Color, Table, presets};
use muster_core::job::JobState;
use muster_core::quantity::Quantity;
use muster_core::time::Timestamp;
use serde::Serialize;

/// Returns to the line before the last `n` lines and clears what is below.
pub(crate) fn up_and_clear(n: usize) -> String {
    if n == 0 { String::new() } else { format!("\x1b[{n}A\x1b[J") }
}

/// Says something that is not data.
pub(crate) fn note(text: &str) {
    // If stderr is gone there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether a progress bar makes sense.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// YAML with the fields in their order.
pub(crate) fn yaml<T: Serialize>(value: &T) -> anyhow::Result<String> {
    // Through JSON, because a pod spec is kept as JSON text.
    let text = serde_json::to_string(value)?;
    let value: serde_yaml_ng::Value = serde_json::from_str(&text)?;
    Ok(serde_yaml_ng::to_string(&value)?)
}

/// A table without lines.
pub(crate) struct Rows {
    table: Table,
    colour: bool,
}

impl Rows {
    pub(crate) fn new(colour: bool, header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.iter().copied());
        if colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self { table, colour }
    }

    pub(crate) fn add(&mut self, cells: impl IntoIterator<Item = String>) {
        let colour = self.colour;
        self.table.add_row(cells.into_iter().map(|text| {
            let state = if colour { JobState::from_name(&text) } else { None };
            let cell = Cell::new(text);
            match state {
                Some(JobState::Succeeded) => cell.fg(Color::Green),
                Some(JobState::Failed) => cell.fg(Color::Red),
                Some(JobState::Cancelled) => cell.fg(Color::DarkYellow),
                Some(JobState::Running) => cell.fg(Color::Cyan),
                Some(JobState::Queued | JobState::Leased | JobState::Pending) | None => cell,
            }
        }));
    }

    pub(crate) fn text(&self) -> String {
        self.table.trim_fmt() + "\n"
    }
}

/// `3m ago`; a time that cannot be read is shown as it is.
pub(crate) fn ago(now: Timestamp, at: &str) -> String {
    match millis_of(at) {
        Some(at) => format!("{} ago", span(now.0.saturating_sub(at))),
        None => at.to_owned(),
    }
}

/// Milliseconds since 1970 of an RFC 3339 time.
pub(crate) fn millis_of(at: &str) -> Option<i64> {
    at.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// A length of time in the largest unit that fits: `45s`, `3m`, `5h`, `12d`.
pub(crate) fn span(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A text or a dash.
pub(crate) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// An amount of a resource as people read it: cores as they are, bytes in the largest unit that
/// leaves at least one.
pub(crate) fn amount(amounts: &BTreeMap<String, String>, resource: &str) -> String {
    let Some(text) = amounts.get(resource) else { return "0".to_owned() };
    match (resource, text.parse::<Quantity>()) {
        ("memory" | "ephemeral-storage", Ok(quantity)) => bytes(quantity.units_ceil()),
        _ => text.clone(),
    }
}

fn bytes(count: i64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 10.0 && value.fract() > 0.05);
    format!("{value:.digits$}{}", units[unit])
}

/// `42.0%`.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

/// `queued 3, running 1`, in the order of a job's life, without zeros.
pub(crate) fn counts(counts: &BTreeMap<String, u64>) -> String {
    let known = JobState::ALL.iter().map(|state| state.name());
    let texts: Vec<String> = known
        .filter_map(|name| counts.get(name).map(|n| (name, n)))
        .filter(|(_, n)| **n > 0)
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let texts = [999, 119_000, 120_000, 7_199_000, 7_200_000, 200_000_000].map(span);
        assert_eq!(texts, ["0s", "119s", "2m", "119m", "2h", "2d"]);
        assert_eq!(ago(Timestamp(60_000), "1970-01-01T00:00:05.000Z"), "55s ago");
        assert_eq!(ago(Timestamp(0), "soon"), "soon");
    }

    #[test]
    fn amounts_are_read_exactly_and_shown_short() {
        let amounts = [("cpu", "1500m"), ("memory", "12884901888")];
        let amounts = amounts.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        assert_eq!(amount(&amounts, "cpu"), "1500m");
        assert_eq!(amount(&amounts, "memory"), "12Gi");
        assert_eq!(amount(&amounts, "gpu"), "0");
        assert_eq!(bytes(1536), "1.5Ki");
    }

    #[test]
    fn tables_have_no_trailing_space_and_no_colour_unless_asked_for() {
        let mut rows = Rows::new(false, &["NAME", "STATE"]);
        rows.add(["a".to_owned(), "running".to_owned()]);
        assert_eq!(rows.text(), "NAME  STATE\na     running\n");
        let mut rows = Rows::new(true, &["NAME", "STATE"]);
        rows.add(["a".to_owned(), "running".to_owned()]);
        assert!(rows.text().contains("\x1b["));
    }

    #[test]
    fn yaml_keeps_the_order_and_the_spec() {
        let spec = serde_json::value::RawValue::from_string(r#"{"z":1,"a":["x"]}"#.to_owned());
        assert_eq!(yaml(&spec.unwrap()).unwrap(), "z: 1\na:\n- x\n");
    }
}
