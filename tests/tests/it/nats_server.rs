//! The NATS server of the harness: what its handle promises.

use std::time::Duration;

use muster_tests::nats::NatsServer;
use muster_tests::wait::eventually;
use tokio::net::TcpStream;

#[tokio::test]
async fn nats_server_starts_dies_and_returns_on_the_same_port() {
    let mut server = NatsServer::start().await.unwrap();
    let (url, port) = (server.url(), server.port());
    assert_eq!(url, format!("nats://127.0.0.1:{port}"));
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());

    assert!(server.wipe().is_err(), "data is wiped only while the server is down");
    server.kill9().unwrap();
    eventually(Duration::from_secs(5), "nobody listens", async || {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(_) => anyhow::bail!("somebody does"),
            Err(_) => Ok(()),
        }
    })
    .await
    .unwrap();

    server.wipe().unwrap();
    server.restart().await.unwrap();
    assert_eq!(server.url(), url);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
}
