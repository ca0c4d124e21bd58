//! What an owner does beside answering: checkpoints, history and garbage, one of each at a time.

use std::time::Duration;

use muster_core::command::Command;
use muster_core::history::Finished;
use muster_core::id::Position;
use muster_core::mutant::{self, Mutant};
use muster_core::record::HistorySpan;
use muster_core::shard::Shard;
use muster_runtime::log::{Stretch, TakenOver};
use muster_runtime::tasks::Policy;
use tokio::sync::mpsc;

use super::Owner;
use super::commit::Captured;
use super::garbage::{Collected, Heap};
use crate::Config;
use crate::worker::Deps;

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What came of it.
pub(super) enum Done {
    Checkpoint { sequence: u64, in_use: Vec<u64>, failed: Option<String> },
    Collected(Box<Collected>),
    Expired(Result<Option<Duration>, String>),
    History { span: HistorySpan, rows: u64, failed: Option<String> },
}

/// Where checkpoints and history stand.
pub(super) struct Background {
    sender: mpsc::Sender<Done>,
    /// What of the log lies behind the last checkpoint: what a takeover has to read.
    behind: Stretch,
    checkpoint_running: bool,
    history_running: bool,
    /// When the first finished job that no history holds was noticed.
    history_since: Option<Duration>,
    /// The commit that holds the plan; 0 when it was read from the log.
    planned_in: u64,
    retry_at: Duration,
    pub(super) garbage: Heap,
}

impl Background {
    pub(super) fn new(
        deps: &Deps,
        state: &Shard,
        taken: &TakenOver,
    ) -> (Self, mpsc::Receiver<Done>) {
        let (sender, receiver) = mpsc::channel(4);
        let background = Self {
            sender,
            behind: taken.behind,
            checkpoint_running: false,
            history_running: false,
            history_since: None,
            planned_in: 0,
            retry_at: Duration::ZERO,
            garbage: Heap::new(deps, state, taken),
        };
        (background, receiver)
    }

    /// Counts a commit and its records; whether a checkpoint of the state behind them is due.
    pub(super) fn checkpoint_due(&mut self, records: u64, config: &Config) -> bool {
        self.behind.objects += 1;
        self.behind.records += records;
        let is_long = self.behind.records >= config.checkpoint_records
            || self.behind.objects >= config.checkpoint_objects
            || self.behind.bytes >= config.checkpoint_bytes.0;
        let due = is_long && !self.checkpoint_running;
        if due {
            self.behind = Stretch::default();
            self.checkpoint_running = true;
        }
        due
    }

    /// The newest checkpoint that is known to be whole; 0 when there is none.
    pub(super) fn newest_checkpoint(&self) -> u64 {
        self.garbage.newest_checkpoint()
    }

    pub(super) fn sender(&self) -> mpsc::Sender<Done> {
        self.sender.clone()
    }

    /// Counts the bytes of a commit, which are known when it is encoded.
    pub(super) fn count_bytes(&mut self, bytes: usize) {
        self.behind.bytes += bytes as u64;
    }
}

impl Owner {
    pub(super) fn write_checkpoint(&mut self, sequence: u64, captured: Captured) {
        let log = self.log.clone();
        let sender = self.background.sender.clone();
        let name = format!("checkpoint.{}", self.state.id());
        self.deps.tasks.spawn_once(name, Policy::DETACHED, move |_| async move {
            let Captured { records, in_use } = captured;
            let written = log.write_checkpoint(sequence, records).await;
            let failed = written.err().map(|error| error.to_string());
            // The owner is gone: nobody cares.
            drop(sender.send(Done::Checkpoint { sequence, in_use, failed }).await);
            Ok::<(), std::convert::Infallible>(())
        });
    }

    pub(super) fn on_done(&mut self, done: Done) {
        let shard = self.state.id();
        match done {
            Done::Checkpoint { sequence, in_use, failed: None } => {
                self.background.checkpoint_running = false;
                self.background.garbage.checkpoint_written(sequence, in_use, self.epoch);
                self.deps.metrics.checkpoints.inc();
                tracing::debug!(%shard, sequence, "checkpoint written");
            }
            Done::Collected(collected) => self.on_collected(*collected),
            Done::Expired(expired) => self.on_expired(expired),
            Done::Checkpoint { sequence, failed: Some(error), .. } => {
                self.background.checkpoint_running = false;
                tracing::warn!(%shard, sequence, %error, "checkpoint not written, recovery reads more of the log");
            }
            Done::History { span, rows, failed: None } => {
                self.background.history_running = false;
                self.deps.metrics.history_rows.inc_by(rows);
                self.execute(Command::NoteHistory(span));
            }
            Done::History { failed: Some(error), .. } => {
                self.background.history_running = false;
                self.background.retry_at = self.deps.clock.monotonic() + RETRY;
                tracing::warn!(%shard, %error, "history not written, tried again");
            }
        }
    }

    /// Plans history when it is due, and writes what is planned and durable.
    pub(super) fn plan_history(&mut self) {
        let now = self.deps.clock.monotonic();
        if self.background.history_running || now < self.background.retry_at {
            return;
        }
        let durable = self.durable.get();
        if let Some(span) = self.state.history_planned() {
            // The plan itself has to be durable before anything is written by it.
            let is_early = mutant::is(Mutant::WritesUnplannedHistory);
            if durable >= self.background.planned_in || is_early {
                self.write_history(span);
            }
            return;
        }
        let waiting = self.state.finished_len();
        if waiting == 0 {
            self.background.history_since = None;
            return;
        }
        let since = *self.background.history_since.get_or_insert(now);
        let config = &self.deps.config;
        let due = waiting >= config.history_rows
            || now.saturating_sub(since) >= config.history_interval.0;
        let through = Position { sequence: durable, row: u32::MAX };
        let after = self.state.history_through();
        if due && through > after {
            self.background.history_since = None;
            self.background.planned_in = self.open_sequence();
            self.execute(Command::PlanHistory(HistorySpan { after, through }));
        }
    }

    fn write_history(&mut self, span: HistorySpan) {
        self.background.history_running = true;
        let rows: Vec<Finished> =
            self.state.finished_in(span).iter().map(|row| Finished::clone(row)).collect();
        if mutant::is(Mutant::NotesHistoryEarly) {
            self.execute(Command::NoteHistory(span));
        }
        let history = self.deps.history.clone();
        let shard = self.state.id();
        let sender = self.background.sender.clone();
        let name = format!("history.{shard}");
        self.deps.tasks.spawn_once(name, Policy::DETACHED, move |_| async move {
            let count = rows.iter().map(|row| u64::from(row.count)).sum();
            let written = history.write(shard, span, rows).await;
            let failed = written.err().map(|error| error.to_string());
            // The owner is gone: the next one writes it again, to the same names.
            drop(sender.send(Done::History { span, rows: count, failed }).await);
            Ok::<(), std::convert::Infallible>(())
        });
    }
}
