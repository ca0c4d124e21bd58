//! What back ends that run no real pods read of a pod spec, and how Kubernetes expands `$(NAME)`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The parts of a pod spec that are looked at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Containers.
    pub containers: Vec<Container>,
    /// Containers that run first.
    pub init_containers: Option<Vec<serde::de::IgnoredAny>>,
    /// Seconds after which it is stopped.
    pub active_deadline_seconds: Option<u64>,
    /// Seconds it has to end when it is told to.
    pub termination_grace_period_seconds: Option<u64>,
}

/// The parts of a container that are looked at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// What to run.
    pub command: Option<Vec<String>>,
    /// Its arguments.
    pub args: Option<Vec<String>>,
    /// Its environment.
    pub env: Option<Vec<EnvVar>>,
    /// Environment from elsewhere.
    pub env_from: Option<Vec<serde::de::IgnoredAny>>,
    /// Where it runs.
    pub working_dir: Option<String>,
    /// What it mounts.
    pub volume_mounts: Option<Vec<serde::de::IgnoredAny>>,
}

/// An environment variable.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// A value from elsewhere.
    pub value_from: Option<serde::de::IgnoredAny>,
}

/// Replaces each `$(NAME)` by the variable's value; unknown names stay as they are, `$$` stands for
/// `$`.
#[must_use]
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let behind = &rest[dollar + 1..];
        rest = if let Some(behind) = behind.strip_prefix('$') {
            expanded.push('$');
            behind
        } else if let Some((name, behind)) =
            behind.strip_prefix('(').and_then(|behind| behind.split_once(')'))
        {
            match variables.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["$(", name, ")"]),
            }
            behind
        } else {
            expanded.push('$');
            behind
        };
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_expand_as_in_kubernetes() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let cases = [
            ("$(A)-$(A)", "1-1"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("é$(A)é", "é1é"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }
}
