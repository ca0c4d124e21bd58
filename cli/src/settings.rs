//! The settings of server processes: one schema for all roles, a section each.

use std::path::PathBuf;

use muster_runtime::config::{self, FieldDoc, HumanDuration, Problems};
use muster_runtime::store;
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
    /// The object store.
    pub(crate) store: StoreSettings,
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

/// How to reach the store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StoreSettings {
    /// `s3://bucket/prefix`, `file:///dir` or `memory:///`.
    pub(crate) url: String,
    /// Everything else.
    #[serde(flatten)]
    pub(crate) options: store::Config,
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
            store: StoreSettings::default(),
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
        self.shard.validate(problems);
        for problem in self.executor.problems() {
            problems.add("executor", problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
