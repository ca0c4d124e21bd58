//! `DELETE /queues/{queue}`: first its shard closes it, so that no job can come in between, then it
//! goes.

use axum::extract::State;
use axum::http::StatusCode;
use muster_api::bus::{CloseQueue, ShardReply, ShardRequest};
use muster_api::http::ErrorCode;
use muster_core::control::Control;

use crate::control::{change, refresh};
use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::Segments;
use crate::shards::unexpected;

pub(crate) async fn delete(
    State(gateway): State<Gateway>,
    Segments(name): Segments<String>,
) -> Answer<StatusCode> {
    refresh(&gateway).await?;
    let incarnation = gateway.queue(&name).await?.incarnation;
    if let Some(below) = gateway.control().below(&name).next() {
        let detail = format!("queue `{below}` stands below `{name}`");
        return Err(Failure::new(ErrorCode::QueueInUse, detail));
    }
    let request = ShardRequest::CloseQueue(CloseQueue {
        command: gateway.command_id(),
        queue: name.clone(),
        incarnation,
    });
    match gateway.change(gateway.shard_of(&name), &request).await? {
        ShardReply::Done => {}
        other => return Err(unexpected(&other)),
    }
    remove(&gateway, &name, incarnation).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a queue that its shard has closed out of the control data.
async fn remove(gateway: &Gateway, name: &str, incarnation: u64) -> Answer<()> {
    let without = |control: &Control| {
        // Only the incarnation that was closed; gone already is as good.
        let is_closed =
            control.queues.get(name).is_some_and(|queue| queue.incarnation == incarnation);
        let next = if is_closed { control.without_queue(name) } else { None };
        Ok(next.unwrap_or_else(|| control.clone()))
    };
    change(gateway, without).await
}

/// The shard has closed that incarnation of the queue: the one behind it, if it was created again.
/// If it still stands in the control data, somebody began to delete it and did not get further;
/// that is made up for, so that nobody sees a queue that takes nothing.
pub(crate) async fn incarnation_behind(
    gateway: &Gateway,
    name: &str,
    closed: u64,
) -> Answer<Option<u64>> {
    refresh(gateway).await?;
    let known = gateway.control().queues.get(name).map(|queue| queue.incarnation);
    if known == Some(closed) {
        remove(gateway, name, closed).await?;
    }
    Ok(known.filter(|known| *known > closed))
}
