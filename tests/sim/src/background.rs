//! Tasks of the simulated world itself (the network's, the store's, the clients'), which no fault
//! of a process touches.

use std::future::Future;

use tokio::task::JoinHandle;

/// Starts a task of the world.
#[expect(clippy::disallowed_methods, reason = "the world outlives the processes that it simulates")]
pub(crate) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(work)
}
