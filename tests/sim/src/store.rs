//! The object store as each process sees it: one store in memory, with requests that take time,
//! fail before they write, fail after, land late, hang.
//!
//! A request goes on when the process that made it is stopped or killed: it has left the machine.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use muster_runtime::store::{Kind, Store};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::background::spawn;
use crate::faults::{Faults, Peer, PutFate, ReadFate};
use crate::process::EPOCH;
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

/// When each object landed, by the simulated time, and when it was deleted; and what it was. Clones
/// are the same books.
#[derive(Clone)]
pub(crate) struct Landings {
    began: Instant,
    books: Arc<Mutex<Books>>,
    /// All that ever landed below `shards/` and `history/`, deleted or not.
    archive: Arc<InMemory>,
}

#[derive(Default)]
struct Books {
    landed: BTreeMap<String, Duration>,
    deleted: Vec<(Path, Duration)>,
    /// Keys that got another object after the first one was deleted.
    used_again: Vec<(Path, PutPayload)>,
}

impl Landings {
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, books: Arc::default(), archive: Arc::new(InMemory::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("no code panics while it holds this lock")
    }

    async fn landed(&self, key: &Path, payload: &PutPayload) {
        self.lock().landed.entry(key.to_string()).or_insert_with(|| self.began.elapsed());
        if !["shards/", "history/"].iter().any(|prefix| key.as_ref().starts_with(prefix)) {
            return;
        }
        let create = PutOptions::from(PutMode::Create);
        if self.archive.put_opts(key, payload.clone(), create).await.is_err() {
            self.lock().used_again.push((key.clone(), payload.clone()));
        }
    }

    async fn delete(&self, objects: &InMemory, key: &Path) {
        // In memory it does not fail, and one that is not there has been noted before.
        if objects.head(key).await.is_ok() && objects.delete(key).await.is_ok() {
            self.lock().deleted.push((key.clone(), self.began.elapsed()));
        }
    }

    /// When an object landed first.
    pub(crate) fn of(&self, key: &str) -> Option<Duration> {
        self.lock().landed.get(key).copied()
    }

    /// Every object that there ever was.
    pub(crate) fn archive(&self) -> &InMemory {
        &self.archive
    }

    /// What was deleted, and when.
    pub(crate) fn deleted(&self) -> Vec<(Path, Duration)> {
        self.lock().deleted.clone()
    }

    /// Keys that were used once more, and for what.
    pub(crate) fn used_again(&self) -> Vec<(Path, PutPayload)> {
        self.lock().used_again.clone()
    }

    /// The metadata of a listed object, with the time at which it landed in the simulation.
    fn dated(&self, mut object: ObjectMeta) -> ObjectMeta {
        let landed = self.of(object.location.as_ref()).unwrap_or_default();
        let at = std::time::UNIX_EPOCH + Duration::from_millis(EPOCH.0.unsigned_abs()) + landed;
        object.last_modified = at.into();
        object
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
    let fate = this.faults.put_fate(this.peer, key.as_ref().starts_with("probe/"));
    tokio::time::sleep(this.faults.store_delay()).await;
    let bytes = payload.content_length();
    let write = async || {
        let result = this.objects.put_opts(&key, payload.clone(), options.clone()).await;
        if result.is_ok() {
            this.landings.landed(&key, &payload).await;
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

/// Carries out a deletion to its fate; the answer goes to whoever still waits.
async fn delete(this: Endpoint, keys: Vec<Path>, answer: oneshot::Sender<Result<Vec<Path>>>) {
    let is_probe = keys.iter().all(|key| key.as_ref().starts_with("probe/"));
    let fate = this.faults.put_fate(this.peer, is_probe);
    tokio::time::sleep(this.faults.store_delay()).await;
    let lands = async || {
        for key in &keys {
            this.landings.delete(&this.objects, key).await;
        }
        note!(this.trace, "p{} deletes {} objects: {fate:?}", this.peer.0, keys.len());
    };
    match fate {
        PutFate::Lands => {
            lands().await;
            tokio::time::sleep(this.faults.store_delay()).await;
            let _ = answer.send(Ok(keys));
        }
        PutFate::Refused | PutFate::Conflict => drop(answer.send(Err(failure("503 Slow Down")))),
        PutFate::LostAnswer => {
            lands().await;
            let _ = answer.send(Err(failure("the connection was closed")));
        }
        PutFate::LandsLate(long) => {
            let _ = answer.send(Err(failure("the connection was closed")));
            tokio::time::sleep(long).await;
            lands().await;
        }
        PutFate::Hangs { for_, lands: it_does } => {
            tokio::time::sleep(for_).await;
            if it_does {
                lands().await;
            }
            let _ = answer.send(Err(failure("the connection was closed")));
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
        let this = self.clone();
        let deleting = async move {
            let keys: Vec<Path> = keys.try_collect().await?;
            let (sender, answer) = oneshot::channel();
            spawn(delete(this, keys, sender));
            let deleted =
                answer.await.unwrap_or_else(|_| Err(failure("the connection was closed")))?;
            Ok::<_, Error>(stream::iter(deleted.into_iter().map(Ok)))
        };
        stream::once(deleting).try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            match this.read_delay().await {
                Ok(()) => {
                    let landings = this.landings.clone();
                    let listed = this.objects.list(prefix.as_ref());
                    listed.map_ok(move |object| landings.dated(object)).boxed()
                }
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
