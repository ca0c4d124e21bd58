//! Shapes on the wire: their canonical text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use muster_core::shape::Shape;

/// A shape that travels as its canonical text.
#[derive(Debug, Clone, PartialEq)]
pub struct ShapeText(pub Arc<Shape>);

impl fmt::Display for ShapeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.canonical())
    }
}

/// A text that is no shape's canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the canonical text of a shape")]
pub struct ParseShapeError;

impl FromStr for ShapeText {
    type Err = ParseShapeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Shape::from_canonical(text).map(|shape| Self(Arc::new(shape))).ok_or(ParseShapeError)
    }
}
