//! Priority classes: control data in the object store, one file an operation.

use muster_api::http;
use muster_core::control::{Control, PriorityClass};

mod delete;
mod get;
mod list;
mod put;

pub(crate) use delete::delete;
pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use put::put;

fn shown(control: &Control, name: &str, class: PriorityClass) -> http::PriorityClass {
    http::PriorityClass {
        name: name.to_owned(),
        priority: class.priority,
        preemptible: class.preemptible,
        built_in: !control.classes.contains_key(name),
    }
}
