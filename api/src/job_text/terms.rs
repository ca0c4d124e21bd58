//! What a job says beside what it runs and where: what it depends on, how many tasks of an array
//! run at once, when it is tried again. The same text goes from gateways to shards.

use std::sync::Arc;

use muster_core::id::JobId;
use muster_core::terms::{self, On, When};
use muster_core::{Name, limits, names};
use serde::{Deserialize, Serialize};

use super::{Error, RetryRule, retry};

/// Another job of the same queue that has to end first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dependency {
    /// Its id; either this or `clientId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// What its submitter calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// How it has to end: `success`, `finish` or `failure`.
    #[serde(default = "success")]
    pub after: String,
}

fn success() -> String {
    When::Success.name().to_owned()
}

impl Dependency {
    /// As it is shown.
    #[must_use]
    pub fn of(dependency: &terms::Dependency) -> Self {
        let (job_id, client_id) = match &dependency.on {
            On::Job(id) => (Some(id.to_string()), None),
            On::Client(name) => (None, Some(name.to_string())),
        };
        Self { job_id, client_id, after: dependency.when.name().to_owned() }
    }

    fn read(&self, path: &str) -> Result<terms::Dependency, Error> {
        let on = match (&self.job_id, &self.client_id) {
            (Some(id), None) => {
                let id: JobId =
                    id.parse().map_err(|error| Error::field(format!("{path}.jobId"), error))?;
                On::Job(id)
            }
            (None, Some(name)) => {
                let path = || format!("{path}.clientId");
                names::client_id(name).map_err(|error| Error::field(path(), error))?;
                On::Client(Name::from(name.as_str()))
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(Error::field(path, "needs either a jobId or a clientId"));
            }
        };
        let when = When::from_name(&self.after).ok_or_else(|| {
            let known = When::ALL.map(When::name).join(", ");
            Error::field(format!("{path}.after"), format!("`{}` is none of {known}", self.after))
        })?;
        Ok(terms::Dependency { on, when })
    }
}

/// The terms of a job as text: of a job that has some.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Terms {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_running: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) depends_on: Vec<Dependency>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) retry: Vec<RetryRule>,
}

impl Terms {
    /// The terms, if there are any; `count` is that of the array.
    pub(crate) fn read(&self, count: Option<u32>) -> Result<Option<Arc<terms::Terms>>, Error> {
        let max = limits::DEPENDENCIES_MAX;
        if self.depends_on.len() > max {
            let reason = format!("names {} jobs, limit is {max}", self.depends_on.len());
            return Err(Error::field("dependsOn", reason));
        }
        let dependencies = self.depends_on.iter().enumerate();
        let after = dependencies
            .map(|(at, dependency)| dependency.read(&format!("dependsOn[{at}]")))
            .collect::<Result<_, _>>()?;
        let running_max = self.running_max(count)?;
        let retry = retry::policy(&self.retry);
        let retry = retry.map_err(|(field, reason)| Error::field(field, reason))?;
        let terms = terms::Terms { running_max, after, retry };
        Ok(Some(terms).filter(|terms| !terms.is_empty()).map(Arc::new))
    }

    fn running_max(&self, count: Option<u32>) -> Result<Option<u32>, Error> {
        let Some(max) = self.max_running else { return Ok(None) };
        if count.is_none() {
            return Err(Error::field("maxRunning", "is for arrays: there is no count"));
        }
        match u32::try_from(max) {
            Ok(max) if max > 0 => Ok(Some(max)),
            _ => Err(Error::field("maxRunning", format!("{max} is not from 1 to {}", u32::MAX))),
        }
    }

    /// The text of terms; empty of none.
    pub(crate) fn text(terms: Option<&terms::Terms>) -> String {
        let Some(terms) = terms else { return String::new() };
        let text = Self {
            max_running: terms.running_max.map(u64::from),
            depends_on: terms.after.iter().map(Dependency::of).collect(),
            retry: terms.retry.as_deref().map(retry::rules).unwrap_or_default(),
        };
        serde_json::to_string(&text).expect("terms are plain data")
    }

    /// The terms behind such a text.
    pub(crate) fn from_text(
        text: &str,
        count: Option<u32>,
    ) -> Result<Option<Arc<terms::Terms>>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let terms: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        terms.read(count).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job_text::Parser;

    fn parse(fields: &str) -> Result<Option<Arc<terms::Terms>>, String> {
        let text = format!(r#"{{"podSpec":{{"containers":[{{}}]}},{fields}}}"#);
        let job = Parser::new().parse(text.as_bytes()).map(|job| job.terms);
        job.map_err(|error| error.to_string())
    }

    #[test]
    fn terms_survive_the_way_to_the_shard() {
        let fields = r#""count":9,"maxRunning":2,"dependsOn":[{"clientId":"a"},
            {"jobId":"01m85475ba001k7j7xtxrfrqf3","after":"finish"}]"#;
        let terms = parse(&fields.replace('\n', "")).unwrap();
        let read = terms.as_deref().unwrap();
        assert_eq!((read.running_max, read.after.len()), (Some(2), 2));
        assert_eq!((read.after[0].when, read.after[1].when), (When::Success, When::Finish));
        let text = Terms::text(Some(read));
        assert_eq!(Terms::from_text(&text, Some(9)).unwrap(), terms);
        assert_eq!(parse(r#""dependsOn":[]"#), Ok(None));
        assert_eq!(Terms::text(None), "");
    }

    #[test]
    fn terms_that_make_no_sense_are_refused_with_their_field() {
        let many = vec![r#"{"clientId":"a"}"#; limits::DEPENDENCIES_MAX + 1].join(",");
        let cases = [
            (r#""maxRunning":1"#, "maxRunning: is for arrays"),
            (r#""count":3,"maxRunning":0"#, "maxRunning: 0 is not from 1"),
            (r#""dependsOn":[{}]"#, "dependsOn[0]: needs either a jobId or a clientId"),
            (r#""dependsOn":[{"jobId":"x"}]"#, "dependsOn[0].jobId: "),
            (r#""dependsOn":[{"clientId":"a","after":"x"}]"#, "`x` is none of success, finish"),
            (r#""dependsOn":[{"clientId":"a","x":1}]"#, "unknown field `x`"),
            (&format!(r#""dependsOn":[{many}]"#), "dependsOn: names 65 jobs, limit is 64"),
        ];
        for (fields, expected) in cases {
            let said = parse(fields).unwrap_err();
            assert!(said.contains(expected), "{fields}: {said}");
        }
    }
}
