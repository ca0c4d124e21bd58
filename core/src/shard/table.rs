//! The table of live jobs: sorted by id, in chunks that new jobs fill to the brim.
//!
//! Ids rise within a shard, so jobs are put in at the end and chunks stay full: a queued job costs
//! its entry and nothing more. A tree's nodes would stay half empty after ascending insertions.

use super::job::Job;
use crate::id::JobId;

const CHUNK: usize = 512;

/// Live jobs by id.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Never empty ones; every id of a chunk is below every id of the next.
    chunks: Vec<Vec<(JobId, Job)>>,
    len: usize,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, id: JobId) -> Option<&Job> {
        let (chunk, at) = self.find(id).ok()?;
        Some(&self.chunks[chunk][at].1)
    }

    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        let (chunk, at) = self.find(id).ok()?;
        Some(&mut self.chunks[chunk][at].1)
    }

    /// Puts a job in.
    ///
    /// # Panics
    /// When the id is in already: a shard never gives an id twice.
    pub(super) fn insert(&mut self, id: JobId, job: Job) {
        let (chunk, at) = match self.find(id) {
            Ok(_) => panic!("job `{id}` is in the table already"),
            Err(place) => place,
        };
        self.len += 1;
        let last = chunk + 1 == self.chunks.len();
        let Some(target) = self.chunks.get_mut(chunk) else {
            self.chunks.push(vec![(id, job)]);
            return;
        };
        if target.len() < CHUNK {
            target.insert(at, (id, job));
        } else if at == CHUNK && last {
            let mut next = Vec::with_capacity(CHUNK);
            next.push((id, job));
            self.chunks.push(next);
        } else {
            let mut upper = target.split_off(CHUNK / 2);
            if at <= CHUNK / 2 {
                target.insert(at, (id, job));
            } else {
                upper.insert(at - CHUNK / 2, (id, job));
            }
            self.chunks.insert(chunk + 1, upper);
        }
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<Job> {
        let (chunk, at) = self.find(id).ok()?;
        let (_, job) = self.chunks[chunk].remove(at);
        self.len -= 1;
        if self.chunks[chunk].is_empty() {
            self.chunks.remove(chunk);
        }
        Some(job)
    }

    /// Jobs by rising id, from `from` on.
    pub(super) fn iter_from(&self, from: JobId) -> impl Iterator<Item = (JobId, &Job)> {
        let (chunk, at) = match self.find(from) {
            Ok(place) | Err(place) => place,
        };
        let head = self.chunks.get(chunk).map_or(&[][..], |c| c.get(at..).unwrap_or(&[]));
        let tail = self.chunks.get(chunk + 1..).unwrap_or(&[]);
        head.iter().chain(tail.iter().flatten()).map(|(id, job)| (*id, job))
    }

    /// The place of an id, or where it would go.
    fn find(&self, id: JobId) -> Result<(usize, usize), (usize, usize)> {
        let behind = self.chunks.partition_point(|chunk| chunk[0].0 <= id);
        let chunk = behind.saturating_sub(1);
        let Some(items) = self.chunks.get(chunk) else { return Err((0, 0)) };
        match items.binary_search_by(|(other, _)| other.cmp(&id)) {
            Ok(at) => Ok((chunk, at)),
            Err(at) => Err((chunk, at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardId;
    use crate::time::Timestamp;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::collections::btree_map::Entry;

    fn id(n: u16) -> JobId {
        JobId::new(Timestamp(0), ShardId(0), u64::from(n))
    }

    fn steps() -> impl Strategy<Value = Vec<(u8, u16)>> {
        prop::collection::vec((0u8..3, 0u16..3000), 0..4000)
    }

    proptest! {
        #[test]
        fn the_table_behaves_like_a_plain_map(steps in steps()) {
            let mut table = Table::default();
            let mut plain = BTreeMap::new();
            for n in 0..1500u16 {
                table.insert(id(n * 2), Job::for_table_tests(u32::from(n)));
                plain.insert(id(n * 2), u32::from(n));
            }
            for (step, n) in steps {
                if step > 0 {
                    prop_assert_eq!(table.remove(id(n)).map(|j| j.priority), plain.remove(&id(n)));
                } else if let Entry::Vacant(vacant) = plain.entry(id(n)) {
                    table.insert(id(n), Job::for_table_tests(7));
                    vacant.insert(7);
                }
            }
            prop_assert_eq!(table.len(), plain.len());
            let from = id(700);
            let found: Vec<_> = table.iter_from(from).map(|(id, job)| (id, job.priority)).collect();
            let expected: Vec<_> = plain.range(from..).map(|(id, p)| (*id, *p)).collect();
            prop_assert_eq!(found, expected);
            for n in 0..3000 {
                prop_assert_eq!(table.get(id(n)).map(|j| j.priority), plain.get(&id(n)).copied());
            }
        }
    }
}
