//! `DELETE /priority-classes/{name}`: takes away what was set. Jobs of a class that is gone are
//! jobs of the default class; a built-in class is as it was built in.

use axum::extract::State;
use axum::http::StatusCode;

use crate::control;
use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::Segments;

pub(crate) async fn delete(
    State(gateway): State<Gateway>,
    Segments(name): Segments<String>,
) -> Answer<StatusCode> {
    let missing = || {
        Failure::not_found(format!("there is no priority class `{name}`, or it is only built in"))
    };
    control::change(&gateway, |control| control.without_class(&name).ok_or_else(missing)).await?;
    Ok(StatusCode::NO_CONTENT)
}
