//! What a leader before told, and what queues are charged of it.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_api::bus;
use muster_core::control::Control;

use super::absent::{Absent, Published};
use super::round::Round;
use super::usage::Usage;
use super::{Error, Leader};
use crate::config::Config;

impl Leader<'_> {
    /// Takes over what a leader before published.
    pub(super) async fn remember(&mut self) -> Result<(), Error> {
        let entries = self.pools.entries().await?;
        let values: BTreeMap<&str, &[u8]> =
            entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect();
        let key = &*self.table.pool;
        let Some(value) = values.get(key) else { return Ok(()) };
        match bus::pool_from_parts(key, value, |key| values.get(key).copied()) {
            Ok(Some(pool)) => {
                self.table.published = Published::new(&pool, self.began);
                if !self.deps.config.usage_half_life.0.is_zero() {
                    self.usage = Usage::published(&pool);
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the pool's figures cannot be read"),
        }
        Ok(())
    }

    /// Whether clusters that a leader before knew have not asked this one yet. For as long as a
    /// lease holds they are waited for before anything is published: what the one before told is
    /// nearer to the truth than a part of the pool.
    pub(super) fn is_half_known(&self, now: Duration) -> bool {
        let known = &self.table.clusters;
        let lacks_any =
            || self.table.published.clusters.iter().any(|name| !known.contains_key(name));
        now < self.began + self.deps.config.lease_ttl.0 && lacks_any()
    }

    /// Queues that are away, and until when the first of them is waited for.
    pub(super) fn absent(&self, control: &Control, now: Duration) -> (Absent, Option<Duration>) {
        let Config { shards, lease_ttl, .. } = &self.deps.config;
        self.table.absent(control, *shards, lease_ttl.0, now)
    }

    /// Charges queues for the past.
    pub(super) fn charge(&self, round: &mut Round) {
        if !self.deps.config.usage_half_life.0.is_zero() {
            let weight = self.deps.config.usage_weight_thousandths();
            round.charge(|queue| self.usage.of(queue, weight));
        }
    }
}
