//! A set of array indices as ascending ranges: ten million queued tasks are one entry.

use std::collections::BTreeMap;

/// Indices as disjoint ranges `start → end` (exclusive), none touching the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u32, u32>);

impl Ranges {
    /// The indices `0..count`.
    pub(super) fn up_to(count: u32) -> Self {
        Self((count > 0).then_some((0, count)).into_iter().collect())
    }

    /// The set behind ranges that are ascending and do not touch; `None` if they are not.
    pub(super) fn from_pairs(pairs: &[(u32, u32)]) -> Option<Self> {
        let filled = pairs.iter().all(|(start, end)| start < end);
        let apart = pairs.windows(2).all(|pair| pair[0].1 < pair[1].0);
        (filled && apart).then(|| Self(pairs.iter().copied().collect()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().map(|(&start, &end)| (start, end))
    }

    pub(super) fn contains(&self, index: u32) -> bool {
        self.0.range(..=index).next_back().is_some_and(|(_, &end)| index < end)
    }

    /// The lowest index.
    pub(super) fn first(&self) -> Option<u32> {
        self.0.first_key_value().map(|(&start, _)| start)
    }

    /// Takes an index out; `false` if it is not in.
    pub(super) fn remove(&mut self, index: u32) -> bool {
        let Some((&start, &end)) = self.0.range(..=index).next_back() else { return false };
        if index >= end {
            return false;
        }
        self.0.remove(&start);
        if start < index {
            self.0.insert(start, index);
        }
        if index + 1 < end {
            self.0.insert(index + 1, end);
        }
        true
    }

    /// Puts an index in; `false` if it is in already.
    pub(super) fn insert(&mut self, index: u32) -> bool {
        if self.contains(index) {
            return false;
        }
        let mut start = index;
        let mut end = index + 1;
        if let Some((&before, &before_end)) = self.0.range(..index).next_back()
            && before_end == index
        {
            start = before;
        }
        if let Some(after_end) = self.0.remove(&end) {
            end = after_end;
        }
        self.0.insert(start, end);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn steps() -> impl Strategy<Value = Vec<(bool, u32)>> {
        prop::collection::vec((any::<bool>(), 0u32..40), 0..200)
    }

    proptest! {
        #[test]
        fn ranges_behave_like_a_plain_set(steps in steps()) {
            let mut ranges = Ranges::up_to(20);
            let mut plain: BTreeSet<u32> = (0..20).collect();
            for (put, index) in steps {
                if put {
                    prop_assert_eq!(ranges.insert(index), plain.insert(index));
                } else {
                    prop_assert_eq!(ranges.remove(index), plain.remove(&index));
                }
                let found = ranges.iter().flat_map(|(start, end)| start..end);
                prop_assert!(found.eq(plain.iter().copied()));
                prop_assert_eq!(ranges.first(), plain.first().copied());
                let pairs: Vec<_> = ranges.iter().collect();
                prop_assert_eq!(Ranges::from_pairs(&pairs), Some(ranges.clone()));
            }
        }
    }
}
