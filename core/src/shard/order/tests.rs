//! What an order owes to the shapes in it, and not to the numbers that they happen to have.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{MERGED_JOBS_MAX, Order, Place};
use crate::id::{JobId, ShardId};
use crate::resources::Resources;
use crate::shape::Shape;
use crate::time::Timestamp;

fn shapes() -> [Shape; 3] {
    let plain = || Shape::of_request(Resources::default());
    let avoiding = |node: &str| Shape { avoid: vec![("c".into(), node.into())], ..plain() };
    [plain(), avoiding("n1"), avoiding("n2")]
}

/// The order as an owner goes through it who gave these shapes these numbers: each of `jobs` has a
/// task of each shape.
fn walked(numbers: [u32; 3], jobs: u64) -> Vec<(JobId, Shape, u64)> {
    let values: BTreeMap<u32, Shape> = numbers.into_iter().zip(shapes()).collect();
    let mut order = Order::default();
    for id in 1..=jobs {
        for &shape in values.keys() {
            order.add(
                Place { priority: 0, shape },
                JobId::new(Timestamp(0), ShardId(0), id),
                1,
                false,
            );
        }
    }
    let mut met = Vec::new();
    order.walk(
        0,
        |_, _| 1,
        |number| &values[&number],
        |piece| {
            met.push((piece.first.unwrap(), values[&piece.shape].clone(), piece.count));
            ControlFlow::Continue(())
        },
    );
    met
}

#[test]
fn tasks_of_one_array_follow_each_other_alike_whatever_numbers_their_shapes_have() {
    let met = walked([0, 1, 2], 2);
    assert_eq!(
        met.iter().map(|(_, shape, _)| shape.clone()).collect::<Vec<_>>(),
        [shapes(), shapes()].concat()
    );
    assert!(met.is_sorted());
    assert_eq!(walked([2, 1, 0], 2), met);
    assert_eq!(walked([1, 2, 0], 2), met);
}

#[test]
fn what_is_told_shape_by_shape_follows_each_other_alike_too() {
    let met = walked([0, 1, 2], 2 * MERGED_JOBS_MAX);
    assert!(met.len() < 2 * MERGED_JOBS_MAX as usize);
    assert!(met.is_sorted());
    assert_eq!(met.iter().map(|(_, _, count)| count).sum::<u64>(), 3 * 2 * MERGED_JOBS_MAX);
    assert_eq!(walked([2, 1, 0], 2 * MERGED_JOBS_MAX), met);
}
