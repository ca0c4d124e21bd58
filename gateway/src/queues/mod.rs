//! The queues: control data in the object store, one file an operation.

use muster_api::http;
use muster_core::control::Queue;
use muster_runtime::store::control::ChangeError;

use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};

mod delete;
mod get;
mod list;
mod put;

pub(crate) use delete::{delete, incarnation_behind};
pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use put::put;

fn shown(name: &str, queue: &Queue) -> http::Queue {
    http::Queue {
        name: name.to_owned(),
        weight: queue.weight_millis as f64 / 1000.0,
        labels: queue.labels.clone(),
        cordoned: queue.cordoned,
    }
}

/// Why a change of the control data failed.
fn failure(error: ChangeError<Failure>) -> Failure {
    match error {
        ChangeError::Refused(failure) => failure,
        ChangeError::Store(error) => {
            tracing::warn!(%error, "control data cannot be changed");
            Failure::unavailable("the queues cannot be changed at the moment")
        }
    }
}

/// Reads what others may have changed, so that an answer is as new as the store.
async fn refresh(gateway: &Gateway) -> Answer<()> {
    match gateway.deps().control.refresh().await {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "control data cannot be read");
            Err(Failure::unavailable("the queues cannot be read at the moment"))
        }
    }
}

/// Tells everybody that the control data has a new version; who misses it looks by itself.
async fn announce(gateway: &Gateway, version: u64) {
    use muster_api::bus::{ControlChanged, encode, subject};
    let wake_up = encode(&ControlChanged { version });
    if let Err(error) = gateway.bus().publish(subject::CONTROL, wake_up).await {
        tracing::warn!(%error, version, "a change of the queues was not announced");
    }
}
