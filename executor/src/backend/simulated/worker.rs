//! The task of a simulated cluster: takes commands, fires timers, saves.

use std::time::Duration;

use muster_core::time::Timestamp;
use muster_runtime::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::file::{File, Saved};
use super::pods::Pods;
use crate::backend::handle::Commands;
use crate::backend::{Adopted, Error, Event, Start};
use crate::limits;
use crate::runs::RunKey;

/// Saving happens at most this often …
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// … and takes at most one part in so many of the time.
const SAVE_TIME_PART: u32 = 10;
/// How far ahead the task looks when nothing is due.
const IDLE: Duration = Duration::from_hours(1);

/// What the cluster is told and asked.
pub(super) enum Command {
    Adopt(oneshot::Sender<Vec<Adopted>>),
    Start(Box<Start>),
    Stop(RunKey),
    Settle(RunKey),
    Output(RunKey, oneshot::Sender<Option<(String, bool)>>),
}

/// The task.
pub(super) struct Worker {
    pods: Pods,
    file: File,
    clock: Clock,
    commands: Commands<Command>,
    events: mpsc::Sender<Event>,
    is_changed: bool,
    /// Nothing happens to restored pods before the executor has heard of them.
    is_adopted: bool,
    /// By the monotonic clock.
    save_at: Duration,
}

impl Worker {
    pub(super) fn new(
        mut pods: Pods,
        saved: Saved,
        file: File,
        clock: Clock,
        commands: Commands<Command>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        for (key, pod) in saved {
            pods.restore(key, pod);
        }
        let save_at = clock.monotonic();
        let (is_changed, is_adopted) = (false, false);
        Self { pods, file, clock, commands, events, is_changed, is_adopted, save_at }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) -> Result<(), Error> {
        loop {
            let wake = self.wake();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => break,
                },
                () = self.clock.sleep_until(wake) => self.on_time().await,
            }
        }
        // What it was told before the end is done, so that the next executor finds it done.
        let now = self.clock.now();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Start(start) => {
                    self.pods.start(*start, now);
                }
                Command::Stop(run) => {
                    self.pods.stop(run, now);
                }
                Command::Settle(run) => self.pods.settle(run),
                Command::Adopt(_) | Command::Output(..) => {}
            }
        }
        self.save().await;
        Ok(())
    }

    /// By the monotonic clock.
    fn wake(&self) -> Duration {
        let now = self.clock.now();
        let due = self.pods.due().filter(|_| self.is_adopted);
        let due = due.map_or(IDLE, |at| at.since(now));
        let wake = self.clock.monotonic() + due;
        if self.is_changed { wake.min(self.save_at) } else { wake }
    }

    async fn on_command(&mut self, command: Command) {
        let now = self.clock.now();
        let event = match command {
            Command::Adopt(answer) => {
                self.is_adopted = true;
                // Who asked may have gone, and with it the need.
                let _ = answer.send(self.pods.adopted());
                return;
            }
            Command::Output(run, answer) => {
                let _ = answer.send(self.pods.output(run));
                return;
            }
            Command::Start(start) => Some(self.pods.start(*start, now)),
            Command::Stop(run) => self.pods.stop(run, now),
            Command::Settle(run) => {
                self.pods.settle(run);
                warn(self.file.note_settled(run));
                None
            }
        };
        if let Some(Event { key, .. }) = event
            && let Some(pod) = self.pods.pods.get(&key)
        {
            warn(self.file.note(key, pod));
        }
        self.is_changed = true;
        self.send(event).await;
        self.fire(now).await;
    }

    async fn on_time(&mut self) {
        self.fire(self.clock.now()).await;
        if self.is_changed && self.clock.monotonic() >= self.save_at {
            self.save().await;
        }
    }

    async fn fire(&mut self, now: Timestamp) {
        let events = self.pods.fire(now, limits::EVENTS_MAX);
        self.is_changed |= !events.is_empty();
        self.send(events).await;
    }

    async fn send(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            // Nobody listens only while the executor ends; the next one adopts the pods.
            let _ = self.events.send(event).await;
        }
    }

    async fn save(&mut self) {
        let began = self.clock.monotonic();
        if let Err(error) = self.file.save(&self.pods.pods).await {
            tracing::warn!(%error, "simulated cluster could not be saved");
        }
        self.is_changed = false;
        let took = self.clock.monotonic() - began;
        self.save_at = began + SAVE_INTERVAL.max(took * SAVE_TIME_PART);
    }
}

/// A command that could not be noted is done all the same; the next save keeps it.
fn warn(noted: Result<(), Error>) {
    if let Err(error) = noted {
        tracing::warn!(%error, "simulated cluster could not note what it was told");
    }
}
