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
