//! What the executor counts. One set serves all clusters of a process.

use std::sync::atomic::AtomicI64;

use muster_api::bus::RunStatus;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::runs::Counts;

/// The executor's metrics, all under `muster_executor_`.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    runs: Family<RunsLabels, Gauge<i64, AtomicI64>>,
    pub(crate) leases: Family<ClusterLabels, Counter>,
    pub(crate) starts: Family<ClusterLabels, Counter>,
    pub(crate) ends: Family<EndLabels, Counter>,
    pub(crate) reports: Family<ClusterLabels, Counter>,
    pub(crate) reports_refused: Family<ClusterLabels, Counter>,
    pub(crate) retries: Family<RetryLabels, Counter>,
    pub(crate) repairs: Family<ClusterLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ClusterLabels {
    pub(crate) cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunsLabels {
    cluster: String,
    phase: PhaseLabel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum PhaseLabel {
    Wanted,
    Starting,
    Live,
    Condemned,
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EndLabels {
    pub(crate) cluster: String,
    pub(crate) status: StatusLabel,
}

/// How a run ended, as the back end said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum StatusLabel {
    Succeeded,
    Failed,
    Returned,
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RetryLabels {
    pub(crate) cluster: String,
    pub(crate) request: RequestLabel,
}

/// Which request had to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum RequestLabel {
    Lease,
    Payloads,
    Report,
    Sync,
}

impl Metrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self { runs, leases, starts, ends, reports, reports_refused, retries, repairs } =
            metrics.clone();
        registry.register("runs", "Runs that the executor knows, by phase", runs);
        registry.register("leases", "Leases received, repeated ones aside", leases);
        registry.register("starts", "Runs handed to the back end", starts);
        registry.register("ends", "Runs that ended on the back end", ends);
        registry.register("reports", "Reports that shards have answered", reports);
        registry.register("reports_refused", "Reports of runs not believed in", reports_refused);
        registry.register("retries", "Requests that failed and are sent again", retries);
        registry.register("repairs", "Differences found to what shards believe", repairs);
        metrics
    }

    pub(crate) fn set_runs(&self, cluster: &str, counts: Counts) {
        let phases = [
            (PhaseLabel::Wanted, counts.wanted),
            (PhaseLabel::Starting, counts.starting),
            (PhaseLabel::Live, counts.live),
            (PhaseLabel::Condemned, counts.condemned),
            (PhaseLabel::Ended, counts.ended),
        ];
        for (phase, count) in phases {
            let labels = RunsLabels { cluster: cluster.to_owned(), phase };
            self.runs.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn retried(&self, cluster: &str, request: RequestLabel) {
        let labels = RetryLabels { cluster: cluster.to_owned(), request };
        self.retries.get_or_create(&labels).inc();
    }
}

impl StatusLabel {
    /// Of a final status.
    pub(crate) fn of(status: RunStatus) -> Self {
        match status {
            RunStatus::Succeeded => Self::Succeeded,
            RunStatus::Returned => Self::Returned,
            RunStatus::Lost => Self::Lost,
            RunStatus::Failed | RunStatus::Pending | RunStatus::Running => Self::Failed,
        }
    }
}
