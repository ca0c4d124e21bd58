//! What pods are seen to use, by the cluster's metrics API. It tells means over some seconds, now
//! and then: the most memory and the time of cpus are what such looks add up to. Without IO.

use std::time::Duration;

use muster_api::bus::Usage;
use muster_core::resources::{CPU, MEMORY, Resources};
use muster_core::time::Timestamp;
use serde::Deserialize;

use super::labels;
use super::object::{Amounts, Moment};
use crate::runs::RunKey;

/// The path of what is known of pods, in all namespaces.
pub(super) const PATH: &str = "/apis/metrics.k8s.io/v1beta1/pods";
/// What a running pod has used is told when it is more than was told last by this part of it …
const NEWS_PART: u64 = 8;
/// … or that was so long ago: its shard may have another owner, who has not heard it.
const NEWS_INTERVAL: Duration = Duration::from_mins(10);
/// When it is looked again whether there is a metrics API, after there was none.
pub(super) const ABSENT_INTERVAL: Duration = Duration::from_mins(10);

/// What is known of pods.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodMetricsList {
    pub(super) items: Option<Vec<PodMetrics>>,
}

/// What is known of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodMetrics {
    metadata: Named,
    timestamp: Option<Moment>,
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerMetrics {
    usage: Amounts,
}

/// A look at the pod of a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    pub(super) key: RunKey,
    pub(super) namespace: String,
    pub(super) at: Timestamp,
    memory_bytes: u64,
    nanocores: u64,
}

impl PodMetrics {
    /// What it says of the pod of a run, if it is one.
    pub(super) fn look(self) -> Option<Look> {
        let key = labels::key_of_name(&self.metadata.name)?;
        let at = self.timestamp?.0;
        let mut all = Resources::new();
        self.containers.iter().for_each(|container| all.add(&container.usage.0));
        let memory_bytes = u64::try_from(all.get(MEMORY).units_ceil()).ok()?;
        let nanocores = u64::try_from(all.get(CPU).nanos()).ok()?;
        Some(Look { key, namespace: self.metadata.namespace, at, memory_bytes, nanocores })
    }
}

/// What the looks at a pod have come to so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured {
    memory_peak_bytes: u64,
    /// Millionths of a second of one core, up to the last look …
    cpu_micros: u64,
    /// … which was then, …
    until: Timestamp,
    /// … and so much was used.
    nanocores: u64,
    /// What was told of it last, and when that was measured.
    told: Option<(Usage, Timestamp)>,
}

impl Measured {
    /// The first look at a pod that has run since `started`: as it is seen now, it counts as having
    /// been since then.
    pub(super) fn first(look: &Look, started: Option<Timestamp>) -> Self {
        let mut measured = Self {
            memory_peak_bytes: 0,
            cpu_micros: 0,
            until: started.unwrap_or(look.at).min(look.at),
            nanocores: look.nanocores,
            told: None,
        };
        measured.add(look);
        measured
    }

    /// Another look; one that is not later than the last says nothing new.
    pub(super) fn add(&mut self, look: &Look) {
        self.memory_peak_bytes = self.memory_peak_bytes.max(look.memory_bytes);
        if look.at > self.until {
            self.cpu_micros += micros(look.nanocores, look.at.0 - self.until.0);
            self.until = look.at;
            self.nanocores = look.nanocores;
        }
    }

    /// What a pod has used that runs on, if that is news: more than was told by so much that it is
    /// worth a message.
    pub(super) fn news(&mut self) -> Option<Usage> {
        let usage = self.usage(None);
        let is_more = |now: u64, told: u64| now - now.min(told) > told / NEWS_PART;
        let is_news = self.told.is_none_or(|(told, at)| {
            is_more(usage.memory_peak_bytes, told.memory_peak_bytes)
                || is_more(usage.cpu_time_ms, told.cpu_time_ms)
                || self.until.since(at) >= NEWS_INTERVAL
        });
        if is_news {
            self.told = Some((usage, self.until));
        }
        is_news.then_some(usage)
    }

    /// What a pod has used that ended then: since the last look as much as was seen there.
    pub(super) fn usage(&self, ended: Option<Timestamp>) -> Usage {
        let rest = ended.map_or(0, |ended| ended.0 - self.until.0);
        let micros = self.cpu_micros + micros(self.nanocores, rest);
        Usage { memory_peak_bytes: self.memory_peak_bytes, cpu_time_ms: micros / 1_000 }
    }
}

fn micros(nanocores: u64, millis: i64) -> u64 {
    let millis = u128::try_from(millis).unwrap_or_default();
    // So many nanocores for a millisecond are so many millionths of a microsecond.
    u64::try_from(u128::from(nanocores) * millis / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use muster_core::id::{JobId, JobRef, ShardId};
    use serde_json::{Value, json};

    use super::*;

    fn key() -> RunKey {
        RunKey { job: JobRef::task(JobId::new(Timestamp(1), ShardId(0), 1), 3), attempt: 2 }
    }

    fn metrics(name: &str, second: u32, containers: &Value) -> Option<Look> {
        let metrics = json!({
            "metadata": { "name": name, "namespace": "team", "labels": { "a": "b" } },
            "timestamp": format!("1970-01-01T00:00:{second:02}Z"), "window": "15s",
            "containers": containers });
        let metrics: PodMetrics = serde_json::from_value(metrics).unwrap();
        metrics.look()
    }

    fn look(second: u32, cpu: &str, memory: &str) -> Look {
        let usage = json!([{ "name": "main", "usage": { "cpu": cpu, "memory": memory } }]);
        metrics(&labels::pod_name(key()), second, &usage).unwrap()
    }

    #[test]
    fn what_is_said_of_containers_is_added_up_and_foreign_pods_say_nothing() {
        let usage = json!([
            { "name": "main", "usage": { "cpu": "1500m", "memory": "1Gi" } },
            { "name": "beside", "usage": { "cpu": "12345n", "memory": "1Ki" } }]);
        let found = metrics(&labels::pod_name(key()), 9, &usage).unwrap();
        let expected = Look {
            key: key(),
            namespace: "team".to_owned(),
            at: Timestamp(9_000),
            memory_bytes: (1 << 30) + 1024,
            nanocores: 1_500_012_345,
        };
        assert_eq!(found, expected);
        for name in ["muster", "muster-x-1", "other", ""] {
            assert_eq!(metrics(name, 9, &usage), None, "{name}");
        }
    }

    #[test]
    fn the_most_memory_counts_and_each_look_for_the_time_up_to_it() {
        let mut measured = Measured::first(&look(20, "500m", "64Mi"), Some(Timestamp(10_000)));
        measured.add(&look(30, "2", "32Mi"));
        measured.add(&look(30, "9", "48Mi"));
        measured.add(&look(25, "9", "1Mi"));
        let usage = |measured: &Measured, ended| {
            let Usage { memory_peak_bytes, cpu_time_ms } = measured.usage(ended);
            (memory_peak_bytes >> 20, cpu_time_ms)
        };
        assert_eq!(usage(&measured, None), (64, 5_000 + 20_000));
        assert_eq!(usage(&measured, Some(Timestamp(33_500))), (64, 32_000));
        assert_eq!(usage(&measured, Some(Timestamp(1_000))), (64, 25_000));
        let unknown = Measured::first(&look(20, "500m", "1Mi"), None);
        assert_eq!(usage(&unknown, Some(Timestamp(22_000))), (1, 1_000));
        let news = |measured: &mut Measured| measured.news().map(|usage| usage.cpu_time_ms);
        assert_eq!((news(&mut measured), news(&mut measured)), (Some(25_000), None));
        measured.add(&look(33, "1", "1Mi"));
        assert_eq!(news(&mut measured), None, "an eighth is not worth it yet");
        measured.add(&look(34, "1", "1Mi"));
        assert_eq!(news(&mut measured), Some(29_000));
        measured.add(&look(34, "1", "80Mi"));
        assert_eq!(news(&mut measured), Some(29_000), "more memory is, too");
        let later = Look { at: Timestamp(634_000), ..look(34, "0", "1Mi") };
        measured.add(&later);
        assert_eq!(news(&mut measured), Some(29_000), "it is told again after a while");
        let late = Measured::first(&look(20, "500m", "1Mi"), Some(Timestamp(50_000)));
        assert_eq!(usage(&late, Some(Timestamp(51_000))), (1, 15_500), "its clock was off");
    }
}
