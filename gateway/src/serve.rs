//! Connections: accepted up to a limit, served, and drained when the gateway is to stop.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use muster_runtime::tasks::{BoxError, OnCancel, OnError, Policy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, exposed};
use crate::gateway::{Deps, Gateway};
use crate::{limits, routes};

/// Pause after a connection could not be accepted: mostly there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Others could reach it, and nobody said that this is wanted. The process ends with code 2.
    #[error("{0}")]
    Exposed(String),
    /// The address cannot be listened on.
    #[error("cannot listen on `{listen}`: {source}")]
    Bind {
        /// The address.
        listen: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// The code that the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exposed(_) => 2,
            Self::Bind { .. } => 1,
        }
    }
}

/// Listens where `config` says.
///
/// # Errors
/// When the address is not a loopback address and `insecure` is not set, or when it cannot be had.
pub async fn bind(config: &Config) -> Result<TcpListener, Error> {
    let listen = config.listen;
    if !listen.ip().is_loopback() && !config.insecure {
        return Err(Error::Exposed(exposed(listen)));
    }
    TcpListener::bind(listen).await.map_err(|source| Error::Bind { listen, source })
}

/// Serves until `cancel`, then lets requests under way end, for `drain_timeout` at most.
///
/// # Errors
/// Never so far; what fails is tried again or concerns one connection.
pub async fn run(
    config: Config,
    deps: Deps,
    listener: TcpListener,
    cancel: CancellationToken,
) -> Result<(), BoxError> {
    let gateway = Gateway::new(config, deps);
    let following = gateway.clone();
    gateway.deps().tasks.spawn("gateway control data", Policy::restarting(), move |cancel| {
        let following = following.clone();
        async move { following.follow_control(cancel).await }
    });
    serve(gateway, listener, cancel).await;
    Ok(())
}

async fn serve(gateway: Gateway, listener: TcpListener, cancel: CancellationToken) {
    let service = TowerToHyperService::new(routes::router(gateway.clone()));
    let permits = Arc::new(Semaphore::new(gateway.config().connections_max));
    let graceful = GracefulShutdown::new();
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "gateway is listening");
    }
    loop {
        let (stream, permit) = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            accepted = accept(&gateway, &listener, &permits) => accepted,
        };
        let connection =
            builder(gateway.config()).serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection);
        let counted = gateway.counted().connections.clone();
        counted.inc();
        let policy = Policy { on_error: OnError::Log, on_cancel: OnCancel::Drain };
        gateway.deps().tasks.spawn_once("connection", policy, move |_| async move {
            if let Err(error) = connection.await {
                // Clients come and go as they like.
                tracing::debug!(%error, "connection ended");
            }
            counted.dec();
            drop(permit);
            Ok::<(), BoxError>(())
        });
    }
    gateway.drain();
    drop(listener);
    if tokio::time::timeout(gateway.config().drain_timeout.0, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests had not ended when the time to drain was over");
    }
}

async fn accept(
    gateway: &Gateway,
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it small answers wait for the client's acknowledgements.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection keeps its delay");
                }
                return (stream, permit);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                gateway.clock().sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn builder(config: &Config) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout.0)
        .max_headers(limits::HEADERS_MAX)
        .max_header_size(limits::HEADERS_BYTES_MAX);
    builder
}
