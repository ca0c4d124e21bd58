//! Layers, names, and every problem at once.

use serde::Deserialize;

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Example {
    name: String,
    bus: Bus,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Bus {
    url: String,
    timeout: HumanDuration,
    buffer_max: ByteSize,
    replicas: u32,
    ca_file: Option<PathBuf>,
}

impl Default for Example {
    fn default() -> Self {
        Self { name: "example".to_owned(), bus: Bus::default() }
    }
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            url: "memory://".to_owned(),
            timeout: HumanDuration::millis(250),
            buffer_max: ByteSize::mib(64),
            replicas: 1,
            ca_file: None,
        }
    }
}

impl Config for Example {
    fn docs() -> Vec<FieldDoc> {
        vec![
            FieldDoc::new("name", "Name."),
            FieldDoc::new("bus.url", "Address."),
            FieldDoc::new("bus.timeout", "Time."),
            FieldDoc::new("bus.buffer_max", "Size."),
            FieldDoc::new("bus.replicas", "Count."),
            FieldDoc::new("bus.ca_file", "File."),
        ]
    }

    fn validate(&self, problems: &mut Problems) {
        if self.bus.replicas == 0 {
            problems.add("bus.replicas", "is 0, at least 1 is needed");
        }
    }
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("muster.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn later_sources_win() {
    let (_directory, path) =
        file("name = 'file'\n[bus]\nurl = 'nats://file'\ntimeout = '1s'\nreplicas = 2\n");
    let sources = Sources {
        file: Some(path),
        env: env(&[
            ("MUSTER_BUS__URL", "nats://env:4222"),
            ("MUSTER_BUS__BUFFER_MAX", "1GiB"),
            ("MUSTER_BUS__REPLICAS", "3"),
            ("MUSTER_NAME", "1234"),
            ("MUSTER_LOG", "debug"),
            ("MUSTER_GATEWAY_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("PATH", "/bin"),
        ]),
        set: vec!["bus.replicas=4".to_owned(), "bus.ca_file=/ca.pem".to_owned()],
        flags: vec![Flag { name: "--replicas", key: "bus.replicas", value: "5".to_owned() }],
    };
    let bus = Bus {
        url: "nats://env:4222".to_owned(),
        timeout: HumanDuration::secs(1),
        buffer_max: ByteSize(1 << 30),
        replicas: 5,
        ca_file: Some("/ca.pem".into()),
    };
    assert_eq!(load::<Example>(&sources), Ok(Example { name: "1234".to_owned(), bus }));
}

#[test]
fn all_problems_are_told_with_key_and_source() {
    let (_directory, path) = file("nme = 'x'\n[bus]\ntimeout = 'soon'\nreplicas = 0\n");
    let sources = Sources {
        file: Some(path.clone()),
        env: env(&[("MUSTER_BUS__BUFFER_MAX", "much")]),
        set: vec!["name".to_owned(), "name.x=1".to_owned()],
        flags: vec![],
    };
    let problems = load::<Example>(&sources).unwrap_err();
    let found: Vec<(&str, String)> =
        problems.list().iter().map(|p| (p.key.as_str(), p.source.clone())).collect();
    let file = format!("`{}`", path.display());
    let expected = [
        ("", "`--set name`".to_owned()),
        ("bus.timeout", file.clone()),
        ("nme", file),
        ("bus.buffer_max", "`MUSTER_BUS__BUFFER_MAX`".to_owned()),
        ("name.x", "`--set name.x=1`".to_owned()),
        ("bus.replicas", String::new()),
    ];
    assert_eq!(found, expected, "{problems}");
    let text = problems.to_string();
    assert!(text.contains("`soon` is not a duration"), "{text}");
    assert!(text.contains("`bus.replicas`: is 0, at least 1 is needed"), "{text}");
}

#[test]
fn what_one_process_needs_is_told_with_the_rest_and_sections_are_named() {
    let sources = Sources { set: vec!["bus.replicas=0".to_owned()], ..Sources::default() };
    let problems = load_for::<Example>(&sources, |example, problems| {
        problems
            .within("bus", |problems| problems.add("url", format!("{} will not do", example.name)));
    });
    let text = problems.unwrap_err().to_string();
    let expected = "`bus.replicas`: is 0, at least 1 is needed\n`bus.url`: example will not do";
    assert_eq!(text, expected);
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    for text in [None, Some("= 1")] {
        let (directory, path) = file(text.unwrap_or_default());
        if text.is_none() {
            drop(directory);
        }
        let problems = load::<Example>(&Sources { file: Some(path), ..Sources::default() });
        assert_eq!(problems.unwrap_err().list().len(), 1);
    }
}

#[test]
fn printed_settings_give_the_same_settings() {
    let example = Example { name: "a \"b\"".to_owned(), ..Example::default() };
    let (_directory, path) = file(&print(&example));
    let sources = Sources { file: Some(path), ..Sources::default() };
    assert_eq!(load::<Example>(&sources), Ok(example));
}

#[test]
fn the_manual_has_every_key() {
    let rows = describe::<Example>().unwrap();
    let row = FieldRow {
        key: "bus.timeout".to_owned(),
        env: "MUSTER_BUS__TIMEOUT".to_owned(),
        default: "\"250ms\"".to_owned(),
        what: "Time.".to_owned(),
    };
    assert_eq!((rows.len(), &rows[2]), (6, &row));
    assert_eq!(rows[5].default, "");
}
