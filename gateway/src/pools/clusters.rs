//! `GET /clusters`.

use axum::Json;
use axum::extract::State;
use muster_api::request::ClusterList;

use crate::cordons;
use crate::gateway::Gateway;
use crate::problem::Answer;

pub(crate) async fn clusters(State(gateway): State<Gateway>) -> Answer<Json<ClusterList>> {
    let pools = super::all(&gateway).await?;
    let mut clusters: Vec<_> = pools.into_iter().flat_map(|pool| pool.clusters).collect();
    clusters.sort_by(|a, b| (&a.name, &a.pool).cmp(&(&b.name, &b.pool)));
    let cordons = cordons::shown(&*gateway.newest_control().await?);
    Ok(Json(ClusterList { clusters, cordons }))
}
