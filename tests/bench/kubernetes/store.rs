//! Objects put right into the store of a cluster, where its API server finds them: many thousands
//! in the time that it would take some hundreds in.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

/// Objects of one transaction: less than the store takes, by number and by size.
const OBJECTS: usize = 64;
/// Transactions under way.
const TRANSACTIONS: usize = 4;

/// The store, by its HTTP interface.
pub(crate) struct Store {
    client: reqwest::Client,
    url: String,
}

impl Store {
    /// Of a cluster.
    pub(crate) fn at(url: &str) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { client, url: format!("{url}/v3/kv/txn") })
    }

    /// Puts objects under their keys.
    pub(crate) async fn put(
        &self,
        objects: impl Iterator<Item = (String, String)> + Send,
    ) -> Result<()> {
        let mut objects = objects.peekable();
        let batches = std::iter::from_fn(|| {
            let batch: Vec<_> = objects.by_ref().take(OBJECTS).collect();
            (!batch.is_empty()).then_some(batch)
        });
        let sent = stream::iter(batches).map(|batch| self.commit(batch));
        sent.buffer_unordered(TRANSACTIONS).try_collect::<()>().await
    }

    async fn commit(&self, batch: Vec<(String, String)>) -> Result<()> {
        let put = |(key, value): (String, String)| {
            let (key, value) = (ByteString(key.into_bytes()), ByteString(value.into_bytes()));
            json!({ "requestPut": { "key": key, "value": value } })
        };
        let body = json!({ "success": batch.into_iter().map(put).collect::<Vec<_>>() });
        let request = self.client.post(&self.url).body(body.to_string());
        let answer = request.send().await.context("write into the store")?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "the store says {status}: {text}");
        let said: Value = serde_json::from_str(&text)?;
        ensure!(said["succeeded"] == true, "the store says {text}");
        Ok(())
    }
}
