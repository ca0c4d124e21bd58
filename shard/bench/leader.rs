//! `muster-bench-leader`: how long a round of a pool's leader takes, from messages of shards and
//! executors to the lease commands: a table in Markdown, as docs/benchmarks.md holds it.
//!
//! 1,000 queues in four shards, 5 runs of each told; 20 clusters; each figure is that of the
//! round that took as long as half of seven at most. Not a test: it holds nothing to a floor. Given
//! a text, only the cases whose names contain it.

use std::collections::BTreeMap;
use std::env::args;
use std::hint::black_box;
use std::io::{Error, Result, Write, stdout};
use std::sync::Arc;
use std::time::Instant;

use muster_api::bus;
use muster_api::shape::ShapeText;
use muster_core::Name;
use muster_core::control::{Control, Queue};
use muster_core::quantity::Quantity;
use muster_core::resources::{CPU, MEMORY, PODS};
use muster_core::shape::Shape;
use muster_shard::Rehearsal;
use serde_json::json;

const CLUSTERS: usize = 20;
const SHARDS: usize = 4;
const RUNS_PER_QUEUE: usize = 5;
const SHAPES: usize = 1_000;
const ROUNDS: usize = 7;
/// What a cluster takes at once, and a round places, by default.
const LEASES_MAX: u64 = 2_000;
const JOBS_MAX: u64 = 10_000;

/// How large the pool is: nodes and queues.
const SIZES: [(usize, usize); 3] = [(1_000, 100), (3_000, 300), (10_000, 1_000)];

/// What a round of some kind is like.
struct Case {
    name: &'static str,
    /// What is free on a node, by its number: cpus, and pods.
    free: fn(usize) -> (i64, i64),
    /// Whether only one in a hundred nodes and queues tells something new, and not all.
    is_incremental: bool,
    /// How many of the clusters ask.
    asking: usize,
    ms_max: f64,
}

const CASES: [Case; 4] = [
    Case {
        name: "all told anew, room on every node",
        free: |_| (24, 100),
        is_incremental: false,
        asking: CLUSTERS,
        ms_max: 100.0,
    },
    Case {
        name: "1 % changed, room on every node",
        free: |_| (24, 100),
        is_incremental: true,
        asking: CLUSTERS,
        ms_max: 100.0,
    },
    Case {
        name: "1 % changed, room on these nodes, all clusters ask",
        free: |node| if is_changed(node) { (24, 100) } else { (0, 90) },
        is_incremental: true,
        asking: CLUSTERS,
        ms_max: 10.0,
    },
    Case {
        name: "1 % changed, room on these nodes, one cluster asks",
        free: |node| if is_changed(node) { (24, 100) } else { (0, 90) },
        is_incremental: true,
        asking: 1,
        ms_max: 10.0,
    },
];

fn main() -> Result<()> {
    let mut out = stdout().lock();
    writeln!(
        out,
        "| case, with 1,000, 3,000 and 10,000 nodes | ms in all | taken in | prepared | solved \
         | told | placed | goal | met |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    let chosen = args().nth(1).unwrap_or_default();
    for case in CASES.iter().filter(|case| case.name.contains(&chosen)) {
        let [first, second, third] = SIZES.map(|size| measured(case, size));
        let sizes = [first?, second?, third?];
        let list = |number: fn(&Figures) -> f64| {
            sizes.each_ref().map(|figures| format!("{:.1}", number(figures))).join(", ")
        };
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | ≤ {} ms | {} |",
            case.name,
            list(Figures::all),
            list(|figures| figures.taken_in),
            list(|figures| figures.prepared),
            list(|figures| figures.solved),
            list(|figures| figures.told),
            sizes.each_ref().map(|figures| figures.placed.to_string()).join(", "),
            case.ms_max,
            if sizes.iter().all(|f| f.all() <= case.ms_max) { "yes" } else { "no" },
        )?;
    }
    Ok(())
}

/// Milliseconds, and jobs placed.
#[derive(Clone, Copy)]
struct Figures {
    taken_in: f64,
    prepared: f64,
    solved: f64,
    told: f64,
    placed: u64,
}

impl Figures {
    fn all(&self) -> f64 {
        self.taken_in + self.prepared + self.solved + self.told
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's own time")]
fn measured(case: &Case, (nodes, queues): (usize, usize)) -> Result<Figures> {
    let mut rehearsal = Rehearsal::new("default", control(queues)?);
    let shapes: Vec<ShapeText> = (0..SHAPES).map(shape).collect();
    let parts = CLUSTERS.min(nodes);
    for shard in 0..SHARDS {
        rehearsal.offers(&offers(shard, 1, queues, 1, &shapes)).map_err(Error::other)?;
    }
    for cluster in 0..parts {
        rehearsal.request(&request(case, cluster, nodes, 1, 1)).map_err(Error::other)?;
    }
    let clusters: BTreeMap<Name, u64> =
        (0..case.asking).map(|cluster| (name(cluster), LEASES_MAX)).collect();
    let mut rounds = Vec::new();
    for version in 2..2 + ROUNDS as u64 {
        let step = if case.is_incremental { 100 } else { 1 };
        let told: Vec<_> =
            (0..SHARDS).map(|shard| offers(shard, version, queues, step, &shapes)).collect();
        let asked: Vec<_> =
            (0..parts).map(|cluster| request(case, cluster, nodes, version, step)).collect();
        let mut spent = vec![Instant::now()];
        told.iter().try_for_each(|offers| rehearsal.offers(offers)).map_err(Error::other)?;
        asked.iter().try_for_each(|asked| rehearsal.request(asked)).map_err(Error::other)?;
        spent.push(Instant::now());
        let round = rehearsal.prepare(&clusters, JOBS_MAX);
        let mut round = round.ok_or_else(|| Error::other("nothing waits"))?;
        spent.push(Instant::now());
        let placed = round.solve();
        spent.push(Instant::now());
        black_box(round.tell(&clusters));
        spent.push(Instant::now());
        let [taken_in, prepared, solved, told] =
            [0, 1, 2, 3].map(|step| (spent[step + 1] - spent[step]).as_secs_f64() * 1e3);
        rounds.push(Figures { taken_in, prepared, solved, told, placed });
    }
    rounds.sort_unstable_by(|a, b| a.all().total_cmp(&b.all()));
    Ok(rounds[ROUNDS / 2])
}

fn name(cluster: usize) -> Name {
    format!("cluster-{cluster:02}").as_str().into()
}

fn control(queues: usize) -> Result<Control> {
    let mut control = Control::default();
    for queue in 0..queues {
        let weight_millis = 1_000 * (1 + queue as u64 % 4);
        let settings = Queue { weight_millis, ..Queue::default() };
        control =
            control.with_queue(&format!("queue-{queue:04}"), settings).map_err(Error::other)?;
    }
    Ok(control)
}

fn shape(number: usize) -> ShapeText {
    let cpu = Quantity::from_millis(1_000 + 7 * number as i64);
    let memory = Quantity::from_units((1 + number as i64 % 31) << 30);
    let request = [(CPU, cpu), (MEMORY, memory), (PODS, Quantity::from_units(1))];
    let request = request.map(|(name, amount)| (Name::from(name), amount));
    ShapeText(Arc::new(Shape::of_request(request.into_iter().collect())))
}

/// What a shard tells of every `step`th of its queues, in full the first time.
fn offers(shard: usize, version: u64, queues: usize, step: usize, shapes: &[ShapeText]) -> Vec<u8> {
    let amounts = |cpu: usize| {
        let amounts =
            [(CPU, cpu.to_string()), (MEMORY, format!("{cpu}Gi")), (PODS, cpu.to_string())];
        amounts.map(|(name, amount)| (name.to_owned(), amount)).into()
    };
    let mut listed: Vec<ShapeText> = Vec::new();
    let told = (shard..queues).step_by(SHARDS).step_by(step).map(|queue| {
        let runs = (0..RUNS_PER_QUEUE).map(|run| {
            listed.push(shapes[(queue * RUNS_PER_QUEUE + run) * 7 % SHAPES].clone());
            (0, listed.len() as u32 - 1, 1_000 / RUNS_PER_QUEUE as u64)
        });
        let head = bus::Head {
            class: "default".to_owned(),
            runs: runs.collect(),
            since: vec![1; RUNS_PER_QUEUE],
            behind: None,
            holds: amounts(400),
        };
        let pool = bus::PoolOffer {
            pool: "default".to_owned(),
            heads: vec![head],
            waiting: 1_000,
            demand: amounts(4_000),
            held: 100,
            holds: amounts(400),
        };
        let queue = format!("queue-{queue:04}");
        bus::QueueOffer { queue, further: false, pools: vec![pool] }
    });
    let queues = told.collect();
    bus::encode(&bus::Offers {
        shard: shard as u16,
        owner: "worker".to_owned(),
        epoch: 1,
        version,
        previous: version - 1,
        full: version == 1,
        shapes: listed,
        queues,
    })
    .into()
}

/// One in a hundred nodes, whatever cluster.
fn is_changed(node: usize) -> bool {
    (node / CLUSTERS + node).is_multiple_of(100)
}

/// What a cluster tells of all its nodes, or of those that have changed.
fn request(case: &Case, cluster: usize, nodes: usize, version: u64, step: usize) -> Vec<u8> {
    let node = |node: usize| {
        let (cpu, pods) = (case.free)(node);
        json!({
            "name": format!("node-{node:05}"),
            "labels": { "kubernetes.io/hostname": format!("node-{node:05}"), "zone": "a" },
            "taints": [],
            "allocatable": { CPU: "64", MEMORY: "256Gi", PODS: "110" },
            "free": { CPU: cpu.to_string(), MEMORY: "100Gi", PODS: pods.to_string() },
            "runs": 10,
            "schedulable": true,
        })
    };
    let mine = (cluster..nodes).step_by(CLUSTERS).filter(|node| step == 1 || is_changed(*node));
    let request = json!({
        "cluster": &*name(cluster),
        "instance": "one",
        "seen": null,
        "nodes": {
            "base": (version > 1).then_some(version - 1),
            "version": version,
            "nodes": mine.map(node).collect::<Vec<_>>(),
            "removed": [],
        },
        "leases_max": LEASES_MAX,
        "wait_ms": 1_000,
    });
    let request: bus::LeaseRequest = serde_json::from_value(request).expect("it is a request");
    bus::encode(&request).into()
}
