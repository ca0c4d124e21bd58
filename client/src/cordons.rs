//! Cordons of clusters and nodes.

use muster_api::http::{Cordon, CordonSettings};
use reqwest::Method;

use crate::gateways::Target;
use crate::transport::Request;
use crate::{Client, Error};

impl Client {
    /// Has nothing new placed on a cluster.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn cordon_cluster(
        &self,
        cluster: &str,
        reason: Option<String>,
    ) -> Result<Cordon, Error> {
        let path = ["clusters", cluster, "cordon"];
        self.with_json(Method::PUT, &path, &CordonSettings { reason }).await
    }

    /// Has jobs placed on a cluster again.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn uncordon_cluster(&self, cluster: &str) -> Result<(), Error> {
        self.uncordon(&["clusters", cluster, "cordon"]).await
    }

    /// Has nothing new placed on a node.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn cordon_node(
        &self,
        cluster: &str,
        node: &str,
        reason: Option<String>,
    ) -> Result<Cordon, Error> {
        let path = ["clusters", cluster, "nodes", node, "cordon"];
        self.with_json(Method::PUT, &path, &CordonSettings { reason }).await
    }

    /// Has jobs placed on a node again.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn uncordon_node(&self, cluster: &str, node: &str) -> Result<(), Error> {
        self.uncordon(&["clusters", cluster, "nodes", node, "cordon"]).await
    }

    /// Has jobs placed again on a node that was taken out because jobs failed there. What failed
    /// until now is not held against it any more.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub async fn put_node_back(&self, cluster: &str, node: &str) -> Result<(), Error> {
        let path = ["clusters", cluster, "nodes", node, "put-back"];
        let request = Request::new(Method::POST, Target::new(&path, &[]));
        self.open(&request).await.map(drop)
    }

    async fn uncordon(&self, path: &[&str]) -> Result<(), Error> {
        let request = Request::new(Method::DELETE, Target::new(path, &[]));
        self.open(&request).await.map(drop)
    }
}
