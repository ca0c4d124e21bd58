//! What fits a message. Whoever puts lists into messages fills a [`Room`] and goes on in the next
//! message, or names in the answer where to go on; nothing is bounded by a number of items alone.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use muster_core::shape::Shape;
use serde::Serialize;

use super::{LeasedRun, encode};

/// Bytes of everything in a message that surrounds a list, generously.
const ENVELOPE_BYTES: usize = 1024;
/// Bytes of a run beside the name of its node, its shape aside, generously.
const RUN_BYTES: usize = 72;
/// Bytes of a shape beside its text.
const SHAPE_BYTES: usize = 5;

/// The bytes of a message that are not taken yet.
#[derive(Debug)]
pub struct Room {
    left: usize,
    is_empty: bool,
    /// Shapes that are in the message, by where they lie.
    shapes: BTreeSet<usize>,
}

impl Room {
    /// The room of a message that may have so many bytes.
    #[must_use]
    pub fn of_message(bytes_max: usize) -> Self {
        Self::of_bytes(bytes_max.saturating_sub(ENVELOPE_BYTES))
    }

    /// A part of a message.
    #[must_use]
    pub fn of_bytes(bytes: usize) -> Self {
        Self { left: bytes, is_empty: true, shapes: BTreeSet::new() }
    }

    /// The bytes that are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Takes so many bytes, if they are left. The first item is always taken: a message that is too
    /// large for one item is refused by the bus, and its sender answers for it.
    pub fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left || self.is_empty;
        if fits {
            self.left = self.left.saturating_sub(bytes);
            self.is_empty = false;
        }
        fits
    }

    /// Takes what an item takes as MessagePack.
    pub fn take_item<T: Serialize>(&mut self, item: &T) -> bool {
        self.take(encoded_len(item))
    }

    /// How many of so many runs of one shape on one node fit; takes them.
    pub fn take_runs(&mut self, node: &str, shape: &Arc<Shape>, count: u32) -> u32 {
        let (each, text) = (RUN_BYTES + node.len(), self.shape_bytes(shape));
        let most = self.left.saturating_sub(text) / each;
        let mut fit = count.min(u32::try_from(most).unwrap_or(u32::MAX));
        if fit == 0 && self.is_empty {
            fit = count.min(1);
        }
        if fit > 0 {
            self.left = self.left.saturating_sub(text + each * fit as usize);
            self.is_empty = false;
            self.has_shape(shape);
        }
        fit
    }

    /// Takes a run.
    pub fn take_run(&mut self, run: &LeasedRun) -> bool {
        self.take_runs(&run.node, &run.shape.0, 1) == 1
    }

    /// The bytes of a shape, none if it is in the message.
    pub(crate) fn shape_bytes(&self, shape: &Arc<Shape>) -> usize {
        if self.shapes.contains(&(Arc::as_ptr(shape) as usize)) {
            return 0;
        }
        shape.canonical().len() + SHAPE_BYTES
    }

    /// A shape is in the message.
    pub(crate) fn has_shape(&mut self, shape: &Arc<Shape>) {
        self.shapes.insert(Arc::as_ptr(shape) as usize);
    }
}

/// Keeps the first items, as many as fit; says whether others were cut off.
pub fn cut<T: Serialize>(items: &mut Vec<T>, room: &mut Room) -> bool {
    let fit = items.iter().take_while(|item| room.take_item(item)).count();
    let is_cut = fit < items.len();
    items.truncate(fit);
    is_cut
}

/// Items in as many lists as messages are needed.
#[must_use]
pub fn chunks<T: Serialize>(items: Vec<T>, bytes_max: usize) -> Vec<Vec<T>> {
    let mut chunks: Vec<Vec<T>> = Vec::new();
    let mut room = Room::of_bytes(0);
    for item in items {
        let bytes = encoded_len(&item);
        match chunks.last_mut() {
            Some(chunk) if room.take(bytes) => chunk.push(item),
            Some(_) | None => {
                room = Room::of_message(bytes_max);
                room.take(bytes);
                chunks.push(vec![item]);
            }
        }
    }
    chunks
}

/// The bytes of a value as [`encode`] writes it.
fn encoded_len<T: Serialize>(item: &T) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    let written = rmp_serde::encode::write_named(&mut count, item);
    written.map_or_else(|_| encode(item).len(), |()| count.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_what_is_sent() {
        let item = (7, "text", vec![Some(1.5), None]);
        assert_eq!(encoded_len(&item), encode(&item).len());
    }

    #[test]
    fn items_are_spread_over_as_many_messages_as_they_need_and_keep_their_order() {
        let items: Vec<String> = (0..500).map(|n| format!("{n:0>50}")).collect();
        let chunks = chunks(items.clone(), 4096);
        assert!(chunks.len() > 5);
        assert!(chunks.iter().all(|chunk| encode(chunk).len() <= 4096));
        assert_eq!(chunks.concat(), items);
    }

    #[test]
    fn one_item_is_taken_however_large() {
        let mut items = vec!["x".repeat(5000), "y".to_owned()];
        assert!(cut(&mut items, &mut Room::of_message(2048)));
        assert_eq!(items.len(), 1);
    }
}
