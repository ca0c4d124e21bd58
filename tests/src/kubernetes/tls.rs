//! A server that others speak to over TLS, as the API server does.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;

use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::connections;

/// Answers until the runtime ends.
pub(super) fn serve<A, F, B>(
    runtime: &Runtime,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    answer: A,
) -> io::Result<()>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: std::error::Error + Send + Sync,
{
    connections::serve(runtime, listener, move |stream| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        async move {
            // Who does not like the certificate says so itself.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let answer = service_fn(|request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            // An error is a client that went away.
            let _ = http.serve_connection(TokioIo::new(stream), answer).await;
        }
    })
}
