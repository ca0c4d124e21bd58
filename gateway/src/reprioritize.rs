//! `POST /reprioritize`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use muster_api::bus::{self, ShardRequest};
use muster_api::http::Applied;
use muster_api::request::ReprioritizeRequest;

use crate::gateway::Gateway;
use crate::problem::Answer;
use crate::submit::body;
use crate::target::{Named, apply};

pub(crate) async fn reprioritize(
    State(gateway): State<Gateway>,
    request: Request<Body>,
) -> Answer<Json<Applied>> {
    let (head, content) = request.into_parts();
    let request: ReprioritizeRequest = body::json(&gateway, &head.headers, content).await?;
    let priority = request.priority;
    let named = Named {
        job_ids: request.job_ids,
        queue: request.queue,
        job_set: request.job_set,
        states: request.states,
    };
    let command = |command, target| {
        ShardRequest::Reprioritize(bus::Reprioritize { command, target, priority })
    };
    apply(&gateway, named, command).await.map(Json)
}
