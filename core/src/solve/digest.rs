//! A digest of a problem: what a round decided by, in eight bytes.

use std::hash::{Hash, Hasher};

use xxhash_rust::xxh3::Xxh3;

use super::Problem;

impl Problem {
    /// A digest of all of it. Equal problems have the same one and so, since [`super::solve`] is a
    /// function, the same plan; of different ones it differs but for chance. It is for telling
    /// records apart, and may be another in another version.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        self.hash(&mut hash);
        hash.finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::solve::{ClassIn, NodeIn, Problem, QueueIn, RunIn, ShapeIn};

    #[test]
    fn a_problem_that_differs_in_anything_has_another_digest() {
        let problem = Problem {
            total: vec![10],
            classes: vec![ClassIn { priority: 0 }],
            shapes: vec![ShapeIn { request: vec![1], ..ShapeIn::default() }],
            groups: 1,
            admits: vec![vec![true]],
            queues: vec![QueueIn {
                weight: 1_000,
                allocated: vec![0],
                runs: vec![RunIn { shape: 0, count: 3, is_overdue: false }],
                ..QueueIn::default()
            }],
            nodes: vec![NodeIn { free: vec![5], ..NodeIn::default() }],
            picks_max: 10,
            ..Problem::default()
        };
        assert_eq!(problem.digest(), problem.clone().digest());
        let mut others = vec![problem.clone(); 4];
        others[0].nodes[0].free[0] = 6;
        others[1].queues[0].runs[0].count = 4;
        others[2].admits[0][0] = false;
        others[3].picks_max = 11;
        assert!(others.iter().all(|other| other.digest() != problem.digest()));
    }
}
