//! `GET /queues`.

use axum::Json;
use axum::extract::State;
use muster_api::http;

use super::shown;
use crate::control::refresh;
use crate::gateway::Gateway;
use crate::problem::Answer;

pub(crate) async fn list(State(gateway): State<Gateway>) -> Answer<Json<http::QueueList>> {
    refresh(&gateway).await?;
    let control = gateway.control();
    let queues = control.queues.iter().map(|(name, queue)| shown(name, queue)).collect();
    Ok(Json(http::QueueList { queues }))
}
