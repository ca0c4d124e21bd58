//! `PUT` and `DELETE /clusters/{cluster}/cordon` and `/clusters/{cluster}/nodes/{node}/cordon`, and
//! `POST /clusters/{cluster}/nodes/{node}/put-back`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use muster_api::http::{self, CordonSettings};
use muster_core::control::{Control, Cordon, Place};

use crate::control;
use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::Segments;
use crate::submit::body;

/// `PUT` of a cluster.
pub(crate) async fn put_cluster(
    State(gateway): State<Gateway>,
    Segments(cluster): Segments<String>,
    request: Request<Body>,
) -> Answer<Json<http::Cordon>> {
    let reason = put(&gateway, Place::Cluster(&cluster), request).await?;
    Ok(Json(http::Cordon { cluster, node: None, reason }))
}

/// `PUT` of a node.
pub(crate) async fn put_node(
    State(gateway): State<Gateway>,
    Segments((cluster, node)): Segments<(String, String)>,
    request: Request<Body>,
) -> Answer<Json<http::Cordon>> {
    let place = Place::Node { cluster: &cluster, node: &node };
    let reason = put(&gateway, place, request).await?;
    Ok(Json(http::Cordon { cluster, node: Some(node), reason }))
}

/// `DELETE` of a cluster.
pub(crate) async fn delete_cluster(
    State(gateway): State<Gateway>,
    Segments(cluster): Segments<String>,
) -> Answer<StatusCode> {
    delete(&gateway, Place::Cluster(&cluster)).await
}

/// `DELETE` of a node.
pub(crate) async fn delete_node(
    State(gateway): State<Gateway>,
    Segments((cluster, node)): Segments<(String, String)>,
) -> Answer<StatusCode> {
    delete(&gateway, Place::Node { cluster: &cluster, node: &node }).await
}

/// `POST …/put-back`: what failed on the node until now is not held against it any more.
pub(crate) async fn put_node_back(
    State(gateway): State<Gateway>,
    Segments((cluster, node)): Segments<(String, String)>,
) -> Answer<StatusCode> {
    let now = gateway.clock().now();
    control::change(&gateway, |control| {
        control.with_node_put_back((&cluster, &node), now).map_err(Failure::bad_request)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All cordons: those of clusters first.
pub(crate) fn shown(control: &Control) -> Vec<http::Cordon> {
    let clusters = control.cordons.clusters.iter().map(|(cluster, cordon)| http::Cordon {
        cluster: cluster.clone(),
        node: None,
        reason: cordon.reason.clone(),
    });
    let nodes = control.cordons.nodes.iter().flat_map(|(cluster, nodes)| {
        nodes.iter().map(|(node, cordon)| http::Cordon {
            cluster: cluster.clone(),
            node: Some(node.clone()),
            reason: cordon.reason.clone(),
        })
    });
    clusters.chain(nodes).collect()
}

async fn put(
    gateway: &Gateway,
    place: Place<'_>,
    request: Request<Body>,
) -> Answer<Option<String>> {
    let (head, content) = request.into_parts();
    let CordonSettings { reason } = body::json(gateway, &head.headers, content).await?;
    let cordon = Cordon { reason: reason.clone() };
    control::change(gateway, |control| {
        control.with_cordon(place, cordon.clone()).map_err(Failure::bad_request)
    })
    .await?;
    Ok(reason)
}

async fn delete(gateway: &Gateway, place: Place<'_>) -> Answer<StatusCode> {
    let missing = || match place {
        Place::Cluster(cluster) => {
            Failure::not_found(format!("cluster `{cluster}` is not cordoned"))
        }
        Place::Node { cluster, node } => {
            Failure::not_found(format!("node `{node}` of cluster `{cluster}` is not cordoned"))
        }
    };
    control::change(gateway, |control| control.without_cordon(place).ok_or_else(missing)).await?;
    Ok(StatusCode::NO_CONTENT)
}
