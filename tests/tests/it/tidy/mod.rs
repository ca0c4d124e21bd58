//! The tree keeps its own rules: dependencies point one way, files and functions stay short, every
//! file says what it is for, documents name only what exists.
//!
//! A finding that has to stand for now is a line in `tests/tidy-allow.txt`. The list may only
//! shrink: a line of it that no longer finds anything is a finding too.

mod dependencies;
mod documents;
mod scan;
mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use muster_tests::repo_root;

/// A breach of a rule. Its text is what a line of the allow-list repeats.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    rule: &'static str,
    path: String,
    /// What in the file it is about: a function's name, a path that is missing. Empty for the whole
    /// file.
    subject: String,
    /// How bad it is; not part of its identity.
    detail: String,
}

impl Finding {
    fn key(&self) -> String {
        format!("{} {} {}", self.rule, self.path, self.subject).trim_end().to_owned()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key(), self.detail)
    }
}

#[test]
fn files_and_functions_keep_the_rules() {
    let root = repo_root();
    let mut findings = source::findings(&root);
    findings.extend(documents::findings(&root));

    let allowed = allowed(&root);
    let found = findings.iter().map(Finding::key).collect::<BTreeSet<_>>();
    let stale = allowed.difference(&found).cloned().collect::<Vec<_>>();
    let new = findings.iter().filter(|finding| !allowed.contains(&finding.key()));
    let new = new.map(ToString::to_string).collect::<Vec<_>>();

    assert!(new.is_empty(), "{} findings:\n{}", new.len(), new.join("\n"));
    assert!(stale.is_empty(), "remove from tests/tidy-allow.txt:\n{}", stale.join("\n"));
}

fn allowed(root: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root.join("tests/tidy-allow.txt")).unwrap();
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// The files of the tree with one of these endings, by path; neither what is built nor what is
/// hidden.
fn files(root: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap().to_string_lossy().into_owned()
}
