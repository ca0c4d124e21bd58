//! `POST /cancel`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use muster_api::bus::{self, ShardRequest};
use muster_api::http::Applied;
use muster_api::request::CancelRequest;
use muster_core::limits::REASON_BYTES_MAX;

use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::submit::body;
use crate::target::{Named, apply};

pub(crate) async fn cancel(
    State(gateway): State<Gateway>,
    request: Request<Body>,
) -> Answer<Json<Applied>> {
    let (head, content) = request.into_parts();
    let request: CancelRequest = body::json(&gateway, &head.headers, content).await?;
    let reason = request.reason.filter(|reason| !reason.is_empty());
    if let Some(len) = reason.as_ref().map(String::len).filter(|len| *len > REASON_BYTES_MAX) {
        let detail = format!("reason has {len} bytes, limit is {REASON_BYTES_MAX}");
        return Err(Failure::bad_request(detail));
    }
    let named = Named {
        job_ids: request.job_ids,
        queue: request.queue,
        job_set: request.job_set,
        states: request.states,
    };
    let command = |command, target| {
        ShardRequest::Cancel(bus::Cancel { command, target, reason: reason.clone() })
    };
    apply(&gateway, named, command).await.map(Json)
}
