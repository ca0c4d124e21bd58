//! The metrics of a process in the OpenMetrics text format. Roles register theirs under a prefix of
//! their own; what concerns the process as a whole is here.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// What [`Metrics::encode`] is, for a `Content-Type` header.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The unit of CPU times in `/proc`, the same on every Linux that Muster is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// All metrics of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// The metrics of the process itself, and room for more. All names begin with `muster_`.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("muster");
        registry.register_collector(Box::new(Process));
        Self { registry: Arc::new(Mutex::new(registry)) }
    }

    /// Registers the metrics of one part; their names begin with `muster_{prefix}_`.
    pub fn register<T>(&self, prefix: &str, register: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.registry.lock().expect("registering does not panic");
        register(registry.sub_registry_with_prefix(prefix))
    }

    /// All metrics as text (see [`CONTENT_TYPE`]).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().expect("registering does not panic");
        prometheus_client::encoding::text::encode(&mut text, &registry)
            .expect("writing to a string cannot fail");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What the process uses; where the platform does not say, the metric is missing.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(bytes) = resident_bytes() {
            let gauge = ConstGauge::new(bytes);
            let metric = encoder.encode_descriptor(
                "process_resident_memory_bytes",
                "Memory that is in RAM",
                None,
                gauge.metric_type(),
            )?;
            gauge.encode(metric)?;
        }
        if let Some(files) = open_files() {
            let gauge = ConstGauge::new(files);
            let metric = encoder.encode_descriptor(
                "process_open_fds",
                "Open file descriptors",
                None,
                gauge.metric_type(),
            )?;
            gauge.encode(metric)?;
        }
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let metric = encoder.encode_descriptor(
                "process_cpu_seconds",
                "CPU time used",
                None,
                counter.metric_type(),
            )?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

/// Resident memory of this process in bytes, where the platform tells.
#[must_use]
pub fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// CPU time that this process has used, user and system, in seconds, where the platform tells.
#[must_use]
pub fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets and may hold blanks.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn open_files() -> Option<i64> {
    i64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn metrics_are_prefixed_and_those_of_the_process_are_there() {
        let metrics = Metrics::new();
        let jobs: Counter = Counter::default();
        metrics.register("gateway", |registry| registry.register("jobs", "Jobs", jobs.clone()));
        jobs.inc_by(3);
        let text = metrics.encode();
        assert!(text.contains("muster_gateway_jobs_total 3"), "{text}");
        if cfg!(target_os = "linux") {
            for name in ["resident_memory_bytes ", "open_fds ", "cpu_seconds_total "] {
                assert!(text.contains(&format!("\nmuster_process_{name}")), "{text}");
            }
            assert!(resident_bytes().unwrap() > 1 << 20);
        }
    }
}
