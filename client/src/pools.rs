//! What is set for pools.

use muster_api::http::PoolSettings;
use reqwest::Method;

use crate::gateways::Target;
use crate::transport::Request;
use crate::{Client, Error};

/// Where they live.
const PATH: &str = "pools";
/// What of them.
const SETTINGS: &str = "settings";

impl Client {
    /// What is set for a pool.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn pool_settings(&self, pool: &str) -> Result<PoolSettings, Error> {
        self.get(&[PATH, pool, SETTINGS], &[]).await
    }

    /// Sets all of it for a pool.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn put_pool_settings(
        &self,
        pool: &str,
        settings: &PoolSettings,
    ) -> Result<PoolSettings, Error> {
        self.with_json(Method::PUT, &[PATH, pool, SETTINGS], settings).await
    }

    /// Takes away what was set for a pool.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn delete_pool_settings(&self, pool: &str) -> Result<(), Error> {
        let request = Request::new(Method::DELETE, Target::new(&[PATH, pool, SETTINGS], &[]));
        self.open(&request).await.map(drop)
    }
}
