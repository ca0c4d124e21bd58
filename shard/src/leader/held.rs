//! Requests of executors that wait until there is work for them, or as long as they said.

use std::time::Duration;

use muster_core::Name;
use muster_runtime::bus::ReplyTo;

use super::Leader;

/// A request that waits for work.
pub(super) struct Held {
    pub(super) reply: ReplyTo,
    pub(super) until: Duration,
    pub(super) leases_max: u64,
    /// Whether the cluster has not heard of all that it was told before.
    pub(super) lags: bool,
}

impl Leader<'_> {
    /// Answers whoever asked without having heard of all that it was told: its nodes do not know of
    /// these leases yet, so nothing more is placed there before they do. Once for all that it asked
    /// meanwhile: only the newest of its requests counts.
    pub(super) async fn tell_again(&mut self) {
        let lag = self.held.iter().filter(|(_, held)| held.lags);
        let lag: Vec<Name> = lag.map(|(name, _)| name.clone()).collect();
        self.release(lag).await;
    }

    pub(super) async fn answer_leased(&mut self) {
        let told = self.table.clusters.iter().filter(|(_, cluster)| cluster.pending.has_leases());
        let told: Vec<Name> = told.map(|(name, _)| name.clone()).collect();
        for name in told {
            if let Some(held) = self.held.remove(&name) {
                self.tell(&name, &held.reply).await;
            }
        }
    }

    pub(super) async fn release_overdue(&mut self) {
        let now = self.deps.clock.monotonic();
        let over = self.held.iter().filter(|(_, held)| held.until <= now);
        let over: Vec<Name> = over.map(|(name, _)| name.clone()).collect();
        self.release(over).await;
    }

    pub(super) async fn release_all(&mut self) {
        let all: Vec<Name> = self.held.keys().cloned().collect();
        self.release(all).await;
    }

    pub(super) async fn release(&mut self, clusters: Vec<Name>) {
        for name in clusters {
            if let Some(held) = self.held.remove(&name) {
                self.tell(&name, &held.reply).await;
            }
        }
    }
}
