//! `GET /pools/{pool}/shares`.

use axum::Json;
use axum::extract::State;
use muster_api::http::Pool;

use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::Segments;

pub(crate) async fn shares(
    State(gateway): State<Gateway>,
    Segments(name): Segments<String>,
) -> Answer<Json<Pool>> {
    let pool = super::all(&gateway).await?.into_iter().find(|pool| pool.name == name);
    pool.map(Json).ok_or_else(|| Failure::not_found(format!("there is no pool `{name}`")))
}
