//! An S3 server inside the test process: objects on disk, requests over HTTP, signatures checked.
//!
//! The file-system store below it looks whether a key exists and then writes: two creators of one
//! key can both win. [`S3Server::start`] puts a lock around every key, which makes its conditional
//! writes honest. [`S3Server::start_unsafe`] leaves it out, to show that such a store is refused.
//! Both count requests and inject the faults of [`Faults`]. Nothing is synced: it survives the
//! death of a process, not of the machine.

mod faults;
mod request;
mod service;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

pub use faults::{Effect, Fault, Faults};
pub use request::Operation;

use crate::connections;
use service::{Locking, Service};

/// The bucket that stands in every server.
pub const BUCKET: &str = "muster";

/// The access key that every server takes.
pub const ACCESS_KEY: &str = "muster-test";

/// The secret that belongs to [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "muster-test-secret";

/// The region that clients shall sign for. The server takes any.
pub const REGION: &str = "us-east-1";

/// Threads that serve requests.
const WORKERS: usize = 2;

/// How long a stop waits for requests that write to disk.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// An S3 server with one bucket. It ends when dropped; its directory stays.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    directory: PathBuf,
    locking: Locking,
    service: Arc<Service>,
    running: Option<Runtime>,
}

impl S3Server {
    /// Starts one that keeps its objects in `directory`, and whose conditional writes have one
    /// winner.
    ///
    /// # Errors
    /// When the directory cannot be used, or no port is free.
    pub fn start(directory: &Path) -> Result<Self> {
        Self::start_on(directory, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same, listening there.
    ///
    /// # Errors
    /// When the directory cannot be used, or the port is taken.
    pub fn start_on(directory: &Path, listen: SocketAddr) -> Result<Self> {
        Self::start_with(directory, listen, Locking::PerKey)
    }

    /// Starts one whose conditional writes may have several winners.
    ///
    /// # Errors
    /// When the directory cannot be used, or no port is free.
    pub fn start_unsafe(directory: &Path) -> Result<Self> {
        Self::start_with(directory, SocketAddr::from(([127, 0, 0, 1], 0)), Locking::None)
    }

    fn start_with(directory: &Path, listen: SocketAddr, locking: Locking) -> Result<Self> {
        let service = Arc::new(Service::open(directory, locking, Faults::default())?);
        let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
        let address = listener.local_addr()?;
        let running = Some(serve(listener, Arc::clone(&service))?);
        Ok(Self { address, directory: directory.to_owned(), locking, service, running })
    }

    /// Where it listens: `http://127.0.0.1:PORT`. The same after a restart.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The store URL of a prefix in its bucket: `s3://muster/{prefix}`.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// What a process of Muster needs in its environment to use it, beside the store URL.
    pub fn env(&self) -> BTreeMap<String, String> {
        env_of(self.address)
    }

    /// What it shall do wrong. The same after a restart.
    pub fn faults(&self) -> Faults {
        self.service.faults().clone()
    }

    /// How many requests came in since the start or the last restart, those that it failed
    /// included.
    pub fn requests(&self) -> BTreeMap<Operation, u64> {
        self.service.requests()
    }

    /// The directory of the objects of its bucket.
    pub fn bucket_directory(&self) -> PathBuf {
        self.directory.join(BUCKET)
    }

    /// Cuts all connections and listens no more, until [`S3Server::restart`].
    ///
    /// # Errors
    /// When a thread of it panicked.
    pub fn stop(&mut self) -> Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        // On a thread of its own, because a runtime may not be waited for inside another one.
        std::thread::spawn(move || running.shutdown_timeout(STOP_TIMEOUT))
            .join()
            .map_err(|_| anyhow!("the S3 server panicked as it stopped"))
    }

    /// Stops it if it runs, and starts it on the same port and directory.
    ///
    /// # Errors
    /// When the port or the directory cannot be used any more.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        let listener = TcpListener::bind(self.address)
            .with_context(|| format!("listen on {} again", self.address))?;
        self.service = Arc::new(Service::open(&self.directory, self.locking, self.faults())?);
        self.running = Some(serve(listener, Arc::clone(&self.service))?);
        Ok(())
    }
}

/// What a process of Muster needs in its environment to use a server there, or one that is reached
/// there.
pub fn env_of(address: SocketAddr) -> BTreeMap<String, String> {
    [
        ("MUSTER_STORE__ALLOW_HTTP", "true".to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown_background();
        }
    }
}

fn serve(listener: TcpListener, service: Arc<Service>) -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("s3-server")
        .enable_all()
        .build()?;
    connections::serve(&runtime, listener, move |stream| carry(stream, Arc::clone(&service)))?;
    Ok(runtime)
}

async fn carry(stream: TcpStream, service: Arc<Service>) {
    let answer = service_fn(|request| service.answer(request));
    // An error is a client that went away, or a connection cut on purpose.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}
