//! Which shard owns a queue, and which worker should own a shard: rendezvous hashing.
//!
//! Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998): each candidate
//! is scored by a hash of itself and the key, the highest score wins; a candidate that leaves moves
//! only its own keys. The hash is seeded XXH3 (64 bit): stable between processes, machines and
//! releases.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::id::ShardId;

/// The shard, of `count`, that owns `queue`.
///
/// # Panics
/// When `count` is zero.
#[must_use]
pub fn shard_of_queue(queue: &str, count: u16) -> ShardId {
    (0..count)
        .map(ShardId)
        .max_by_key(|shard| (xxh3_64_with_seed(queue.as_bytes(), u64::from(shard.0)), shard.0))
        .expect("a deployment has at least one shard")
}

/// The worker, of `workers`, that should hold `lease` (a shard's or a pool's); `None` when there is
/// none.
#[must_use]
pub fn worker_of_lease<'a>(
    lease: &str,
    workers: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let seed = xxh3_64_with_seed(lease.as_bytes(), 0);
    workers.into_iter().max_by_key(|worker| (xxh3_64_with_seed(worker.as_bytes(), seed), *worker))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These vectors may never change: stored jobs live in the shards that they name.
    #[test]
    fn queues_stay_in_their_shards_for_ever() {
        let found: Vec<u16> =
            ["alpha", "beta", "gamma", "team/a", "q1"].map(|q| shard_of_queue(q, 4).0).to_vec();
        assert_eq!(found, PINNED);
    }

    const PINNED: [u16; 5] = [3, 3, 2, 1, 1];

    #[test]
    fn a_worker_that_leaves_moves_only_its_own_leases() {
        let before = ["a", "b", "c"];
        for lease in (0..64).map(|shard| format!("shard.{shard}")) {
            let old = worker_of_lease(&lease, before);
            let new = worker_of_lease(&lease, ["a", "c"]);
            if old != Some("b") {
                assert_eq!(old, new);
            }
        }
    }

    #[test]
    fn queues_spread_over_shards() {
        let mut counts = [0u32; 4];
        for n in 0..4000 {
            counts[usize::from(shard_of_queue(&format!("queue-{n}"), 4).0)] += 1;
        }
        assert!(counts.iter().all(|&c| (800..1200).contains(&c)), "{counts:?}");
    }
}
