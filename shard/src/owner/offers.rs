//! Telling the pool leaders what waits and what is held.

use std::time::Duration;

use bytes::Bytes;
use muster_api::bus::{self, GetWindows, Room, ShardReply, subject};
use muster_api::convert;
use muster_api::offers::{self, Packed};
use muster_core::Name;

use super::commit::Message;
use super::{Error, Owner};
use crate::metrics::Unsent;
use crate::send;

/// How often the owner says that nothing changed, so that a lost message is noticed; and how long
/// it waits after it could not send.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Offers take at most this part of the owner's time.
const TIME_PART: u32 = 10;

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    /// The version of what was said last, and that of what was published last.
    version: u64,
    published: u64,
    told_at: Option<Duration>,
    /// How long it took.
    took: Duration,
    /// Whether it failed.
    failed: bool,
    all: bool,
}

impl Publisher {
    /// Everything is told next time.
    pub(super) fn tell_all(&mut self) {
        self.all = true;
    }

    fn pause(&self, interval: Duration) -> Duration {
        if self.failed { PING_INTERVAL } else { interval.max(self.took * TIME_PART) }
    }
}

impl Owner {
    /// When offers are to be told next: not before the lease certainly holds, which every tick
    /// looks at.
    pub(super) fn offers_due(&self) -> Option<Duration> {
        if !self.trust.holds() {
            return None;
        }
        let told = self.offers.told_at;
        if self.offers.all || self.state.offers_changed() {
            let pause = self.offers.pause(self.deps.config.offer_interval.0);
            return Some(told.map_or(Duration::ZERO, |at| at + pause));
        }
        told.map(|at| at + PING_INTERVAL)
    }

    pub(super) async fn publish_offers(&mut self) -> Result<(), Error> {
        let began = self.deps.clock.monotonic();
        if self.offers_due().is_none_or(|due| due > began) {
            return Ok(());
        }
        let runs_max = self.deps.config.offer_runs_max;
        let changed = self.state.take_changed_offers(runs_max);
        let full = std::mem::take(&mut self.offers.all);
        let queues = if full { self.state.offers(runs_max) } else { changed };
        self.offers.failed = false;
        let parts = offers::pack(&queues, self.deps.bus.payload_bytes_max());
        for (n, part) in parts.into_iter().enumerate() {
            self.publish(part, full && n == 0).await;
            if self.offers.failed {
                break;
            }
        }
        let now = self.deps.clock.monotonic();
        (self.offers.told_at, self.offers.took) = (Some(now), now.saturating_sub(began));
        Ok(())
    }

    /// Publishes once everything that it speaks of is durable.
    async fn publish(&mut self, part: Packed, full: bool) {
        let message = self.offers_message(part, full);
        self.offers.published = message.version;
        self.say(Message::Offers(bus::encode(&message))).await;
    }

    pub(super) async fn send_offers(&mut self, message: Bytes) {
        if let Err(error) = self.deps.bus.publish(subject::OFFERS, message).await {
            // A leader that misses it notices the gap and asks for everything; so does who could
            // not tell.
            send::unsent(&self.deps.metrics, Unsent::Offers, &error);
            self.offers.failed = true;
            self.offers.tell_all();
        }
    }

    fn offers_message(&mut self, part: Packed, full: bool) -> bus::Offers {
        self.offers.version += 1;
        bus::Offers {
            shard: self.state.id().0,
            owner: self.name.clone(),
            epoch: self.epoch,
            version: self.offers.version,
            previous: self.offers.published,
            full,
            shapes: part.shapes,
            queues: part.queues,
        }
    }

    /// What some queues offer to a pool now, for the reply to a lease, as far as there is room.
    pub(super) fn offers_of<'a>(
        &mut self,
        queues: impl IntoIterator<Item = &'a Name>,
        pool: &str,
        room: Room,
    ) -> bus::Offers {
        let offers = self.state.offers_of(queues, self.deps.config.offer_runs_max);
        self.offers_message(offers::pack_some(&offers, pool, room), false)
    }

    /// What waits behind the offers of queues.
    pub(super) fn windows(&self, get: GetWindows) -> ShardReply {
        let free = convert::resources(&get.free);
        let runs_max = self.deps.config.offer_runs_max;
        let windows = get.queues.into_iter().map(|(queue, class, from)| {
            let from = from.into();
            let window = self.state.window(&queue, (&get.pool, &class), &free, from, runs_max);
            (queue, class, from, window.unwrap_or_default())
        });
        let bytes_max = self.deps.bus.payload_bytes_max();
        ShardReply::Windows(offers::pack_windows(windows, bytes_max))
    }
}
