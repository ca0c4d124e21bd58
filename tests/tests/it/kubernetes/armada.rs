//! Files that are written for Armada run as they are: job files, test cases, a load test. What test
//! cases want to be done is done here, and what they expect to be seen is looked for; and what any
//! of them says of a job is found again on its pod.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use futures::future::join_all;
use muster_client::{Follow, Output, Selection};
use muster_core::shape::Shape;
use muster_tests::repo_root;
use muster_tests::wait::eventually;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::executor::World;
use super::{WAIT, pods};

const QUEUE: &str = "team-of-armada";

/// What a file wants, and what is to be seen of each of its jobs, in this order.
struct Case {
    path: PathBuf,
    jobs: usize,
    /// The jobs as they are written: the file stands for copies of all, one after the other.
    written: Vec<Value>,
    wants: Value,
    expected: Vec<String>,
}

/// The executor has to give up pods without an image soon, and to keep those that have ended.
pub(super) async fn files_of_armada_run_as_they_are(world: &World) {
    world.cluster.namespace("personal-anonymous").await.unwrap();
    let directory = repo_root().join("tests/fixtures/armada");
    let queue = directory.join("queue.yaml");
    world.muster(&["queue", "create", "--file", queue.to_str().unwrap()]);
    let weight = world.client.queue(QUEUE).await.unwrap().settings.weight;
    assert!((weight - 0.5).abs() < 1e-9, "half of what a priority factor of 1 gives: {weight}");
    let succeeds = || vec!["submitted".to_owned(), "succeeded".to_owned()];
    let mut cases = Vec::new();
    for path in files(&directory.join("example")) {
        let written = documents(&path)[0]["jobs"].as_array().unwrap().clone();
        let jobs = written.len();
        cases.push(Case { path, jobs, written, wants: Value::Null, expected: succeeds() });
    }
    cases.extend(files(&directory.join("testsuite")).into_iter().map(case));
    assert!(cases.len() >= 16, "{}", cases.len());
    let path = directory.join("loadtest.yaml");
    let mut written = documents(&path)[0]["submissions"][0]["jobs"][0].clone();
    written["podSpec"] = written["spec"].take();
    let written = vec![written];
    cases.push(Case { path, jobs: 12, written, wants: Value::Null, expected: succeeds() });
    join_all(cases.iter().map(|case| runs(world, case))).await;
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    documents.map(|document| Value::deserialize(document).unwrap()).collect()
}

/// A test case by its two documents.
fn case(path: PathBuf) -> Case {
    let [first, second] = documents(&path).try_into().unwrap();
    let copies = first["numBatches"].as_u64().unwrap() * first["batchSize"].as_u64().unwrap();
    let written = first["jobs"].as_array().unwrap().clone();
    let jobs = usize::try_from(copies).unwrap() * written.len();
    let expected = second["expectedEvents"].as_array().unwrap().iter();
    let names = expected.map(|event| event.as_object().unwrap().keys().next().unwrap().clone());
    Case { path, jobs, written, expected: names.collect(), wants: second }
}

async fn runs(world: &World, case: &Case) {
    let name = case.path.display().to_string();
    let output = world.muster(&["submit", &name]);
    let ids: Vec<String> = output.lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), case.jobs, "{name}");
    // In the order of the file, so that the first and the last of a load test have two job sets.
    let mut sets = Vec::new();
    for at in [0, ids.len() - 1] {
        let job = world.client.job(&ids[at], Output::State).await.unwrap();
        let priority = case.written(at).get("priority").and_then(Value::as_u64);
        assert_eq!(u64::from(job.priority), priority.unwrap_or_default(), "{name}");
        sets.push(job.job_set);
    }
    sets.dedup();
    if case.wants.get("timeout").is_some() && case.wants.get("cancelSet").is_none() {
        let stem = case.path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(sets, [stem], "a test case's job set is the name of its file");
    }
    act(world, &case.wants, &ids, &sets[0]).await;
    let what = format!("{name}: what is expected happens");
    let seen = eventually(WAIT, &what, async || {
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for set in &sets {
            let mut events = world.client.events(QUEUE, set, None, Follow::No);
            while let Some(event) = events.next().await? {
                seen.entry(event.job_id).or_default().push(event.event);
            }
        }
        for id in &ids {
            let seen = seen.get(id).map(Vec::as_slice).unwrap_or_default();
            is_in_order(&case.expected, seen)?;
        }
        Ok(())
    });
    seen.await.unwrap();
    if case.expected.iter().any(|event| event == "succeeded") {
        for (at, id) in ids.iter().enumerate() {
            is_as_written(world, id, case.written(at)).await;
        }
    }
    for job_set in sets {
        let all = Selection::JobSet { queue: QUEUE.to_owned(), job_set, states: Vec::new() };
        world.client.cancel(all, None).await.unwrap();
    }
}

impl Case {
    /// What the file says of a job.
    fn written(&self, at: usize) -> &Value {
        &self.written[at % self.written.len()]
    }
}

/// What is said of a job is found on its pod: as it is said, as the scheduler was told of it, and
/// as the job itself can read it.
async fn is_as_written(world: &World, id: &str, written: &Value) {
    let job = world.client.job(id, Output::State).await.unwrap();
    let name = format!("muster-{id}-{}", job.runs.last().unwrap().attempt);
    let api = pods(&world.cluster, written["namespace"].as_str().unwrap());
    let pod = serde_json::to_value(api.get(&name).await.unwrap()).unwrap();
    let meta = &pod["metadata"];
    for kind in ["labels", "annotations"] {
        for (name, value) in written.get(kind).and_then(Value::as_object).into_iter().flatten() {
            assert_eq!(&meta[kind][name], value, "{name}: {meta}");
        }
    }
    assert_eq!(meta["labels"]["armada_job_id"], *id);
    let said = |name: &str| {
        let said = written.pointer(&format!("/annotations/armadaproject.io~1{name}"))?.as_str();
        said.map(str::to_owned)
    };
    let [gang, cardinality] = ["gangId", "gangCardinality"].map(said);
    let shape = meta["annotations"]["muster.dev/shape"].as_str().and_then(Shape::from_canonical);
    let shape = shape.unwrap();
    let known = shape.gang.as_ref();
    assert_eq!(known.map(|known| known.id.to_string()), gang, "{written}");
    assert_eq!(known.map(|known| known.cardinality.to_string()), cardinality, "{written}");
    let uniform = known.and_then(|known| known.uniformity.as_ref()).map(ToString::to_string);
    assert_eq!(uniform, said("gangNodeUniformityLabel"), "{written}");
    if let Some(class) = written.pointer("/podSpec/priorityClassName") {
        assert_eq!(*class, *shape.class, "{written}");
    }
    let containers = pod["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), written["podSpec"]["containers"].as_array().unwrap().len());
    for container in containers {
        let variables = container["env"].as_array().unwrap();
        let read = |name: &str| {
            let variable = variables.iter().find(|variable| variable["name"] == name)?;
            variable["value"].as_str().map(str::to_owned)
        };
        assert_eq!(read("ARMADA_JOB_ID").as_deref(), Some(id));
        assert_eq!(read("ARMADA_GANG_ID"), gang, "{container}");
    }
}

/// Does what a test case wants to be done.
async fn act(world: &World, wants: &Value, ids: &[String], job_set: &str) {
    let text = |field: &str| wants.get(field).and_then(Value::as_str).unwrap_or_default();
    let is_one_by_one = text("cancel").starts_with("BY_ID");
    let selection = if is_one_by_one {
        Selection::Ids(ids.to_vec())
    } else {
        let (queue, job_set) = (QUEUE.to_owned(), job_set.to_owned());
        Selection::JobSet { queue, job_set, states: Vec::new() }
    };
    match text("action") {
        "ACTION_CANCEL" => {}
        "ACTION_REPRIORITIZE" => {
            assert_eq!(wants["newPriority"], json!(100));
            world.client.reprioritize(selection, 100).await.unwrap();
            return;
        }
        "" if is_one_by_one || wants.get("cancelSet").is_some() => {}
        "" => return,
        other => panic!("nobody knows how to {other}"),
    }
    world.client.cancel(selection, None).await.unwrap();
}

/// Whether some events are among those that were seen, in their order.
fn is_in_order(expected: &[String], seen: &[String]) -> Result<()> {
    let mut rest = seen.iter();
    let is_there = expected.iter().all(|event| rest.any(|other| other == event));
    ensure!(is_there, "{expected:?} is not in {seen:?}");
    Ok(())
}
