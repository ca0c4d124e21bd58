//! Connections: accepted up to a limit, served, and drained when the process is to stop.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::tasks::{BoxError, OnCancel, OnError, Policy, Supervisor};

/// Pause after a connection could not be accepted: mostly there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server allows its clients.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// How long a client may take to send the headers of a request.
    pub header_timeout: Duration,
    /// Headers of one request.
    pub headers_max: usize,
    /// Bytes of request line and headers of one request.
    pub headers_bytes_max: usize,
}

/// A server of one router.
pub struct Server {
    service: TowerToHyperService<Router>,
    limits: Limits,
    clock: Clock,
    tasks: Supervisor,
    connections: Gauge,
    permits: Arc<Semaphore>,
    graceful: GracefulShutdown,
    /// Ends what has not ended when the time to drain is over.
    cut: CancellationToken,
}

impl Server {
    /// A server without connections; `connections` shows how many there are.
    #[must_use]
    pub fn new(
        router: Router,
        limits: Limits,
        clock: Clock,
        tasks: Supervisor,
        connections: Gauge,
    ) -> Self {
        Self {
            service: TowerToHyperService::new(router),
            permits: Arc::new(Semaphore::new(limits.connections_max)),
            graceful: GracefulShutdown::new(),
            limits,
            clock,
            tasks,
            connections,
            cut: CancellationToken::new(),
        }
    }

    /// Accepts connections until `cancel`, and no more after that; those that are open go on.
    pub async fn accept_until(&self, listener: TcpListener, cancel: &CancellationToken) {
        loop {
            let (stream, permit) = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                accepted = self.accept(&listener) => accepted,
            };
            self.serve(stream, permit);
        }
    }

    /// Lets requests under way end, for `timeout` at most, then cuts them off; idle connections are
    /// closed.
    pub async fn drain(self, timeout: Duration) {
        if tokio::time::timeout(timeout, self.graceful.shutdown()).await.is_err() {
            tracing::warn!(
                "requests had not ended when the time to drain was over, and are cut off"
            );
            self.cut.cancel();
        }
    }

    fn serve(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let stream = TokioIo::new(stream);
        let connection = self.builder().serve_connection(stream, self.service.clone());
        let connection = self.graceful.watch(connection);
        let connections = self.connections.clone();
        connections.inc();
        let policy = Policy { on_error: OnError::Log, on_cancel: OnCancel::Drain };
        let cut = self.cut.clone();
        self.tasks.spawn_once("connection", policy, move |_| async move {
            tokio::select! {
                biased;
                ended = connection => if let Err(error) = ended {
                    // Clients come and go as they like.
                    tracing::debug!(%error, "connection ended");
                },
                () = cut.cancelled() => {}
            }
            connections.dec();
            drop(permit);
            Ok::<(), BoxError>(())
        });
    }

    async fn accept(&self, listener: &TcpListener) -> (TcpStream, OwnedSemaphorePermit) {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
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
                    self.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn builder(&self) -> hyper::server::conn::http1::Builder {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_headers(self.limits.headers_max)
            .max_header_size(self.limits.headers_bytes_max);
        builder
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("limits", &self.limits).finish_non_exhaustive()
    }
}
