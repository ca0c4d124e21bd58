//! Settings files.

use std::io::Write as _;

use muster_runtime::config::{self, Config, FieldDoc, Problems, Sources};
use muster_runtime::store;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::refused;

/// The sections of the roles.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    store: store::Config,
    gateway: muster_gateway::Config,
    shard: muster_shard::Config,
    executor: muster_executor::Config,
}

impl Config for Settings {
    fn docs() -> Vec<FieldDoc> {
        Vec::new()
    }

    fn validate(&self, problems: &mut Problems) {
        problems.within("store", |problems| self.store.validate(problems));
        problems.within("gateway", |problems| self.gateway.validate(problems));
        problems.within("shard", |problems| self.shard.validate(problems));
        problems.within("executor", |problems| self.executor.validate(problems));
    }
}

/// A settings file: what it says is printed and read as the same again.
pub(crate) fn file(bytes: &[u8]) {
    match load(bytes) {
        Ok(settings) => {
            let printed = config::print(&settings);
            let again = load(printed.as_bytes()).expect("what is printed can be read");
            assert_eq!(again, settings, "{printed}");
        }
        Err(problems) => {
            assert!(!problems.list().is_empty());
            refused(&problems);
        }
    }
}

fn load(bytes: &[u8]) -> Result<Settings, Problems> {
    let mut file = NamedTempFile::new().expect("a temporary file can be made");
    file.write_all(bytes).expect("it can be written");
    config::load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() })
}
