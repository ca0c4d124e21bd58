//! Files that are written for Armada run as they are: job files, test cases, a load test. What test
//! cases want to be done is done here, and what they expect to be seen is looked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use futures::future::join_all;
use muster_client::{Follow, Output, Selection};
use muster_tests::repo_root;
use muster_tests::wait::eventually;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::WAIT;
use super::executor::World;

const QUEUE: &str = "team-of-armada";

/// What a file wants, and what is to be seen of each of its jobs, in this order.
struct Case {
    path: PathBuf,
    jobs: usize,
    wants: Value,
    expected: Vec<String>,
}

/// The executor has to give up pods without an image soon.
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
        let documents = documents(&path);
        let jobs = documents[0]["jobs"].as_array().unwrap().len();
        cases.push(Case { path, jobs, wants: Value::Null, expected: succeeds() });
    }
    cases.extend(files(&directory.join("testsuite")).into_iter().map(case));
    assert!(cases.len() >= 16, "{}", cases.len());
    let path = directory.join("loadtest.yaml");
    cases.push(Case { path, jobs: 12, wants: Value::Null, expected: succeeds() });
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
    let jobs = usize::try_from(copies).unwrap() * first["jobs"].as_array().unwrap().len();
    let expected = second["expectedEvents"].as_array().unwrap().iter();
    let names = expected.map(|event| event.as_object().unwrap().keys().next().unwrap().clone());
    Case { path, jobs, expected: names.collect(), wants: second }
}

async fn runs(world: &World, case: &Case) {
    let name = case.path.display().to_string();
    let output = world.muster(&["submit", &name]);
    let ids: Vec<String> = output.lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), case.jobs, "{name}");
    // In the order of the file, so that the first and the last of a load test have two job sets.
    let mut sets = Vec::new();
    for id in [&ids[0], &ids[ids.len() - 1]] {
        sets.push(world.client.job(id, Output::State).await.unwrap().job_set);
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
    for job_set in sets {
        let all = Selection::JobSet { queue: QUEUE.to_owned(), job_set, states: Vec::new() };
        world.client.cancel(all, None).await.unwrap();
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
