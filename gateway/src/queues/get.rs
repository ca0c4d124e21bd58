//! `GET /queues/{queue}`.

use axum::Json;
use axum::extract::State;
use muster_api::http;

use super::shown;
use crate::control::refresh;
use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::Segments;

pub(crate) async fn get(
    State(gateway): State<Gateway>,
    Segments(name): Segments<String>,
) -> Answer<Json<http::Queue>> {
    refresh(&gateway).await?;
    let control = gateway.control();
    let queue = control.queues.get(&name).ok_or_else(|| Failure::no_queue(&name))?;
    Ok(Json(shown(&name, queue)))
}
