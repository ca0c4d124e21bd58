//! The object store as each process sees it: one store in memory, with requests that take time,
//! fail before they write, fail after, land late, hang.
//!
//! A request goes on when the process that made it is stopped or killed: it has left the machine.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use muster_runtime::store::{Kind, Store};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::background::spawn;
use crate::faults::{Faults, Peer, PutFate, ReadFate};
use crate::trace::{Trace, note};

/// One process's way to the store.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) peer: Peer,
    pub(crate) objects: Arc<InMemory>,
    pub(crate) landings: Landings,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
}

/// When each object landed, by the simulated time. Clones are the same books.
#[derive(Clone)]
pub(crate) struct Landings {
    began: Instant,
    at: Arc<Mutex<BTreeMap<String, Duration>>>,
}

impl Landings {
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, at: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Duration>> {
        self.at.lock().expect("no code panics while it holds this lock")
    }

    fn note(&self, key: &Path) {
        self.lock().insert(key.to_string(), self.began.elapsed());
    }

    /// When an object landed.
    pub(crate) fn of(&self, key: &str) -> Option<Duration> {
        self.lock().get(key).copied()
    }
}

impl Endpoint {
    /// The store that a process opens.
    pub(crate) fn store(self) -> Store {
        Store::over(Arc::new(self), Kind::S3, "s3://simulated/muster")
    }

    async fn read_delay(&self) -> Result<()> {
        let fate = self.faults.read_fate(self.peer);
        tokio::time::sleep(self.faults.store_delay()).await;
        match fate {
            ReadFate::Answered => Ok(()),
            ReadFate::Fails => Err(failure("503 Slow Down")),
            ReadFate::Hangs(long) => {
                tokio::time::sleep(long).await;
                Err(failure("the connection was closed"))
            }
        }
    }
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: "simulated", source: what.into() }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

/// Carries out a put to its fate; the answer goes to whoever still waits.
async fn put(
    this: Endpoint,
    key: Path,
    payload: PutPayload,
    options: PutOptions,
    answer: oneshot::Sender<Result<PutResult>>,
) {
    let fate = this.faults.put_fate(this.peer);
    tokio::time::sleep(this.faults.store_delay()).await;
    let bytes = payload.content_length();
    let write = async || {
        let result = this.objects.put_opts(&key, payload.clone(), options.clone()).await;
        if result.is_ok() {
            this.landings.note(&key);
        }
        let said = if result.is_ok() { "written" } else { "refused" };
        note!(this.trace, "p{} put {key} ({bytes} B): {said}, {fate:?}", this.peer.0);
        result
    };
    // Who asked may have gone: the request was under way all the same.
    match fate {
        PutFate::Lands => {
            let result = write().await;
            tokio::time::sleep(this.faults.store_delay()).await;
            let _ = answer.send(result);
        }
        PutFate::Refused => drop(answer.send(Err(failure("503 Slow Down")))),
        PutFate::LostAnswer => {
            drop(write().await);
            let _ = answer.send(Err(failure("the connection was closed")));
        }
        PutFate::LandsLate(long) => {
            let _ = answer.send(Err(failure("the connection was closed")));
            tokio::time::sleep(long).await;
            drop(write().await);
        }
        PutFate::Hangs { for_, lands } => {
            tokio::time::sleep(for_).await;
            if lands {
                drop(write().await);
            }
            let _ = answer.send(Err(failure("the connection was closed")));
        }
        PutFate::Conflict => {
            let source = "409 ConditionalRequestConflict".into();
            let _ = answer.send(Err(Error::AlreadyExists { path: key.to_string(), source }));
        }
    }
}

#[async_trait]
impl ObjectStore for Endpoint {
    async fn put_opts(
        &self,
        key: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (sender, answer) = oneshot::channel();
        spawn(put(self.clone(), key.clone(), payload, options, sender));
        answer.await.unwrap_or_else(|_| Err(failure("the connection was closed")))
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.read_delay().await?;
        self.objects.get_opts(key, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            match this.read_delay().await {
                Ok(()) => this.objects.list(prefix.as_ref()),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(listing).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read_delay().await?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
