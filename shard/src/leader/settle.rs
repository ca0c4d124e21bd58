//! The beginning of a leader that follows on nobody: it leases nothing before every shard has told
//! it what waits. Of some queues only it would give them all that is free, and what has begun is
//! not taken back. One that has what a leader before told of queues keeps the shares of those that
//! it has not heard of yet (see [`super::absent`]), and need not wait.

use std::time::Duration;

use super::Leader;
use crate::config::Config;

impl Leader<'_> {
    /// Until when it waits for shards that have not told anything yet; none if all have. A shard
    /// whose worker died has another within the time that a lease holds, about.
    pub(super) fn settles_until(&self) -> Option<Duration> {
        let Config { shards, lease_ttl, .. } = &self.deps.config;
        let until = self.began + lease_ttl.0;
        let is_over = self.deps.clock.monotonic() >= until || !self.table.published.is_empty();
        (!is_over && !self.table.has_heard_of(*shards)).then_some(until)
    }
}
