//! `muster admin` on the store of a deployment that runs: what it lets go of, and what it says of
//! objects that are damaged or missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use muster_tests::site::{Cluster, Site};
use muster_tests::wait::eventually;
use serde_json::{Value, json};

use super::store::{admin, json, root};
use super::{WAIT, http, job, queue, shown, submitted, until_count, until_state};

/// Jobs submitted at once.
const JOBS: usize = 20;
/// As if everything were old.
const AT_ONCE: &str = "--set shard.log_grace=\"0s\"";

/// The store's objects by their keys.
fn keys(root: &Path) -> Result<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "parquet") {
                keys.insert(path.strip_prefix(root)?.display().to_string());
            }
        }
    }
    Ok(keys)
}

fn store_root(site: &Site) -> PathBuf {
    root(&site.store_dir()).expect("there is a log")
}

/// The sum of a field over the lines of an answer.
fn sum(lines: &Value, field: &str) -> u64 {
    lines.as_array().unwrap().iter().map(|line| line[field].as_u64().unwrap()).sum()
}

/// The objects of a kind that went, or would go.
fn of_kind(collected: &Value, kind: &str) -> u64 {
    let lines = collected["objects"].as_array().unwrap();
    let lines: Value = lines.iter().filter(|line| line["kind"] == kind).cloned().collect();
    sum(&lines, "objects")
}

pub(crate) async fn what_nobody_needs_goes_and_only_when_it_is_told_to(site: &Site) {
    let (http, (store, _)) = (http(site), site.store());
    // One process on a directory writes its checkpoints much later.
    let has_garbage = site.cluster() == Cluster::Simulated;
    queue(&http, "garbage").await;
    let mut ids = Vec::new();
    let would_go = eventually(WAIT, "there is something that nobody needs", async || {
        ids.extend(submitted(&http, "garbage", "set", &vec![job(0); JOBS]).await);
        until_count(&http, "garbage", "set", "succeeded", ids.len() as u64).await;
        let would_go = admin(site, &store, &format!("gc --dry-run {AT_ONCE} -o json"));
        assert_eq!(would_go.status.code(), Some(0), "{would_go:?}");
        ensure!(!has_garbage || of_kind(&json(&would_go), "log") > 0, "{would_go:?}");
        Ok(json(&would_go))
    })
    .await
    .unwrap();
    assert_eq!(would_go["dryRun"], true);

    let root = store_root(site);
    let before = keys(&root).unwrap();
    let shown_first = admin(site, &store, &format!("gc --dry-run {AT_ONCE}"));
    let text = String::from_utf8_lossy(&shown_first.stdout).into_owned();
    assert!(text.starts_with("SHARD  KIND") && text.contains("WOULD GO"), "{text}");
    // Nobody has asked for more than to look, and what is young stays.
    assert_eq!(admin(site, &store, "gc").status.code(), Some(0));
    let left = keys(&root).unwrap();
    assert_eq!(before.difference(&left).collect::<Vec<_>>(), Vec::<&String>::new());

    let collected = admin(site, &store, &format!("gc {AT_ONCE} -o json"));
    let went = json(&collected);
    assert_eq!((collected.status.code(), &went["dryRun"]), (Some(0), &json!(false)));
    assert_eq!(went["unreadable"], json!([]));
    for kind in ["log", "checkpoint"] {
        assert!(of_kind(&went, kind) >= of_kind(&would_go, kind), "{went} {would_go}");
    }
    let left = keys(&root).unwrap();
    let gone = before.difference(&left).count() as u64;
    assert!(gone <= sum(&went["objects"], "objects"), "{gone} {went}");
    assert!(gone >= sum(&would_go["objects"], "objects"), "{gone} {would_go}");
    assert_eq!(gone > 0, has_garbage, "{went}");

    let verified = admin(site, &store, "verify -o json");
    let report = json(&verified);
    assert_eq!((verified.status.code(), &report["findings"]), (Some(0), &json!([])));
    assert!(sum(&report["shards"], "collected") >= of_kind(&would_go, "log"), "{report}");
    // Also those of whose submission nothing is left in the log.
    for id in [ids.first().unwrap(), ids.last().unwrap()] {
        assert_eq!(shown(&http, id).await["state"], "succeeded");
    }
    let [id] = &submitted(&http, "garbage", "set", &[job(0)]).await[..] else { panic!() };
    until_state(&http, id, "succeeded").await;
}

/// The last but one object of the longest log: recovery needs it.
fn needed(root: &Path) -> Result<String> {
    let mut logs: Vec<Vec<String>> = Vec::new();
    for key in keys(root)?.into_iter().filter(|key| key.contains("/log/")) {
        let folder = |key: &str| key.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        match logs.last_mut().filter(|log| folder(&log[0]) == folder(&key)) {
            Some(log) => log.push(key),
            None => logs.push(vec![key]),
        }
    }
    let longest = logs.into_iter().max_by_key(Vec::len).context("there is no log")?;
    longest.into_iter().rev().nth(1).context("the log has one object")
}

pub(crate) async fn damage_is_named_and_gone_when_it_is_mended(site: &Site) {
    let (store, _) = site.store();
    let root = store_root(site);
    let key = needed(&root).unwrap();
    let whole = std::fs::read(root.join(&key)).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (bytes, what) in [(Some(&flipped), "checksum of"), (None, "it is missing from the log")] {
        match bytes {
            Some(bytes) => std::fs::write(root.join(&key), bytes).unwrap(),
            None => std::fs::remove_file(root.join(&key)).unwrap(),
        }
        let verified = admin(site, &store, "verify -o json");
        let report = json(&verified);
        assert_eq!(verified.status.code(), Some(1), "{report}");
        let findings = report["findings"].as_array().unwrap();
        let is_named = |found: &Value| {
            found["place"] == *key && found["what"].as_str().unwrap().contains(what)
        };
        assert!(findings.iter().any(is_named), "{key}: {report}");
        let shown = admin(site, &store, "verify");
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert_eq!(shown.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("{key}: {what}")), "{text}");
    }
    std::fs::write(root.join(&key), whole).unwrap();
    let verified = admin(site, &store, "verify");
    let text = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success() && text.ends_with("nothing is wrong\n"), "{text}");
}
