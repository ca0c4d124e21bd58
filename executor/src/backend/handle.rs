//! The way to the task of a back end: what it is told, and what it is asked.

use tokio::sync::{mpsc, oneshot};

use super::Error;
use crate::limits;

/// The task's end of the way.
pub(super) type Commands<C> = mpsc::Receiver<C>;

/// The way to a task that takes commands of this kind.
#[derive(Debug)]
pub(super) struct Handle<C>(mpsc::Sender<C>);

/// A way, and the end of it that the task has.
pub(super) fn handle<C>() -> (Handle<C>, Commands<C>) {
    let (sender, commands) = mpsc::channel(limits::COMMANDS_MAX);
    (Handle(sender), commands)
}

impl<C> Handle<C> {
    /// Tells the task something.
    pub(super) async fn tell(&self, command: C) {
        // Nobody takes commands only once the back end is being shut down; what is kept beside the
        // process tells the next one the rest.
        let _ = self.0.send(command).await;
    }

    /// Asks the task something, and waits for the answer.
    pub(super) async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> C,
    ) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        self.tell(question(sender)).await;
        answer.await.map_err(|_| Error::Stopped)
    }
}
