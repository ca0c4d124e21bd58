//! How long a round of the solver takes, and how many jobs it places in a second: a table in
//! Markdown, as docs/benchmarks.md holds it.
//!
//! Each case is a pool of 10,000 nodes with 1,000 queues, 1,000,000 jobs waiting and 100,000
//! running; each figure the median of seven rounds, for few, for many and for next to as many
//! shapes as runs. Not a test: it holds nothing to a floor. Given a text
//! (`cargo bench … -- "free slots"`), only the cases whose names contain it.

use std::env::args;
use std::hint::black_box;
use std::io::{Result, Write, stdout};
use std::time::{Duration, Instant};

use muster_core::solve::{ClassIn, NodeIn, Problem, QueueIn, RunIn, ShapeIn, fair_shares, solve};

const NODES: u32 = 10_000;
const QUEUES: u32 = 1_000;
const RUNS_PER_QUEUE: u32 = 5;
const WAITING: u64 = 1_000_000;
const RUNNING: u64 = 100_000;
const GROUPS: u32 = 8;
const ROUNDS: usize = 7;
const SHAPES: [u32; 3] = [20, 1_000, 5_000];

/// What a round is promised to reach.
const ROUND_MAX: Duration = Duration::from_millis(100);
const PLACEMENTS_PER_SECOND_MIN: f64 = 100_000.0;

/// Capacity of a node: milli-cpu, bytes of memory, pieces of `gpu` (in every fourth group), pods.
const NODE_CPU: i64 = 64_000;
const NODE_MEMORY: i64 = 256 << 30;
const NODE_GPUS: i64 = 8;
const NODE_PODS: i64 = 110;

/// A pool in some state, with so many shapes.
type Case = (&'static str, fn(u32) -> Problem);

const CASES: [Case; 5] = [
    ("nothing fits, all full", |shapes| pool(shapes, |_, _| vec![500, 256 << 20, 0, 50])),
    ("nothing fits, cpu or memory left", |shapes| pool(shapes, out_of_one_resource)),
    ("10,000 free slots", |shapes| pool(shapes, |_, free| [&free[..3], &[1]].concat())),
    ("100,000 placed on empty nodes", |shapes| Problem {
        picks_max: 100_000,
        ..pool(shapes, |_, free| free)
    }),
    ("1,000 placed on 100 of the nodes", |shapes| {
        let mut cluster = Problem { picks_max: 1_000, ..pool(shapes, |_, free| free) };
        cluster.nodes.truncate(100);
        cluster
    }),
];

fn main() -> Result<()> {
    let mut out = stdout().lock();
    writeln!(
        out,
        "| case | ms with 20, 1,000 and 5,000 shapes | placements/s | nodes looked at per search \
         | goal | met |\n| --- | --- | --- | --- | --- | --- |"
    )?;
    // Cargo says `--bench` of its own accord.
    let chosen = args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    for (name, problem) in CASES.iter().filter(|(name, _)| name.contains(&chosen)) {
        row(&mut out, name, *problem)?;
    }
    if "fair shares".contains(&chosen) {
        let took = shares(&pool(SHAPES[0], |_, free| free));
        writeln!(out, "| fair shares, for reports | {:.1} | – | – | – | – |", milliseconds(took))?;
    }
    Ok(())
}

/// Half of everything free, but of cpu or memory next to nothing.
fn out_of_one_resource(node: u32, capacity: Vec<i64>) -> Vec<i64> {
    let mut free: Vec<i64> = capacity.iter().map(|amount| amount / 2).collect();
    free[node as usize % 2] = 100 + i64::from(node % 7);
    free
}

/// The pool, with nodes that have free what `free` makes of their number and their capacity.
fn pool(shapes: u32, free: impl Fn(u32, Vec<i64>) -> Vec<i64>) -> Problem {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    // Few shapes ask for whole cpus, many for anything between.
    let cpu_steps = if shapes > 100 { 7_000 } else { 7 };
    let shapes: Vec<ShapeIn> = (0..shapes)
        .map(|_| {
            let cpu = 1_000 + random.below(cpu_steps) as i64 * (7_000 / cpu_steps as i64);
            let memory = (1 + random.below(31) as i64) << 30;
            let gpus = i64::from(random.below(20) == 0);
            ShapeIn { request: vec![cpu, memory, gpus, 1], ..ShapeIn::default() }
        })
        .collect();
    let admits = shapes.iter().enumerate().map(|(shape, input)| {
        let has_gpus = |group: u32| group.is_multiple_of(4);
        let not_barred = |group: u32| group as usize != shape % 100;
        (0..GROUPS)
            .map(|group| if input.request[2] > 0 { has_gpus(group) } else { not_barred(group) })
            .collect()
    });
    let admits = admits.collect();
    let mut total = vec![0; 4];
    let node = |node: u32| {
        let group = node % GROUPS;
        let gpus = if group.is_multiple_of(4) { NODE_GPUS } else { 0 };
        let capacity = vec![NODE_CPU, NODE_MEMORY, gpus, NODE_PODS];
        total.iter_mut().zip(&capacity).for_each(|(total, amount)| *total += amount);
        NodeIn { group, free: free(node, capacity), ..NodeIn::default() }
    };
    let nodes = (0..NODES).map(node).collect();
    let queues = (0..QUEUES).map(|_| queue(&shapes, &mut random)).collect();
    Problem {
        total,
        classes: vec![ClassIn { priority: 0 }],
        shapes,
        groups: GROUPS,
        admits,
        queues,
        nodes,
        picks_max: u64::MAX,
        ..Problem::default()
    }
}

/// A queue with its part of what runs and what waits.
fn queue(shapes: &[ShapeIn], random: &mut Random) -> QueueIn {
    let mut allocated = vec![0; 4];
    for _ in 0..RUNNING / u64::from(QUEUES) {
        let request = &shapes[random.below(shapes.len() as u64) as usize].request;
        allocated.iter_mut().zip(request).for_each(|(held, amount)| *held += amount);
    }
    let runs = (0..RUNS_PER_QUEUE)
        .map(|_| RunIn {
            shape: random.below(shapes.len() as u64) as u32,
            count: WAITING / u64::from(QUEUES * RUNS_PER_QUEUE),
            is_overdue: false,
        })
        .collect();
    QueueIn { weight: 1_000 * (1 + random.below(4)), allocated, runs, ..QueueIn::default() }
}

fn row(out: &mut impl Write, name: &str, problem: fn(u32) -> Problem) -> Result<()> {
    let rounds = SHAPES.map(|shapes| Round::measure(&problem(shapes)));
    let list = |text: fn(&Round) -> String| rounds.each_ref().map(text).join(", ");
    let places = rounds.iter().all(|round| round.placed > 0);
    let rates = if places {
        list(|round| format!("{:.2} million", round.rate() / 1e6))
    } else {
        "–".to_owned()
    };
    let in_time = rounds.iter().all(|round| round.took <= ROUND_MAX);
    let fast = !places || rounds.iter().all(|round| round.rate() >= PLACEMENTS_PER_SECOND_MIN);
    writeln!(
        out,
        "| {name} | {} | {rates} | {} | ≤ 100 ms{} | {} |",
        list(|round| format!("{:.1}", milliseconds(round.took))),
        list(|round| format!("{:.1}", round.looked_at_per_search)),
        if places { ", ≥ 100,000/s" } else { "" },
        if in_time && fast { "yes" } else { "no" },
    )
}

/// One case with one number of shapes.
struct Round {
    took: Duration,
    placed: u64,
    looked_at_per_search: f64,
}

impl Round {
    fn measure(problem: &Problem) -> Round {
        let figures = solve(problem).figures;
        let took = median(|| {
            black_box(solve(black_box(problem)));
        });
        let searches = figures.searches.max(1) as f64;
        let looked_at_per_search = figures.nodes_looked_at as f64 / searches;
        Round { took, placed: figures.placed, looked_at_per_search }
    }

    fn rate(&self) -> f64 {
        self.placed as f64 / self.took.as_secs_f64()
    }
}

fn shares(problem: &Problem) -> Duration {
    let demand = |queue: &QueueIn| {
        let mut demand = queue.allocated.clone();
        for run in &queue.runs {
            let request = &problem.shapes[run.shape as usize].request;
            let waiting = request.iter().map(|amount| amount * run.count as i64);
            demand.iter_mut().zip(waiting).for_each(|(demand, waiting)| *demand += waiting);
        }
        (queue.weight, demand)
    };
    let queues: Vec<_> = problem.queues.iter().map(demand).collect();
    median(|| {
        black_box(fair_shares(black_box(&problem.total), black_box(&queues)));
    })
}

/// How long half of the rounds took at most.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's own time")]
fn median(mut round: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Numbers without a pattern, the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
