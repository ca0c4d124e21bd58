//! Connections: accepted up to a limit, served, and drained when the process is to stop. At the
//! limit the one that has waited longest for a request gives way to a new one.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::patient::Patient;
use super::places::{Busy, Places};
use crate::clock::Clock;
use crate::tasks::{BoxError, OnCancel, OnError, Policy, Supervisor};

/// Pause after a connection could not be accepted: mostly there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether a connection waits that can give way to a new one.
const DISPLACE_PAUSE: Duration = Duration::from_millis(50);
/// A client's machine that acknowledges nothing for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Where nothing was sent for so long, the client's machine is asked whether it is still there …
const PROBE_AFTER: Duration = Duration::from_secs(30);
/// … and again after this.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// What a server allows its clients.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once. One more takes the place of the one that has waited longest for a
    /// request; as long as all have requests under way, it waits.
    pub connections_max: usize,
    /// How long a client may take to send the headers of a request.
    pub header_timeout: Duration,
    /// How long a client may take nothing of an answer, and send nothing.
    pub send_timeout: Duration,
    /// Headers of one request.
    pub headers_max: usize,
    /// Bytes of request line and headers of one request.
    pub headers_bytes_max: usize,
}

/// What a server counts.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// Open connections.
    pub connections: Gauge,
    /// Connections that gave way to new ones.
    pub displaced: Counter,
}

/// A server of one router.
pub struct Server {
    service: TowerToHyperService<Router>,
    limits: Limits,
    clock: Clock,
    tasks: Supervisor,
    counted: Counted,
    permits: Arc<Semaphore>,
    places: Places,
    graceful: GracefulShutdown,
    /// Ends what has not ended when the time to drain is over.
    cut: CancellationToken,
}

impl Server {
    /// A server without connections; `counted` shows how many there are.
    #[must_use]
    pub fn new(
        router: Router,
        limits: Limits,
        clock: Clock,
        tasks: Supervisor,
        counted: Counted,
    ) -> Self {
        Self {
            service: TowerToHyperService::new(router),
            permits: Arc::new(Semaphore::new(limits.connections_max)),
            places: Places::default(),
            graceful: GracefulShutdown::new(),
            limits,
            clock,
            tasks,
            counted,
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
        let stream = TokioIo::new(Patient::new(stream, self.limits.send_timeout));
        let place = self.places.take();
        let (router, its_place) = (self.service.clone(), Arc::clone(&place));
        let service = service_fn(move |request: Request<Incoming>| {
            let busy = its_place.busy();
            let answer = router.call(request);
            async move { answer.await.map(|answer| answer.map(|body| Held::body(body, busy))) }
        });
        let connection = self.builder().serve_connection(stream, service);
        let connection = self.graceful.watch(connection);
        let Counted { connections, displaced } = self.counted.clone();
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
                () = place.displaced() => {
                    displaced.inc();
                }
                () = cut.cancelled() => {}
            }
            connections.dec();
            drop(permit);
            Ok::<(), BoxError>(())
        });
    }

    async fn accept(&self, listener: &TcpListener) -> (TcpStream, OwnedSemaphorePermit) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = tune(&stream) {
                        tracing::debug!(%error, "a connection stays as the system made it");
                    }
                    return (stream, self.permit().await);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    self.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The right to serve one more connection, which another one has to give up at the limit.
    async fn permit(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                return permit;
            }
            self.places.displace();
            tokio::select! {
                biased;
                permit = Arc::clone(&self.permits).acquire_owned() => {
                    return permit.expect("the semaphore is never closed");
                }
                () = self.clock.sleep(DISPLACE_PAUSE) => {}
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

/// Sets what the system's defaults are wrong in: small answers would wait for the client's
/// acknowledgements, and a client that is gone without a word would be noticed after a quarter of
/// an hour where something is on its way to it, and never where nothing is.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL);
    socket.set_tcp_keepalive(&probes)?;
    // Also limits the probes. Systems without it count them, by their defaults.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))?;
    Ok(())
}

/// The body of an answer, which keeps its connection's place until it is sent.
struct Held {
    body: Body,
    _busy: Busy,
}

impl Held {
    fn body(body: Body, busy: Busy) -> Body {
        Body::new(Self { body, _busy: busy })
    }
}

impl hyper::body::Body for Held {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[tokio::test]
    async fn a_client_that_is_gone_without_a_word_is_noticed_within_a_minute() {
        let limits = Limits {
            connections_max: 1,
            header_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(10),
            headers_max: 100,
            headers_bytes_max: 8192,
        };
        let tasks = Supervisor::new(Random::seeded(1));
        let counted = Counted::default();
        let server = Server::new(Router::new(), limits, Clock::system(), tasks, counted);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _permit) = server.accept(&listener).await;
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(SILENCE_MAX));
            assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE_AFTER);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_INTERVAL);
        }
        drop(client);
    }
}
