//! The lines of the submissions that came under one `Idempotency-Key`: ranges of consecutive lines
//! with consecutive ids, so that a line is found without a look at every command of the key.

use std::collections::BTreeMap;

use crate::command::IdRun;
use crate::id::{CommandId, JobId};

/// Lines by their first one; no two ranges overlap.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Lines(BTreeMap<u64, Part>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    first: JobId,
    count: u32,
    /// The command that said so last: with it the lines are forgotten.
    command: CommandId,
}

impl Lines {
    /// The id of a line's job.
    pub(super) fn get(&self, line: u64) -> Option<JobId> {
        let (start, part) = self.0.range(..=line).next_back()?;
        let offset = line - start;
        (offset < u64::from(part.count)).then(|| part.first.plus(offset))
    }

    /// A command's lines; they take the place of what was known of the same lines.
    pub(super) fn put(&mut self, command: CommandId, run: &IdRun) {
        let end = run.line.saturating_add(u64::from(run.count));
        self.cut(run.line);
        self.cut(end);
        self.remove(run, |_| true);
        self.0.insert(run.line, Part { first: run.first, count: run.count, command });
    }

    /// Forgets a command's lines, but for those that a later command said again.
    pub(super) fn forget(&mut self, command: CommandId, run: &IdRun) {
        self.remove(run, |part| part.command == command);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn remove(&mut self, run: &IdRun, which: impl Fn(&Part) -> bool) {
        let end = run.line.saturating_add(u64::from(run.count));
        let within = self.0.range(run.line..end).filter(|(_, part)| which(part));
        let within: Vec<u64> = within.map(|(start, _)| *start).collect();
        for start in within {
            self.0.remove(&start);
        }
    }

    /// Makes a range begin at `line`, if it stands inside one.
    fn cut(&mut self, line: u64) {
        let Some((&start, part)) = self.0.range_mut(..line).next_back() else { return };
        let Ok(offset) = u32::try_from(line - start) else { return };
        if offset >= part.count {
            return;
        }
        let first = part.first.plus(u64::from(offset));
        let rest = Part { first, count: part.count - offset, command: part.command };
        part.count = offset;
        self.0.insert(line, rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::ShardId;
    use crate::time::Timestamp;

    proptest! {
        #[test]
        fn lines_behave_like_a_plain_map(
            runs in prop::collection::vec((0u64..30, 1u32..10, 0u64..50), 0..30),
            forgotten in 0usize..30,
        ) {
            let mut lines = Lines::default();
            let mut plain: BTreeMap<u64, (JobId, usize)> = BTreeMap::new();
            let of = |&(line, count, id): &(u64, u32, u64)| {
                IdRun { line, first: JobId::new(Timestamp(0), ShardId(0), id), count }
            };
            for (n, run) in runs.iter().map(of).enumerate() {
                lines.put(CommandId(n as u128), &run);
                for offset in 0..u64::from(run.count) {
                    plain.insert(run.line + offset, (run.first.plus(offset), n));
                }
            }
            for (n, run) in runs.iter().map(of).enumerate().take(forgotten) {
                lines.forget(CommandId(n as u128), &run);
            }
            plain.retain(|_, (_, n)| *n >= forgotten);
            for line in 0..50 {
                prop_assert_eq!(lines.get(line), plain.get(&line).map(|(id, _)| *id));
            }
            prop_assert_eq!(lines.is_empty(), plain.is_empty());
        }
    }
}
