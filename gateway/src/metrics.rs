//! What a gateway counts: `muster_gateway_…`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// One kind of request: the method and the template of its path, never the path itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
}

/// One kind of request with its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Served {
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
    pub(crate) status: u16,
}

#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) requests: Family<Served, Counter>,
    pub(crate) seconds: Family<Operation, Histogram, fn() -> Histogram>,
    pub(crate) accepted: Counter,
    pub(crate) rejected: Counter,
    pub(crate) submit_bytes: Counter,
    pub(crate) refused: Counter,
    pub(crate) retries: Counter,
    pub(crate) connections: Gauge,
    pub(crate) streams: Gauge,
    pub(crate) displaced: Counter,
    pub(crate) bodies_displaced: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        fn seconds() -> Histogram {
            Histogram::new(exponential_buckets(0.0005, 2.0, 16))
        }
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            accepted: Counter::default(),
            rejected: Counter::default(),
            submit_bytes: Counter::default(),
            refused: Counter::default(),
            retries: Counter::default(),
            connections: Gauge::default(),
            streams: Gauge::default(),
            displaced: Counter::default(),
            bodies_displaced: Counter::default(),
        };
        let m = &metrics;
        registry.register("requests", "requests by route and status", m.requests.clone());
        registry.register(
            "request_seconds",
            "time until the head of the answer, by route",
            m.seconds.clone(),
        );
        for (name, help, counter) in [
            ("jobs_accepted", "jobs that shards have kept; an array is one", &m.accepted),
            ("jobs_rejected", "jobs that were refused", &m.rejected),
            ("submit_bytes", "bytes of submissions, decompressed", &m.submit_bytes),
            (
                "submissions_refused",
                "submissions refused because too many were under way",
                &m.refused,
            ),
            (
                "connections_displaced",
                "connections without a request that gave way to new ones",
                &m.displaced,
            ),
            (
                "bodies_displaced",
                "bodies that hardly came and gave way to new ones",
                &m.bodies_displaced,
            ),
            ("shard_retries", "requests to shards that were sent again", &m.retries),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register("connections", "open connections", m.connections.clone());
        registry.register("streams", "streams of events and logs that are read", m.streams.clone());
        metrics
    }
}
