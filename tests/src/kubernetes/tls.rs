//! A server that others speak to over TLS, as the API server does.

use std::convert::Infallible;
use std::net::TcpListener;

use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Answers until its runtime ends, or the listener cannot be used.
pub(super) async fn serve<A, F, B>(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    answer: A,
) -> std::io::Result<()>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: std::error::Error + Send + Sync,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        // A connection that was gone before it was taken is the client's concern.
        let Ok((stream, _)) = accepted else { continue };
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        connections.spawn(async move {
            // Who does not like the certificate says so itself.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let answer = service_fn(|request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            // An error is a client that went away.
            let _ = http.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
