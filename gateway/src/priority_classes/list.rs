//! `GET /priority-classes`.

use axum::Json;
use axum::extract::State;
use muster_api::http;

use super::shown;
use crate::gateway::Gateway;
use crate::problem::Answer;

pub(crate) async fn list(State(gateway): State<Gateway>) -> Answer<Json<http::PriorityClassList>> {
    let control = gateway.newest_control().await?;
    let classes = control.all_classes().into_iter();
    let priority_classes = classes.map(|(name, class)| shown(&control, name, class)).collect();
    Ok(Json(http::PriorityClassList { priority_classes }))
}
