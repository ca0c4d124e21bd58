//! The way of one request: counted, befallen by faults, behind its key's lock, answered.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use hyper::body::Incoming;
use hyper::{Request, Response};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpRequest, HttpResponse};
use s3s_fs::FileSystem;
use tokio::sync::RwLock;
use tokio::time::sleep;

use super::faults::{Effect, Faults};
use super::request::{Operation, Target};
use super::{ACCESS_KEY, BUCKET, SECRET_KEY};

/// How many locks the keys share. Keys that share one only wait for each other.
const LOCKS: usize = 1024;

/// Whether requests about one key wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    PerKey,
    None,
}

/// The server behind its socket.
pub(super) struct Service {
    s3: S3Service,
    locking: Locking,
    locks: Vec<RwLock<()>>,
    /// Held shared by requests about a key, alone by those that name their keys in the body.
    whole: RwLock<()>,
    faults: Faults,
    requests: Mutex<BTreeMap<Operation, u64>>,
}

/// The connection is to be cut.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut by a fault")]
pub(super) struct Cut;

impl Service {
    pub(super) fn open(directory: &Path, locking: Locking, faults: Faults) -> Result<Self> {
        let bucket = directory.join(BUCKET);
        std::fs::create_dir_all(&bucket).with_context(|| format!("create {}", bucket.display()))?;
        let files = FileSystem::new(directory)
            .map_err(|error| anyhow!("cannot serve {}: {error:?}", directory.display()))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        Ok(Self {
            s3: builder.build(),
            locking,
            locks: std::iter::repeat_with(RwLock::default).take(LOCKS).collect(),
            whole: RwLock::default(),
            faults,
            requests: Mutex::default(),
        })
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(super) fn requests(&self) -> BTreeMap<Operation, u64> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<HttpResponse, Cut> {
        let target = Target::of(request.method(), request.uri());
        self.count(target.operation);
        // Asked for first: what befalls the request stood until then at least.
        let cleared = self.faults.cleared();
        let effects = self.faults.befalling(&target);
        for effect in &effects {
            match *effect {
                Effect::Delay(time) => sleep(time).await,
                Effect::Refuse(status) => return Ok(refusal(status)),
                Effect::Disconnect => return Err(Cut),
                Effect::RefuseAfter(_)
                | Effect::LoseReply
                | Effect::DelayReply(_)
                | Effect::HoldReply => {}
            }
        }
        let response = self.perform(&target, request.map(Body::from)).await?;
        if effects.contains(&Effect::HoldReply) {
            cleared.await;
        }
        for effect in &effects {
            match *effect {
                Effect::DelayReply(time) => sleep(time).await,
                Effect::RefuseAfter(status) => return Ok(refusal(status)),
                Effect::LoseReply => return Err(Cut),
                Effect::Delay(_) | Effect::Refuse(_) | Effect::Disconnect | Effect::HoldReply => {}
            }
        }
        Ok(response)
    }

    fn count(&self, operation: Operation) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(operation).or_default() += 1;
    }

    async fn perform(&self, target: &Target, request: HttpRequest) -> Result<HttpResponse, Cut> {
        let call = async { self.s3.call(request).await.map_err(|_| Cut) };
        if self.locking == Locking::None {
            return call.await;
        }
        if target.operation == Operation::DeleteMany {
            let _alone = self.whole.write().await;
            return call.await;
        }
        let _shared = self.whole.read().await;
        if target.reads() {
            let _reading = self.lock_of(&target.key).read().await;
            call.await
        } else {
            let _writing = self.lock_of(&target.key).write().await;
            call.await
        }
    }

    fn lock_of(&self, key: &str) -> &RwLock<()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let slot = usize::try_from(hasher.finish() % LOCKS as u64).expect("it is below LOCKS");
        &self.locks[slot]
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("locking", &self.locking).finish_non_exhaustive()
    }
}

fn refusal(status: u16) -> HttpResponse {
    let code = if status == 503 { "SlowDown" } else { "InternalError" };
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <Error><Code>{code}</Code><Message>a fault of the test server</Message></Error>"
    );
    Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .body(Body::from(text))
        .expect("a fault names a valid status")
}
