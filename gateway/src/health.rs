//! `GET /health/live`, `GET /health/ready`, `GET /metrics`: what every process serves.

use axum::extract::State;
use axum::response::Response;
use muster_runtime::http;

use crate::gateway::Gateway;

/// The process answers.
pub(crate) async fn live() -> Response {
    http::live()
}

/// The process can do its work.
pub(crate) async fn ready(State(gateway): State<Gateway>) -> Response {
    http::ready(&gateway.deps().health)
}

/// What the process counts.
pub(crate) async fn metrics(State(gateway): State<Gateway>) -> Response {
    http::metrics(&gateway.deps().metrics)
}
