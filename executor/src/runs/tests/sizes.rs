//! What an executor says of a large cluster, 5,000 nodes with many labels and 100,000 runs: no
//! message has more bytes than NATS takes without being told to.

use muster_api::bus::{
    self, GetPayloads, Heartbeat, LeaseRequest, NodeUpdate, ReportRuns, ShardRequest, Sync, Usage,
};
use muster_core::shape::{Taint, Toleration};

use super::*;
use crate::backend::Adopted;

/// What a message may have by default …
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// … and what is given to whoever fills one, as the executor's task does it.
const ROOM: usize = MESSAGE_BYTES_MAX / 2;
const NODES: usize = 5_000;
const RUNS: usize = 100_000;
const SHARDS: u16 = 4;
/// Runs of one answer of the leader, as the settings have it by default.
const LEASES_MAX: usize = 2_000;

/// A name of 60 characters.
fn name(n: usize) -> String {
    let name = format!("ip-10-0-{n:05}.europe-west4-b.compute.production.example.com");
    format!("{name:x<60}")
}

/// A node as clouds make them: 20 labels, taints, eight resources.
fn large_node(n: usize, gone: i64) -> Node {
    let label = |l: usize| {
        let key = format!("topology.kubernetes.io/some-attribute-of-nodes-{l:02}");
        (key.as_str().into(), format!("value-{l:02}-of-node-{n:05}-or-of-its-rack").as_str().into())
    };
    let taint = |t: usize| Taint {
        key: format!("example.com/dedicated-to-some-purpose-{t}").as_str().into(),
        value: format!("team-{}", n % 50).as_str().into(),
        effect: "NoSchedule".into(),
    };
    let amounts = [
        ("cpu", "127530m"),
        ("memory", "527869411328"),
        ("ephemeral-storage", "1794521104384"),
        ("hugepages-1Gi", "0"),
        ("hugepages-2Mi", "0"),
        ("nvidia.com/gpu", "8"),
        ("vpc.example.com/addresses", "250"),
    ];
    let mut allocatable: Resources =
        amounts.into_iter().map(|(name, text)| (name.into(), text.parse().unwrap())).collect();
    allocatable.set(PODS.into(), Quantity::from_units(250 - gone));
    Node {
        name: name(n).as_str().into(),
        labels: (0..20).map(label).collect(),
        taints: (0..3).map(taint).collect(),
        allocatable,
        schedulable: true,
    }
}

fn large_key(n: usize) -> RunKey {
    let shard = ShardId(u16::try_from(n % usize::from(SHARDS)).unwrap());
    RunKey { job: JobRef::whole(JobId::new(Timestamp(1), shard, n as u64)), attempt: 1 }
}

/// A shape that all nodes admit.
fn shape() -> Arc<Shape> {
    let mut shape = Shape::of_request(pods(1));
    shape.tolerations = vec![Toleration { key: None, value: None, effect: None }];
    Arc::new(shape)
}

/// The sizes of messages.
#[derive(Default)]
struct Sizes {
    count: usize,
    most: usize,
}

impl Sizes {
    fn add(&mut self, bytes: &Bytes) {
        self.count += 1;
        self.most = self.most.max(bytes.len());
        assert!(bytes.len() <= MESSAGE_BYTES_MAX, "{} bytes", bytes.len());
    }
}

/// Tells the leader all that it does not know; gives what it was told.
fn tell_nodes(runs: &mut Runs, number: &mut u64, sizes: &mut Sizes) -> Vec<NodeUpdate> {
    let mut told = Vec::new();
    loop {
        let ask = runs.ask(&DEFAULT_POOL.into(), 2_000, ROOM);
        let request = LeaseRequest {
            cluster: "a-cluster-of-some-name".into(),
            instance: "f".repeat(32),
            seen: ask.seen,
            nodes: ask.nodes,
            leases_max: ask.leases_max,
            wait_ms: u64::MAX,
        };
        sizes.add(&bus::encode(&request));
        *number += 1;
        let answer = LeaseAnswer {
            session: "s".repeat(32),
            answer: *number,
            version: request.nodes.version,
            leases: Vec::new(),
            stops: Vec::new(),
        };
        runs.on_answer(&DEFAULT_POOL.into(), answer, now());
        told.push(request.nodes);
        if !ask.more {
            return told;
        }
    }
}

/// Hands in all reports; gives how many.
fn hand_in(runs: &mut Runs, sizes: &mut Sizes) -> usize {
    let mut count = 0;
    for shard in (0..SHARDS).map(ShardId) {
        while let Some((command, reports)) = runs.message(shard, || CommandId(u128::MAX), ROOM) {
            let verdicts = vec![true; reports.len()];
            count += reports.len();
            let cluster = "a-cluster-of-some-name".to_owned();
            sizes.add(&bus::encode(&ShardRequest::Report(ReportRuns {
                command,
                cluster,
                reports,
            })));
            runs.on_verdicts(shard, &verdicts, now());
        }
    }
    count
}

/// Leases all runs, in answers as large as the leader makes them, which knows that version of the
/// nodes, and fetches their payloads.
fn lease_all(runs: &mut Runs, version: u64, number: &mut u64, sizes: &mut Sizes) {
    let shape = shape();
    let keys: Vec<usize> = (0..RUNS).collect();
    for keys in keys.chunks(LEASES_MAX) {
        *number += 1;
        let lease = |n: &usize| LeasedRun {
            job: large_key(*n).job,
            attempt: 1,
            node: name(n % NODES),
            shape: ShapeText(Arc::clone(&shape)),
        };
        let answer = LeaseAnswer {
            session: "s".repeat(32),
            answer: *number,
            version,
            leases: keys.iter().map(lease).collect(),
            stops: Vec::new(),
        };
        assert_eq!(runs.on_answer(&DEFAULT_POOL.into(), answer, now()), keys.len());
        for shard in (0..SHARDS).map(ShardId) {
            let jobs = runs.payloads_wanted(shard);
            sizes.add(&bus::encode(&ShardRequest::Payloads(GetPayloads { jobs: jobs.clone() })));
            let key = |job: &JobId| RunKey { job: JobRef::whole(*job), attempt: 1 };
            let got = jobs.iter().map(|job| payload(key(job), true)).collect();
            runs.on_payloads(jobs, got);
        }
    }
    assert_eq!(runs.take_effects().len(), RUNS);
}

fn end(n: usize) -> Event {
    let exit = Exit {
        code: Some(137),
        signal: Some(9),
        reason: Some("ContainerStatusUnknown".into()),
        message: Some("what it said at last ".repeat(100)),
        usage: Some(Usage { memory_peak_bytes: u64::MAX, cpu_time_ms: u64::MAX }),
    };
    let (key, at) = (large_key(n), Timestamp(i64::MAX));
    Event { key, status: RunStatus::Failed, at, exit, addresses: Vec::new() }
}

#[test]
fn no_message_of_a_large_cluster_has_more_bytes_than_nats_takes() {
    let mut runs = Runs::new(DEFAULT_POOL.into());
    let (mut number, mut sizes) = (0, Sizes::default());
    runs.on_nodes((0..NODES).map(|n| large_node(n, 0)).collect());
    let told = tell_nodes(&mut runs, &mut number, &mut sizes);
    let names = |told: &[NodeUpdate]| told.iter().map(|update| update.nodes.len()).sum::<usize>();
    assert_eq!(names(&told), NODES, "each is told once");
    assert!(told.len() > 10, "{} messages", told.len());

    // All run, and each node is another than it was.
    let version = told.last().map(|update| update.version).unwrap();
    lease_all(&mut runs, version, &mut number, &mut sizes);
    assert_eq!(names(&tell_nodes(&mut runs, &mut number, &mut sizes)), NODES);
    (0..RUNS).for_each(|n| runs.on_event(event(large_key(n), RunStatus::Running), now()));
    assert_eq!(hand_in(&mut runs, &mut sizes), RUNS);
    for shard in (0..SHARDS).map(ShardId) {
        let Claim { count, digest, .. } = runs.claim(shard);
        assert_eq!(count, (RUNS / usize::from(SHARDS)) as u64);
        let (cluster, after) = ("a-cluster-of-some-name".into(), Some(large_key(1).job));
        sizes.add(&bus::encode(&ShardRequest::Sync(Sync { cluster, count, digest, after })));
    }
    // All end at once, and with long last words.
    (0..RUNS).for_each(|n| runs.on_event(end(n), now()));
    assert_eq!(hand_in(&mut runs, &mut sizes), RUNS);

    // Of some thousand nodes that go, names are told; of more, what is left.
    runs.on_nodes((0..NODES / 2).map(|n| large_node(n, 0)).collect());
    let told = tell_nodes(&mut runs, &mut number, &mut sizes);
    assert_eq!(told.iter().map(|update| update.removed.len()).sum::<usize>(), NODES / 2);
    runs.on_nodes((NODES..NODES * 2).map(|n| node(&name(n), 1)).collect());
    tell_nodes(&mut runs, &mut number, &mut sizes);
    runs.on_nodes(Vec::new());
    let told = tell_nodes(&mut runs, &mut number, &mut sizes);
    assert_eq!((told.len(), told[0].base), (1, None));
    assert!(sizes.most > MESSAGE_BYTES_MAX / 4, "at most {} bytes", sizes.most);
    assert!(sizes.count > 200, "{} messages", sizes.count);
}

#[test]
fn an_executor_that_finds_a_hundred_thousand_pods_reports_them_in_messages_that_fit() {
    let mut runs = Runs::new(DEFAULT_POOL.into());
    let mut sizes = Sizes::default();
    let shape = shape();
    let adopted = (0..RUNS).map(|n| Adopted {
        key: large_key(n),
        node: name(n % NODES).as_str().into(),
        shape: Arc::clone(&shape),
        report: event(large_key(n), RunStatus::Running).into_report(),
    });
    runs.on_adopted(adopted.collect());
    assert_eq!(hand_in(&mut runs, &mut sizes), RUNS);
    let pools = (0..POOLS_MAX).map(|n| format!("{n:0>63}")).collect();
    let beat = Heartbeat { cluster: "c".repeat(63), instance: "f".repeat(32), pools };
    sizes.add(&bus::encode(&beat));
    assert!(sizes.count > 100, "{} messages", sizes.count);
}
