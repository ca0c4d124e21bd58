//! The settings of server processes: one schema for all roles, a section each.

use std::path::PathBuf;

use muster_runtime::config::{self, FieldDoc, HumanDuration, Problems};
use muster_runtime::http::admin;
use muster_runtime::{bus, store};
use serde::{Deserialize, Serialize};

/// Settings of a server process. A role reads its own section and the shared ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Shards of the deployment.
    pub(crate) shards: u16,
    /// How long a part of the process may take to end tidily.
    pub(crate) shutdown_timeout: HumanDuration,
    /// How the log on standard error looks: `text` or `json`.
    pub(crate) log_format: LogFormat,
    /// The bus.
    pub(crate) bus: BusSettings,
    /// Health and metrics of processes without an API.
    pub(crate) admin: admin::Config,
    /// The object store.
    pub(crate) store: store::Config,
    /// The gateway.
    pub(crate) gateway: muster_gateway::Config,
    /// The shard worker.
    pub(crate) shard: muster_shard::Config,
    /// The executor.
    pub(crate) executor: muster_executor::Config,
}

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

impl From<LogFormat> for muster_runtime::telemetry::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// How to reach the bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BusSettings {
    /// `nats://host:port[,host:port…]`, `tls://…` or `memory://`.
    pub(crate) url: String,
    /// Copies that a NATS cluster keeps of each bucket.
    pub(crate) replicas: usize,
    /// Root certificates (PEM) to trust in place of the system's.
    pub(crate) tls_ca_file: Option<PathBuf>,
}

impl Default for BusSettings {
    fn default() -> Self {
        Self { url: "nats://127.0.0.1:4222".to_owned(), replicas: 1, tls_ca_file: None }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shards: 4,
            shutdown_timeout: HumanDuration::secs(25),
            log_format: LogFormat::Text,
            bus: BusSettings::default(),
            admin: admin::Config::default(),
            store: store::Config::default(),
            gateway: muster_gateway::Config::default(),
            shard: muster_shard::Config::default(),
            executor: muster_executor::Config::default(),
        }
    }
}

impl Settings {
    /// The same with the number of shards in every section.
    pub(crate) fn spread(mut self) -> Self {
        self.gateway.shards = self.shards;
        self.shard.shards = self.shards;
        self.executor.shards = self.shards;
        self
    }
}

impl config::Config for Settings {
    fn docs() -> Vec<FieldDoc> {
        crate::settings_docs::all()
    }

    fn validate(&self, problems: &mut Problems) {
        if self.shards == 0 || self.shards > 1024 {
            problems.add("shards", format!("{} is not from 1 to 1024", self.shards));
        }
        problems.within("bus", |problems| self.bus.validate(problems));
        problems.within("admin", |problems| self.admin.validate(problems));
        problems.within("store", |problems| self.store.validate(problems));
        problems.within("gateway", |problems| self.gateway.validate(problems));
        problems.within("shard", |problems| self.shard.validate(problems));
        problems.within("executor", |problems| self.executor.validate(problems));
    }
}

impl BusSettings {
    fn validate(&self, problems: &mut Problems) {
        if let Err(error) = bus::check_url(&self.url) {
            problems.add("url", error.to_string());
        }
        if !(1..=5).contains(&self.replicas) {
            problems.add("replicas", format!("{} is not from 1 to 5", self.replicas));
        }
        if let Some(file) = self.tls_ca_file.as_ref().filter(|file| !file.is_file()) {
            problems.add("tls_ca_file", format!("there is no file `{}`", file.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_problems_in_every_section() {
        let sections = ["bus", "admin", "store", "gateway", "shard", "executor"];
        let set = sections.map(|section| format!("{section}.colour=red")).to_vec();
        let sources = config::Sources { set, ..config::Sources::default() };
        let problems = config::load::<Settings>(&sources).unwrap_err();
        let keys: Vec<&str> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, sections.map(|section| format!("{section}.colour")), "{problems}");
        assert!(problems.to_string().contains("unknown field `colour`"), "{problems}");
    }

    #[test]
    fn what_is_wrong_is_told_at_once_and_by_key() {
        let set = [
            "bus.url=http://x",
            "admin.listen=0.0.0.0:9",
            "store.url=gs://bucket",
            "gateway.listen=0.0.0.0:8080",
            "shard.lease_ttl=1ms",
            "executor.pool=a..b",
            "executor.simulated.groups=[{name=\"x\",nodes=1,cpu=\"much\"}]",
        ];
        let set = set.map(str::to_owned).to_vec();
        let sources = config::Sources { set, ..config::Sources::default() };
        let problems = config::load::<Settings>(&sources).unwrap_err();
        let keys: Vec<&str> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
        let expected = [
            "bus.url",
            "admin.listen",
            "store.url",
            "gateway.listen",
            "shard.lease_ttl",
            "executor.pool",
            "executor.simulated.groups.x.cpu",
        ];
        assert_eq!(keys, expected, "{problems}");
    }

    /// The manual and the code say the same: every setting, its variable, its default, its meaning.
    #[test]
    fn the_manual_lists_every_setting_as_it_is() {
        let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let manual = std::fs::read_to_string(manual).unwrap();
        let rows = config::describe::<Settings>().unwrap();
        let code = rows.iter().map(|row| {
            let default =
                if row.default.is_empty() { String::new() } else { format!("`{}`", row.default) };
            format!("| `{}` | `{}` | {default} | {} |", row.key, row.env, row.what)
                .replace("|  |", "| |")
        });
        let code: Vec<String> = code.collect();
        let written: Vec<&str> =
            manual.lines().filter(|line| line.contains("` | `MUSTER_")).collect();
        assert_eq!(written, code, "\n{}", code.join("\n"));
    }
}
