//! Queues in YAML (and so in JSON) documents: Muster's fields, or Armada's `priorityFactor`, whose
//! inverse is the weight.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use muster_api::http::{QueueLimit, QueueSettings, Rate};
use muster_api::job_text::RetryRule;
use serde::Deserialize;

use super::jobs::yaml_to_json;

/// A queue of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FileQueue {
    pub(crate) name: String,
    pub(crate) settings: QueueSettings,
    /// Fields that Muster has no use for.
    pub(crate) ignored: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    kind: Option<String>,
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    name: String,
    weight: Option<f64>,
    priority_factor: Option<f64>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    cordoned: bool,
    #[serde(default)]
    limits: Vec<QueueLimit>,
    jobs_queued_max: Option<u64>,
    rate: Option<Rate>,
    #[serde(default)]
    retry: Vec<RetryRule>,
    parent: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_yaml_ng::Value>,
}

/// The queues of a file; a document is a queue, a list of them, or `queues: […]`.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<FileQueue>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Document {
        Wrapped { queues: Vec<serde_json::Value> },
        List(Vec<serde_json::Value>),
        Single(serde_json::Value),
    }

    let mut queues = Vec::new();
    for (at, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let place = || format!("document {}", at + 1);
        let json = yaml_to_json(document).with_context(place)?;
        let values = match serde_json::from_str(&json).with_context(place)? {
            Document::Single(serde_json::Value::Null) => continue,
            Document::Wrapped { queues } => queues,
            Document::List(queues) => queues,
            Document::Single(queue) => vec![queue],
        };
        for value in values {
            let fields = serde_json::from_value(value).with_context(place)?;
            queues.push(queue(fields).with_context(place)?);
        }
    }
    ensure!(!queues.is_empty(), "there is no queue in it");
    Ok(queues)
}

fn queue(fields: Fields) -> anyhow::Result<FileQueue> {
    if let Some(kind) = fields.kind.filter(|kind| kind != "Queue") {
        bail!("`kind` is `{kind}`, not `Queue`");
    }
    let weight = match (fields.weight, fields.priority_factor) {
        (Some(_), Some(_)) => bail!("`weight` and `priorityFactor` say the same: name one"),
        (Some(weight), None) => weight,
        (None, Some(factor)) => {
            ensure!(factor > 0.0, "`priorityFactor` is {factor}, it must be above 0");
            1.0 / factor
        }
        (None, None) => 1.0,
    };
    let Fields { labels, cordoned, limits, jobs_queued_max, rate, retry, parent, .. } = fields;
    let settings =
        QueueSettings { weight, labels, cordoned, limits, jobs_queued_max, rate, retry, parent };
    Ok(FileQueue { name: fields.name, settings, ignored: fields.rest.into_keys().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armada_queue_file_is_taken_and_what_it_loses_is_named() {
        let text = "apiVersion: armadaproject.io/v1beta1\nkind: Queue\nname: research\n\
                    priorityFactor: 4.0\nowners: [a]\npermissions: []\nlabels: {team: x}\n";
        let queues = parse(text).unwrap();
        assert_eq!(queues[0].name, "research");
        assert_eq!(queues[0].settings.weight, 0.25);
        assert_eq!(queues[0].settings.labels["team"], "x");
        assert_eq!(queues[0].ignored, ["owners", "permissions"]);
    }

    #[test]
    fn several_documents_lists_and_json_are_taken() {
        let text = "name: a\nweight: 2\n---\n- name: b\n- name: c\n---\nqueues: [{name: d}]\n";
        let names: Vec<_> = parse(text).unwrap().into_iter().map(|queue| queue.name).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert!(parse(r#"{"name":"a","cordoned":true}"#).unwrap()[0].settings.cordoned);
        let limited = "name: a\nlimits: [{pool: gpu, resources: {cpu: '5'}}]\njobsQueuedMax: 7\n\
                       rate: {perSecond: 2, burst: 3}\n";
        let settings = &parse(limited).unwrap()[0].settings;
        assert_eq!(settings.limits[0].resources["cpu"], "5");
        assert_eq!((settings.jobs_queued_max, settings.rate.unwrap().burst), (Some(7), 3));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let why = |text: &str| format!("{:#}", parse(text).unwrap_err());
        assert!(why("kind: Job\nname: a").contains("`kind` is `Job`"));
        assert!(why("name: a\npriorityFactor: 0").contains("must be above 0"));
        assert!(why("name: a\nweight: 1\npriorityFactor: 1").contains("name one"));
        assert!(why("weight: 1").contains("missing field `name`"));
        assert!(why("").contains("no queue"));
    }
}
