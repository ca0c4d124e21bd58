//! `GET /pools`.

use axum::Json;
use axum::extract::State;
use muster_api::request::PoolList;

use crate::gateway::Gateway;
use crate::problem::Answer;

pub(crate) async fn list(State(gateway): State<Gateway>) -> Answer<Json<PoolList>> {
    Ok(Json(PoolList { pools: super::all(&gateway).await? }))
}
