//! Telling the pool leaders what waits and what is held.

use std::time::Duration;

use muster_api::bus::{self, subject};
use muster_api::convert;
use muster_core::Name;
use muster_core::offer::QueueOffer;

use super::{Error, Owner};

/// Queues told in one message.
const QUEUES_PER_MESSAGE: usize = 200;
/// How often the owner says that nothing changed, so that a lost message is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    version: u64,
    told_at: Option<Duration>,
    all: bool,
}

impl Publisher {
    /// Everything is told next time.
    pub(super) fn tell_all(&mut self) {
        self.all = true;
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
            return Some(told.map_or(Duration::ZERO, |at| at + self.deps.config.offer_interval.0));
        }
        told.map(|at| at + PING_INTERVAL)
    }

    pub(super) async fn publish_offers(&mut self) -> Result<(), Error> {
        let now = self.deps.clock.monotonic();
        if self.offers_due().is_none_or(|due| due > now) {
            return Ok(());
        }
        self.offers.told_at = Some(now);
        let runs_max = self.deps.config.offer_runs_max;
        let changed = self.state.take_changed_offers(runs_max);
        let full = std::mem::take(&mut self.offers.all);
        let queues = if full { self.state.offers(runs_max) } else { changed };
        let mut parts = queues.chunks(QUEUES_PER_MESSAGE);
        let first = parts.next().unwrap_or(&[]);
        self.publish(first, full).await?;
        for part in parts {
            self.publish(part, false).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, queues: &[QueueOffer], full: bool) -> Result<(), Error> {
        self.offers.version += 1;
        let message = self.offers_message(queues, full);
        let sent = self.deps.bus.publish(subject::OFFERS, bus::encode(&message)).await;
        if let Err(error) = sent {
            // A leader that misses it notices the gap and asks for everything.
            tracing::debug!(%error, "offers were not published");
            self.offers.tell_all();
        }
        Ok(())
    }

    fn offers_message(&self, queues: &[QueueOffer], full: bool) -> bus::Offers {
        let (shapes, queues) = convert::offers(queues);
        bus::Offers {
            shard: self.state.id().0,
            owner: self.name.clone(),
            epoch: self.epoch,
            version: self.offers.version,
            full,
            shapes,
            queues,
        }
    }

    /// What some queues offer now, for the reply to a lease.
    pub(super) fn offers_of<'a>(&self, queues: impl IntoIterator<Item = &'a Name>) -> bus::Offers {
        let offers = self.state.offers_of(queues, self.deps.config.offer_runs_max);
        self.offers_message(&offers, false)
    }
}
