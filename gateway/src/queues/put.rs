//! `PUT /queues/{queue}`: creates a queue or changes its settings.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use muster_api::http::{self, QueueSettings};
use muster_core::control::{Queue, weight_millis};

use super::shown;
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
    let queue = Queue {
        weight_millis: weight_millis(settings.weight).map_err(Failure::bad_request)?,
        labels: settings.labels,
        cordoned: settings.cordoned,
        incarnation: 0,
    };
    control::change(&gateway, |control| {
        control.with_queue(&name, queue.clone()).map_err(Failure::bad_request)
    })
    .await?;
    Ok(Json(shown(&name, &queue)))
}
