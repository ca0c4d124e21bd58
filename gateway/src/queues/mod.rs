//! The queues: control data in the object store, one file an operation.

use muster_api::http;
use muster_core::control::Queue;

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
