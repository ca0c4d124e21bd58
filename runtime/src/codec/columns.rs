//! Typed access to the columns of a batch. Equal names and shapes come out as one shared value
//! each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::types::{ArrowPrimitiveType, Int32Type};
use arrow_array::{
    Array, DictionaryArray, FixedSizeBinaryArray, Int32Array, PrimitiveArray, RecordBatch,
    StringArray,
};
use muster_core::Name;
use muster_core::shape::Shape;

use super::Error;

/// Names and shapes that were met before.
#[derive(Default)]
pub(super) struct Interner {
    names: HashSet<Name>,
    shapes: HashMap<String, Arc<Shape>>,
}

impl Interner {
    pub(super) fn name(&mut self, text: &str) -> Name {
        if let Some(name) = self.names.get(text) {
            return Name::clone(name);
        }
        let name = Name::from(text);
        self.names.insert(Name::clone(&name));
        name
    }

    pub(super) fn shape(&mut self, text: &str) -> Result<Arc<Shape>, String> {
        if let Some(shape) = self.shapes.get(text) {
            return Ok(Arc::clone(shape));
        }
        let shape = Shape::from_canonical(text).ok_or_else(|| format!("no shape: `{text}`"))?;
        let shape = Arc::new(shape);
        self.shapes.insert(text.to_owned(), Arc::clone(&shape));
        Ok(shape)
    }
}

/// One column of a batch; absent when it was not wanted or holds nothing.
pub(super) struct Column<A> {
    name: &'static str,
    first_row: u64,
    array: Option<A>,
}

impl<A: Array + Clone + 'static> Column<A> {
    pub(super) fn new(
        batch: &RecordBatch,
        first_row: u64,
        name: &'static str,
    ) -> Result<Self, Error> {
        let array = match batch.column_by_name(name) {
            None => None,
            Some(array) => match array.as_any().downcast_ref::<A>() {
                Some(array) => Some(array.clone()),
                None => {
                    let reason = format!("column `{name}` is {}", array.data_type());
                    return Err(Error::Foreign { reason });
                }
            },
        };
        Ok(Self { name, first_row, array })
    }

    pub(super) fn array(&self) -> Option<&A> {
        self.array.as_ref()
    }

    pub(super) fn present(&self, row: usize) -> Option<&A> {
        self.array.as_ref().filter(|array| array.is_valid(row))
    }

    pub(super) fn need(&self, row: usize) -> Result<&A, Error> {
        self.present(row).ok_or_else(|| self.wrong(row, "it has none".to_owned()))
    }

    pub(super) fn wrong(&self, row: usize, reason: String) -> Error {
        Error::Row { row: self.first_row + row as u64, column: self.name, reason }
    }
}

impl<T: ArrowPrimitiveType> Column<PrimitiveArray<T>> {
    pub(super) fn get(&self, row: usize) -> Option<T::Native> {
        self.present(row).map(|array| array.value(row))
    }

    pub(super) fn value(&self, row: usize) -> Result<T::Native, Error> {
        Ok(self.need(row)?.value(row))
    }
}

impl Column<FixedSizeBinaryArray> {
    pub(super) fn value(&self, row: usize) -> Result<[u8; 16], Error> {
        let bytes = self.need(row)?.value(row);
        bytes.try_into().map_err(|_| self.wrong(row, format!("it has {} bytes", bytes.len())))
    }
}

/// A column of dictionary keys, its dictionary turned into shared values.
pub(super) struct Dictionary<V> {
    keys: Column<Int32Array>,
    values: Vec<V>,
}

impl<V: Clone> Dictionary<V> {
    pub(super) fn new(
        batch: &RecordBatch,
        first_row: u64,
        name: &'static str,
        mut value: impl FnMut(&str) -> Result<V, String>,
    ) -> Result<Self, Error> {
        let column = Column::<DictionaryArray<Int32Type>>::new(batch, first_row, name)?;
        let Some(array) = &column.array else {
            let keys = Column { name, first_row, array: None };
            return Ok(Self { keys, values: Vec::new() });
        };
        let texts = array.values().as_any().downcast_ref::<StringArray>();
        let texts = texts.ok_or_else(|| column.wrong(0, "it is no text".to_owned()))?;
        let values = (0..texts.len())
            .map(|key| value(texts.value(key)).map_err(|reason| column.wrong(0, reason)))
            .collect::<Result<_, _>>()?;
        let keys = Column { name, first_row, array: Some(array.keys().clone()) };
        Ok(Self { keys, values })
    }

    pub(super) fn get(&self, row: usize) -> Option<V> {
        let key = usize::try_from(self.keys.get(row)?).ok()?;
        self.values.get(key).cloned()
    }

    pub(super) fn value(&self, row: usize) -> Result<V, Error> {
        self.get(row).ok_or_else(|| self.keys.wrong(row, "it has none".to_owned()))
    }
}
