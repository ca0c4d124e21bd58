//! What was answered to whom: commands by id, submissions by key and line, jobs by client id.
//!
//! What is remembered, and until when, follows from the records alone: it is forgotten by
//! [`Record::Forgotten`] and not as time passes, so that every owner answers alike.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_128;

use super::lines::Lines;
use crate::command::{IdRun, Outcome};
use crate::id::{CommandId, JobId};
use crate::limits;
use crate::record::{Done, Record};
use crate::time::Timestamp;

const LONG: Duration = Duration::from_secs(limits::IDEMPOTENCY_HOURS * 3600);
const SHORT: Duration = Duration::from_secs(limits::COMMAND_MINUTES * 60);
/// Of commands that are too old and few, so many are forgotten at once.
const FORGOTTEN_TOGETHER: usize = 256;
/// The time of a client id that is remembered for its job's sake alone, its own time being over.
const HELD: Timestamp = Timestamp(0);

/// Commands carried out recently.
#[derive(Debug)]
pub(super) struct Commands {
    done: BTreeMap<CommandId, Done>,
    /// Lines of submissions by their key.
    keys: BTreeMap<u128, Lines>,
    /// Jobs by the hash of queue and client id, and since when.
    clients: BTreeMap<u128, (JobId, Timestamp)>,
    /// Commands without a key, as they came.
    short: VecDeque<(Timestamp, CommandId)>,
    /// Commands with a key and client ids, as they came.
    long: VecDeque<(Timestamp, Remembered)>,
    /// How many of `short` and `long` are remembered at most.
    max: usize,
}

#[derive(Debug, Clone, Copy)]
enum Remembered {
    Command(CommandId),
    Client(u128),
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            done: BTreeMap::new(),
            keys: BTreeMap::new(),
            clients: BTreeMap::new(),
            short: VecDeque::new(),
            long: VecDeque::new(),
            max: limits::REMEMBERED_MAX,
        }
    }
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
        self.drop_command(done.id);
        match done.key {
            Some(key) => {
                let lines = self.keys.entry(key).or_default();
                for run in runs_of(done) {
                    lines.put(done.id, run);
                }
                self.long.push_back((done.at, Remembered::Command(done.id)));
            }
            None => self.short.push_back((done.at, done.id)),
        }
        self.done.insert(done.id, done.clone());
    }

    pub(super) fn remember_client(&mut self, key: u128, job: JobId, at: Timestamp) {
        self.clients.insert(key, (job, at));
        if at != HELD {
            self.long.push_back((at, Remembered::Client(key)));
        }
    }

    pub(super) fn client(&self, key: u128) -> Option<JobId> {
        self.clients.get(&key).map(|(job, _)| *job)
    }

    /// A job with a client id has finished: the id is not remembered for its sake any more.
    pub(super) fn finished(&mut self, key: u128, job: JobId) {
        if self.clients.get(&key) == Some(&(job, HELD)) {
            self.clients.remove(&key);
        }
    }

    /// The id that a line of a submission got when it came before.
    pub(super) fn line(&self, key: u128, line: u64) -> Option<JobId> {
        self.keys.get(&key)?.get(line)
    }

    /// Whether something has been remembered for longer than it must be by `slack`, or there is too
    /// much of it.
    pub(super) fn is_forgetting_due(&self, now: Timestamp, slack: Duration) -> bool {
        // Where few come in, they are forgotten by the hundred: each time costs a record.
        let many = self.short.len() > limits::COMMANDS_KEPT_MIN + FORGOTTEN_TOGETHER;
        let short = self.oldest_short().is_some_and(|at| many && now.since(at) > SHORT + slack);
        let long = self.long.front().is_some_and(|(at, _)| now.since(*at) > LONG + slack);
        short || long || self.remembered() > self.max
    }

    /// Forgets what is too old. Client ids of jobs that live stay.
    pub(super) fn forget(&mut self, now: Timestamp, lives: impl Fn(JobId) -> bool) {
        while let Some(at) = self.oldest_short()
            && now.since(at) > SHORT
        {
            self.drop_oldest_short();
        }
        while let Some(&(at, _)) = self.long.front()
            && now.since(at) > LONG
        {
            self.drop_oldest_long(&lives);
        }
        if self.remembered() <= self.max {
            return;
        }
        // Some room at once, so that it is not the same again with the next command.
        while self.remembered() > self.max - self.max / 16 {
            match (self.short.front(), self.long.front()) {
                (Some((short, _)), Some((long, _))) if short <= long => self.drop_oldest_short(),
                (Some(_), None) => self.drop_oldest_short(),
                (_, Some(_)) => self.drop_oldest_long(&lives),
                (None, None) => break,
            }
        }
    }

    /// The time of the oldest command without a key that may be forgotten. Who repeats a command
    /// does so within seconds, but by the clocks of its owners they may be hours.
    fn oldest_short(&self) -> Option<Timestamp> {
        let may_go = self.short.len() > limits::COMMANDS_KEPT_MIN;
        self.short.front().filter(|_| may_go).map(|(at, _)| *at)
    }

    fn remembered(&self) -> usize {
        self.short.len() + self.long.len()
    }

    fn drop_oldest_short(&mut self) {
        if let Some((at, id)) = self.short.pop_front() {
            self.drop_command_of(id, at);
        }
    }

    fn drop_oldest_long(&mut self, lives: impl Fn(JobId) -> bool) {
        match self.long.pop_front() {
            Some((at, Remembered::Command(id))) => self.drop_command_of(id, at),
            Some((at, Remembered::Client(key))) => {
                // One that was forgotten and given again is of a later time.
                let Some((job, since)) = self.clients.get_mut(&key) else { return };
                if *since == at && lives(*job) {
                    *since = HELD;
                } else if *since == at {
                    self.clients.remove(&key);
                }
            }
            None => {}
        }
    }

    /// Forgets a command, unless it was carried out again at a later time.
    fn drop_command_of(&mut self, id: CommandId, at: Timestamp) {
        if self.done.get(&id).is_some_and(|done| done.at == at) {
            self.drop_command(id);
        }
    }

    fn drop_command(&mut self, id: CommandId) {
        let Some(done) = self.done.remove(&id) else { return };
        let Some(key) = done.key else { return };
        if let Some(lines) = self.keys.get_mut(&key) {
            for run in runs_of(&done) {
                lines.forget(id, run);
            }
            if lines.is_empty() {
                self.keys.remove(&key);
            }
        }
    }

    /// The records that make this state.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let client = |key: u128, job: JobId, at: Timestamp| {
            let outcome = Outcome::Submitted(vec![IdRun { line: 0, first: job, count: 1 }]);
            Record::Command(Done { id: CommandId(key), at, key: Some(key), outcome })
        };
        let command = |id, at| {
            let done = self.done.get(&id).filter(|done| done.at == at)?;
            Some(Record::Command(done.clone()))
        };
        let short = self.short.iter().filter_map(move |&(at, id)| command(id, at));
        let long = self.long.iter().filter_map(move |&(at, what)| match what {
            Remembered::Command(id) => command(id, at),
            Remembered::Client(key) => {
                let (job, _) = self.clients.get(&key).filter(|(_, since)| *since == at)?;
                Some(client(key, *job, at))
            }
        });
        let held = self.clients.iter().filter(|(_, (_, at))| *at == HELD);
        short.chain(long).chain(held.map(move |(key, (job, at))| client(*key, *job, *at)))
    }
}

fn runs_of(done: &Done) -> &[IdRun] {
    match &done.outcome {
        Outcome::Submitted(runs) => runs,
        Outcome::Applied { .. }
        | Outcome::Leased(_)
        | Outcome::Preempted(_)
        | Outcome::Reported(_)
        | Outcome::Expired(_)
        | Outcome::QueueClosed
        | Outcome::Noted
        | Outcome::Refused(_) => &[],
    }
}

#[cfg(test)]
impl Commands {
    /// Everything that is remembered, for comparison.
    pub(super) fn picture(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        (self.done.clone().into_iter().collect::<Vec<_>>(), self.keys.clone(), self.clients.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardId;

    const HOUR: i64 = 3_600_000;

    fn job(n: u64) -> JobId {
        JobId::new(Timestamp(0), ShardId(0), n)
    }

    #[test]
    fn the_oldest_are_forgotten_early_when_there_are_too_many_but_not_those_of_live_jobs() {
        let mut commands = Commands { max: 100, ..Commands::default() };
        for n in 1..=101u32 {
            commands.remember_client(n.into(), job(n.into()), Timestamp(n.into()));
        }
        let now = Timestamp(200);
        assert!(commands.is_forgetting_due(now, Duration::ZERO));
        commands.forget(now, |id| id == job(2));
        assert!(!commands.is_forgetting_due(now, Duration::ZERO));
        let known: Vec<u32> =
            (1..=101).filter(|n| commands.client((*n).into()).is_some()).collect();
        let expected: Vec<u32> = std::iter::once(2).chain(8..=101).collect();
        assert_eq!(known, expected);
        commands.finished(2, job(2));
        assert_eq!(commands.client(2), None, "it was kept for the job alone");
    }

    #[test]
    fn the_newest_commands_outlast_a_leap_of_the_clock() {
        let mut commands = Commands::default();
        let kept = u32::try_from(limits::COMMANDS_KEPT_MIN).unwrap();
        let count = kept + u32::try_from(FORGOTTEN_TOGETHER).unwrap() + 1;
        for n in 0..count {
            let id = CommandId(n.into());
            commands.remember(&Done { id, at: Timestamp(5), key: None, outcome: Outcome::Noted });
        }
        let leapt = Timestamp(5 + 2 * HOUR);
        assert!(commands.is_forgetting_due(leapt, Duration::ZERO));
        commands.forget(leapt, |_| false);
        assert!(!commands.is_forgetting_due(leapt, Duration::ZERO));
        let known = (0..count).filter(|n| commands.outcome(CommandId((*n).into())).is_some());
        assert_eq!(known.collect::<Vec<_>>(), (count - kept..count).collect::<Vec<_>>());
    }

    #[test]
    fn a_client_id_given_again_is_not_forgotten_with_the_one_before() {
        let mut commands = Commands::default();
        // As in a log from before forgetting was a record.
        commands.remember_client(1, job(1), Timestamp(HOUR));
        commands.remember_client(1, job(2), Timestamp(26 * HOUR));
        commands.forget(Timestamp(27 * HOUR), |_| false);
        assert_eq!(commands.client(1), Some(job(2)));
        commands.forget(Timestamp(51 * HOUR), |_| false);
        assert_eq!(commands.client(1), None);
    }
}
