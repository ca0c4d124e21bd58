//! Builders of columns whose rows may be left out, and of dictionaries.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Int32Builder,
    Int64Builder, StringBuilder, TimestampMillisecondBuilder, UInt32Builder, UInt64Builder,
};
use arrow_array::{ArrayRef, DictionaryArray};
use muster_core::resources::{CPU, MEMORY};
use muster_core::shape::Shape;

use super::Error;

/// A builder whose rows may be left out.
pub(super) trait Gaps: ArrayBuilder {
    fn append_nulls(&mut self, rows: usize);

    /// Fills up with nulls, so that the next value belongs to `row`.
    fn reach(&mut self, row: usize) -> &mut Self {
        let missing = row - self.len();
        if missing > 0 {
            self.append_nulls(missing);
        }
        self
    }
}

macro_rules! gaps {
    ($($builder:ty),*) => {
        $(impl Gaps for $builder {
            fn append_nulls(&mut self, rows: usize) {
                <$builder>::append_nulls(self, rows);
            }
        })*
    };
}

gaps!(
    BinaryBuilder,
    BooleanBuilder,
    FixedSizeBinaryBuilder,
    Int32Builder,
    Int64Builder,
    StringBuilder,
    TimestampMillisecondBuilder,
    UInt32Builder,
    UInt64Builder
);

/// A dictionary of texts. Neighbours mostly share a text, and then its address: no look-up for
/// these.
#[derive(Default)]
pub(super) struct Names<'a> {
    keys: Int32Builder,
    values: StringBuilder,
    known: HashMap<&'a str, i32>,
    last: Option<(&'a str, i32)>,
}

impl<'a> Names<'a> {
    pub(super) fn push(&mut self, row: usize, name: &'a str) {
        let key = match self.last {
            Some((last, key)) if std::ptr::eq(last, name) => key,
            _ => *self.known.entry(name).or_insert_with(|| {
                let key = self.values.len();
                self.values.append_value(name);
                i32::try_from(key).expect("a batch has fewer rows than that")
            }),
        };
        self.last = Some((name, key));
        self.keys.reach(row).append_value(key);
    }

    pub(super) fn push_option(&mut self, row: usize, name: Option<&'a str>) {
        if let Some(name) = name {
            self.push(row, name);
        }
    }

    pub(super) fn finish(mut self, rows: usize) -> Result<ArrayRef, Error> {
        let keys = self.keys.reach(rows).finish();
        Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(self.values.finish()))?))
    }
}

/// The dictionary of shapes by content, with what is worth a column of its own.
#[derive(Default)]
pub(super) struct Shapes<'a> {
    keys: Int32Builder,
    values: StringBuilder,
    known: HashMap<&'a Shape, ShapeRow>,
    last: Option<(&'a Shape, ShapeRow)>,
}

#[derive(Clone, Copy)]
pub(super) struct ShapeRow {
    key: i32,
    pub(super) cpu_millis: i64,
    pub(super) memory_bytes: i64,
}

impl<'a> Shapes<'a> {
    pub(super) fn push(&mut self, row: usize, shape: &'a Shape) -> ShapeRow {
        let found = match self.last {
            Some((last, found)) if std::ptr::eq(last, shape) => found,
            _ => *self.known.entry(shape).or_insert_with(|| {
                let key = self.values.len();
                self.values.append_value(shape.canonical());
                ShapeRow {
                    key: i32::try_from(key).expect("a batch has fewer rows than that"),
                    cpu_millis: shape.request.get(CPU).millis_ceil(),
                    memory_bytes: shape.request.get(MEMORY).units_ceil(),
                }
            }),
        };
        self.last = Some((shape, found));
        self.keys.reach(row).append_value(found.key);
        found
    }

    pub(super) fn finish(mut self, rows: usize) -> Result<ArrayRef, Error> {
        let keys = self.keys.reach(rows).finish();
        Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(self.values.finish()))?))
    }
}
