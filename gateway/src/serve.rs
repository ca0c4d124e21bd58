//! A gateway from its start to its end.

use muster_runtime::http::{Counted, Limits, Server};
use muster_runtime::tasks::BoxError;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::gateway::{Deps, Gateway};
use crate::{limits, routes};

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
    let gateway = Gateway::start(config, deps);
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "gateway is listening");
    }
    let server = server(&gateway);
    server.accept_until(listener, &cancel).await;
    gateway.drain();
    server.drain(gateway.config().drain_timeout.0).await;
    Ok(())
}

fn server(gateway: &Gateway) -> Server {
    let config = gateway.config();
    let limits = Limits {
        connections_max: config.connections_max,
        header_timeout: config.header_timeout.0,
        send_timeout: config.send_timeout.0,
        headers_max: limits::HEADERS_MAX,
        headers_bytes_max: limits::HEADERS_BYTES_MAX,
    };
    let (clock, tasks) = (gateway.clock().clone(), gateway.deps().tasks.clone());
    let counted = Counted {
        connections: gateway.counted().connections.clone(),
        displaced: gateway.counted().displaced.clone(),
    };
    Server::new(routes::router(gateway.clone()), limits, clock, tasks, counted)
}
