//! A store in front of another that fails as it is told, once per instruction.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to a put.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// It fails, and nothing is written.
    Fail,
    /// It is written, and reported as failed.
    WriteAndFail,
    /// It is never answered, and nothing is written.
    Hang,
    /// It is written and never answered.
    WriteAndHang,
    /// It is reported as a conflict (409) though nothing stands there.
    Conflict,
}

#[derive(Debug)]
pub(super) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    puts: Mutex<VecDeque<Fault>>,
    gets_failing: Mutex<u32>,
    gets: Mutex<u32>,
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        let (puts, gets_failing, gets) = Default::default();
        Arc::new(Self { inner, puts, gets_failing, gets })
    }

    /// The next puts go so, one after another; those after them go well.
    pub(super) fn puts(&self, faults: &[Fault]) {
        self.puts.lock().unwrap().extend(faults);
    }

    pub(super) fn fail_gets(&self, count: u32) {
        *self.gets_failing.lock().unwrap() = count;
    }

    /// How many gets there were since the last call.
    pub(super) fn take_gets(&self) -> u32 {
        std::mem::take(&mut self.gets.lock().unwrap())
    }

    /// Whether every instruction was used.
    pub(super) fn assert_drained(&self) {
        assert_eq!(self.puts.lock().unwrap().len(), 0);
        assert_eq!(*self.gets_failing.lock().unwrap(), 0);
    }
}

fn failure() -> Error {
    Error::Generic { store: "faulty", source: "503 slow down".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, what: PutPayload, how: PutOptions) -> Result<PutResult> {
        let fault = self.puts.lock().unwrap().pop_front();
        match fault {
            None => self.inner.put_opts(at, what, how).await,
            Some(Fault::Fail) => Err(failure()),
            Some(Fault::WriteAndFail) => {
                self.inner.put_opts(at, what, how).await?;
                Err(failure())
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::WriteAndHang) => {
                self.inner.put_opts(at, what, how).await?;
                std::future::pending().await
            }
            Some(Fault::Conflict) => {
                Err(Error::AlreadyExists { path: at.to_string(), source: "409 conflict".into() })
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        *self.gets.lock().unwrap() += 1;
        let failing = {
            let mut left = self.gets_failing.lock().unwrap();
            let failing = *left > 0;
            *left = left.saturating_sub(1);
            failing
        };
        if failing { Err(failure()) } else { self.inner.get_opts(at, how).await }
    }

    fn delete_stream(
        &self,
        which: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(which)
    }

    fn list(&self, under: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(under)
    }

    async fn list_with_delimiter(&self, under: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(under).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}
