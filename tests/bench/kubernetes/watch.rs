//! What a watch sees of the pods of a cluster: when they are there, when they have ended, when they
//! are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, bail};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use muster_core::time::Timestamp;
use muster_runtime::Clock;
use serde::Deserialize;

use crate::plant::NAMESPACE;

/// The parts of a pod that are looked at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Meta,
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) uid: String,
    resource_version: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

#[derive(Deserialize)]
struct List {
    metadata: Meta,
}

/// News of a pod.
pub(crate) enum News {
    /// It has succeeded.
    Ended(Pod),
    /// Nothing that anybody acts on.
    Other,
}

type Events = BoxStream<'static, kube::Result<WatchEvent<Pod>>>;

/// A watch, and what it has seen.
pub(crate) struct Watch {
    client: Client,
    clock: Clock,
    cluster: String,
    version: String,
    events: Events,
    /// When a pod was seen first, by name.
    pub(crate) seen: BTreeMap<String, Timestamp>,
    ended: BTreeSet<String>,
    /// Pods that are gone.
    pub(crate) gone: usize,
    first: Option<Duration>,
    last: Duration,
}

/// The path of the pods.
pub(crate) fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

impl Watch {
    /// Watches the pods of a cluster, of which there are none yet.
    pub(crate) async fn open(client: &Client, clock: &Clock, cluster: &str) -> Result<Self> {
        let list = Request::new(pods()).list(&ListParams::default().limit(1))?;
        let version = client.request::<List>(list).await?.metadata.resource_version;
        let cluster = cluster.to_owned();
        let events = events(client, &cluster, &version).await?;
        Ok(Self {
            client: client.clone(),
            clock: clock.clone(),
            cluster,
            version,
            events,
            seen: BTreeMap::new(),
            ended: BTreeSet::new(),
            gone: 0,
            first: None,
            last: Duration::ZERO,
        })
    }

    /// The next news.
    pub(crate) async fn next(&mut self) -> Result<News> {
        let Some(event) = self.events.next().await else {
            // The API server lets go of those that do not read as fast as it has something to say.
            self.events = events(&self.client, &self.cluster, &self.version).await?;
            return Ok(News::Other);
        };
        match event? {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                self.version.clone_from(&pod.metadata.resource_version);
                let name = &pod.metadata.name;
                if !self.seen.contains_key(name) {
                    self.first.get_or_insert(self.clock.monotonic());
                    self.seen.insert(name.clone(), self.clock.now());
                }
                if pod.status.phase == "Succeeded" && self.ended.insert(name.clone()) {
                    return Ok(News::Ended(pod));
                }
                Ok(News::Other)
            }
            WatchEvent::Deleted(pod) => {
                self.version = pod.metadata.resource_version;
                self.gone += 1;
                self.last = self.clock.monotonic();
                Ok(News::Other)
            }
            WatchEvent::Bookmark(_) => Ok(News::Other),
            WatchEvent::Error(status) => bail!("the watch of the pods: {}", status.message),
        }
    }

    /// Until so many are gone.
    pub(crate) async fn until_gone(&mut self, pods: usize) -> Result<()> {
        while self.gone < pods {
            self.next().await?;
        }
        Ok(())
    }

    /// From the first pod to the last one's removal.
    pub(crate) fn span(&self) -> Duration {
        self.last.saturating_sub(self.first.unwrap_or(self.last))
    }
}

/// The changes since a version.
async fn events(client: &Client, cluster: &str, version: &str) -> Result<Events> {
    let params = WatchParams {
        label_selector: Some(format!("muster.dev/cluster={cluster}")),
        bookmarks: false,
        ..WatchParams::default()
    };
    let request = Request::new(pods()).watch(&params, version)?;
    Ok(client.request_events::<Pod>(request).await?.boxed())
}
