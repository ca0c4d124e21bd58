//! What is different with the next attempt at a job or task: its shape, and when it may come.

use super::{Shard, gangs, standing};
use crate::id::JobRef;
use crate::record::Next;
use crate::shape::Shape;
use crate::time::Timestamp;
use std::sync::Arc;

use super::job::{Body, Job};
use super::resting::Span;

/// The number of a shape, used once more.
pub(super) fn take_shape(shard: &mut Shard, shape: &Arc<Shape>) -> u32 {
    let is_new = shard.shapes.number(shape).is_none();
    let number = shard.shapes.take(shape, 1);
    if is_new {
        shard.shape_keys.insert(shape.key(), number);
    }
    number
}

/// A shape is used once less.
pub(super) fn give_back_shape(shard: &mut Shard, number: u32) {
    let shape = Arc::clone(shard.shapes.value(number));
    if shard.shapes.give_back(number, 1) {
        shard.shape_keys.remove(&shape.key());
    }
}

/// The number of the shape of a job's or task's attempts.
pub(super) fn shape_of(shard: &Shard, job: &Job, index: Option<u32>) -> u32 {
    own_shape(shard, job, index).unwrap_or(job.shape)
}

/// The number of the shape that a task has for itself.
pub(super) fn own_shape(shard: &Shard, job: &Job, index: Option<u32>) -> Option<u32> {
    let Body::Array(_) = &job.body else { return None };
    let shape = job.next(index)?.shape.as_ref()?;
    shard.shapes.number(shape).filter(|number| *number != job.shape)
}

/// Something is different with the next attempt at a job or task, whose last run ended at
/// `begin`. Where it stands is for the caller to settle.
pub(super) fn set(shard: &mut Shard, target: JobRef, next: Next, begin: Timestamp) {
    if let Some(end) = next.not_before {
        shard.resting.insert(target, Span { begin, end });
    }
    let number = next.shape.as_ref().map(|shape| take_shape(shard, shape));
    let Some(job) = shard.jobs.get_mut(target.job) else { return };
    let unused = match (&mut job.body, target.index) {
        (Body::Array(array), Some(index)) => {
            let task = array.touched.entry(index).or_default();
            let before = std::mem::replace(&mut task.next, next);
            before.shape.and_then(|shape| shard.shapes.number(&shape))
        }
        _ if next == Next::default() && job.extra.is_none() => None,
        _ => {
            let extra = job.extra.get_or_insert_default();
            extra.next = next;
            match (number, extra.submitted_shape) {
                (Some(number), None) => {
                    extra.submitted_shape = Some(std::mem::replace(&mut job.shape, number));
                    None
                }
                (Some(number), Some(_)) => Some(std::mem::replace(&mut job.shape, number)),
                (None, Some(submitted)) => {
                    extra.submitted_shape = None;
                    Some(std::mem::replace(&mut job.shape, submitted))
                }
                (None, None) => None,
            }
        }
    };
    if let Some(number) = unused {
        give_back_shape(shard, number);
    }
}

/// A job or task is over: nothing of the kind comes.
pub(super) fn forget(shard: &mut Shard, target: JobRef) {
    let next = shard.jobs.get(target.job).and_then(|job| job.next(target.index)).cloned();
    let Some(Next { shape, .. }) = next else { return };
    shard.resting.remove(target);
    if target.index.is_some()
        && let Some(number) = shape.and_then(|shape| shard.shapes.number(&shape))
    {
        give_back_shape(shard, number);
    }
}

/// Those whose time has come stand in the orders again.
pub(super) fn rested(shard: &mut Shard, at: Timestamp) {
    while let Some(target) = shard.resting.over(at) {
        shard.resting.remove(target);
        let Some(job) = shard.jobs.get(target.job) else { continue };
        let own = own_shape(shard, job, target.index);
        standing::change(shard, target.job, |job| match (&mut job.body, target.index) {
            (Body::Array(array), Some(index)) => {
                if let Some(task) = array.touched.get_mut(&index) {
                    task.next.not_before = None;
                    array.leave(index);
                    array.enter(index, own, false);
                }
            }
            _ => job.extra.get_or_insert_default().next.not_before = None,
        });
        if let Some(gang) = gangs::key_of(shard, target.job) {
            gangs::update(shard, gang, target.job);
        }
    }
}
