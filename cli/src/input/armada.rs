//! Files of Armada's test suite and of its load tester, whose jobs stand for many: test cases are
//! `jobs` with `numBatches` and `batchSize`, maybe with a second document of what a test has to do
//! and to see; load tests are `submissions`. The jobs are submitted; what else such files say is
//! named, and left out.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use bytes::Bytes;
use muster_runtime::Random;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::jobs::{Item, Parsed, one_line};

/// Jobs that one file may stand for.
const JOBS_MAX: u64 = 1_000_000;
/// What a test case says of its jobs; all else is for tests.
const CASE_FIELDS: [&str; 6] =
    ["queue", "jobSetId", "jobs", "numBatches", "batchSize", "randomClientId"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case<'a> {
    queue: Option<String>,
    job_set_id: Option<String>,
    #[serde(borrow)]
    jobs: Vec<&'a RawValue>,
    num_batches: Option<u64>,
    batch_size: Option<u64>,
    #[serde(default)]
    random_client_id: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named<'a> {
    #[serde(borrow)]
    client_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadTest<'a> {
    #[serde(borrow)]
    submissions: Vec<Load<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Load<'a> {
    queue: Option<String>,
    queue_prefix: Option<String>,
    job_set_prefix: String,
    count: u64,
    queue_priority_factor: Option<IgnoredAny>,
    #[serde(borrow)]
    jobs: Vec<LoadJob<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LoadJob<'a> {
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    count: u64,
    delay_submit: Option<IgnoredAny>,
    #[serde(borrow)]
    priority: Option<&'a RawValue>,
    #[serde(borrow)]
    namespace: Option<&'a RawValue>,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    required_node_labels: Option<&'a RawValue>,
    #[serde(borrow)]
    spec: &'a RawValue,
}

/// A job of a load test as any other.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LoadItem<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    required_node_labels: Option<&'a RawValue>,
    pod_spec: &'a RawValue,
}

/// The jobs of a test case; where it names no job set, that is `name`.
pub(super) fn test_case(
    json: &str,
    place: &str,
    name: Option<&str>,
    parsed: &mut Parsed,
) -> anyhow::Result<()> {
    let case: Case<'_> = serde_json::from_str(json)?;
    let (batches, size) = (case.num_batches.unwrap_or(1), case.batch_size.unwrap_or(1));
    ensure!(batches > 0, "`numBatches: 0` has no end: say how many");
    let copies = batches.saturating_mul(size);
    fits(copies.saturating_mul(case.jobs.len() as u64))?;
    let job_set = case.job_set_id.as_deref().or(name);
    let random = Random::from_os();
    for _ in 0..copies {
        for (index, job) in case.jobs.iter().enumerate() {
            let text = one_line(job.get());
            let named: Named<'_> = serde_json::from_str(job.get())?;
            let is_to_be_named = case.random_client_id && named.client_id.is_none();
            parsed.items.push(Item {
                queue: case.queue.clone(),
                job_set: job_set.map(str::to_owned),
                text: if is_to_be_named { with_client_id(&text, &random)? } else { text },
                place: format!("{place}, job {}", index + 1),
            });
        }
    }
    left_out(json, place, parsed)
}

/// Names what is only for tests, in a test case or in the document behind it.
pub(super) fn left_out(json: &str, place: &str, parsed: &mut Parsed) -> anyhow::Result<()> {
    let fields: BTreeMap<String, IgnoredAny> = serde_json::from_str(json)?;
    let for_tests: Vec<_> =
        fields.into_keys().filter(|field| !CASE_FIELDS.contains(&field.as_str())).collect();
    if !for_tests.is_empty() {
        let fields = for_tests.join(", ");
        parsed.notes.push(format!("{place}: left out, for it is about a test: {fields}"));
    }
    Ok(())
}

/// The jobs of a load test.
pub(super) fn load_test(json: &str, place: &str, parsed: &mut Parsed) -> anyhow::Result<()> {
    let LoadTest { submissions } = serde_json::from_str(json)?;
    let jobs = |load: &Load<'_>| {
        let each = load.jobs.iter().fold(0_u64, |sum, job| sum.saturating_add(job.count));
        each.saturating_mul(load.count)
    };
    fits(submissions.iter().map(jobs).fold(0, u64::saturating_add))?;
    for (at, load) in submissions.iter().enumerate() {
        let place = format!("{place}, submission {}", at + 1);
        of_load(load, &place, parsed).with_context(|| place.clone())?;
        let has_delay = load.jobs.iter().any(|job| job.delay_submit.is_some());
        let fields = [
            ("queuePriorityFactor", load.queue_priority_factor.is_some()),
            ("delaySubmit", has_delay),
        ];
        for (field, _) in fields.into_iter().filter(|(_, is_there)| *is_there) {
            parsed.notes.push(format!("{place}: left out: {field}"));
        }
    }
    Ok(())
}

fn of_load(load: &Load<'_>, place: &str, parsed: &mut Parsed) -> anyhow::Result<()> {
    for number in 0..load.count {
        let queue = match (&load.queue, &load.queue_prefix) {
            (Some(queue), _) => Some(queue.clone()),
            (None, Some(prefix)) => Some(format!("{prefix}-{number}")),
            (None, None) => None,
        };
        for (index, job) in load.jobs.iter().enumerate() {
            let text = serde_json::to_string(&LoadItem {
                priority: job.priority,
                namespace: job.namespace,
                labels: job.labels,
                annotations: job.annotations,
                required_node_labels: job.required_node_labels,
                pod_spec: job.spec,
            })?;
            let item = Item {
                queue: queue.clone(),
                job_set: Some(format!("{}-{number}", load.job_set_prefix)),
                text: one_line(&text),
                place: format!("{place}, job {}", index + 1),
            };
            parsed.items.extend((0..job.count).map(|_| item.clone()));
        }
    }
    Ok(())
}

fn fits(jobs: u64) -> anyhow::Result<()> {
    ensure!(jobs <= JOBS_MAX, "{jobs} jobs, limit is {JOBS_MAX}: an array (`count`) has room");
    Ok(())
}

/// A job's text with an id that nobody else has.
fn with_client_id(text: &Bytes, random: &Random) -> anyhow::Result<Bytes> {
    let rest = text.strip_prefix(b"{").context("a job is an object")?;
    let comma = if rest.trim_ascii_start().starts_with(b"}") { "" } else { "," };
    let id = format!("{{\"clientId\":\"{:032x}\"{comma}", random.u128());
    Ok([id.as_bytes(), rest].concat().into())
}

#[cfg(test)]
mod tests {
    use crate::input::jobs::of_yaml;

    const CASE: &str = "
# A case
numBatches: 2
batchSize: 3
queue: e2e
jobs:
  - { priority: 0, podSpec: { containers: [{ name: a }] } }
  - podSpec: { containers: [{ name: b }] }
---
timeout: 100s
action: ACTION_CANCEL
expectedEvents:
  - submitted:
  - cancelled:
";

    #[test]
    fn the_jobs_of_a_test_case_are_copied_batch_by_batch() {
        let parsed = of_yaml(CASE, Some("cancel_2x3")).unwrap();
        assert_eq!(parsed.items.len(), 12);
        let first = &parsed.items[0];
        assert_eq!(first.queue.as_deref(), Some("e2e"));
        assert_eq!(first.job_set.as_deref(), Some("cancel_2x3"));
        assert_eq!(&first.text[..], br#"{"priority":0,"podSpec":{"containers":[{"name":"a"}]}}"#);
        assert_eq!(parsed.items[1].place, "document 1, job 2");
        assert_eq!(parsed.items[2].text, first.text);
        let note = "document 2: left out, for it is about a test: action, expectedEvents, timeout";
        assert_eq!(parsed.notes, [note]);
    }

    #[test]
    fn a_job_set_that_is_named_is_kept_and_jobs_may_follow_a_case() {
        let text = CASE.replace("queue: e2e", "queue: e2e\njobSetId: mine\nrandomClientId: true");
        let parsed = of_yaml(&format!("{text}---\npodSpec: {{}}\n"), Some("other")).unwrap();
        assert_eq!(parsed.items.len(), 13);
        assert_eq!(parsed.items[0].job_set.as_deref(), Some("mine"));
        assert_eq!(parsed.items[12].job_set, None);
        let mut ids: Vec<String> = Vec::new();
        for item in &parsed.items[..12] {
            let job: serde_json::Value = serde_json::from_slice(&item.text).unwrap();
            assert!(job["podSpec"].is_object());
            ids.push(job["clientId"].as_str().unwrap().to_owned());
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 12);
        let named = "batchSize: 1\nrandomClientId: true\njobs: [{clientId: a}, {}]";
        let texts: Vec<_> = of_yaml(named, None).unwrap().items;
        assert_eq!(&texts[0].text[..], br#"{"clientId":"a"}"#);
        assert!(serde_json::from_slice::<serde_json::Value>(&texts[1].text).is_ok());
    }

    #[test]
    fn a_load_test_stands_for_the_jobs_of_all_its_queues() {
        let text = "
submissions:
  - jobSetPrefix: many
    queuePrefix: load
    count: 2
    queuePriorityFactor: 0.1
    jobs:
      - { name: x, count: 3, priority: 1, labels: { a: b }, spec: { containers: [] } }
  - { jobSetPrefix: one, queue: own, count: 1, jobs: [{ count: 1, spec: {} }] }
";
        let parsed = of_yaml(text, None).unwrap();
        let of = |item: &crate::input::jobs::Item| {
            (item.queue.clone().unwrap(), item.job_set.clone().unwrap())
        };
        let places: Vec<_> = parsed.items.iter().map(of).collect();
        let named = |queue: &str, set: &str| (queue.to_owned(), set.to_owned());
        assert_eq!(places.len(), 7);
        assert_eq!(places[2..4], [named("load-0", "many-0"), named("load-1", "many-1")]);
        assert_eq!(places[6], named("own", "one-0"));
        let expected = br#"{"priority":1,"labels":{"a":"b"},"podSpec":{"containers":[]}}"#;
        assert_eq!(&parsed.items[0].text[..], expected);
        assert_eq!(parsed.notes, ["document 1, submission 1: left out: queuePriorityFactor"]);
    }

    #[test]
    fn what_stands_for_too_many_jobs_is_refused() {
        let refused = |text: &str| format!("{:#}", of_yaml(text, None).unwrap_err());
        assert!(refused("numBatches: 0\njobs: [{}]").contains("has no end"));
        assert!(refused("batchSize: 1000001\njobs: [{}]").contains("limit is 1000000"));
        let load = "submissions: [{queue: q, jobSetPrefix: s, count: 1000, \
                    jobs: [{count: 1001, spec: {}}]}]";
        assert!(refused(load).contains("limit is 1000000"));
        assert!(refused("submissions: [{colour: red}]").contains("colour"));
    }
}
