//! The rules of documents: they name only what exists.

use std::path::Path;

use super::{Finding, files, relative};

pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files(root, &[".md"]) {
        let path = relative(root, &file);
        let text = std::fs::read_to_string(&file).unwrap();
        let beside = file.parent().unwrap();
        let missing = named_paths(root, &text)
            .filter(|named| !root.join(named).exists() && !beside.join(named).exists())
            .chain(linked_paths(&text).filter(|linked| !beside.join(linked).exists()));
        findings.extend(missing.map(|missing| Finding {
            rule: "document-path",
            path: path.clone(),
            subject: missing.to_owned(),
            detail: "it names what does not exist".to_owned(),
        }));
    }
    findings.extend(changelog(root));
    findings
}

fn changelog(root: &Path) -> Option<Finding> {
    let text = std::fs::read_to_string(root.join("CHANGELOG.md")).unwrap_or_default();
    (!text.lines().any(|line| line == "## [Unreleased]")).then(|| Finding {
        rule: "changelog",
        path: "CHANGELOG.md".to_owned(),
        subject: String::new(),
        detail: "it has no section `## [Unreleased]`".to_owned(),
    })
}

/// What stands in backticks and looks like a path in the tree: it begins with a directory of the
/// root.
fn named_paths<'a>(root: &Path, text: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).filter(move |quoted| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let first = quoted.split_once('/').map(|(first, _)| first);
        quoted.chars().all(plain)
            && first.is_some_and(|first| {
                !first.is_empty() && first != "target" && root.join(first).is_dir()
            })
    })
}

/// The targets of links to files, relative to the document.
fn linked_paths(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|after| {
        let target = after.split(')').next()?;
        let path = target.split('#').next()?;
        (!path.is_empty() && !path.contains(':') && !path.contains(char::is_whitespace))
            .then_some(path)
    })
}

#[test]
fn paths_are_told_from_other_words() {
    let root = muster_tests::repo_root();
    let text = "`core/src/none.rs` `shards/{shard}/log` `a/b` `core` `tests/`\n[x](docs/y.md#z)";
    assert_eq!(named_paths(&root, text).collect::<Vec<_>>(), ["core/src/none.rs", "tests/"]);
    let links = "[x](docs/y.md#z) [h](https://example.org) [s](#section)";
    assert_eq!(linked_paths(links).collect::<Vec<_>>(), ["docs/y.md"]);
}
