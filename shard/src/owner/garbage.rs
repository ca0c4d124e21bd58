//! When an owner collects the garbage of its shard, and the owner of the first shard old history
//! and old records of rounds.
//!
//! Log objects and checkpoints become garbage with a checkpoint, so a pass follows each checkpoint,
//! one follows a takeover, for what the owner before did not get to, and one comes when what was
//! too young is so no longer. A shard of which nothing can become garbage asks the store for
//! nothing.

use std::time::Duration;

use muster_core::id::ShardId;
use muster_core::shard::Shard;
use muster_runtime::collect::{self, Bounds, Collector, Garbage, Mode, Passed};
use muster_runtime::log::TakenOver;
use muster_runtime::rounds::Rounds;
use muster_runtime::tasks::Policy;

use super::Owner;
use super::background::Done;
use crate::worker::Deps;

/// How long a new owner leaves garbage, and longer still history, alone: it has other things to do.
const FIRST_PASS: Duration = Duration::from_secs(10);
const FIRST_LOOK: Duration = Duration::from_secs(600);
/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Least time between two passes for the sake of what was too young.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The least and the longest time between two looks at the days of the history.
const HISTORY_PAUSE: (Duration, Duration) =
    (Duration::from_secs(3_600), Duration::from_secs(24 * 3_600));
/// The owner of this shard keeps the history of all.
const KEEPER_OF_HISTORY: ShardId = ShardId(0);

/// A pass that ended; the collector goes on with the next.
pub(super) struct Collected {
    collector: Collector,
    passed: Result<Passed, collect::Error>,
}

/// What is known of a shard's garbage.
pub(super) struct Heap {
    /// Not here while a pass is under way.
    collector: Option<Collector>,
    /// The newest checkpoint that is whole, and the one before.
    checkpoints: [Option<u64>; 2],
    /// `None` as long as there are no two checkpoints.
    bounds: Option<Bounds>,
    /// When the next pass is due.
    pass_at: Option<Duration>,
    /// When the history is looked at next; `None` while it is, and in the owners of other shards.
    history_at: Option<Duration>,
}

impl Heap {
    pub(super) fn new(deps: &Deps, state: &Shard, taken: &TakenOver) -> Self {
        let collector = Collector::new(deps.store.clone(), state.id(), deps.clock.clone());
        let now = deps.clock.monotonic();
        let is_keeper = state.id() == KEEPER_OF_HISTORY && deps.config.history_days > 0;
        let mut heap = Self {
            collector: Some(collector),
            checkpoints: [taken.checkpoint, taken.checkpoint_before],
            bounds: None,
            pass_at: None,
            history_at: is_keeper.then_some(now + FIRST_LOOK),
        };
        if let [Some(_), Some(older)] = heap.checkpoints {
            // All that a takeover has read is durable.
            heap.found(older, state.log_in_use(), u64::MAX);
            heap.pass_at = Some(now + FIRST_PASS);
        }
        heap
    }

    pub(super) fn newest_checkpoint(&self) -> u64 {
        self.checkpoints[0].unwrap_or(0)
    }

    /// A checkpoint is durable, and so is the state in it. What it says of payloads was captured
    /// with it: of a state that is ahead of what is durable, things could be concluded that never
    /// come true.
    pub(super) fn checkpoint_written(&mut self, sequence: u64, in_use: Vec<u64>, epoch: u64) {
        self.checkpoints = [Some(sequence), self.checkpoints[0]];
        if let Some(older) = self.checkpoints[1] {
            self.found(older, in_use, epoch + 1);
            self.pass_at = Some(Duration::ZERO);
        }
    }

    fn found(&mut self, checkpoint: u64, in_use: Vec<u64>, own_from: u64) {
        self.bounds = Some(Bounds { checkpoint, in_use: in_use.into(), own_from });
    }
}

impl Owner {
    /// Begins what is due.
    pub(super) fn collect_garbage(&mut self) {
        let now = self.deps.clock.monotonic();
        let config = &self.deps.config;
        if config.deletes_per_second == 0 {
            return;
        }
        let heap = &mut self.background.garbage;
        if heap.history_at.is_some_and(|at| at <= now) {
            heap.history_at = None;
            self.expire_history();
        }
        let heap = &mut self.background.garbage;
        if heap.pass_at.is_some_and(|at| at <= now)
            && let Some(bounds) = heap.bounds.clone()
            && let Some(collector) = heap.collector.take()
        {
            heap.pass_at = None;
            self.collect(collector, bounds);
        }
    }

    fn collect(&mut self, mut collector: Collector, bounds: Bounds) {
        let settings = collect::Settings {
            grace: self.deps.config.log_grace.0,
            deletes_per_second: self.deps.config.deletes_per_second,
            mode: Mode::Delete,
        };
        let sender = self.background.sender();
        let metrics = self.deps.metrics.clone();
        let name = format!("garbage.{}", self.state.id());
        self.deps.tasks.spawn_once(name, Policy::DETACHED, move |_| async move {
            let deleted = |kind, bytes| metrics.deleted(kind, bytes);
            // What this owner has found to be garbage stays that under any other one. But that one
            // finds it too.
            let goes_on = || !sender.is_closed();
            let passed = collector.pass(&bounds, &settings, deleted, goes_on).await;
            let collected = Box::new(Collected { collector, passed });
            drop(sender.send(Done::Collected(collected)).await);
            Ok::<(), std::convert::Infallible>(())
        });
    }

    pub(super) fn on_collected(&mut self, collected: Collected) {
        let shard = self.state.id();
        let now = self.deps.clock.monotonic();
        let Collected { collector, passed } = collected;
        let heap = &mut self.background.garbage;
        heap.collector = Some(collector);
        let next = match passed {
            Ok(passed) => {
                let seconds = self.deps.clock.now().0 / 1000;
                self.deps.metrics.collected_at.set(seconds);
                for what in &passed.unreadable {
                    tracing::warn!(%shard, "log object is no longer needed, cannot be read, and stays: {what}");
                    self.deps.metrics.collect_unreadable.inc();
                }
                tracing::debug!(%shard, ?passed, "garbage collected");
                let pause = (self.deps.config.log_grace.0 / 8).max(PAUSE_MIN);
                passed.next.map(|wait| wait.max(pause))
            }
            Err(error) => {
                tracing::warn!(%shard, %error, "garbage could not be collected, tried again");
                self.deps.metrics.collect_failed.inc();
                Some(RETRY)
            }
        };
        // A checkpoint that was written meanwhile asks for a pass at once.
        let next = next.map(|wait| now + wait);
        heap.pass_at = heap.pass_at.into_iter().chain(next).min();
    }

    fn expire_history(&mut self) {
        let config = &self.deps.config;
        let (days, per_second) = (config.history_days, config.deletes_per_second);
        let (history, clock) = (self.deps.history.clone(), self.deps.clock.clone());
        let rounds = Rounds::new(self.deps.store.clone(), self.deps.blocking.clone());
        let metrics = self.deps.metrics.clone();
        let sender = self.background.sender();
        self.deps.tasks.spawn_once("expire".to_owned(), Policy::DETACHED, move |_| async move {
            let of_history = |bytes| metrics.deleted(Garbage::History, bytes);
            let of_rounds = |bytes| metrics.deleted(Garbage::Rounds, bytes);
            let expired = async {
                let mode = Mode::Delete;
                let first = history.expire(&clock, days, per_second, mode, of_history).await;
                let first = first.map_err(|error| error.to_string())?;
                let second = rounds.expire(&clock, days, per_second, mode, of_rounds).await;
                let second = second.map_err(|error| error.to_string())?;
                Ok(first.into_iter().chain(second).min())
            };
            let expired = expired.await;
            drop(sender.send(Done::Expired(expired)).await);
            Ok::<(), std::convert::Infallible>(())
        });
    }

    pub(super) fn on_expired(&mut self, expired: Result<Option<Duration>, String>) {
        let (least, longest) = HISTORY_PAUSE;
        let pause = match expired {
            Ok(next) => next.unwrap_or(longest).clamp(least, longest),
            Err(error) => {
                tracing::warn!(%error, "old history could not be let go, tried again");
                self.deps.metrics.collect_failed.inc();
                RETRY
            }
        };
        self.background.garbage.history_at = Some(self.deps.clock.monotonic() + pause);
    }
}
