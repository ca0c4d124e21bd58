//! Where a process may listen: on loopback, or anywhere once somebody has said that this is wanted.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Why an address is not listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Others could reach it, and nobody said that this is wanted.
    #[error("{0}")]
    Exposed(String),
    /// The address cannot be had.
    #[error("cannot listen on `{listen}`: {source}")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Why this address must not be listened on without `insecure`; `None` when it may.
#[must_use]
pub fn exposed(listen: SocketAddr, insecure: bool) -> Option<String> {
    (!listen.ip().is_loopback() && !insecure).then(|| {
        format!(
            "`{listen}` can be reached from other machines, and nobody is asked who they are: \
             listen on 127.0.0.1, or say `--insecure` if the network keeps strangers out"
        )
    })
}

/// Listens on an address; one that others can reach only with `insecure`.
///
/// # Errors
/// When it may not or cannot be listened on.
pub async fn bind(listen: SocketAddr, insecure: bool) -> Result<TcpListener, ListenError> {
    if let Some(reason) = exposed(listen, insecure) {
        return Err(ListenError::Exposed(reason));
    }
    TcpListener::bind(listen).await.map_err(|source| ListenError::Bind { listen, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_others_can_reach_is_listened_on_only_when_asked_for() {
        let (inside, outside) = (SocketAddr::from(([127, 0, 0, 1], 0)), "0.0.0.0:0");
        let outside: SocketAddr = outside.parse().unwrap();
        let taken = bind(inside, false).await.unwrap().local_addr().unwrap();
        assert!(bind(outside, true).await.is_ok());
        let refused = bind(outside, false).await.unwrap_err();
        assert!(matches!(refused, ListenError::Exposed(_)), "{refused}");
        assert!(refused.to_string().contains("--insecure"), "{refused}");
        let held = bind(taken, false).await.unwrap();
        let refused = bind(held.local_addr().unwrap(), false).await.unwrap_err();
        assert!(matches!(refused, ListenError::Bind { .. }), "{refused}");
    }
}
