//! What is measured: pools in some state, each in three sizes.

use muster_core::solve::{ClassIn, GangIn, NodeIn, Problem, RunningIn, ShapeIn};

use super::pool::{Size, plain, pool};

/// A pool in some state.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What its three sizes are.
    pub(crate) sizes: &'static str,
    /// The pool in the first, second or third size.
    pub(crate) problem: fn(usize) -> Problem,
    /// How long a round may take with the third.
    pub(crate) ms_max: f64,
}

const SHAPES: &str = "20, 1,000 and 5,000 shapes";
const PARTS: &str = "a tenth, a third, the whole";

/// The promised size with few, many, and next to as many shapes as runs.
fn shapes(size: usize) -> Size {
    Size { shapes: [20, 1_000, 5_000][size], ..Size::WHOLE }
}

fn part(size: usize) -> Size {
    Size::WHOLE.part([10, 3, 1][size])
}

/// Each job of the runs that are told has a shape of its own.
fn distinct(size: usize) -> Size {
    let all = part(size);
    let runs_per_queue = (all.waiting / u64::from(all.queues)) as u32;
    Size { shapes: all.queues * runs_per_queue, runs_per_queue, ..all }
}

/// What is told of them by default: 500 runs of each queue.
fn distinct_told(size: usize) -> Size {
    let all = part(size);
    Size {
        shapes: all.queues * 500,
        runs_per_queue: 500,
        waiting: 500 * u64::from(all.queues),
        ..all
    }
}

pub(crate) const CASES: [Case; 15] = [
    Case {
        name: "nothing fits, all full",
        sizes: SHAPES,
        problem: |size| pool(shapes(size), full),
        ms_max: 100.0,
    },
    Case {
        name: "nothing fits, cpu or memory left",
        sizes: SHAPES,
        problem: |size| pool(shapes(size), out_of_one_resource),
        ms_max: 100.0,
    },
    Case {
        name: "10,000 free slots",
        sizes: SHAPES,
        problem: |size| pool(shapes(size), |_, free| [&free[..3], &[1]].concat()),
        ms_max: 100.0,
    },
    Case {
        name: "100,000 placed on empty nodes",
        sizes: SHAPES,
        problem: |size| Problem { picks_max: 100_000, ..pool(shapes(size), |_, free| free) },
        ms_max: 100.0,
    },
    Case {
        name: "1,000 placed on 100 of the nodes",
        sizes: SHAPES,
        problem: |size| {
            let mut cluster = Problem { picks_max: 1_000, ..pool(shapes(size), |_, free| free) };
            cluster.nodes.truncate(100);
            cluster
        },
        ms_max: 100.0,
    },
    Case {
        name: "the room beside what runs is filled",
        sizes: PARTS,
        problem: |size| pool(part(size), beside_what_runs),
        ms_max: 100.0,
    },
    Case {
        name: "1 % of what ran has ended",
        sizes: PARTS,
        problem: |size| pool(part(size), one_in_a_hundred_ended),
        ms_max: 10.0,
    },
    Case {
        name: "each job has its own shape, all 1,000,000 told, the room beside what runs is filled",
        sizes: PARTS,
        problem: |size| pool(distinct(size), beside_what_runs),
        ms_max: 100.0,
    },
    Case {
        name: "each job has its own shape, 500 of each queue told, the same",
        sizes: PARTS,
        problem: |size| pool(distinct_told(size), beside_what_runs),
        ms_max: 100.0,
    },
    Case {
        name: "each job has its own shape, 500 of each queue told, all full",
        sizes: PARTS,
        problem: |size| pool(distinct_told(size), full),
        ms_max: 100.0,
    },
    Case {
        name: "64,000 small jobs on 1,000 nodes with 32 cores",
        sizes: PARTS,
        problem: |size| {
            let part = [10, 3, 1][size];
            plain(1_000 / part, 32, 100, 64_000 / u64::from(part))
        },
        ms_max: 100.0,
    },
    Case {
        name: "10,000 nodes with one cpu free in all",
        sizes: PARTS,
        problem: |size| {
            let size = part(size);
            let last = size.nodes - 1;
            pool(size, move |node, capacity| match node == last {
                true => vec![1_000, capacity[1], 0, 1],
                false => vec![0, capacity[1], capacity[2], capacity[3]],
            })
        },
        ms_max: 100.0,
    },
    Case {
        name: "gangs of 1,000 on empty nodes",
        sizes: PARTS,
        problem: |size| gangs(part(size)),
        ms_max: 100.0,
    },
    Case {
        name: "preemption storm: all full of a lower class, 1,000 may go",
        sizes: PARTS,
        problem: |size| storm(part(size), 1_000),
        ms_max: 100.0,
    },
    Case {
        name: "preemption storm: the same, 10,000 may go",
        sizes: PARTS,
        problem: |size| storm(part(size), 10_000),
        ms_max: 100.0,
    },
];

fn full(_: u32, _: Vec<i64>) -> Vec<i64> {
    vec![500, 256 << 20, 0, 50]
}

/// Half of everything free, but of cpu or memory next to nothing.
fn out_of_one_resource(node: u32, capacity: Vec<i64>) -> Vec<i64> {
    let mut free: Vec<i64> = capacity.iter().map(|amount| amount / 2).collect();
    free[node as usize % 2] = 100 + i64::from(node % 7);
    free
}

/// Ten jobs of the mean size run on each.
fn beside_what_runs(node: u32, mut capacity: Vec<i64>) -> Vec<i64> {
    capacity[0] -= 10 * 4_000 + i64::from(node % 13) * 500;
    capacity[1] -= 10 << 34;
    capacity[3] -= 10;
    capacity
}

/// All full, but of one job on every tenth node, which is one in a hundred of those that ran.
fn one_in_a_hundred_ended(node: u32, capacity: Vec<i64>) -> Vec<i64> {
    let ended = node.is_multiple_of(10);
    if ended { vec![4_500, 17 << 30, 0, 1] } else { full(node, capacity) }
}

/// A queue's part of what waits is one gang of a thousand.
fn gangs(size: Size) -> Problem {
    let mut problem = pool(size, |_, free| free);
    for (number, queue) in (0..).zip(&mut problem.queues) {
        let (like, shape) = (queue.runs[0].shape as usize, problem.shapes.len() as u32);
        let request = problem.shapes[like].request.clone();
        problem.shapes.push(ShapeIn {
            request,
            class: 0,
            gang: Some(number),
            ..ShapeIn::default()
        });
        problem.admits.push(problem.admits[like].clone());
        problem.gangs.push(GangIn { cardinality: 1_000, uniform: None });
        queue.runs.truncate(1);
        queue.runs[0].shape = shape;
        queue.runs[0].count = 1_000;
    }
    problem
}

/// Ten jobs of a lower class fill each node; what waits is of a higher one.
fn storm(size: Size, preemptions_max: u64) -> Problem {
    let mut problem = pool(size, |_, _| vec![0, 0, 0, 0]);
    problem.classes = vec![ClassIn { priority: 1 }, ClassIn { priority: 0 }];
    let shape = problem.shapes.len() as u32;
    let request = vec![6_400, 25 << 30, 0, 1];
    problem.shapes.push(ShapeIn { request, class: 1, ..ShapeIn::default() });
    problem.admits.push(vec![true; problem.groups as usize]);
    let queues = size.queues;
    problem.running = (0..size.nodes * 10)
        .map(|number| RunningIn {
            queue: number % queues,
            shape,
            node: number / 10,
            count: 1,
            age: u64::from(number) * 7_919 % 10_000,
        })
        .collect();
    let capacity = vec![64_000, 256 << 30, 8, 110];
    problem.nodes.iter_mut().for_each(|node: &mut NodeIn| node.capacity.clone_from(&capacity));
    Problem { preemptions_max, protected: 1_000, ..problem }
}
