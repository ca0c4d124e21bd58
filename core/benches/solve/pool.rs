//! The pools that are measured: whatever is random in them is the same in every run.

use muster_core::solve::{ClassIn, NodeIn, Problem, QueueIn, RunIn, ShapeIn};

const GROUPS: u32 = 8;

/// Capacity of a node: milli-cpu, bytes of memory, pieces of `gpu` (in every fourth group), pods.
const NODE_CPU: i64 = 64_000;
const NODE_MEMORY: i64 = 256 << 30;
const NODE_GPUS: i64 = 8;
const NODE_PODS: i64 = 110;

/// How large a pool is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) nodes: u32,
    pub(crate) queues: u32,
    /// Runs of equal jobs that each queue tells.
    pub(crate) runs_per_queue: u32,
    pub(crate) waiting: u64,
    pub(crate) running: u64,
    pub(crate) shapes: u32,
}

impl Size {
    /// What rounds are promised for: 1,000,000 jobs wait in 1,000 queues for 10,000 nodes, on which
    /// 100,000 run.
    pub(crate) const WHOLE: Size = Size {
        nodes: 10_000,
        queues: 1_000,
        runs_per_queue: 5,
        waiting: 1_000_000,
        running: 100_000,
        shapes: 1_000,
    };

    /// The same with one part in `parts` of everything.
    pub(crate) fn part(self, parts: u32) -> Size {
        Size {
            nodes: self.nodes / parts,
            queues: self.queues / parts,
            runs_per_queue: self.runs_per_queue,
            waiting: self.waiting / u64::from(parts),
            running: self.running / u64::from(parts),
            shapes: (self.shapes / parts).max(20),
        }
    }
}

/// A pool with nodes that have free what `free` makes of their number and their capacity.
pub(crate) fn pool(size: Size, free: impl Fn(u32, Vec<i64>) -> Vec<i64>) -> Problem {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    // Few shapes ask for whole cpus, many for anything between.
    let cpu_steps = if size.shapes > 100 { 7_000 } else { 7 };
    let shapes: Vec<ShapeIn> = (0..size.shapes)
        .map(|_| {
            let cpu = 1_000 + random.below(cpu_steps) as i64 * (7_000 / cpu_steps as i64);
            let memory = (1 + random.below(31) as i64) << 30;
            let gpus = i64::from(random.below(20) == 0);
            ShapeIn { request: vec![cpu, memory, gpus, 1], class: 0, ..ShapeIn::default() }
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
        NodeIn { group, free: free(node, capacity.clone()), capacity, ..NodeIn::default() }
    };
    let nodes = (0..size.nodes).map(node).collect();
    let queues = (0..size.queues).map(|number| queue(size, number, &shapes, &mut random)).collect();
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
fn queue(size: Size, number: u32, shapes: &[ShapeIn], random: &mut Random) -> QueueIn {
    let mut allocated = vec![0; 4];
    for _ in 0..size.running / u64::from(size.queues) {
        let request = &shapes[random.below(shapes.len() as u64) as usize].request;
        allocated.iter_mut().zip(request).for_each(|(held, amount)| *held += amount);
    }
    let all = size.queues * size.runs_per_queue;
    let shape = |run: u32, random: &mut Random| {
        // With a shape for every run, each is that of one.
        if size.shapes >= all {
            number * size.runs_per_queue + run
        } else {
            random.below(shapes.len() as u64) as u32
        }
    };
    let runs: Vec<RunIn> = (0..size.runs_per_queue)
        .map(|run| RunIn {
            shape: shape(run, random),
            count: size.waiting / u64::from(all),
            is_overdue: false,
        })
        .collect();
    let mut demand = allocated.clone();
    for run in &runs {
        let request = &shapes[run.shape as usize].request;
        let waits = request.iter().map(|amount| amount * run.count as i64);
        demand.iter_mut().zip(waits).for_each(|(demand, waits)| *demand += waits);
    }
    let weight = 1_000 * (1 + random.below(4));
    QueueIn { weight, allocated, demand, runs, ..QueueIn::default() }
}

/// A pool of one kind of node and one kind of job, of `cpus` and 1.
pub(crate) fn plain(nodes: u32, cpus: i64, queues: u32, waiting: u64) -> Problem {
    let node = |_| NodeIn { free: vec![cpus], capacity: vec![cpus], ..NodeIn::default() };
    let queue = |_| QueueIn {
        weight: 1_000,
        allocated: vec![0],
        demand: vec![(waiting / u64::from(queues)) as i64],
        runs: vec![RunIn { shape: 0, count: waiting / u64::from(queues), is_overdue: false }],
        ..QueueIn::default()
    };
    Problem {
        total: vec![cpus * i64::from(nodes)],
        classes: vec![ClassIn { priority: 0 }],
        shapes: vec![ShapeIn { request: vec![1], class: 0, ..ShapeIn::default() }],
        groups: 1,
        admits: vec![vec![true]],
        nodes: (0..nodes).map(node).collect(),
        queues: (0..queues).map(queue).collect(),
        picks_max: u64::MAX,
        ..Problem::default()
    }
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
