//! `PUT /priority-classes/{name}`: creates a priority class or changes it.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use muster_api::http::{self, PriorityClassSettings};
use muster_core::control::PriorityClass;

use crate::control;
use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::Segments;
use crate::submit::body;

pub(crate) async fn put(
    State(gateway): State<Gateway>,
    Segments(name): Segments<String>,
    request: Request<Body>,
) -> Answer<Json<http::PriorityClass>> {
    let (head, content) = request.into_parts();
    let settings: PriorityClassSettings = body::json(&gateway, &head.headers, content).await?;
    let PriorityClassSettings { priority, preemptible } = settings;
    let class = PriorityClass { priority, preemptible };
    control::change(&gateway, |control| {
        control.with_class(&name, class).map_err(Failure::bad_request)
    })
    .await?;
    Ok(Json(http::PriorityClass { name, priority, preemptible, built_in: false }))
}
