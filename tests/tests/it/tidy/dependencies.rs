//! Which crate may use which: everything points towards `core`, and roles never at each other.

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use muster_tests::repo_root;

/// For each crate of the workspace, the others that it may use.
const DIRECTION: [(&str, &[&str]); 14] = [
    ("core", &[]),
    ("api", &["core"]),
    ("runtime", &["core", "api"]),
    ("gateway", &["core", "api", "runtime"]),
    ("shard", &["core", "api", "runtime"]),
    ("executor", &["core", "api", "runtime"]),
    ("client", &["core", "api", "runtime"]),
    ("simulate", &["core", "api", "runtime", "gateway", "shard", "executor"]),
    ("loadtest", &["core", "api", "runtime", "client", "gateway", "shard", "executor"]),
    ("cli", &["core", "api", "runtime", "client", "gateway", "shard", "executor", "simulate"]),
    (
        "tests",
        &["core", "api", "runtime", "client", "gateway", "shard", "executor", "loadtest", "cli"],
    ),
    ("model", &["runtime"]),
    ("fuzz-targets", &["core", "api", "runtime", "gateway", "shard", "executor"]),
    ("sim", &["core", "api", "runtime", "gateway", "shard", "executor"]),
];

/// All that `core` may use: nothing that waits, talks, serialises or looks at a clock.
const CORE: [&str; 3] = ["bytes", "thiserror", "xxhash-rust"];

fn packages() -> Vec<Package> {
    let manifest = repo_root().join("Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    metadata.packages
}

fn short(name: &str) -> Option<&str> {
    name.strip_prefix("muster-")
}

#[test]
fn dependencies_point_one_way() {
    for package in packages() {
        let name = short(&package.name).unwrap_or(&package.name);
        let allowed = DIRECTION.iter().find(|(crate_, _)| *crate_ == name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("crate `{name}` has no place yet"));
        let used = package.dependencies.iter().filter_map(|dependency| short(&dependency.name));
        // A crate's own tests may use it with other features.
        let wrong = used.filter(|used| *used != name && !allowed.contains(used));
        let wrong = wrong.collect::<Vec<_>>();
        assert!(wrong.is_empty(), "`{name}` must not depend on {wrong:?}");
    }
}

#[test]
fn core_uses_only_what_is_pure() {
    let packages = packages();
    let core = packages.iter().find(|package| package.name.as_str() == "muster-core").unwrap();
    let linked = core.dependencies.iter().filter(|used| used.kind != DependencyKind::Development);
    let wrong = linked.map(|used| used.name.as_str()).filter(|name| !CORE.contains(name));
    let wrong = wrong.collect::<Vec<_>>();
    assert!(wrong.is_empty(), "`core` must not depend on {wrong:?}");
}

#[test]
fn promises_are_broken_on_purpose_by_the_simulation_alone_and_when_asked_to() {
    const FEATURE: &str = "mutants";
    for package in packages() {
        let asks = |feature: &String| feature.rsplit('/').next() == Some(FEATURE);
        let name = package.name.as_str();
        for (feature, enables) in &package.features {
            let is_meant = name == "sim" && feature == FEATURE;
            assert!(is_meant || !enables.iter().any(asks), "{name} has them with `{feature}`");
        }
        let with = package.dependencies.iter().find(|used| used.features.iter().any(asks));
        assert!(with.is_none(), "{name} has them always");
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for package in packages() {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{} has no `[lints] workspace = true`",
            package.manifest_path
        );
    }
}
