//! Jobs in YAML and JSON documents: one job, a list of jobs, a job file with `queue`, `jobSetId`
//! and `jobs` as Armada has it (`jobRequestItems` in the requests of its API), or one of those that
//! [`super::armada`] knows. Each job becomes one line of JSON with its keys in their order; what is
//! JSON already is kept byte for byte, but for line ends.

use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::ValueEnum;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::armada;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// YAML documents
    Yaml,
    /// JSON documents
    Json,
    /// One JSON job a line
    Ndjson,
}

impl Format {
    /// By the end of the file's name.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            // Any other end says nothing.
            _ => None,
        }
    }
}

/// A job to be submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// The queue that its file names.
    pub(crate) queue: Option<String>,
    /// The job set that its file names.
    pub(crate) job_set: Option<String>,
    /// Its JSON, in one line.
    pub(crate) text: Bytes,
    /// Where it stands, for messages.
    pub(crate) place: String,
}

/// What stands in a file.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// The jobs, in order.
    pub(crate) items: Vec<Item>,
    /// What is said of it to people.
    pub(crate) notes: Vec<String>,
    /// Whether the last document was a test case, or behind one.
    is_behind_case: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JobFile<'a> {
    queue: Option<String>,
    #[serde(alias = "jobSet")]
    job_set_id: Option<String>,
    #[serde(borrow, alias = "jobRequestItems")]
    jobs: Vec<&'a RawValue>,
}

/// Looks at the fields that tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peek {
    #[serde(alias = "jobRequestItems")]
    jobs: Option<IgnoredAny>,
    num_batches: Option<IgnoredAny>,
    batch_size: Option<IgnoredAny>,
    submissions: Option<IgnoredAny>,
    pod_spec: Option<IgnoredAny>,
    pod_specs: Option<IgnoredAny>,
}

/// The jobs of YAML documents; `name` is the job set of test cases that do not name one.
pub(crate) fn of_yaml(text: &str, name: Option<&str>) -> anyhow::Result<Parsed> {
    let mut parsed = Parsed::default();
    for (at, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let place = format!("document {}", at + 1);
        let json = yaml_to_json(document).with_context(|| place.clone())?;
        if json != "null" {
            of_document(&json, &place, name, &mut parsed)?;
        }
    }
    Ok(parsed)
}

/// The jobs of JSON documents; `name` as for [`of_yaml`].
pub(crate) fn of_json(text: &str, name: Option<&str>) -> anyhow::Result<Parsed> {
    let mut parsed = Parsed::default();
    let documents = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    for (at, document) in documents.enumerate() {
        let place = format!("document {}", at + 1);
        let document = document.with_context(|| place.clone())?;
        of_document(document.get(), &place, name, &mut parsed)?;
    }
    Ok(parsed)
}

/// A YAML document as JSON, keys in their order.
pub(crate) fn yaml_to_json(document: serde_yaml_ng::Deserializer<'_>) -> anyhow::Result<String> {
    let mut value = serde_yaml_ng::Value::deserialize(document)?;
    value.apply_merge()?;
    Ok(serde_json::to_string(&value)?)
}

fn of_document(
    json: &str,
    place: &str,
    name: Option<&str>,
    parsed: &mut Parsed,
) -> anyhow::Result<()> {
    let is_behind_case = std::mem::take(&mut parsed.is_behind_case);
    let (queue, job_set, jobs) = match json.trim_start().as_bytes().first() {
        Some(b'[') => {
            let jobs: Vec<&RawValue> = serde_json::from_str(json)?;
            (None, None, jobs)
        }
        Some(b'{') => {
            let peek: Peek = serde_json::from_str(json).with_context(|| place.to_owned())?;
            let has_jobs = peek.jobs.is_some();
            if has_jobs && (peek.num_batches.is_some() || peek.batch_size.is_some()) {
                parsed.is_behind_case = true;
                let taken = armada::test_case(json, place, name, parsed);
                return taken.with_context(|| place.to_owned());
            }
            if !has_jobs && peek.submissions.is_some() {
                let taken = armada::load_test(json, place, parsed);
                return taken.with_context(|| place.to_owned());
            }
            let is_job = peek.pod_spec.is_some() || peek.pod_specs.is_some();
            if !has_jobs && is_behind_case && !is_job {
                parsed.is_behind_case = true;
                return armada::left_out(json, place, parsed);
            }
            if !has_jobs {
                let (text, place) = (one_line(json), place.to_owned());
                parsed.items.push(Item { queue: None, job_set: None, text, place });
                return Ok(());
            }
            let file: JobFile<'_> = serde_json::from_str(json).with_context(|| place.to_owned())?;
            (file.queue, file.job_set_id, file.jobs)
        }
        _ => bail!("{place} is neither a job nor a list of jobs nor a file with `jobs`"),
    };
    parsed.items.extend(jobs.into_iter().enumerate().map(|(index, job)| Item {
        queue: queue.clone(),
        job_set: job_set.clone(),
        text: one_line(job.get()),
        place: format!("{place}, job {}", index + 1),
    }));
    Ok(())
}

/// JSON has line ends only between its tokens, where a space says the same.
pub(super) fn one_line(json: &str) -> Bytes {
    let bytes =
        json.trim().bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARMADA: &str = r#"
queue: research
jobSetId: night
jobs:
  - priority: 0.5
    namespace: default
    clientId: "7"
    labels: {zeta: "1", alpha: "2"}
    podSpecs:
      - terminationGracePeriodSeconds: 0
        restartPolicy: Never
        containers:
          - name: sleep
            image: alpine:3
            command: ["sh", "-c"]
            args:
              - |
                echo hello
                sleep 1
            resources:
              limits: {memory: 64Mi, cpu: 150m}
              requests: {memory: 64Mi, cpu: 150m}
  - podSpec: {containers: []}
"#;

    #[test]
    fn an_armada_job_file_becomes_lines_in_the_order_of_its_keys() {
        let items = of_yaml(ARMADA, None).unwrap().items;
        assert_eq!(items.len(), 2);
        assert_eq!(items[0].queue.as_deref(), Some("research"));
        assert_eq!(items[0].job_set.as_deref(), Some("night"));
        assert_eq!(items[1].place, "document 1, job 2");
        assert_eq!(
            std::str::from_utf8(&items[0].text).unwrap(),
            concat!(
                r#"{"priority":0.5,"namespace":"default","clientId":"7","#,
                r#""labels":{"zeta":"1","alpha":"2"},"podSpecs":[{"terminationGracePeriodSeconds":0,"#,
                r#""restartPolicy":"Never","containers":[{"name":"sleep","image":"alpine:3","#,
                r#""command":["sh","-c"],"args":["echo hello\nsleep 1\n"],"resources":{"#,
                r#""limits":{"memory":"64Mi","cpu":"150m"},"requests":{"memory":"64Mi","cpu":"150m"}}}]}]}"#,
            )
        );
    }

    #[test]
    fn documents_lists_anchors_and_single_jobs_are_taken() {
        let text = "---\npodSpec: {a: 1}\n---\n- podSpec: &p {b: 2}\n- podSpec: *p\n---\n\
                    base: &base {x: 1}\npodSpec: {<<: *base, y: 2}\n---\n";
        let items = of_yaml(text, None).unwrap().items;
        let texts: Vec<_> = items.iter().map(|item| &item.text[..]).collect();
        assert_eq!(texts.len(), 4);
        assert_eq!(texts[0], br#"{"podSpec":{"a":1}}"#);
        assert_eq!(texts[2], br#"{"podSpec":{"b":2}}"#);
        assert_eq!(texts[3], br#"{"base":{"x":1},"podSpec":{"y":2,"x":1}}"#);
    }

    #[test]
    fn json_is_kept_as_it_is_but_for_line_ends() {
        let text = "{\"podSpec\": {\n \"x\" : 1.50e0}}\n[{\"b\":\"\\n\"}]";
        let items = of_json(text, None).unwrap().items;
        assert_eq!(items[0].text, "{\"podSpec\": {  \"x\" : 1.50e0}}".as_bytes());
        assert_eq!(items[1].text, "{\"b\":\"\\n\"}".as_bytes());
        let file = of_json(r#"{"queue":"q","jobSet":"s","jobs":[{}, {}]}"#, None).unwrap().items;
        assert_eq!(file[1].job_set.as_deref(), Some("s"));
        let text = r#"{"queue":"q","jobSetId":"s","jobRequestItems":[{}]}"#;
        let request = of_json(text, None).unwrap().items;
        assert_eq!((request.len(), request[0].queue.as_deref()), (1, Some("q")));
    }

    #[test]
    fn what_is_no_job_is_refused_with_its_place() {
        let place = |text: &str| format!("{:#}", of_yaml(text, None).unwrap_err());
        assert!(place("podSpec: {}\n---\n7").starts_with("document 2 is neither"));
        assert!(place("jobs: []\nqueues: x").contains("document 1: unknown field `queues`"));
        assert!(place("a: [").contains("document 1"));
        assert!(format!("{:#}", of_json("{} x", None).unwrap_err()).starts_with("document 2"));
    }

    #[test]
    fn formats_go_by_the_end_of_the_name() {
        let formats = ["a.yml", "a.yaml", "a.json", "a.ndjson", "a.jsonl", "a", "a.txt"]
            .map(|name| Format::of(Path::new(name)));
        let (yaml, json, lines) = (Some(Format::Yaml), Some(Format::Json), Some(Format::Ndjson));
        assert_eq!(formats, [yaml, yaml, json, lines, lines, None, None]);
    }
}
