//! The manual of settings: what the code knows about each key, for `docs/configuration.md` and the
//! test that compares the two.

use std::collections::BTreeSet;

use toml::Value;

use super::{Config, ENV_PREFIX, flatten, table_of};

/// What one key means. Written by hand beside the struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldDoc {
    /// `section.key`.
    pub key: &'static str,
    /// What it does, its unit, its bounds.
    pub what: &'static str,
}

impl FieldDoc {
    /// The explanation of one key.
    #[must_use]
    pub const fn new(key: &'static str, what: &'static str) -> Self {
        Self { key, what }
    }
}

/// One line of the manual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRow {
    /// `section.key`.
    pub key: String,
    /// The environment variable that sets it.
    pub env: String,
    /// The default as TOML; empty when there is none.
    pub default: String,
    /// What it does.
    pub what: String,
}

/// The manual of `C`, in the order of its [`Config::docs`].
///
/// # Errors
/// Lists the keys of the default settings that have no explanation, and the explanations that come
/// twice.
pub fn describe<C: Config>() -> Result<Vec<FieldRow>, String> {
    let mut values = Vec::new();
    flatten("", &table_of(&C::default()), &mut values);
    let docs = C::docs();
    let mut explained = BTreeSet::new();
    let mut wrong: Vec<String> = Vec::new();
    for doc in &docs {
        if !explained.insert(doc.key) {
            wrong.push(format!("`{}` is explained twice", doc.key));
        }
    }
    for (key, _) in &values {
        if !explained.contains(key.as_str()) {
            wrong.push(format!("`{key}` is not explained"));
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.join(", "));
    }
    let default = |key: &str| values.iter().find(|(name, _)| name == key).map(|(_, value)| value);
    Ok(docs
        .iter()
        .map(|doc| FieldRow {
            key: doc.key.to_owned(),
            env: format!("{ENV_PREFIX}{}", doc.key.to_uppercase().replace('.', "__")),
            default: default(doc.key).map(Value::to_string).unwrap_or_default(),
            what: doc.what.to_owned(),
        })
        .collect())
}
