//! Links of a network that can be cut: a TCP proxy for each, between one process and one server.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::connections;

/// Threads that carry bytes.
const WORKERS: usize = 2;
/// Bytes carried at once.
const PIECE_BYTES: usize = 64 * 1024;

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It carries everything.
    Open,
    /// Connections are closed, and new ones as soon as they are there.
    Cut,
    /// Connections stay, new ones are accepted, and nothing comes through.
    Silent,
    /// Every piece takes so much longer.
    Slow(Duration),
}

/// A network; its links end with it.
#[derive(Debug)]
pub struct Network {
    running: Option<Runtime>,
}

/// One link. It is open at first.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Network {
    /// One without links.
    ///
    /// # Errors
    /// When its threads cannot be started.
    pub fn start() -> Result<Self> {
        let running = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("network")
            .enable_all()
            .build()?;
        Ok(Self { running: Some(running) })
    }

    /// A link to the server that listens there, now or later.
    ///
    /// # Errors
    /// When no port is free.
    pub fn link(&self, to: SocketAddr) -> Result<Link> {
        let running = self.running.as_ref().expect("it runs until it is dropped");
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (mode, modes) = watch::channel(Mode::Open);
        connections::serve(running, listener, move |client| carry(client, to, modes.clone()))?;
        Ok(Link { address, mode })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown_background();
        }
    }
}

impl Link {
    /// Where to connect to instead of to the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

/// Carries one connection to its end.
async fn carry(client: TcpStream, to: SocketAddr, mut modes: watch::Receiver<Mode>) {
    let server = async {
        let mut modes = modes.clone();
        // Into silence nobody is connected; the client finds out by itself.
        modes.wait_for(|mode| !matches!(mode, Mode::Silent)).await.ok()?;
        TcpStream::connect(to).await.ok()
    };
    let mut cut = modes.clone();
    let is_cut = |mode: &Mode| matches!(mode, Mode::Cut);
    let server = tokio::select! {
        biased;
        _ = cut.wait_for(is_cut) => return,
        server = server => server,
    };
    let Some(server) = server else { return };
    for stream in [&client, &server] {
        // Without it small messages wait for each other; where it fails they do.
        let _ = stream.set_nodelay(true);
    }
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let there = pump(client_in, server_out, modes.clone());
    let back = pump(server_in, client_out, modes.clone());
    tokio::select! {
        biased;
        _ = modes.wait_for(is_cut) => {}
        _ = async { tokio::join!(there, back) } => {}
    }
}

/// Carries one direction until its end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut modes: watch::Receiver<Mode>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    // An error is an end like any other: the one side is gone, and the other is told.
    while let Ok(bytes @ 1..) = from.read(&mut piece).await {
        let mode = modes.wait_for(|mode| !matches!(mode, Mode::Silent)).await.map(|mode| *mode);
        if let Ok(Mode::Slow(time)) = mode {
            sleep(time).await;
        }
        if to.write_all(&piece[..bytes]).await.is_err() {
            return;
        }
    }
    // It may be gone as well.
    let _ = to.shutdown().await;
}

/// A link for each server, all of one process.
#[derive(Debug, Default, Clone)]
pub struct Links(Vec<Arc<Link>>);

impl Links {
    /// A link to each of these.
    ///
    /// # Errors
    /// When no port is free.
    pub fn to(network: &Network, servers: &[SocketAddr]) -> Result<Self> {
        let links = servers.iter().map(|server| network.link(*server).map(Arc::new));
        Ok(Self(links.collect::<Result<_>>()?))
    }

    /// Where to connect to, in the order of the servers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|link| link.address()).collect()
    }

    /// What they do from now on.
    pub fn set(&self, mode: Mode) {
        self.0.iter().for_each(|link| link.set(mode));
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::wait::eventually;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A server that answers with what it is told, on a network of its own.
    fn echo(network: &Network) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let running = network.running.as_ref().unwrap();
        let answers = |stream: TcpStream| async {
            let (mut from, mut to) = stream.into_split();
            // It ends when the connection does, in whatever way.
            let _ = tokio::io::copy(&mut from, &mut to).await;
        };
        connections::serve(running, listener, answers).unwrap();
        address
    }

    async fn answer(stream: &mut TcpStream) -> io::Result<[u8; 2]> {
        stream.write_all(b"hi").await?;
        let mut heard = [0; 2];
        stream.read_exact(&mut heard).await?;
        Ok(heard)
    }

    #[tokio::test]
    async fn a_link_carries_falls_silent_is_cut_and_carries_again() {
        let network = Network::start().unwrap();
        let link = network.link(echo(&network)).unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(&answer(&mut stream).await.unwrap(), b"hi");

        link.set(Mode::Silent);
        stream.write_all(b"hi").await.unwrap();
        let mut heard = [0; 2];
        let waited = Duration::from_millis(50);
        assert!(tokio::time::timeout(waited, stream.read_exact(&mut heard)).await.is_err());
        link.set(Mode::Slow(Duration::from_millis(1)));
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hi", "what it held comes through");

        link.set(Mode::Cut);
        let ended = tokio::time::timeout(SOON, stream.read(&mut heard)).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        link.set(Mode::Open);
        eventually(SOON, "it carries again", async || {
            let mut stream = TcpStream::connect(link.address()).await?;
            Ok(answer(&mut stream).await?)
        })
        .await
        .unwrap();
    }
}
