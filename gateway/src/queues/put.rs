//! `PUT /queues/{queue}`: creates a queue or changes its settings.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use muster_api::http::{self, QueueSettings};

use super::{set, shown};
use crate::control;
use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::Segments;
use crate::submit::body;

pub(crate) async fn put(
    State(gateway): State<Gateway>,
    Segments(name): Segments<String>,
    request: Request<Body>,
) -> Answer<Json<http::Queue>> {
    let (head, content) = request.into_parts();
    let settings: QueueSettings = body::json(&gateway, &head.headers, content).await?;
    let queue = set(settings).map_err(Failure::bad_request)?;
    control::change(&gateway, |control| {
        control.with_queue(&name, queue.clone()).map_err(Failure::bad_request)
    })
    .await?;
    Ok(Json(shown(&name, &queue)))
}
