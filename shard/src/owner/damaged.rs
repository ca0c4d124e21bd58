//! A shard whose log cannot be read: it is held, and whoever asks it for something is told which
//! object is wrong, until somebody has put that right.
//!
//! Nothing is skipped and nothing is repaired here: what is missing was acknowledged to somebody.
//! Each try to take the shard over leaves a fence behind, so tries become rare; in between, only
//! the object itself is looked at.

use std::time::Duration;

use muster_api::bus::{self, ShardReply, subject};
use muster_api::http::{ErrorCode, Problem};
use muster_core::id::ShardId;
use muster_runtime::bus::Message;
use muster_runtime::log::{self, TakeOverError};
use tokio_util::sync::CancellationToken;

use super::{End, Error, Owner, commit};
use crate::lease::Trust;
use crate::worker::Deps;

/// How often it is looked whether the object is there and whole.
const LOOK: Duration = Duration::from_secs(5);
/// How long to wait at first, and at most, before the whole log is tried once more.
const TRY_FIRST: Duration = Duration::from_secs(10);
const TRY_MAX: Duration = Duration::from_secs(600);

/// A shard that is held and does not work.
pub(super) struct Held {
    shard: ShardId,
    deps: Deps,
    wait: Duration,
}

impl Held {
    pub(super) fn new(shard: ShardId, deps: Deps) -> Self {
        deps.metrics.damaged.inc();
        Self { shard, deps, wait: TRY_FIRST }
    }

    fn part(&self) -> String {
        format!("shard {}", self.shard)
    }

    /// Answers everybody with what is wrong; returns when the shard may be tried again
    /// ([`End::Fenced`]: whoever had it is fenced by now), or when cancelled.
    pub(super) async fn until_worth_a_try(
        &mut self,
        error: &TakeOverError,
        trust: &Trust,
        cancel: &CancellationToken,
    ) -> Result<End, Error> {
        let shard = self.shard;
        let key = error.damaged().unwrap_or_default();
        tracing::error!(%shard, object = key, %error, "shard cannot be owned: its log is damaged");
        self.deps.health.not_ready(&self.part(), error.to_string());
        let problem = Problem::new(ErrorCode::ShardDamaged, format!("shard {shard}: {error}"));
        let reply = bus::encode(&ShardReply::Error(problem));
        let mut requests = self.deps.bus.subscribe(&subject::shard(shard), None).await?;
        let clock = self.deps.clock.clone();
        let until = clock.monotonic() + self.wait;
        self.wait = (self.wait * 2).min(TRY_MAX);
        // What is whole and is refused all the same does not become better by being looked at.
        let mut was_bad = false;
        let mut look = clock.monotonic();
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(End::Cancelled),
                message = requests.next() => {
                    let message = message.ok_or(Error::Closed)?;
                    self.refuse(message, &reply, trust).await;
                }
                () = clock.sleep_until(look.min(until)) => {
                    let is_whole = self.is_whole(key).await;
                    if (is_whole && was_bad) || clock.monotonic() >= until {
                        return Ok(End::Fenced);
                    }
                    was_bad |= !is_whole;
                    look = clock.monotonic() + LOOK;
                }
            }
        }
    }

    async fn refuse(&self, message: Message, reply: &bytes::Bytes, trust: &Trust) {
        // Without a lease that certainly holds, somebody else may be the one to answer.
        if let Some(to) = message.reply.filter(|_| trust.holds()) {
            Owner::send(&self.deps, &to, reply.clone()).await;
        }
    }

    async fn is_whole(&self, key: &str) -> bool {
        let mut params = commit::params(self.shard, &self.deps);
        params.limits.read_retries_max = 0;
        log::check(params, key).await.is_ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.deps.metrics.damaged.dec();
        self.deps.health.ready(&self.part());
    }
}
