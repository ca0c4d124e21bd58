//! Retry policies as people write them, of a job or of a queue: a list of rules.

use std::sync::Arc;

use muster_core::limits;
use muster_core::quantity::Quantity;
use muster_core::retry::{Action, Backoff, Growth, Policy, Reason, Retry, Rule};
use serde::{Deserialize, Serialize};

/// What becomes of a job whose run ended so: of what a rule names, all has to be so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryRule {
    /// Exit codes: numbers, or ranges as `"64-78"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<ExitCodes>,
    /// Signals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<i32>,
    /// Reasons by their names; if none are named, any of a run that ended by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What is done.
    pub action: RetryAction,
    /// How often a job is tried again at most, under whatever rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How long it waits before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<RetryBackoff>,
    /// Whether it keeps away from the node on which it failed, as long as there is another.
    #[serde(default, skip_serializing_if = "is_false")]
    pub other_node: bool,
    /// How much more memory it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<RetryMemory>,
}

/// An exit code, or a range of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExitCodes {
    /// One.
    One(i32),
    /// From and to, as `64-78`.
    Range(String),
}

/// What is done with a job whose run did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryAction {
    /// It is tried again.
    Retry,
    /// It has failed.
    Fail,
}

/// How long a job waits before it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryBackoff {
    /// Before the first retry.
    pub base_seconds: f64,
    /// How many times as long with each further one.
    #[serde(default = "two")]
    pub factor: f64,
    /// At most.
    #[serde(default = "hour")]
    pub max_seconds: f64,
}

/// How much more memory a job gets when it is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryMemory {
    /// How many times as much.
    pub factor: f64,
    /// At most, as a quantity.
    pub max: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(value: &bool) -> bool {
    !value
}

fn two() -> f64 {
    2.0
}

fn hour() -> f64 {
    3600.0
}

/// What is wrong with a policy: the field, as a path into its list, and why.
pub type Wrong = (String, String);

/// The policy; none of no rules.
///
/// # Errors
/// When a rule makes no sense.
pub fn policy(rules: &[RetryRule]) -> Result<Option<Arc<Policy>>, Wrong> {
    let max = limits::RETRY_RULES_MAX;
    if rules.len() > max {
        let reason = format!("has {} rules, limit is {max}", rules.len());
        return Err(("retry".to_owned(), reason));
    }
    let at =
        |place: usize, (field, reason): (&str, String)| (format!("retry[{place}].{field}"), reason);
    let rules = rules.iter().enumerate();
    let rules = rules.map(|(place, rule)| read(rule).map_err(|wrong| at(place, wrong)));
    let rules: Vec<Rule> = rules.collect::<Result<_, _>>()?;
    Ok((!rules.is_empty()).then(|| Arc::new(Policy { rules })))
}

/// A policy as it is written.
#[must_use]
pub fn rules(policy: &Policy) -> Vec<RetryRule> {
    policy.rules.iter().map(write).collect()
}

fn read(rule: &RetryRule) -> Result<Rule, (&'static str, String)> {
    let max = limits::RETRY_CODES_MAX;
    for (field, count) in [("exitCodes", rule.exit_codes.len()), ("signals", rule.signals.len())] {
        if count > max {
            return Err((field, format!("has {count} entries, limit is {max}")));
        }
    }
    let codes = rule.exit_codes.iter().map(range).collect::<Result<_, _>>();
    let reasons = rule.reasons.iter().map(|name| {
        let known = || Reason::ALL.map(Reason::name).join(", ");
        Reason::from_name(name).ok_or_else(|| format!("`{name}` is none of {}", known()))
    });
    Ok(Rule {
        exit_codes: codes.map_err(|reason| ("exitCodes", reason))?,
        signals: rule.signals.clone(),
        reasons: reasons.collect::<Result<_, _>>().map_err(|reason| ("reasons", reason))?,
        action: action(rule)?,
    })
}

fn action(rule: &RetryRule) -> Result<Action, (&'static str, String)> {
    match rule.action {
        RetryAction::Fail => {
            let others = [
                ("limit", rule.limit.is_some()),
                ("backoff", rule.backoff.is_some()),
                ("otherNode", rule.other_node),
                ("memory", rule.memory.is_some()),
            ];
            match others.into_iter().find(|(_, is_given)| *is_given) {
                Some((field, _)) => Err((field, "is for `retry`, not for `fail`".to_owned())),
                None => Ok(Action::Fail),
            }
        }
        RetryAction::Retry => {
            let max = limits::RETRY_LIMIT_MAX;
            let limit = rule.limit.filter(|limit| (1..=max).contains(limit));
            let limit = limit.ok_or_else(|| ("limit", format!("is not from 1 to {max}")))?;
            let backoff = rule.backoff.as_ref().map(backoff).transpose();
            let memory = rule.memory.as_ref().map(growth).transpose();
            Ok(Action::Retry(Retry {
                limit,
                backoff: backoff.map_err(|reason| ("backoff", reason))?,
                other_node: rule.other_node,
                memory: memory.map_err(|reason| ("memory", reason))?,
            }))
        }
    }
}

fn range(codes: &ExitCodes) -> Result<(i32, i32), String> {
    let (from, to) = match codes {
        ExitCodes::One(code) => (*code, *code),
        ExitCodes::Range(text) => {
            let parts = text
                .split_once('-')
                .and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
            parts.ok_or_else(|| format!("`{text}` is no range such as `64-78`"))?
        }
    };
    let is_sound = 0 <= from && from <= to && to <= 255;
    is_sound.then_some((from, to)).ok_or_else(|| format!("{from}-{to} is not within 0-255"))
}

fn backoff(backoff: &RetryBackoff) -> Result<Backoff, String> {
    let most = limits::RETRY_BACKOFF_HOURS_MAX * 3600;
    let millis = |seconds: f64| {
        let is_sound = (0.0..=most as f64).contains(&seconds);
        // The range check leaves only numbers that fit.
        is_sound
            .then_some((seconds * 1000.0).round() as u64)
            .ok_or_else(|| format!("{seconds} is not from 0 to {most} seconds"))
    };
    Ok(Backoff {
        base_ms: millis(backoff.base_seconds)?,
        factor_millis: factor(backoff.factor)?,
        max_ms: millis(backoff.max_seconds)?,
    })
}

fn growth(memory: &RetryMemory) -> Result<Growth, String> {
    let max: Quantity = memory.max.parse().map_err(|error| format!("`{}`: {error}", memory.max))?;
    Ok(Growth { factor_millis: factor(memory.factor)?, max })
}

fn factor(factor: f64) -> Result<u32, String> {
    let is_sound = (1.0..=100.0).contains(&factor);
    // The range check leaves only numbers that fit.
    is_sound
        .then_some((factor * 1000.0).round() as u32)
        .ok_or_else(|| format!("factor {factor} is not from 1 to 100"))
}

fn write(rule: &Rule) -> RetryRule {
    let codes = rule.exit_codes.iter().map(|(from, to)| match from == to {
        true => ExitCodes::One(*from),
        false => ExitCodes::Range(format!("{from}-{to}")),
    });
    let bare = RetryRule {
        exit_codes: codes.collect(),
        signals: rule.signals.clone(),
        reasons: rule.reasons.iter().map(|reason| reason.name().to_owned()).collect(),
        action: RetryAction::Fail,
        limit: None,
        backoff: None,
        other_node: false,
        memory: None,
    };
    let Action::Retry(retry) = &rule.action else { return bare };
    RetryRule {
        action: RetryAction::Retry,
        limit: Some(retry.limit),
        backoff: retry.backoff.map(|backoff| RetryBackoff {
            base_seconds: backoff.base_ms as f64 / 1000.0,
            factor: f64::from(backoff.factor_millis) / 1000.0,
            max_seconds: backoff.max_ms as f64 / 1000.0,
        }),
        other_node: retry.other_node,
        memory: retry.memory.map(|memory| RetryMemory {
            factor: f64::from(memory.factor_millis) / 1000.0,
            max: memory.max.to_string(),
        }),
        ..bare
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Arc<Policy>>, String> {
        let rules: Vec<RetryRule> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        policy(&rules).map_err(|(field, reason)| format!("{field}: {reason}"))
    }

    #[test]
    fn a_policy_is_read_and_written_as_it_was() {
        let text = r#"[{"exitCodes":[1,"64-78"],"signals":[9],"action":"fail"},
            {"reasons":["OOMKilled"],"action":"retry","limit":3,"otherNode":true,
             "backoff":{"baseSeconds":0.5,"factor":1.5,"maxSeconds":60.0},
             "memory":{"factor":2.0,"max":"16Gi"}}]"#;
        let policy = read(text).unwrap().unwrap();
        assert_eq!(policy.rules[0].exit_codes, [(1, 1), (64, 78)]);
        let Action::Retry(retry) = &policy.rules[1].action else { panic!("{policy:?}") };
        let backoff = Backoff { base_ms: 500, factor_millis: 1500, max_ms: 60_000 };
        assert_eq!((retry.limit, retry.backoff), (3, Some(backoff)));
        let written = serde_json::to_value(rules(&policy)).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert_eq!(read("[]"), Ok(None));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
        let many = vec![r#"{"action":"fail"}"#; limits::RETRY_RULES_MAX + 1].join(",");
        let cases = [
            (r#"[{"action":"retry"}]"#, "retry[0].limit: is not from 1 to 1000"),
            (r#"[{"action":"fail","limit":1}]"#, "retry[0].limit: is for `retry`"),
            (r#"[{"action":"fail","exitCodes":["7"]}]"#, "`7` is no range"),
            (r#"[{"action":"fail","exitCodes":["9-7"]}]"#, "9-7 is not within 0-255"),
            (r#"[{"action":"fail","reasons":["oom"]}]"#, "`oom` is none of DeadlineExceeded, "),
            (
                r#"[{"action":"retry","limit":1,"backoff":{"baseSeconds":-1}}]"#,
                "retry[0].backoff: -1 is not from 0 to 86400 seconds",
            ),
            (
                r#"[{"action":"retry","limit":1,"memory":{"factor":0.5,"max":"1Gi"}}]"#,
                "retry[0].memory: factor 0.5 is not from 1 to 100",
            ),
            (&format!("[{many}]"), "retry: has 33 rules, limit is 32"),
        ];
        for (text, expected) in cases {
            let said = read(text).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
