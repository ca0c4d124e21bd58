//! The names of the bus's subjects and buckets.

use muster_core::id::ShardId;

/// Requests to the owner of a shard.
#[must_use]
pub fn shard(shard: ShardId) -> String {
    format!("muster.shard.{shard}")
}

/// What a new owner of a shard says when it begins to answer: nothing but that.
#[must_use]
pub fn owner(shard: ShardId) -> String {
    format!("muster.owner.{shard}")
}

/// The same of every shard.
pub const OWNERS: &str = "muster.owner.*";

/// The shard that has a new owner by this subject.
#[must_use]
pub fn owned_shard(subject: &str) -> Option<ShardId> {
    subject.strip_prefix("muster.owner.")?.parse().ok().map(ShardId)
}

/// Lease requests of executors to the leader of a pool.
#[must_use]
pub fn pool(pool: &str) -> String {
    format!("muster.pool.{pool}")
}

/// What a new leader of a pool says when it begins to answer: nothing but that.
#[must_use]
pub fn leader(pool: &str) -> String {
    format!("muster.leader.{pool}")
}

/// The same of every pool.
pub const LEADERS: &str = "muster.leader.*";

/// The pool that has a new leader by this subject.
#[must_use]
pub fn led_pool(subject: &str) -> Option<&str> {
    subject.strip_prefix("muster.leader.")
}

/// Questions to the leader of a pool.
#[must_use]
pub fn pool_questions(pool: &str) -> String {
    format!("muster.pool-questions.{pool}")
}

/// Stop orders for the runs of a cluster.
#[must_use]
pub fn cluster_stop(cluster: &str) -> String {
    format!("muster.cluster.{cluster}.stop")
}

/// Stop orders for the runs of every cluster.
pub const CLUSTER_STOPS: &str = "muster.cluster.*.stop";

/// The cluster that stop orders of this subject are for.
#[must_use]
pub fn stopped_cluster(subject: &str) -> Option<&str> {
    subject.strip_prefix("muster.cluster.")?.strip_suffix(".stop")
}

/// Requests for the output of a cluster's runs.
#[must_use]
pub fn cluster_logs(cluster: &str) -> String {
    format!("muster.cluster.{cluster}.logs")
}

/// Offers of all shards.
pub const OFFERS: &str = "muster.offers";
/// A new pool leader's wish that every shard publish all of its offers.
pub const OFFERS_WANTED: &str = "muster.offers-wanted";
/// Heartbeats of all executors.
pub const HEARTBEATS: &str = "muster.heartbeats";
/// The wake-up that tells of a new version of the control data.
pub const CONTROL: &str = "muster.control";
/// Bucket of leases: who owns which shard, who leads which pool, which workers live.
pub const LEASES_BUCKET: &str = "muster_leases";
/// Bucket of what the pool leaders publish, a pool a key.
pub const POOLS_BUCKET: &str = "muster_pools";
