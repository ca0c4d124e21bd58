//! `GET /openapi.json`.

use axum::http::header;
use axum::response::IntoResponse;

/// The API as an OpenAPI 3.1 document.
pub const OPENAPI: &str = include_str!("../openapi.json");

pub(crate) async fn get() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
