//! Pools, shares, clusters.

use muster_api::http::Pool;
use muster_api::request::{ClusterList, PoolList};

use crate::{Client, Error};

impl Client {
    /// All pools.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn pools(&self) -> Result<Vec<Pool>, Error> {
        Ok(self.get::<PoolList>(&["pools"], &[]).await?.pools)
    }

    /// A pool with its queues' shares.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn shares(&self, pool: &str) -> Result<Pool, Error> {
        self.get(&["pools", pool, "shares"], &[]).await
    }

    /// The metrics of the process that answers, as OpenMetrics text.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn metrics(&self) -> Result<String, Error> {
        self.get_text(&["metrics"]).await
    }

    /// All clusters, and what is cordoned.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn clusters(&self) -> Result<ClusterList, Error> {
        self.get(&["clusters"], &[]).await
    }
}
