//! `GET /priority-classes/{name}`.

use axum::Json;
use axum::extract::State;
use muster_api::http;

use super::shown;
use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::Segments;

pub(crate) async fn get(
    State(gateway): State<Gateway>,
    Segments(name): Segments<String>,
) -> Answer<Json<http::PriorityClass>> {
    let control = gateway.newest_control().await?;
    let missing = || Failure::not_found(format!("there is no priority class `{name}`"));
    let class = control.class(&name).ok_or_else(missing)?;
    Ok(Json(shown(&control, &name, class)))
}
