//! What a process without an API serves: health and metrics, on an address of their own.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::Uri;
use axum::routing::get;
use muster_api::http::{ErrorCode, Problem};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Counted, Health, Limits, Server, exposed, live, metrics, ready, respond};
use crate::clock::Clock;
use crate::config::{FieldDoc, Problems};
use crate::metrics::Metrics;
use crate::tasks::{BoxError, Supervisor};

/// Who asks is few and small.
const LIMITS: Limits = Limits {
    connections_max: 64,
    header_timeout: Duration::from_secs(10),
    send_timeout: Duration::from_secs(10),
    headers_max: 100,
    headers_bytes_max: 16 * 1024,
};
/// How long requests may go on at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Where health and metrics are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port; port 0 picks a free one, so that processes on one machine do not clash.
    pub listen: SocketAddr,
    /// Whether it may listen where other machines can reach it.
    pub insecure: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), insecure: false }
    }
}

impl Config {
    /// What each key means.
    #[must_use]
    pub fn docs() -> Vec<FieldDoc> {
        vec![
            FieldDoc::new(
                "listen",
                "where shard workers and executors serve health and metrics; port 0 picks a free one, which the log names",
            ),
            FieldDoc::new(
                "insecure",
                "whether that may be where other machines can reach it, although nobody has to say who they are",
            ),
        ]
    }

    /// What is wrong with the settings beyond the type of each.
    pub fn validate(&self, problems: &mut Problems) {
        if let Some(reason) = exposed(self.listen, self.insecure) {
            problems.add("listen", reason);
        }
    }
}

/// Serves `health` and `counted` until `cancel`.
///
/// # Errors
/// Never so far; what fails concerns one connection.
pub async fn run(
    listener: TcpListener,
    health: Health,
    counted: Metrics,
    clock: Clock,
    tasks: Supervisor,
    cancel: CancellationToken,
) -> Result<(), BoxError> {
    let router = router(health, counted);
    let server = Server::new(router, LIMITS, clock, tasks, Counted::default());
    server.accept_until(listener, &cancel).await;
    server.drain(DRAIN_TIMEOUT).await;
    Ok(())
}

fn router(health: Health, counted: Metrics) -> Router {
    Router::new()
        .route("/health/live", get(async || live()))
        .route("/health/ready", get(async move || ready(&health)))
        .route("/metrics", get(async move || metrics(&counted)))
        .fallback(async |uri: Uri| {
            let detail = format!("there is nothing at `{}`", uri.path());
            respond(&Problem::new(ErrorCode::NotFound, detail))
        })
}
