//! `GET /health/live`, `GET /health/ready`, `GET /metrics`.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use muster_runtime::metrics;

use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};

const OK: &str = "{\"status\":\"ok\"}";

/// The process answers.
pub(crate) async fn live() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OK)
}

/// The process can do its work.
pub(crate) async fn ready(State(gateway): State<Gateway>) -> Answer<impl IntoResponse> {
    gateway.readiness().map_err(Failure::unavailable)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], OK))
}

/// What the process counts.
pub(crate) async fn metrics(State(gateway): State<Gateway>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], gateway.deps().metrics.encode())
}
