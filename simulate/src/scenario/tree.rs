//! Walking a YAML file with a name for each place, so that what is wrong can be pointed at, and
//! what is not known is named.
//!
//! Keys are found whatever their case, as Armada's own reader has it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use muster_core::quantity::Quantity;
use serde_yaml_ng::Value;

use super::{Error, Result};

/// A file that was read, and what was noticed in it.
pub(super) struct File {
    name: String,
    root: Value,
    notes: RefCell<Vec<String>>,
}

/// A value and where it stands.
pub(super) struct At<'a> {
    file: &'a File,
    path: String,
    value: &'a Value,
}

/// A mapping, of which each entry is used once.
pub(super) struct Object<'a> {
    file: &'a File,
    path: String,
    entries: Vec<(&'a str, &'a Value, Cell<bool>)>,
}

impl File {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::new(&name, "", format!("cannot be read: {error}")))?;
        Self::parse(&name, &text)
    }

    /// Reads a text that stands for a file of that name.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self> {
        let not_yaml = |error: serde_yaml_ng::Error| Error::new(name, "", error.to_string());
        let mut root: Value = serde_yaml_ng::from_str(text).map_err(not_yaml)?;
        root.apply_merge().map_err(not_yaml)?;
        Ok(Self { name: name.to_owned(), root, notes: RefCell::default() })
    }

    pub(super) fn root(&self) -> At<'_> {
        At { file: self, path: String::new(), value: &self.root }
    }

    /// The name without directories and without what stands behind its last dot.
    pub(super) fn stem(&self) -> String {
        let stem = Path::new(&self.name).file_stem();
        stem.map_or_else(|| self.name.clone(), |stem| stem.to_string_lossy().into_owned())
    }

    pub(super) fn note(&self, path: &str, what: impl fmt::Display) {
        let place = if path.is_empty() { String::new() } else { format!("{path} ") };
        self.notes.borrow_mut().push(format!("{}: {place}{what}", self.name));
    }

    /// What was noticed.
    pub(super) fn notes(self) -> Vec<String> {
        self.notes.into_inner()
    }
}

impl<'a> At<'a> {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn file(&self) -> &'a File {
        self.file
    }

    /// That this value is wrong.
    pub(super) fn wrong(&self, reason: impl fmt::Display) -> Error {
        Error::new(&self.file.name, &self.path, reason.to_string())
    }

    fn is_not(&self, expected: &str) -> Error {
        self.wrong(format!("{} is not {expected}", shown(self.value)))
    }

    pub(super) fn object(&self) -> Result<Object<'a>> {
        let Value::Mapping(mapping) = self.value else {
            return Err(self.is_not("a mapping"));
        };
        let entries = mapping.iter().map(|(key, value)| match key {
            Value::String(key) => Ok((key.as_str(), value, Cell::new(false))),
            other => Err(self.wrong(format!("the key {} is not a text", shown(other)))),
        });
        let entries = entries.collect::<Result<_>>()?;
        Ok(Object { file: self.file, path: self.path.clone(), entries })
    }

    pub(super) fn list(&self) -> Result<Vec<At<'a>>> {
        let Value::Sequence(values) = self.value else { return Err(self.is_not("a list")) };
        let item = |(number, value)| At {
            file: self.file,
            path: format!("{}[{number}]", self.path),
            value,
        };
        Ok(values.iter().enumerate().map(item).collect())
    }

    pub(super) fn text(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.is_not("a text"))
    }

    /// A text, or what people write without quotes though it is one.
    pub(super) fn word(&self) -> Result<String> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(truth) => Ok(truth.to_string()),
            Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => {
                Err(self.is_not("a text"))
            }
        }
    }

    pub(super) fn truth(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.is_not("`true` or `false`"))
    }

    pub(super) fn count(&self, most: u64) -> Result<u64> {
        let count = self.value.as_u64().filter(|count| *count <= most);
        count.ok_or_else(|| self.is_not(&format!("a whole number from 0 to {most}")))
    }

    pub(super) fn whole(&self) -> Result<i64> {
        self.value.as_i64().ok_or_else(|| self.is_not("a whole number"))
    }

    /// A number; `+inf` may be written as a text.
    pub(super) fn number(&self) -> Result<f64> {
        let number = match self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.filter(|number| !number.is_nan()).ok_or_else(|| self.is_not("a number"))
    }

    /// A length of time as Go writes it.
    pub(super) fn duration(&self) -> Result<Duration> {
        const EXPECTED: &str = "a length of time such as `90s` or `1h30m`";
        let text = self.word().map_err(|_| self.is_not(EXPECTED))?;
        duration(&text).ok_or_else(|| self.is_not(EXPECTED))
    }

    pub(super) fn quantity(&self) -> Result<Quantity> {
        let text = self.word().map_err(|_| self.is_not("a quantity such as `500m` or `4Gi`"))?;
        let quantity = text.parse::<Quantity>().map_err(|error| self.wrong(error))?;
        if quantity.is_negative() {
            return Err(self.wrong(format!("{text} is below 0")));
        }
        Ok(quantity)
    }

    /// The same as JSON.
    pub(super) fn json(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self.value).map_err(|error| self.wrong(error))
    }
}

impl<'a> Object<'a> {
    /// An entry, if it is there and not null.
    pub(super) fn take(&self, name: &str) -> Option<At<'a>> {
        let found = self.entries.iter().find(|(key, ..)| key.eq_ignore_ascii_case(name))?;
        found.2.set(true);
        let (key, value, _) = found;
        (!value.is_null()).then(|| At { file: self.file, path: self.join(key), value })
    }

    /// An entry that has to be there.
    pub(super) fn require(&self, name: &str) -> Result<At<'a>> {
        self.take(name)
            .ok_or_else(|| Error::new(&self.file.name, &self.path, format!("`{name}` is missing")))
    }

    /// All entries, by their names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, At<'a>)> {
        self.entries.iter().map(|(key, value, used)| {
            used.set(true);
            (*key, At { file: self.file, path: self.join(key), value })
        })
    }

    /// A mapping of texts.
    pub(super) fn words(&self, name: &str) -> Result<Vec<(String, String)>> {
        let Some(at) = self.take(name) else { return Ok(Vec::new()) };
        let object = at.object()?;
        object.all().map(|(key, at)| Ok((key.to_owned(), at.word()?))).collect()
    }

    /// The names of entries that nobody asked for.
    pub(super) fn unused(&self) -> Vec<&'a str> {
        let unused = self.entries.iter().filter(|(_, _, used)| !used.get());
        unused.map(|(key, ..)| *key).collect()
    }

    /// Names what nobody asked for.
    pub(super) fn finish(&self) {
        for key in self.unused() {
            self.file.note(&self.join(key), "is not known here, and has no effect");
        }
    }

    /// Takes an entry that has no effect, and says why.
    pub(super) fn ignore(&self, name: &str, why: &str) {
        if let Some(at) = self.take(name) {
            self.file.note(&at.path, format!("has no effect: {why}"));
        }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A value in a message: short.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(truth) => format!("`{truth}`"),
        Value::Number(number) => format!("`{number}`"),
        Value::String(text) => {
            let end = text.floor_char_boundary(60);
            format!("`{}{}`", &text[..end], if end < text.len() { "…" } else { "" })
        }
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) | Value::Tagged(_) => "a mapping".to_owned(),
    }
}

/// A length of time as Go writes it: `1h30m`, `36s`, `0.5s`, `250ms`; `0` alone needs no unit.
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = text.trim().trim_start_matches('+');
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == &rest[..end])?;
        seconds += amount * unit;
        rest = &rest[end..];
    }
    (!text.trim().is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_those_of_go() {
        let read = |text| duration(text).map(|time| time.as_millis());
        assert_eq!(read("1h30m"), Some(5_400_000));
        assert_eq!(read("36s"), Some(36_000));
        assert_eq!(read("0.5s250ms"), Some(750));
        assert_eq!(read("0"), Some(0));
        for wrong in ["", "5", "5 m", "m", "1d", "-5s", "1h30", "five"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_wrong_or_unknown_is_named_with_its_place() {
        let text = "Name: x\nlist:\n  - { cpu: much, colour: red }\n";
        let file = File::parse("f.yaml", text).unwrap();
        let root = file.root().object().unwrap();
        assert_eq!(root.take("name").unwrap().text().unwrap(), "x", "whatever the case");
        let items = root.require("list").unwrap().list().unwrap();
        let item = items[0].object().unwrap();
        let error = item.require("cpu").unwrap().quantity().unwrap_err();
        assert!(error.to_string().starts_with("f.yaml: list[0].cpu: "), "{error}");
        let error = item.require("number").err().unwrap();
        assert_eq!(error.to_string(), "f.yaml: list[0]: `number` is missing");
        item.finish();
        let error = root.take("list").unwrap().duration().unwrap_err();
        assert_eq!(
            error.to_string(),
            "f.yaml: list: a list is not a length of time such as `90s` or `1h30m`"
        );
        let notes = file.notes();
        assert_eq!(notes, ["f.yaml: list[0].colour is not known here, and has no effect"]);
    }
}
