//! Crowds of clients that hang on a gateway: they connect, send a part of a request, and then
//! nothing, or a byte now and then.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::stream;
use muster_client::Client;
use muster_runtime::open_files;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

/// Connections that are made at once.
const CONNECTING_MAX: usize = 64;
/// Files that the rest of a test may have open.
const OTHER_FILES: usize = 1000;

/// Connections that hang.
#[derive(Debug)]
pub struct Crowd {
    streams: Vec<TcpStream>,
}

impl Crowd {
    /// So many connections, each of which sends `said` and no more.
    ///
    /// # Errors
    /// When the system lets this process have too few, or nobody accepts them.
    pub async fn connect(to: SocketAddr, count: usize, said: &str) -> Result<Self> {
        let room = open_files::fitting(usize::MAX);
        ensure!(
            room >= count + OTHER_FILES,
            "{count} connections need more open files than {room}: raise the hard limit"
        );
        let connections = stream::iter(0..count).map(|_| async move {
            let mut stream = TcpStream::connect(to).await?;
            // One that is closed already hangs no more, which is not this one's concern.
            let _ = stream.write_all(said.as_bytes()).await;
            Ok::<_, std::io::Error>(stream)
        });
        let streams = connections.buffer_unordered(CONNECTING_MAX).collect::<Vec<_>>().await;
        let streams = streams.into_iter().collect::<std::io::Result<_>>();
        Ok(Self { streams: streams.context("a connection is not accepted")? })
    }

    /// The same through a small window: hardly anything of an answer fits on the way.
    ///
    /// # Errors
    /// When nobody accepts them.
    pub async fn connect_narrow(to: SocketAddr, count: usize, said: &str) -> Result<Self> {
        let mut streams = Vec::new();
        for _ in 0..count {
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(4096)?;
            let mut stream = socket.connect(to).await?;
            stream.write_all(said.as_bytes()).await?;
            streams.push(stream);
        }
        Ok(Self { streams })
    }

    /// Sends a byte of `text` on every connection in each period, for ever.
    pub async fn drip(&mut self, text: &[u8], period: Duration) {
        let mut ticks = tokio::time::interval(period);
        for byte in text.iter().cycle() {
            ticks.tick().await;
            for stream in &mut self.streams {
                // Those that were cut off are what the test is about.
                let _ = stream.try_write(&[*byte]);
            }
        }
    }

    /// The connections.
    pub fn into_streams(self) -> Vec<TcpStream> {
        self.streams
    }
}

/// Bytes of memory that a process has at the moment.
///
/// # Errors
/// When it is gone, or the system does not say.
pub fn resident_bytes(process: u32) -> Result<u64> {
    let path = PathBuf::from(format!("/proc/{process}/status"));
    let status = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// A metric of the gateway that answers, by its whole name.
///
/// # Errors
/// When it is not there.
pub async fn metric(client: &Client, name: &str) -> Result<u64> {
    let text = client.metrics().await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.with_context(|| format!("no metric `{name}`"))?;
    Ok(value.parse()?)
}
