//! The queues: control data in the object store, one file an operation.

use muster_api::http::{self, QueueLimit, QueueSettings};
use muster_api::job_text::retry;
use muster_core::control::{Amount, Error, Limit, Queue, Rate, weight_millis};

mod delete;
mod get;
mod list;
mod put;

pub(crate) use delete::{delete, incarnation_behind};
pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use put::put;

fn shown(name: &str, queue: &Queue) -> http::Queue {
    http::Queue { name: name.to_owned(), settings: QueueSettings::from(queue) }
}

/// The queue behind settings.
fn set(settings: QueueSettings) -> Result<Queue, Error> {
    let QueueSettings { weight, labels, cordoned, limits, jobs_queued_max, rate, retry, parent } =
        settings;
    let amount = |(name, text): (String, String)| Ok((name, Amount::parse(&text)?));
    let limit = |QueueLimit { class, pool, resources }| {
        let resources = resources.into_iter().map(amount).collect::<Result<_, Error>>()?;
        Ok(Limit { class, pool, resources })
    };
    Ok(Queue {
        weight_millis: weight_millis(weight)?,
        labels,
        cordoned,
        limits: limits.into_iter().map(limit).collect::<Result<_, Error>>()?,
        jobs_queued_max,
        rate: rate.map(|rate| Rate::new(rate.per_second, rate.burst)).transpose()?,
        retry: retry::policy(&retry).map_err(|(field, reason)| Error::Retry(field, reason))?,
        parent,
        incarnation: 0,
    })
}
