//! A pool's figures in the bucket of pools: one value, or several where they do not fit one. The
//! first has the pool's name as its key and says how many there are; the n-th has `/n` behind it.

use serde::{Deserialize, Serialize};

use super::Room;
use crate::http::{Cluster, Pool, QueueShare};

/// Bytes of a pool beside its clusters and queues: capacities of many resources, generously.
const POOL_BYTES: usize = 16 * 1024;
/// JSON is longer than MessagePack, by which items are measured: quotes, commas, numbers as text.
const JSON_FACTOR: usize = 2;

#[derive(Serialize, Deserialize)]
struct Part {
    /// How many values there are in all.
    #[serde(default = "one")]
    parts: usize,
    #[serde(flatten)]
    pool: Pool,
}

fn one() -> usize {
    1
}

/// A pool's keys and values.
#[must_use]
pub fn pool_parts(pool: Pool, bytes_max: usize) -> Vec<(String, Vec<u8>)> {
    let name = pool.name.clone();
    let (clusters, queues) = (pool.clusters, pool.queues);
    let frame = Pool { clusters: Vec::new(), queues: Vec::new(), ..pool };
    let room = || Room::of_bytes(bytes_max.saturating_sub(POOL_BYTES) / JSON_FACTOR);
    let (mut parts, mut left) = (vec![frame.clone()], room());
    let mut last = |parts: &mut Vec<Pool>, fits: &dyn Fn(&mut Room) -> bool| {
        if !fits(&mut left) {
            left = room();
            fits(&mut left);
            let bare = Pool { capacity: [].into(), allocated: [].into(), ..frame.clone() };
            parts.push(bare);
        }
        parts.len() - 1
    };
    for cluster in clusters {
        let at = last(&mut parts, &|room| room.take_item::<Cluster>(&cluster));
        parts[at].clusters.push(cluster);
    }
    for queue in queues {
        let at = last(&mut parts, &|room| room.take_item::<QueueShare>(&queue));
        parts[at].queues.push(queue);
    }
    let count = parts.len();
    let value = |(n, pool): (usize, Pool)| {
        let key = if n == 0 { name.clone() } else { format!("{name}/{n}") };
        let part = Part { parts: count, pool };
        (key, serde_json::to_vec(&part).expect("a pool's figures are plain data"))
    };
    parts.into_iter().enumerate().map(value).collect()
}

/// The pool behind a key and value; `part` gives the value of a further key. `None` for keys that
/// are further parts themselves.
///
/// # Errors
/// When a value is none.
pub fn pool_from_parts<'a>(
    key: &str,
    value: &[u8],
    part: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<Option<Pool>, serde_json::Error> {
    if key.contains('/') {
        return Ok(None);
    }
    let Part { parts, mut pool } = serde_json::from_slice(value)?;
    for n in 1..parts {
        // A part that is not there (yet) comes with the next publication.
        let Some(value) = part(&format!("{key}/{n}")) else { continue };
        let more: Part = serde_json::from_slice(value)?;
        pool.clusters.extend(more.pool.clusters);
        pool.queues.extend(more.pool.queues);
    }
    Ok(Some(pool))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pool(queues: usize) -> Pool {
        let queue = |n: usize| QueueShare {
            queue: format!("queue-{n}"),
            allocated: BTreeMap::from([("cpu".into(), "100m".into())]),
            actual_share: 0.123_456_789_012_345_6,
            ideal_share: 1.0 / 3.0,
            ..QueueShare::default()
        };
        Pool { name: "default".into(), queues: (0..queues).map(queue).collect(), ..Pool::default() }
    }

    #[test]
    fn ten_thousand_queues_come_back_from_values_that_fit() {
        let before = pool(10_000);
        let parts: BTreeMap<String, Vec<u8>> =
            pool_parts(before.clone(), 1 << 20).into_iter().collect();
        assert!(parts.len() > 1);
        assert!(parts.values().all(|value| value.len() <= 1 << 20));
        let after: Vec<Pool> = parts
            .iter()
            .filter_map(|(key, value)| {
                pool_from_parts(key, value, |key| parts.get(key).map(Vec::as_slice)).unwrap()
            })
            .collect();
        assert_eq!(after, [before]);
    }

    #[test]
    fn a_small_pool_is_one_value() {
        assert_eq!(pool_parts(pool(3), 1 << 20).len(), 1);
    }
}
