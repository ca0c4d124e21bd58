//! Taking connections, as every server of this process does it.

use std::io;
use std::net::TcpListener;

use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Takes connections, and has each carried to its end, beside the others, until the runtime ends
/// that does it.
///
/// # Errors
/// When the listener cannot be used.
pub(crate) fn serve<C, F>(runtime: &Runtime, listener: TcpListener, carry: C) -> io::Result<()>
where
    C: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    listener.set_nonblocking(true)?;
    let listener = {
        let _entered = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    // Ends with the runtime, which the server owns.
    drop(runtime.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_ended) = connections.join_next() => continue,
            };
            // A connection that was gone before it was taken is the client's concern.
            let Ok((stream, _)) = accepted else { continue };
            // Else the body of an answer waits until its head was acknowledged, 40 ms.
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            connections.spawn(carry(stream));
        }
    }));
    Ok(())
}
