//! What the deployment has acknowledged, kept small: 20 bytes a submitted record.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};

use muster_core::id::JobId;

/// One acknowledged record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its id.
    pub id: [u8; 16],
    /// Tasks, for an array; 0 for a job.
    pub tasks: u32,
}

/// What one job set has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobSet {
    /// Sorted by id when it is audited.
    pub records: Vec<Record>,
    /// Records that were sent and never answered: they may be there or not.
    pub unanswered: u64,
}

/// Acknowledged records by queue and job set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// By queue and name.
    pub job_sets: BTreeMap<(String, String), JobSet>,
}

impl Record {
    /// A job, or an array of `tasks` jobs.
    #[must_use]
    pub fn new(id: JobId, tasks: Option<u32>) -> Self {
        Self { id: id.to_bytes(), tasks: tasks.unwrap_or(0) }
    }

    /// How many jobs it stands for.
    #[must_use]
    pub fn jobs(&self) -> u64 {
        u64::from(self.tasks.max(1))
    }
}

impl JobSet {
    /// How many jobs it stands for, tasks one by one.
    #[must_use]
    pub fn jobs(&self) -> u64 {
        self.records.iter().map(Record::jobs).sum()
    }
}

impl Acknowledged {
    /// The job set, made if it is new.
    pub fn job_set(&mut self, queue: &str, job_set: &str) -> &mut JobSet {
        self.job_sets.entry((queue.to_owned(), job_set.to_owned())).or_default()
    }

    /// Adds what another one holds.
    pub fn merge(&mut self, other: Self) {
        for ((queue, name), job_set) in other.job_sets {
            let mine = self.job_set(&queue, &name);
            mine.records.extend(job_set.records);
            mine.unanswered += job_set.unanswered;
        }
    }

    /// How many jobs there are in all.
    #[must_use]
    pub fn jobs(&self) -> u64 {
        self.job_sets.values().map(JobSet::jobs).sum()
    }

    /// Writes it as text: `queue TAB job set TAB id [TAB tasks]`, and `?` with a number for what
    /// was not answered.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = String::new();
        for ((queue, name), job_set) in &self.job_sets {
            for record in &job_set.records {
                line.clear();
                let id = JobId::from_bytes(record.id);
                write!(line, "{queue}\t{name}\t{id}").expect("a string takes everything");
                if record.tasks > 0 {
                    write!(line, "\t{}", record.tasks).expect("a string takes everything");
                }
                writeln!(out, "{line}")?;
            }
            writeln!(out, "{queue}\t{name}\t?\t{}", job_set.unanswered)?;
        }
        Ok(())
    }

    /// Reads what [`Acknowledged::write`] wrote.
    ///
    /// # Errors
    /// Those of `input`, and lines of another form.
    pub fn read(input: &mut dyn BufRead) -> io::Result<Self> {
        let mut acknowledged = Self::default();
        for (at, line) in input.lines().enumerate() {
            let line = line?;
            let parsed = parse_line(&line, &mut acknowledged);
            parsed.ok_or_else(|| io::Error::other(format!("line {} is not an entry", at + 1)))?;
        }
        Ok(acknowledged)
    }
}

fn parse_line(line: &str, into: &mut Acknowledged) -> Option<()> {
    let fields: Vec<&str> = line.split('\t').collect();
    match fields[..] {
        [queue, name, "?", count] => {
            into.job_set(queue, name).unanswered += count.parse::<u64>().ok()?
        }
        [queue, name, id, ref rest @ ..] => {
            let tasks = match rest {
                [] => None,
                [tasks] => Some(tasks.parse().ok()?),
                [_, _, ..] => return None,
            };
            let record = Record::new(id.parse().ok()?, tasks);
            into.job_set(queue, name).records.push(record);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use muster_core::id::ShardId;
    use muster_core::time::Timestamp;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut acknowledged = Acknowledged::default();
        let id = JobId::new(Timestamp(1), ShardId(2), 3);
        let job_set = acknowledged.job_set("q", "s");
        job_set.records = vec![Record::new(id, None), Record::new(id.plus(1), Some(7))];
        job_set.unanswered = 4;
        let mut text = Vec::new();
        acknowledged.write(&mut text).unwrap();
        assert_eq!(Acknowledged::read(&mut text.as_slice()).unwrap(), acknowledged);
        assert_eq!(acknowledged.jobs(), 8);
        assert!(Acknowledged::read(&mut &b"q\ts\n"[..]).is_err());
    }
}
