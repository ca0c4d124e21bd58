//! Caps: what jobs may take together. Within a round what a cap leaves only falls: what is
//! preempted counts until it is gone.

use super::{CapIn, QueueIn};

/// What the caps leave.
#[derive(Clone)]
pub(super) struct Caps {
    left: Vec<Vec<i64>>,
}

impl Caps {
    pub(super) fn new(caps: &[CapIn]) -> Caps {
        Caps { left: caps.iter().map(|cap| cap.left.clone()).collect() }
    }

    /// How many jobs of a class that take `request` each the caps of their queue allow, or the cap
    /// that allows none: the first of several.
    pub(super) fn room(&self, queue: &QueueIn, class: u32, request: &[i64]) -> Result<u64, u32> {
        let mut room = u64::MAX;
        for cap in caps_of(queue, class) {
            let left = self.left[cap as usize].iter().zip(request);
            let asked = left.filter(|(left, request)| **request > 0 && **left < i64::MAX);
            let times = asked.map(|(left, request)| u64::try_from(left / request).unwrap_or(0));
            match times.min() {
                Some(0) => return Err(cap),
                Some(times) => room = room.min(times),
                None => {}
            }
        }
        Ok(room)
    }

    /// Takes `count` times `request`, for which there is room.
    pub(super) fn take(&mut self, queue: &QueueIn, class: u32, request: &[i64], count: u64) {
        for cap in caps_of(queue, class) {
            for (left, request) in self.left[cap as usize].iter_mut().zip(request) {
                if *request > 0 && *left < i64::MAX {
                    *left -= request * i64::try_from(count).expect("room is bounded by an i64");
                }
            }
        }
    }
}

fn caps_of(queue: &QueueIn, class: u32) -> impl Iterator<Item = u32> {
    let of_class = move |of: &Option<u32>| of.is_none_or(|of| of == class);
    queue.caps.iter().filter(move |(of, _)| of_class(of)).map(|(_, cap)| *cap)
}
