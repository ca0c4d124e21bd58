//! Shapes with their keys. Working a key out takes longer than all else that a round does with a
//! shape, so it is done once, when a shard tells of it.

use std::ops::Deref;
use std::sync::Arc;

use muster_api::shape::ShapeText;
use muster_core::shape::{Shape, ShapeKey};

/// A shape and its key.
#[derive(Debug)]
pub(super) struct Keyed {
    shape: Arc<Shape>,
    key: ShapeKey,
}

impl Keyed {
    pub(super) fn new(shape: Arc<Shape>) -> Arc<Self> {
        let key = shape.key();
        Arc::new(Self { shape, key })
    }

    /// Those that a message lists.
    pub(super) fn listed(shapes: Vec<ShapeText>) -> Vec<Arc<Self>> {
        shapes.into_iter().map(|shape| Self::new(shape.0)).collect()
    }

    pub(super) fn key(&self) -> ShapeKey {
        self.key
    }
}

impl Deref for Keyed {
    type Target = Shape;

    fn deref(&self) -> &Shape {
        &self.shape
    }
}
