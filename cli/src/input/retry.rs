//! Rules of retry policies as they are typed: each a text of YAML, and so of JSON.

use anyhow::Context as _;
use muster_api::job_text::RetryRule;
use muster_api::job_text::retry::policy;

use super::jobs::yaml_to_json;
use super::limits::{self, OrNone};

/// A rule.
pub(crate) fn rule(text: &str) -> Result<RetryRule, String> {
    let read = || {
        let json = yaml_to_json(serde_yaml_ng::Deserializer::from_str(text))?;
        serde_json::from_str(&json).context("it is no rule of a retry policy")
    };
    let rule: RetryRule = read().map_err(|error: anyhow::Error| format!("{error:#}"))?;
    // What is wrong with it is told before anything is asked of the deployment.
    policy(std::slice::from_ref(&rule)).map_err(|(field, reason)| {
        format!("{}: {reason}", field.trim_start_matches("retry[0]."))
    })?;
    Ok(rule)
}

/// A rule, or `none`.
pub(crate) fn rule_or_none(text: &str) -> Result<OrNone<RetryRule>, String> {
    limits::or_none(text, rule)
}

/// The policy that rules make, of which `none` is no policy, and the only one.
pub(crate) fn rules(given: Vec<OrNone<RetryRule>>) -> Result<Vec<RetryRule>, String> {
    let named = given.len();
    let rules: Vec<RetryRule> = given.into_iter().filter_map(|OrNone(rule)| rule).collect();
    if named > 1 && rules.len() < named {
        return Err("`--retry none` stands alone: it takes the policy away".to_owned());
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_typed_as_they_stand_in_files_and_checked_at_once() {
        let read =
            rule("{exitCodes: [1, 64-78], reasons: [Error], action: retry, limit: 2}").unwrap();
        assert_eq!((read.exit_codes.len(), read.limit), (2, Some(2)));
        assert_eq!(rule(r#"{"reasons":["Preempted"],"action":"fail"}"#).unwrap().reasons.len(), 1);
        for (text, why) in [
            ("OOMKilled", "it is no rule of a retry policy"),
            ("{action: retry, limit: 2, colour: red}", "unknown field `colour`"),
            ("{reasons: [Boredom], action: fail}", "reasons"),
            ("{limit: 2", "did not find"),
        ] {
            let error = rule(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn no_policy_stands_alone() {
        let rule = || rule_or_none("{action: fail}").unwrap();
        let none = || rule_or_none("none").unwrap();
        assert_eq!(rules(vec![rule(), rule()]).unwrap().len(), 2);
        assert_eq!(rules(vec![none()]).unwrap(), []);
        assert!(rules(vec![rule(), none()]).is_err());
    }
}
