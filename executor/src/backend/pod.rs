//! What back ends that run no real pods read of a pod spec, how long pods may run and take to end,
//! and how Kubernetes expands `$(NAME)`.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::quantity::Quantity;
use muster_core::shape::Shape;
use serde::Deserialize;

/// The grace period of a pod that names none, or none to speak of, as in Armada.
const GRACE_DEFAULT: Duration = Duration::from_secs(1);
/// How long a pod may run that does not say so, as in Armada …
const DEADLINE_DEFAULT: Duration = Duration::from_hours(72);
/// … and one that asks for a graphics processor.
const DEADLINE_DEFAULT_GPU: Duration = Duration::from_hours(336);
/// The resource that such a pod asks for.
const GPU: &str = "nvidia.com/gpu";

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

/// How long a pod of this shape may run, which says so or not.
#[must_use]
pub fn deadline(seconds: Option<u64>, shape: &Shape) -> Duration {
    let asks_for_gpu = shape.request.get(GPU) > Quantity::ZERO;
    let default = if asks_for_gpu { DEADLINE_DEFAULT_GPU } else { DEADLINE_DEFAULT };
    seconds.map_or(default, Duration::from_secs)
}

/// How long a pod may take to end, which says so or not.
#[must_use]
pub fn grace(seconds: Option<u64>) -> Duration {
    seconds.filter(|seconds| *seconds > 0).map_or(GRACE_DEFAULT, Duration::from_secs)
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
