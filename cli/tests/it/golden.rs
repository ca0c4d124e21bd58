//! The help of every command, held to files. `UPDATE_GOLDEN=1` writes them anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help")
}

/// Name of the file and help, of a command and those below it.
fn helps(command: &mut clap::Command, path: &str, found: &mut BTreeMap<String, String>) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let path = if path.is_empty() {
        command.get_name().to_owned()
    } else {
        format!("{path}-{}", command.get_name())
    };
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    found.insert(format!("{path}.txt"), lines.join("\n") + "\n");
    for below in command.get_subcommands_mut() {
        helps(below, &path, found);
    }
}

#[test]
fn help_is_as_reviewed() {
    let mut command = muster_cli::Cli::command().term_width(100);
    command.build();
    let mut found = BTreeMap::new();
    helps(&mut command, "", &mut found);
    let directory = directory();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        for (name, help) in &found {
            std::fs::write(directory.join(name), help).unwrap();
        }
        return;
    }
    let mut kept = BTreeMap::new();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        kept.insert(name, std::fs::read_to_string(path).unwrap());
    }
    let names = |helps: &BTreeMap<String, String>| helps.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&kept), "`UPDATE_GOLDEN=1 cargo test` writes them anew");
    for (name, help) in found {
        assert_eq!(help, kept[&name], "{name}: `UPDATE_GOLDEN=1 cargo test` writes it anew");
    }
}
