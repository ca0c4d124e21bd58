//! What the executor counts. One set serves all clusters of a process.

use std::sync::atomic::AtomicI64;

use muster_api::bus::RunStatus;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::backend::kubernetes::{Answer, Call};
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
    pub(crate) kubernetes: Kubernetes,
}

/// What the `kubernetes` back end counts.
#[derive(Debug, Clone, Default)]
pub struct Kubernetes {
    pods: Family<ClusterLabels, Gauge<i64, AtomicI64>>,
    window: Family<ClusterLabels, Gauge<i64, AtomicI64>>,
    calls: Family<CallLabels, Counter>,
    troubles: Family<TroubleLabels, Counter>,
    forced: Family<ClusterLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    cluster: String,
    call: CallLabel,
}

/// What the API server was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum CallLabel {
    Bind,
    Create,
    CreateNamespace,
    Expose,
    Events,
    Get,
    Remove,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TroubleLabels {
    cluster: String,
    kind: TroubleLabel,
}

/// Why the API server is asked less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum TroubleLabel {
    TooMany,
    Failed,
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
        let Self {
            runs,
            leases,
            starts,
            ends,
            reports,
            reports_refused,
            retries,
            repairs,
            kubernetes,
        } = metrics.clone();
        registry.register("runs", "Runs that the executor knows, by phase", runs);
        registry.register("leases", "Leases received, repeated ones aside", leases);
        registry.register("starts", "Runs handed to the back end", starts);
        registry.register("ends", "Runs that ended on the back end", ends);
        registry.register("reports", "Reports that shards have answered", reports);
        registry.register("reports_refused", "Reports of runs not believed in", reports_refused);
        registry.register("retries", "Requests that failed and are sent again", retries);
        registry.register("repairs", "Differences found to what shards believe", repairs);
        kubernetes.register(registry.sub_registry_with_prefix("kubernetes"));
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

impl Kubernetes {
    fn register(self, registry: &mut Registry) {
        let Self { pods, window, calls, troubles, forced } = self;
        registry.register("pods", "Pods of runs, those to be created among them", pods);
        registry.register("window", "Requests that may be under way", window);
        registry.register("calls", "Requests that change or look at one object", calls);
        registry.register("troubles", "Answers that make the executor ask less", troubles);
        registry.register("forced", "Pods removed by force", forced);
    }

    pub(crate) fn pods(&self, cluster: &str, count: usize) {
        let labels = ClusterLabels { cluster: cluster.to_owned() };
        self.pods.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn window(&self, cluster: &str, window: usize) {
        let labels = ClusterLabels { cluster: cluster.to_owned() };
        self.window.get_or_create(&labels).set(i64::try_from(window).unwrap_or(i64::MAX));
    }

    pub(crate) fn called(&self, cluster: &str, call: &Call) {
        let call = match call {
            Call::Bind { .. } => CallLabel::Bind,
            Call::Create { .. } => CallLabel::Create,
            Call::CreateNamespace { .. } => CallLabel::CreateNamespace,
            Call::Expose { .. } => CallLabel::Expose,
            Call::Happenings { .. } => CallLabel::Events,
            Call::Look { .. } => CallLabel::Get,
            Call::Remove { .. } => CallLabel::Remove,
        };
        self.calls.get_or_create(&CallLabels { cluster: cluster.to_owned(), call }).inc();
    }

    pub(crate) fn answered(&self, cluster: &str, answer: Answer) {
        let kind = match answer {
            Answer::Well => return,
            Answer::TooMany(_) => TroubleLabel::TooMany,
            Answer::Trouble => TroubleLabel::Failed,
        };
        self.troubles.get_or_create(&TroubleLabels { cluster: cluster.to_owned(), kind }).inc();
    }

    pub(crate) fn forced(&self, cluster: &str, count: u64) {
        if count > 0 {
            let labels = ClusterLabels { cluster: cluster.to_owned() };
            self.forced.get_or_create(&labels).inc_by(count);
        }
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
