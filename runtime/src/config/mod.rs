//! Settings in layers: defaults, then a TOML file, then the environment, then flags.
//!
//! A role has one struct with `Serialize`, `Deserialize`, `Default` and
//! `#[serde(default, deny_unknown_fields)]`, and a table of [`FieldDoc`] that explains each key.
//! [`load`] reports all problems at once, each with its key and where the value came from. Settings
//! are data only: clients are built from them elsewhere.

use std::{collections::BTreeMap, fmt, path::Path, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

mod describe;
mod units;

pub use describe::{FieldDoc, FieldRow, describe};
pub use units::{ByteSize, HumanDuration};

/// Environment variables that begin so are settings: `MUSTER_SECTION__KEY`.
pub const ENV_PREFIX: &str = "MUSTER_";

/// A set of settings of one role.
pub trait Config: Serialize + DeserializeOwned + Default {
    /// What each key means. Every key of the default settings has one entry.
    fn docs() -> Vec<FieldDoc>;

    /// All that is wrong with these settings beyond the type of each.
    fn validate(&self, problems: &mut Problems);
}

/// Where settings come from, the strongest last.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file, if any.
    pub file: Option<PathBuf>,
    /// Environment variables; those without [`ENV_PREFIX`] are ignored. One with `__` has to name a
    /// setting. One without counts only if there is such a top-level setting: Kubernetes puts
    /// variables like `MUSTER_GATEWAY_SERVICE_HOST` into every container.
    pub env: BTreeMap<String, String>,
    /// Values of `--set section.key=value`, in order.
    pub set: Vec<String>,
    /// Values of the role's own flags: the flag, the key it sets, and its value.
    pub flags: Vec<Flag>,
}

/// A flag that sets one key.
#[derive(Debug, Clone)]
pub struct Flag {
    /// As typed: `--listen`.
    pub name: &'static str,
    /// `section.key`.
    pub key: &'static str,
    /// The value, as in TOML; a text needs no quotes.
    pub value: String,
}

/// The flags that every role has. Use with `#[command(flatten)]`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE", env = "MUSTER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one setting, e.g. `--set section.key=value`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the settings in effect as TOML and leave
    #[arg(long)]
    pub print_config: bool,
    /// Check the settings and leave
    #[arg(long)]
    pub check_config: bool,
}

impl Arguments {
    /// These arguments, the role's own flags that were given, and the environment of the process.
    #[must_use]
    pub fn sources(&self, flags: Vec<Flag>) -> Sources {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Sources { file: self.config.clone(), env, set: self.set.clone(), flags }
    }
}

/// All that is wrong with some settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// One thing wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, `section.key`; empty if it concerns a whole source.
    pub key: String,
    /// Where the value came from: a file, a variable, a flag; empty for a check of the whole.
    pub source: String,
    /// What is wrong.
    pub reason: String,
}

impl Problems {
    /// Adds what a check of the settings as a whole has found.
    pub fn add(&mut self, key: &str, reason: impl Into<String>) {
        self.push(key, "", reason);
    }

    /// Adds what a check of one section has found, whose keys are those of the section.
    pub fn within(&mut self, section: &str, check: impl FnOnce(&mut Self)) {
        let mut found = Self::default();
        check(&mut found);
        self.0.extend(found.0.into_iter().map(|problem| {
            let key = format!("{section}.{}", problem.key);
            Problem { key, ..problem }
        }));
    }

    /// What was found.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.0
    }

    fn push(&mut self, key: &str, source: &str, reason: impl Into<String>) {
        let (key, source) = (key.to_owned(), source.to_owned());
        self.0.push(Problem { key, source, reason: reason.into() });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "`{}`", self.key)?;
        }
        if !self.source.is_empty() {
            write!(f, "{}from {}", if self.key.is_empty() { "" } else { " " }, self.source)?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for Problems {}

/// Reads all sources and checks the whole. The error lists everything that is wrong.
pub fn load<C: Config>(sources: &Sources) -> Result<C, Problems> {
    load_for(sources, |_, _| {})
}

/// [`load`], with a check of what this process in particular needs.
pub fn load_for<C: Config>(
    sources: &Sources,
    check: impl FnOnce(&C, &mut Problems),
) -> Result<C, Problems> {
    let mut problems = Problems::default();
    let mut merged = table_of(&C::default());
    for layer in layers::<C>(sources, &mut problems) {
        apply::<C>(&mut merged, &layer, &mut problems);
    }
    let config: C = match merged.try_into() {
        Ok(config) => config,
        Err(error) => {
            let error: toml::de::Error = error;
            problems.add("", error.message().to_owned());
            return Err(problems);
        }
    };
    config.validate(&mut problems);
    check(&config, &mut problems);
    if problems.0.is_empty() { Ok(config) } else { Err(problems) }
}

/// The settings as a TOML file that would give the same.
#[must_use]
pub fn print<C: Config>(config: &C) -> String {
    toml::to_string_pretty(&table_of(config)).expect("settings are plain tables")
}

/// Values from one place.
struct Layer {
    source: String,
    values: Vec<(String, Value)>,
}

fn layers<C: Config>(sources: &Sources, problems: &mut Problems) -> Vec<Layer> {
    let mut layers = Vec::new();
    if let Some(file) = &sources.file {
        let values = read_file(file, problems);
        layers.push(Layer { source: format!("`{}`", file.display()), values });
    }
    for (name, value) in &sources.env {
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
        let key = rest.to_lowercase().replace("__", ".");
        if !key.contains('.') && !C::docs().iter().any(|doc| doc.key == key) {
            continue;
        }
        layers.push(Layer { source: format!("`{name}`"), values: vec![(key, parse(value))] });
    }
    for text in &sources.set {
        let source = format!("`--set {text}`");
        match text.split_once('=') {
            Some((key, value)) => {
                layers.push(Layer { source, values: vec![(key.to_owned(), parse(value))] });
            }
            None => problems.push("", &source, "must be `key=value`"),
        }
    }
    for flag in &sources.flags {
        let values = vec![(flag.key.to_owned(), parse(&flag.value))];
        layers.push(Layer { source: format!("`{}`", flag.name), values });
    }
    layers
}

fn read_file(file: &Path, problems: &mut Problems) -> Vec<(String, Value)> {
    let source = format!("`{}`", file.display());
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            problems.push("", &source, error.to_string());
            return Vec::new();
        }
    };
    match text.parse::<Table>() {
        Ok(table) => {
            let mut values = Vec::new();
            flatten("", &table, &mut values);
            values
        }
        Err(error) => {
            problems.push("", &source, error.to_string().trim_end().to_owned());
            Vec::new()
        }
    }
}

/// Puts the layer's values into `merged`, each only if the settings can still be read with it.
fn apply<C: Config>(merged: &mut Table, layer: &Layer, problems: &mut Problems) {
    for (key, value) in &layer.values {
        let mut candidates = vec![value.clone()];
        if let Value::Integer(_) | Value::Float(_) | Value::Boolean(_) = value {
            // What looks like a number may be meant as a text.
            candidates.push(Value::String(value.to_string()));
        }
        let mut reason = None;
        for candidate in candidates {
            let mut next = merged.clone();
            if let Err(problem) = put(&mut next, key, candidate) {
                reason.get_or_insert(problem);
                continue;
            }
            match next.clone().try_into::<C>() {
                Ok(_) => {
                    *merged = next;
                    reason = None;
                    break;
                }
                Err(error) => {
                    reason.get_or_insert_with(|| error.message().trim().to_owned());
                }
            }
        }
        if let Some(reason) = reason {
            problems.push(key, &layer.source, reason);
        }
    }
}

fn put(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut().ok_or(format!("`{section}` is not a section"))?;
            put(inner, rest, value)
        }
    }
}

/// A value as TOML has it, or else the text itself.
fn parse(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok();
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut t| t.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn flatten(prefix: &str, table: &Table, values: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(&key, inner, values),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_) => values.push((key, value.clone())),
        }
    }
}

fn table_of<C: Config>(config: &C) -> Table {
    Table::try_from(config).expect("settings are plain tables")
}

#[cfg(test)]
mod tests;
