//! `muster admin` on the store of a deployment that runs and has had its load, and on a copy of it.

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Result, ensure};
use muster_tests::process::Program;
use muster_tests::site::Site;
use muster_tests::wait::eventually;
use serde_json::Value;

use super::WAIT;

/// Runs `muster admin` with what stands between white space as arguments.
pub(crate) fn admin(site: &Site, store: &str, line: &str) -> Output {
    let mut program = Program::built("muster").unwrap().arg("admin");
    for (name, value) in site.store().1 {
        program = program.env(&name, value);
    }
    program.args(line.split_whitespace()).args(["--store", store]).output().unwrap()
}

/// What it printed.
pub(crate) fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}

/// Copies a directory, the logs before the history: so nothing is in the history of the copy that
/// its log does not know.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    let mut entries: Vec<_> = std::fs::read_dir(from)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
    for entry in entries {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            std::fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

/// The directory with `shards`, wherever the store keeps it.
pub(crate) fn root(directory: &Path) -> Option<PathBuf> {
    if directory.join("shards").is_dir() {
        return Some(directory.to_owned());
    }
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).find_map(|path| root(&path))
}

pub(crate) async fn what_lies_in_the_store_is_whole_and_damage_is_named(site: &Site) {
    let (store, _) = site.store();
    eventually(WAIT, "what finished is in the history", async || {
        let verified = admin(site, &store, "verify -o json");
        let report = json(&verified);
        assert_eq!((verified.status.code(), &report["findings"]), (Some(0), &Value::Array(vec![])));
        let shards = report["shards"].as_array().unwrap();
        let sum =
            |field: &str| shards.iter().map(|shard| shard[field].as_u64().unwrap()).sum::<u64>();
        assert!(sum("submitted") > 100 && sum("fences") > 0, "{report}");
        ensure!(sum("history") > 100, "{report}");
        Ok(())
    })
    .await
    .unwrap();
    let shown = admin(site, &store, "verify");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.starts_with("SHARD  LOG") && text.ends_with("nothing is wrong\n"), "{text}");

    let would_go = admin(site, &store, "gc --dry-run --set shard.log_grace=\"0s\" -o json");
    assert_eq!((would_go.status.code(), &json(&would_go)["dryRun"]), (Some(0), &true.into()));

    let whole = tempfile::TempDir::new().unwrap();
    let url = eventually(WAIT, "a copy is whole", async || {
        let to = whole.path().join("copy");
        drop(std::fs::remove_dir_all(&to));
        copy(&root(&site.store_dir()).expect("there is a log"), &to)?;
        let url = format!("file://{}", to.display());
        let verified = admin(site, &url, "verify");
        ensure!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        Ok(url)
    })
    .await
    .unwrap();
    let collected = admin(site, &url, "gc --set shard.log_grace=\"0s\"");
    assert_eq!(collected.status.code(), Some(0), "{collected:?}");
    let verified = admin(site, &url, "verify");
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));

    let fence = whole.path().join("copy/shards/0/log/00000000000000000001.parquet");
    let mut bytes = std::fs::read(&fence).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&fence, bytes).unwrap();
    let verified = admin(site, &url, "verify");
    let text = String::from_utf8_lossy(&verified.stdout).into_owned();
    let key = "shards/0/log/00000000000000000001.parquet: ";
    assert!(verified.status.code() == Some(1) && text.contains(key), "{text}");
}
