//! What was answered to whom: commands by id, submissions by key and line, jobs by client id.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_128;

use crate::command::{IdRun, Outcome};
use crate::id::{CommandId, JobId};
use crate::limits;
use crate::record::{Done, Record};
use crate::time::Timestamp;

/// Commands (and client ids) remembered at most; beyond it the oldest are forgotten before their
/// time.
const REMEMBERED_MAX: usize = 4_000_000;

/// Commands carried out recently.
#[derive(Debug, Default)]
pub(super) struct Commands {
    done: BTreeMap<CommandId, Done>,
    /// Commands of a submission by its key.
    keys: BTreeMap<u128, Vec<CommandId>>,
    /// Jobs by the hash of queue and client id.
    clients: BTreeMap<u128, JobId>,
    /// What was remembered when.
    order: VecDeque<(Timestamp, Remembered)>,
}

#[derive(Debug, Clone, Copy)]
enum Remembered {
    Command(CommandId),
    Client(u128),
}

/// The hash of queue and client id.
pub(super) fn client_key(queue: &str, client_id: &str) -> u128 {
    xxh3_128(&[queue.as_bytes(), b"\0", client_id.as_bytes()].concat())
}

impl Commands {
    pub(super) fn outcome(&self, id: CommandId) -> Option<&Outcome> {
        self.done.get(&id).map(|done| &done.outcome)
    }

    pub(super) fn remember(&mut self, done: &Done) {
        // A checkpoint says of a client id that it was a command of that number: see `records`.
        if let Some(key) = done.key.filter(|key| CommandId(*key) == done.id) {
            if let Outcome::Submitted(runs) = &done.outcome
                && let Some(run) = runs.first()
            {
                self.remember_client(key, run.first, done.at);
            }
            return;
        }
        if let Some(key) = done.key {
            self.keys.entry(key).or_default().push(done.id);
        }
        self.done.insert(done.id, done.clone());
        self.order.push_back((done.at, Remembered::Command(done.id)));
    }

    pub(super) fn remember_client(&mut self, key: u128, job: JobId, at: Timestamp) {
        self.clients.insert(key, job);
        self.order.push_back((at, Remembered::Client(key)));
    }

    pub(super) fn client(&self, key: u128) -> Option<JobId> {
        self.clients.get(&key).copied()
    }

    /// The id that a line of a submission got when it came before.
    pub(super) fn line(&self, key: u128, line: u64) -> Option<JobId> {
        let commands = self.keys.get(&key)?;
        commands.iter().filter_map(|id| self.done.get(id)).find_map(|done| match &done.outcome {
            Outcome::Submitted(runs) => line_in(runs, line),
            _ => None,
        })
    }

    pub(super) fn forget(&mut self, now: Timestamp) {
        let long = Duration::from_secs(limits::IDEMPOTENCY_HOURS * 3600);
        let short = Duration::from_secs(limits::COMMAND_MINUTES * 60);
        // Commands without a key leave first; those with one wait their turn again at the back.
        let mut looked_at = self.order.len();
        while looked_at > 0
            && let Some(&(at, what)) = self.order.front()
            && (now.since(at) > short || self.order.len() > REMEMBERED_MAX)
        {
            looked_at -= 1;
            self.order.pop_front();
            let keyed = match what {
                Remembered::Command(id) => {
                    self.done.get(&id).is_some_and(|done| done.key.is_some())
                }
                Remembered::Client(_) => true,
            };
            if keyed && now.since(at) <= long && self.order.len() < REMEMBERED_MAX {
                self.order.push_back((at, what));
                continue;
            }
            self.drop(what);
        }
    }

    fn drop(&mut self, what: Remembered) {
        match what {
            Remembered::Client(key) => {
                self.clients.remove(&key);
            }
            Remembered::Command(id) => {
                if let Some(key) = self.done.remove(&id).and_then(|done| done.key)
                    && let Some(ids) = self.keys.get_mut(&key)
                {
                    ids.retain(|other| *other != id);
                    if ids.is_empty() {
                        self.keys.remove(&key);
                    }
                }
            }
        }
    }

    /// The records that make this state.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        self.order.iter().filter_map(|(at, what)| match what {
            Remembered::Command(id) => self.done.get(id).cloned().map(Record::Command),
            Remembered::Client(key) => self.clients.get(key).map(|job| {
                let run = IdRun { line: 0, first: *job, count: 1 };
                let outcome = Outcome::Submitted(vec![run]);
                Record::Command(Done { id: CommandId(*key), at: *at, key: Some(*key), outcome })
            }),
        })
    }
}

fn line_in(runs: &[IdRun], line: u64) -> Option<JobId> {
    let at = runs.partition_point(|run| run.line <= line).checked_sub(1)?;
    let run = &runs[at];
    let offset = line - run.line;
    (offset < u64::from(run.count)).then(|| run.first.plus(offset))
}
