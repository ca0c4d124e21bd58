//! Errors as `application/problem+json`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_api::http::Problem;
use serde::Serialize;

/// RFC 9457, with the stable code and without a type: the code says it.
#[derive(Serialize)]
struct Body<'a> {
    title: &'a str,
    status: u16,
    #[serde(flatten)]
    problem: &'a Problem,
}

/// The response that tells of `problem`.
///
/// # Panics
/// Never: every code has a status.
#[must_use]
pub fn respond(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.code.http_status())
        .expect("codes have statuses from 400 to 503");
    let title = status.canonical_reason().unwrap_or("Error");
    let body = Body { title, status: status.as_u16(), problem };
    let body = serde_json::to_vec(&body).expect("a problem is plain data");
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if problem.code.is_retryable() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
