//! What a shard worker counts: `muster_shard_…`.

use muster_core::solve::Cause;
use muster_runtime::collect::Garbage;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters of one worker, all of its shards together.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) commits: Counter,
    pub(crate) records: Counter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) commit_wait_seconds: Histogram,
    pub(crate) commit_encode_seconds: Histogram,
    pub(crate) commit_put_seconds: Histogram,
    pub(crate) commands: Counter,
    pub(crate) refused_overload: Counter,
    pub(crate) checkpoints: Counter,
    pub(crate) history_rows: Counter,
    pub(crate) takeovers: Counter,
    pub(crate) fenced: Counter,
    pub(crate) checkpoints_broken: Counter,
    pub(crate) damaged: Gauge,
    pub(crate) shards_owned: Gauge,
    pub(crate) pools_led: Gauge,
    pub(crate) rounds: Counter,
    pub(crate) round_seconds: Histogram,
    pub(crate) round_records_lost: Counter,
    pub(crate) leases: Counter,
    pub(crate) preemptions: Family<PreemptionLabels, Counter>,
    pub(crate) expired_runs: Counter,
    pub(crate) unsent: Family<UnsentLabels, Counter>,
    pub(crate) deleted: Family<GarbageLabels, Counter>,
    pub(crate) deleted_bytes: Family<GarbageLabels, Counter>,
    /// When something was collected last, by the time of day, in seconds.
    pub(crate) collected_at: Gauge,
    pub(crate) collect_failed: Counter,
    pub(crate) collect_unreadable: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct GarbageLabels {
    kind: GarbageLabel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum GarbageLabel {
    Checkpoint,
    History,
    Log,
    Rounds,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PreemptionLabels {
    reason: PreemptionLabel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum PreemptionLabel {
    Fairness,
    Urgency,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct UnsentLabels {
    pub(crate) kind: Unsent,
}

/// What could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Unsent {
    LeaseAnswer,
    Offers,
    PoolAnswer,
    PoolStatus,
    Reply,
    StopOrder,
}

impl Metrics {
    fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        Self {
            commits: Counter::default(),
            records: Counter::default(),
            commit_seconds: seconds(),
            commit_wait_seconds: seconds(),
            commit_encode_seconds: seconds(),
            commit_put_seconds: seconds(),
            commands: Counter::default(),
            refused_overload: Counter::default(),
            checkpoints: Counter::default(),
            history_rows: Counter::default(),
            takeovers: Counter::default(),
            fenced: Counter::default(),
            checkpoints_broken: Counter::default(),
            damaged: Gauge::default(),
            shards_owned: Gauge::default(),
            pools_led: Gauge::default(),
            rounds: Counter::default(),
            round_seconds: seconds(),
            round_records_lost: Counter::default(),
            leases: Counter::default(),
            preemptions: Family::default(),
            expired_runs: Counter::default(),
            unsent: Family::default(),
            deleted: Family::default(),
            deleted_bytes: Family::default(),
            collected_at: Gauge::default(),
            collect_failed: Counter::default(),
            collect_unreadable: Counter::default(),
        }
    }

    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::new();
        let m = &metrics;
        for (name, help, counter) in [
            ("commits", "commits that are durable", &m.commits),
            ("records", "records in them", &m.records),
            ("commands", "commands received", &m.commands),
            (
                "refused_overload",
                "commands refused because too much was waiting",
                &m.refused_overload,
            ),
            ("checkpoints", "checkpoints written", &m.checkpoints),
            ("history_rows", "rows written to the history", &m.history_rows),
            ("takeovers", "shards taken over", &m.takeovers),
            ("fenced", "times that another owner was found in a shard's log", &m.fenced),
            (
                "checkpoints_broken",
                "checkpoints that a takeover could not read and did without",
                &m.checkpoints_broken,
            ),
            ("rounds", "scheduling rounds", &m.rounds),
            (
                "round_records_lost",
                "rows of the records of rounds that were not written",
                &m.round_records_lost,
            ),
            ("leases", "jobs leased", &m.leases),
            ("expired_runs", "runs given up because their cluster was silent", &m.expired_runs),
        ] {
            registry.register(name, help, counter.clone());
        }
        for (name, help, histogram) in [
            ("commit_seconds", "time from sealing to durable", &m.commit_seconds),
            (
                "commit_wait_seconds",
                "time from a commit's first record to its sealing",
                &m.commit_wait_seconds,
            ),
            ("commit_encode_seconds", "time to encode a commit", &m.commit_encode_seconds),
            ("commit_put_seconds", "time to store a commit", &m.commit_put_seconds),
            ("round_seconds", "time to solve a round", &m.round_seconds),
        ] {
            registry.register(name, help, histogram.clone());
        }
        let help = "jobs preempted, by why they had to go";
        registry.register("preemptions", help, m.preemptions.clone());
        let help = "messages that were not sent, because they were too large or the bus was away";
        registry.register("messages_unsent", help, m.unsent.clone());
        metrics.register_gauges(registry);
        metrics.register_garbage(registry);
        metrics
    }
    fn register_gauges(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            ("owned", "shards owned", &self.shards_owned),
            ("pools_led", "pools led", &self.pools_led),
            (
                "damaged",
                "shards that are held and do not work, because an object of theirs is damaged",
                &self.damaged,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }
    fn register_garbage(&self, registry: &mut Registry) {
        registry.register("deleted", "objects let go, by kind", self.deleted.clone());
        let help = "bytes of objects let go, by kind";
        registry.register("deleted_bytes", help, self.deleted_bytes.clone());
        let help = "when garbage was collected last, in seconds since 1970; 0 for never";
        registry.register("collected_at_seconds", help, self.collected_at.clone());
        for (name, help, counter) in [
            (
                "collect_failed",
                "collections of garbage that ended early, and were tried again",
                &self.collect_failed,
            ),
            (
                "collect_unreadable",
                "log objects that cannot be read, found by the collection, which leaves them",
                &self.collect_unreadable,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }

    /// A job was preempted.
    pub(crate) fn preempted(&self, cause: Cause) {
        let reason = match cause {
            Cause::Fairness => PreemptionLabel::Fairness,
            Cause::Urgency => PreemptionLabel::Urgency,
        };
        self.preemptions.get_or_create(&PreemptionLabels { reason }).inc();
    }

    /// An object was let go.
    pub(crate) fn deleted(&self, kind: Garbage, bytes: u64) {
        let kind = match kind {
            Garbage::Checkpoint => GarbageLabel::Checkpoint,
            Garbage::History => GarbageLabel::History,
            Garbage::Rounds => GarbageLabel::Rounds,
            Garbage::Log => GarbageLabel::Log,
        };
        let labels = GarbageLabels { kind };
        self.deleted.get_or_create(&labels).inc();
        self.deleted_bytes.get_or_create(&labels).inc_by(bytes);
    }
}
