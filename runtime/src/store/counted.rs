//! A store that counts what is asked of it. Requests cost money and time: what an idle deployment
//! and a million jobs may cost is measured with these counters.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, OBJECT_STORE_COALESCE_DEFAULT,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result, coalesce_ranges,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Objects named in one answer to a listing, and removed by one request, as S3 does it.
const OBJECTS_PER_REQUEST: u64 = 1000;

/// How often each kind of request was made. Retries inside the client are not seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Writes (each part of a multipart upload is not counted by itself).
    pub put: u64,
    /// Reads of an object or a part of it.
    pub get: u64,
    /// Listings, one for each 1000 objects listed.
    pub list: u64,
    /// Deletions, one for each 1000 objects deleted together.
    pub delete: u64,
    /// Reads of metadata alone.
    pub head: u64,
    /// Bytes written.
    pub put_bytes: u64,
    /// Bytes asked for by reads that found their object.
    pub get_bytes: u64,
}

impl Requests {
    /// Requests of every kind.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.put + self.get + self.list + self.delete + self.head
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            put: self.put - earlier.put,
            get: self.get - earlier.get,
            list: self.list - earlier.list,
            delete: self.delete - earlier.delete,
            head: self.head - earlier.head,
            put_bytes: self.put_bytes - earlier.put_bytes,
            get_bytes: self.get_bytes - earlier.get_bytes,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Counts, then hands on.
#[derive(Debug)]
pub(super) struct Counted {
    inner: Arc<dyn ObjectStore>,
    counts: Counts,
}

#[derive(Debug, Clone)]
struct Counts {
    requests: Family<KindLabel, Counter>,
    bytes: Family<KindLabel, Counter>,
    put: Counter,
    get: Counter,
    list: Counter,
    delete: Counter,
    head: Counter,
    put_bytes: Counter,
    get_bytes: Counter,
}

impl Counts {
    fn new() -> Self {
        let (requests, bytes) = (Family::default(), Family::default());
        let of = |family: &Family<KindLabel, Counter>, kind: &'static str| {
            family.get_or_create_owned(&KindLabel { kind })
        };
        Self {
            put: of(&requests, "put"),
            get: of(&requests, "get"),
            list: of(&requests, "list"),
            delete: of(&requests, "delete"),
            head: of(&requests, "head"),
            put_bytes: of(&bytes, "put"),
            get_bytes: of(&bytes, "get"),
            requests,
            bytes,
        }
    }
}

impl Counted {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, counts: Counts::new() }
    }

    pub(super) fn requests(&self) -> Requests {
        let counts = &self.counts;
        Requests {
            put: counts.put.get(),
            get: counts.get.get(),
            list: counts.list.get(),
            delete: counts.delete.get(),
            head: counts.head.get(),
            put_bytes: counts.put_bytes.get(),
            get_bytes: counts.get_bytes.get(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let Counts { requests, bytes, .. } = self.counts.clone();
        registry.register("requests", "Requests to the object store", requests);
        registry.register("bytes", "Bytes written to and read from the object store", bytes);
    }

    /// Counts a listing: one request, and another for each further thousand objects.
    fn count_listed(
        &self,
        listed: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let requests = self.counts.list.clone();
        requests.inc();
        let mut seen = 0;
        let count = move |_: &Result<ObjectMeta>| {
            if seen > 0 && seen % OBJECTS_PER_REQUEST == 0 {
                requests.inc();
            }
            seen += 1;
        };
        listed.inspect(count).boxed()
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Counted {
    async fn put_opts(
        &self,
        key: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.counts.put.inc();
        self.counts.put_bytes.inc_by(payload.content_length() as u64);
        self.inner.put_opts(key, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.counts.put.inc();
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            self.counts.head.inc();
            return self.inner.get_opts(key, options).await;
        }
        self.counts.get.inc();
        let found = self.inner.get_opts(key, options).await?;
        self.counts.get_bytes.inc_by(found.range.end - found.range.start);
        Ok(found)
    }

    async fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // As the S3 client does it: ranges that lie close together are one request.
        let read = |range| self.get_range(key, range);
        coalesce_ranges(ranges, read, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let requests = self.counts.delete.clone();
        let mut seen = 0;
        let count = move |_: &Result<Path>| {
            if seen % OBJECTS_PER_REQUEST == 0 {
                requests.inc();
            }
            seen += 1;
        };
        self.inner.delete_stream(keys.inspect(count).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count_listed(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count_listed(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.counts.list.inc();
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.counts.put.inc();
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.counts.put.inc();
        self.inner.rename_opts(from, to, options).await
    }
}
