//! Retry policies in the log and in the control data, as mirrors of the domain's types.

use std::sync::Arc;

use muster_core::quantity::Quantity;
use muster_core::retry::{Action, Backoff, Growth, Policy, Reason, Retry, Rule};
use serde::{Deserialize, Serialize};

/// A rule of a policy. Fields stand in their order in the log, and by their names in the control
/// data: one may be added at the end, with a default.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleDetail {
    exit_codes: Vec<(i32, i32)>,
    signals: Vec<i32>,
    reasons: Vec<String>,
    /// None where the job has failed.
    retry: Option<RetryDetail>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RetryDetail {
    limit: u32,
    backoff: Option<BackoffDetail>,
    other_node: bool,
    memory: Option<GrowthDetail>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BackoffDetail {
    base_ms: u64,
    factor_millis: u32,
    max_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GrowthDetail {
    factor_millis: u32,
    max: String,
}

pub(crate) fn of_policy(policy: &Policy) -> Vec<RuleDetail> {
    policy.rules.iter().map(RuleDetail::of).collect()
}

pub(crate) fn into_policy(rules: Vec<RuleDetail>) -> Result<Arc<Policy>, String> {
    let rules = rules.into_iter().map(RuleDetail::into_rule).collect::<Result<_, _>>()?;
    Ok(Arc::new(Policy { rules }))
}

impl RuleDetail {
    fn of(rule: &Rule) -> Self {
        Self {
            exit_codes: rule.exit_codes.clone(),
            signals: rule.signals.clone(),
            reasons: rule.reasons.iter().map(|reason| reason.name().to_owned()).collect(),
            retry: match &rule.action {
                Action::Fail => None,
                Action::Retry(retry) => Some(RetryDetail::of(retry)),
            },
        }
    }

    fn into_rule(self) -> Result<Rule, String> {
        let reason = |name: String| Reason::from_name(&name).ok_or(format!("reason `{name}`"));
        let retry = self.retry.map(RetryDetail::into_retry).transpose()?;
        Ok(Rule {
            exit_codes: self.exit_codes,
            signals: self.signals,
            reasons: self.reasons.into_iter().map(reason).collect::<Result<_, _>>()?,
            action: retry.map_or(Action::Fail, Action::Retry),
        })
    }
}

impl RetryDetail {
    fn of(retry: &Retry) -> Self {
        let Retry { limit, backoff, other_node, memory } = retry;
        let backoff = backoff.map(|Backoff { base_ms, factor_millis, max_ms }| BackoffDetail {
            base_ms,
            factor_millis,
            max_ms,
        });
        let memory = memory.map(|Growth { factor_millis, max }| GrowthDetail {
            factor_millis,
            max: max.to_string(),
        });
        Self { limit: *limit, backoff, other_node: *other_node, memory }
    }

    fn into_retry(self) -> Result<Retry, String> {
        let backoff = self.backoff.map(|BackoffDetail { base_ms, factor_millis, max_ms }| {
            Backoff { base_ms, factor_millis, max_ms }
        });
        let memory = self.memory.map(|GrowthDetail { factor_millis, max }| {
            let max: Quantity = max.parse().map_err(|error| format!("`{max}`: {error}"))?;
            Ok::<_, String>(Growth { factor_millis, max })
        });
        let memory = memory.transpose()?;
        Ok(Retry { limit: self.limit, backoff, other_node: self.other_node, memory })
    }
}
