//! By what pods are known: the names, labels and annotations that an executor gives them, and what
//! of them it reads after a restart, which is all that it then knows.

use std::collections::BTreeMap;

use muster_core::id::ShardId;
use muster_core::shape::Shape;

use super::object::Meta;
use crate::runs::RunKey;

/// Whose a pod is: the name of the cluster, as the executor has it.
pub(super) const CLUSTER: &str = "muster.dev/cluster";
/// The job or task.
pub(super) const JOB: &str = "muster.dev/job-id";
/// The attempt.
pub(super) const ATTEMPT: &str = "muster.dev/attempt";
/// The shard.
pub(super) const SHARD: &str = "muster.dev/shard";
/// The queue; as a label where it may be one.
pub(super) const QUEUE: &str = "muster.dev/queue";
/// The job set, an annotation.
pub(super) const JOB_SET: &str = "muster.dev/job-set";
/// The index of an array's task.
pub(super) const ARRAY_INDEX: &str = "muster.dev/array-index";
/// The node, an annotation.
pub(super) const NODE: &str = "muster.dev/node";
/// The shape's canonical text, an annotation.
pub(super) const SHAPE: &str = "muster.dev/shape";

/// The services and ingresses that go with the pod, an annotation; see
/// [`muster_api::job_text::Network`].
pub(super) const NETWORK: &str = "muster.dev/network";

/// What is read from a pod of one's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Identity<'a> {
    pub(super) key: RunKey,
    pub(super) node: &'a str,
    /// The canonical text of its shape.
    pub(super) shape: &'a str,
}

/// The name of a run's pod: the same whenever it is created.
pub(super) fn pod_name(key: RunKey) -> String {
    format!("muster-{}-{}", key.job, key.attempt)
}

/// The run whose pod has that name.
pub(super) fn key_of_name(name: &str) -> Option<RunKey> {
    let (job, attempt) = name.strip_prefix("muster-")?.rsplit_once('-')?;
    let key = RunKey { job: job.parse().ok()?, attempt: attempt.parse().ok()? };
    (pod_name(key) == name).then_some(key)
}

/// The selector of the pods of a cluster.
pub(super) fn own(cluster: &str) -> String {
    format!("{CLUSTER}={cluster}")
}

/// The selector of those among them whose jobs are of a shard.
pub(super) fn own_of_shard(cluster: &str, shard: ShardId) -> String {
    format!("{},{SHARD}={shard}", own(cluster))
}

/// The selector of all others.
pub(super) fn foreign(cluster: &str) -> String {
    format!("{CLUSTER}!={cluster}")
}

/// What a pod says of itself; `None` when it is not one that this executor has made.
pub(super) fn identity<'a>(meta: &'a Meta, cluster: &str) -> Option<Identity<'a>> {
    if meta.labels.get(CLUSTER)? != cluster {
        return None;
    }
    let job = meta.labels.get(JOB)?.parse().ok()?;
    let attempt = meta.labels.get(ATTEMPT)?.parse().ok()?;
    let key = RunKey { job, attempt };
    if meta.name != pod_name(key) {
        return None;
    }
    let (node, shape) = (meta.annotations.get(NODE)?, meta.annotations.get(SHAPE)?);
    Some(Identity { key, node, shape })
}

/// Whether a text may be the value of a label.
pub(crate) fn is_label_value(text: &str) -> bool {
    let is_end = |byte: u8| byte.is_ascii_alphanumeric();
    let is_inner = |byte: u8| is_end(byte) || matches!(byte, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|byte| is_inner(*byte))
        && bytes.first().is_none_or(|byte| is_end(*byte))
        && bytes.last().is_none_or(|byte| is_end(*byte))
}

/// What is added to a job's labels.
pub(super) fn labels(key: RunKey, cluster: &str, queue: &str) -> BTreeMap<String, String> {
    let run = format!("{}-{}", key.job, key.attempt);
    let mut labels: BTreeMap<String, String> = [
        (CLUSTER, cluster.to_owned()),
        (JOB, key.job.to_string()),
        (ATTEMPT, key.attempt.to_string()),
        (SHARD, key.job.job.shard().to_string()),
        ("armada_job_id", key.job.to_string()),
        ("armada_job_run_id", run),
        ("armada_pod_number", "0".to_owned()),
        ("armada_pod_count", "1".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if is_label_value(queue) {
        labels.insert(QUEUE.to_owned(), queue.to_owned());
        labels.insert("armada_queue_id".to_owned(), queue.to_owned());
    }
    if let Some(index) = key.job.index {
        labels.insert(ARRAY_INDEX.to_owned(), index.to_string());
    }
    labels
}

/// What is added to a job's annotations.
pub(super) fn annotations(
    node: &str,
    shape: &Shape,
    queue: &str,
    job_set: &str,
) -> BTreeMap<String, String> {
    [
        (QUEUE, queue.to_owned()),
        (JOB_SET, job_set.to_owned()),
        (NODE, node.to_owned()),
        (SHAPE, shape.canonical()),
        ("armada_jobset_id", job_set.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use muster_core::id::{JobId, JobRef, ShardId};
    use muster_core::resources::Resources;
    use muster_core::time::Timestamp;

    use super::*;

    fn key() -> RunKey {
        let job = JobId::new(Timestamp(1), ShardId(3), 7);
        RunKey { job: JobRef::task(job, 12), attempt: 4 }
    }

    #[test]
    fn a_pod_says_which_run_it_is() {
        let shape = Shape::of_request(Resources::new());
        let meta = Meta {
            name: pod_name(key()),
            labels: labels(key(), "c", "q"),
            annotations: annotations("n1", &shape, "q", "s"),
            ..Meta::default()
        };
        let found = identity(&meta, "c").unwrap();
        assert_eq!((found.key, found.node, found.shape), (key(), "n1", &*shape.canonical()));
        assert_eq!(key_of_name(&meta.name), Some(key()));
        assert_eq!(key_of_name(&format!("{}x", meta.name)), None);
        assert_eq!(meta.labels[SHARD], "3");
        let selector = own_of_shard("c", key().job.job.shard());
        assert_eq!(selector, "muster.dev/cluster=c,muster.dev/shard=3");
        assert_eq!(meta.labels[ARRAY_INDEX], "12");
        assert_eq!(identity(&meta, "other"), None);
        let without = |name: &str| {
            let mut meta = meta.clone();
            meta.labels.remove(name);
            meta.annotations.remove(name);
            identity(&meta, "c").is_some()
        };
        for name in [JOB, ATTEMPT, CLUSTER, NODE, SHAPE] {
            assert!(!without(name), "{name}");
        }
        let copied = Meta { name: "mine".to_owned(), ..meta };
        assert_eq!(identity(&copied, "c"), None, "somebody's copy of a pod is not one of ours");
    }

    #[test]
    fn only_what_may_be_a_label_is_made_one() {
        let cases = [("q", true), ("", true), ("a/b", false), ("-a", false), ("a.b_c-d", true)];
        for (text, expected) in cases {
            assert_eq!(is_label_value(text), expected, "{text}");
        }
        assert!(!is_label_value(&"a".repeat(64)) && is_label_value(&"a".repeat(63)));
        assert!(!labels(key(), "c", "a b").contains_key(QUEUE));
    }
}
