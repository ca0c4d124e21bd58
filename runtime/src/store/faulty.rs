//! A store in memory that fails on demand: for the tests of this crate.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use super::{Kind, Store};

/// Faults, all off at first.
#[derive(Debug, Default)]
pub(crate) struct Faulty {
    inner: InMemory,
    /// Every write replaces what is there.
    pub(crate) ignore_create: AtomicBool,
    /// A write checks for an object first and writes later.
    pub(crate) ignore_races: AtomicBool,
    /// Every request takes a millisecond.
    pub(crate) answer_slowly: AtomicBool,
    /// So many writes fail and write nothing.
    pub(crate) fail_before_writing: AtomicU64,
    /// So many writes fail and write all the same.
    pub(crate) fail_after_writing: AtomicU64,
}

impl Faulty {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn store(self: &Arc<Self>) -> Store {
        Store::over(Arc::clone(self) as Arc<dyn ObjectStore>, Kind::Memory, "memory:///")
    }

    async fn wait(&self) {
        if self.answer_slowly.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn take(count: &AtomicU64) -> bool {
    let less = |left: u64| left.checked_sub(1);
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
}

fn failure() -> Error {
    Error::Generic { store: "faulty", source: "nobody answered".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        key: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        if self.ignore_create.load(Ordering::SeqCst) {
            options.mode = PutMode::Overwrite;
        }
        if self.ignore_races.load(Ordering::SeqCst) && self.inner.head(key).await.is_err() {
            options.mode = PutMode::Overwrite;
        }
        self.wait().await;
        if take(&self.fail_before_writing) {
            return Err(failure());
        }
        let put = self.inner.put_opts(key, payload, options).await?;
        if take(&self.fail_after_writing) { Err(failure()) } else { Ok(put) }
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.wait().await;
        self.inner.get_opts(key, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
