//! Values that many jobs share, kept once and named by a small number.

use std::collections::BTreeMap;

/// Values by number; a value that nothing uses any more gives its number back.
#[derive(Debug)]
pub(super) struct Interner<T> {
    values: Vec<Option<(T, u64)>>,
    numbers: BTreeMap<T, u32>,
    free: Vec<u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: BTreeMap::new(), free: Vec::new() }
    }
}

impl<T: Ord + Clone> Interner<T> {
    /// The number of a value, used `n` times more than before.
    pub(super) fn take(&mut self, value: &T, n: u64) -> u32 {
        if let Some(&number) = self.numbers.get(value) {
            let slot = self.values[number as usize].as_mut();
            slot.expect("a number in the map has a value").1 += n;
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.values.push(None);
            u32::try_from(self.values.len() - 1).expect("fewer than 2^32 distinct values")
        });
        self.values[number as usize] = Some((value.clone(), n));
        self.numbers.insert(value.clone(), number);
        number
    }

    /// Uses a value `n` times less; at none it is forgotten, and `true` is returned.
    pub(super) fn give_back(&mut self, number: u32, n: u64) -> bool {
        let slot =
            self.values[number as usize].as_mut().expect("only numbers in use are given back");
        slot.1 = slot.1.checked_sub(n).expect("given back no more often than taken");
        if slot.1 == 0
            && let Some((value, _)) = self.values[number as usize].take()
        {
            self.numbers.remove(&value);
            self.free.push(number);
            return true;
        }
        false
    }

    /// The number of a value that is in use.
    pub(super) fn number(&self, value: &T) -> Option<u32> {
        self.numbers.get(value).copied()
    }

    /// The value behind a number in use.
    pub(super) fn value(&self, number: u32) -> &T {
        let slot = self.values[number as usize].as_ref();
        &slot.expect("a number in use has a value").0
    }
}
