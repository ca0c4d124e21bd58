//! What the pool leaders publish: one file an operation.

use std::collections::BTreeMap;

use muster_api::bus::pool_from_parts;
use muster_api::http::{ErrorCode, Pool};

use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};

mod clusters;
mod list;
pub(crate) mod settings;
mod shares;

pub(crate) use clusters::clusters;
pub(crate) use list::list;
pub(crate) use shares::shares;

/// Every pool, by name.
async fn all(gateway: &Gateway) -> Answer<Vec<Pool>> {
    let entries = gateway.pools().await?.entries().await.map_err(|error| {
        tracing::warn!(%error, "pools cannot be read");
        Failure::unavailable("the pools cannot be read at the moment")
    })?;
    let values: BTreeMap<&str, &[u8]> =
        entries.iter().map(|entry| (entry.key.as_str(), &entry.value[..])).collect();
    let pool = |(key, value): (&&str, &&[u8])| {
        pool_from_parts(key, value, |key| values.get(key).copied()).transpose()
    };
    let mut pools =
        values.iter().filter_map(pool).collect::<Result<Vec<Pool>, _>>().map_err(|error| {
            Failure::new(ErrorCode::Internal, format!("a pool's state: {error}"))
        })?;
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(pools)
}
