//! What is noted of every request: an id, a span, how long it took, how it ended.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::gateway::Gateway;
use crate::metrics::{Operation, Served};
use crate::routes::{API_PREFIX, ROUTES};

/// The header with a request's id: taken from the client where it gives one, answered always.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes of an id that is taken from a client.
const REQUEST_ID_BYTES_MAX: usize = 64;

pub(crate) async fn observe(
    State(gateway): State<Gateway>,
    request: Request,
    next: Next,
) -> Response {
    let (method, route) = (method(request.method()), route(&request));
    let id = request_id(&gateway, &request);
    let span = tracing::info_span!("request", id = ?id, method, route);
    let began = gateway.clock().monotonic();
    let mut response = next.run(request).instrument(span.clone()).await;
    let took = gateway.clock().monotonic() - began;
    let status = response.status().as_u16();
    gateway.counted().requests.get_or_create(&Served { method, route, status }).inc();
    gateway
        .counted()
        .seconds
        .get_or_create(&Operation { method, route })
        .observe(took.as_secs_f64());
    span.in_scope(|| tracing::debug!(status, ?took, "answered"));
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn request_id(gateway: &Gateway, request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID);
    let sound = |id: &&HeaderValue| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    given.filter(sound).cloned().unwrap_or_else(|| {
        let id = format!("{:032x}", gateway.random().u128());
        HeaderValue::from_str(&id).expect("hexadecimal digits are fit for a header")
    })
}

fn route(request: &Request) -> &'static str {
    let Some(matched) = request.extensions().get::<MatchedPath>() else { return "unknown" };
    let path = matched.as_str().strip_prefix(API_PREFIX).unwrap_or(matched.as_str());
    ROUTES.iter().find(|route| route.path == path).map_or("unknown", |route| route.path)
}

/// A method as a label: those of others than the API's are one.
fn method(method: &Method) -> &'static str {
    let known = ROUTES.iter().map(|route| route.method).find(|known| *known == method.as_str());
    known.unwrap_or("other")
}
