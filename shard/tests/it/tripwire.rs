//! A store in memory that stops answering at the n-th request of a collection: a listing, a
//! deletion, or the put of a checkpoint. Every other one of these is carried out before that.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use muster_runtime::store::{Kind, Store};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Tripwire {
    inner: InMemory,
    /// At which request it stops answering, counted from when it was armed.
    at: usize,
    is_armed: AtomicBool,
    seen: AtomicUsize,
    tripped: Notify,
}

impl Tripwire {
    pub(crate) fn new(at: usize) -> Arc<Self> {
        let (inner, is_armed, seen, tripped) = Default::default();
        Arc::new(Self { inner, at, is_armed, seen, tripped })
    }

    /// Requests count from here on.
    pub(crate) fn arm(&self) {
        self.is_armed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn store(self: &Arc<Self>) -> Store {
        Store::over(Handle(Arc::clone(self)).into_object(), Kind::Memory, "memory:///")
    }

    /// Waits until the request was made.
    pub(crate) async fn tripped(&self) {
        self.tripped.notified().await;
    }

    /// Whether this request is the one.
    fn trips(&self) -> bool {
        self.is_armed.load(Ordering::SeqCst) && self.seen.fetch_add(1, Ordering::SeqCst) == self.at
    }

    async fn never<T>(&self) -> T {
        self.tripped.notify_one();
        std::future::pending().await
    }
}

#[derive(Debug, Clone)]
struct Handle(Arc<Tripwire>);

impl Handle {
    fn into_object(self) -> Arc<dyn ObjectStore> {
        Arc::new(self)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tripwire")
    }
}

#[async_trait]
impl ObjectStore for Handle {
    async fn put_opts(&self, at: &Path, what: PutPayload, how: PutOptions) -> Result<PutResult> {
        let this = &self.0;
        if at.as_ref().contains("/checkpoint/") && this.trips() {
            if this.at % 2 == 1 {
                this.inner.put_opts(at, what, how).await?;
            }
            return this.never().await;
        }
        this.inner.put_opts(at, what, how).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        self.0.inner.get_opts(at, how).await
    }

    fn delete_stream(
        &self,
        which: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        type Deleted = Result<BoxStream<'static, Result<Path>>>;
        let deleting = async move {
            let keys: Vec<Path> = which.try_collect().await?;
            let of_the_log = keys.iter().any(|key| key.as_ref().starts_with("shards/"));
            if of_the_log && this.0.trips() {
                // Half of them.
                for key in &keys[..keys.len() / 2] {
                    object_store::ObjectStoreExt::delete(&this.0.inner, key).await?;
                }
                return this.0.never::<Deleted>().await;
            }
            let keys = stream::iter(keys.into_iter().map(Ok)).boxed();
            Ok(this.0.inner.delete_stream(keys))
        };
        stream::once(deleting).try_flatten().boxed()
    }

    fn list(&self, under: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, under) = (self.clone(), under.cloned());
        type Listed = Result<BoxStream<'static, Result<ObjectMeta>>>;
        let listing = async move {
            let of_the_log = under.as_ref().is_some_and(|key| key.as_ref().starts_with("shards/"));
            if of_the_log && this.0.trips() {
                return this.0.never::<Listed>().await;
            }
            Ok(this.0.inner.list(under.as_ref()))
        };
        stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, under: Option<&Path>) -> Result<ListResult> {
        self.0.inner.list_with_delimiter(under).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.0.inner.copy_opts(from, to, how).await
    }
}
