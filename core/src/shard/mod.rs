//! The state machine of a shard: jobs, their order, job sets, what was answered to whom.
//!
//! [`Shard::execute`] decides a command: it appends the records that say what happened, applying
//! each as it goes, and returns the answer. [`Shard::apply`] is the only thing that changes the
//! state, and recovery calls nothing else: the state is what the records say, however often the
//! process died in between. Whoever drives it sends an answer only when the records before it are
//! durable.

mod apply;
mod attempts;
mod checkpoint;
mod commands;
mod decide;
mod dependencies;
mod ending;
mod finished;
mod gangs;
mod in_use;
mod intern;
mod job;
mod lines;
mod measured;
mod offers;
mod order;
mod place;
mod query;
mod ranges;
mod resting;
mod running;
mod sets;
mod standing;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::Name;
use crate::command::{Command, Outcome};
use crate::history::Finished;
use crate::id::{CommandId, JobId, JobRef, Position, ShardId};
use crate::mutant::{self, Mutant};
use crate::record::{HistorySpan, Record};
use crate::retry::Policy;
use crate::shape::{Shape, ShapeKey};
use crate::time::Timestamp;

pub use in_use::Account;
pub use order::{Bound, ClassLine};
pub use place::{Held, Place};
pub use query::{JobFilter, JobSetView, JobView, RunView};
pub use running::RunningJobs;

/// How much longer than it must be something may be remembered, so that forgetting is one record
/// for much and not one for each.
const FORGET_SLACK: Duration = Duration::from_secs(60);

/// Retry policies by queue.
pub type Policies = BTreeMap<Name, Arc<Policy>>;

/// The state of one shard.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    last_id: JobId,
    jobs: table::Table,
    names: intern::Interner<Name>,
    shapes: intern::Interner<Arc<Shape>>,
    /// Numbers of shapes in use by their keys.
    shape_keys: BTreeMap<ShapeKey, u32>,
    /// Queues that jobs were ever submitted to, by the number of their name.
    queues: BTreeMap<u32, Queue>,
    sets: sets::JobSets,
    gangs: gangs::Gangs,
    clusters: BTreeMap<Name, Cluster>,
    commands: commands::Commands,
    dependencies: dependencies::Dependencies,
    /// Jobs and tasks that are tried again, and not at once.
    resting: resting::Resting,
    /// What queues say of retries, as it was told last: as the time, what commands are decided by,
    /// and no part of the state.
    policies: Arc<Policies>,
    /// What running jobs were seen to use: no part of the state either.
    measured: measured::Measured,
    /// The highest incarnation of each queue that was closed.
    closed: BTreeMap<Name, u64>,
    /// Finished jobs that no history object holds yet.
    finished: BTreeMap<JobRef, Arc<Finished>>,
    /// The same by where they finished.
    finished_at: BTreeSet<(Position, JobRef)>,
    history_planned: Option<HistorySpan>,
    history_through: Position,
    /// Queues whose offer changed since it was last taken.
    changed: BTreeSet<u32>,
    /// Runs that ended by a decision of the shard since they were last taken: their pods are to be
    /// stopped.
    stops: Vec<Stop>,
}

/// What a command needs to know of the world.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The time.
    pub now: Timestamp,
    /// A random number: two owners of a shard never give the same id.
    pub random: u64,
    /// Where the command's first record will stand in the log.
    pub position: Position,
}

/// A run whose pod is to be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The cluster.
    pub cluster: Name,
    /// The job or task.
    pub job: JobRef,
    /// The attempt.
    pub attempt: u32,
}

#[derive(Debug, Default)]
struct Queue {
    orders: order::Orders,
    /// Jobs on clusters by cluster and shape.
    held: BTreeMap<(Name, u32), u64>,
    /// Jobs that have not finished, tasks one by one.
    live: u64,
}

impl Queue {
    /// Jobs that wait, whether they have a place in the order or not, tasks one by one.
    fn waiting(&self) -> u64 {
        self.live - self.held.values().sum::<u64>()
    }
}

/// What the shard believes a cluster has.
#[derive(Debug, Default)]
struct Cluster {
    runs: BTreeSet<JobRef>,
    digest: u64,
}

impl Shard {
    /// A shard without jobs.
    #[must_use]
    pub fn new(id: ShardId) -> Self {
        Self {
            id,
            last_id: JobId::new(Timestamp(0), id, 0),
            jobs: table::Table::default(),
            names: intern::Interner::default(),
            shapes: intern::Interner::default(),
            shape_keys: BTreeMap::new(),
            queues: BTreeMap::new(),
            sets: sets::JobSets::default(),
            gangs: gangs::Gangs::default(),
            clusters: BTreeMap::new(),
            commands: commands::Commands::default(),
            dependencies: dependencies::Dependencies::default(),
            resting: resting::Resting::default(),
            policies: Arc::default(),
            measured: measured::Measured::default(),
            closed: BTreeMap::new(),
            finished: BTreeMap::new(),
            finished_at: BTreeSet::new(),
            history_planned: None,
            history_through: Position::default(),
            changed: BTreeSet::new(),
            stops: Vec::new(),
        }
    }

    /// The shard's number.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The answer to a command that was carried out before; it may not be durable yet.
    #[must_use]
    pub fn answered(&self, id: CommandId) -> Option<&Outcome> {
        self.commands.outcome(id).filter(|_| !mutant::is(Mutant::CarriesOutTwice))
    }

    /// Decides a command: appends to `records` what happened, applies it, and returns the answer.
    ///
    /// A command that was carried out before under this id is answered as it was then.
    pub fn execute(
        &mut self,
        id: CommandId,
        command: Command,
        ctx: Context,
        records: &mut Vec<Record>,
    ) -> Outcome {
        if let Some(outcome) = self.answered(id) {
            return outcome.clone();
        }
        let mut position = ctx.position;
        if self.is_forgetting_due(ctx.now) {
            let mut writer = Writer { base: records.len(), position, records };
            writer.write(self, Record::Forgotten { at: ctx.now });
            position.row += 1;
        }
        if self.is_rest_over(ctx.now) {
            let mut writer = Writer { base: records.len(), position, records };
            writer.write(self, Record::Rested { at: ctx.now });
            position.row += 1;
        }
        let mut writer = Writer { base: records.len(), position, records };
        let outcome = decide::decide(self, id, command, ctx, &mut writer);
        decide::cancel_doomed(self, ctx, &mut writer);
        outcome
    }

    /// Applies a record that stands at `position`: of the log, or of a checkpoint.
    pub fn apply(&mut self, position: Position, record: &Record) {
        apply::apply(self, position, record);
    }

    /// Whether something is kept for a time only and that time is over: answers to old commands,
    /// job sets long done. What is forgotten is said by a record, and so with the next command: an
    /// idle shard writes nothing.
    fn is_forgetting_due(&self, now: Timestamp) -> bool {
        self.commands.is_forgetting_due(now, FORGET_SLACK)
            || self.sets.is_forgetting_due(now, FORGET_SLACK)
    }

    /// Whether the time of a job has come that is tried again, and was not to be at once. It is
    /// said by a record, with the next command: whoever drives the shard sees to it that there is
    /// one.
    #[must_use]
    pub fn is_rest_over(&self, now: Timestamp) -> bool {
        self.resting.over(now).is_some()
    }

    /// Has retries be decided by these policies of queues from now on, where a job has none.
    pub fn retry_by(&mut self, policies: Arc<Policies>) {
        self.policies = policies;
    }

    /// The pods to be stopped since this was last asked.
    pub fn take_stops(&mut self) -> Vec<Stop> {
        std::mem::take(&mut self.stops)
    }
}

/// Appends records to the open commit and applies each at its place.
struct Writer<'a> {
    base: usize,
    position: Position,
    records: &'a mut Vec<Record>,
}

impl Writer<'_> {
    fn write(&mut self, shard: &mut Shard, mut record: Record) {
        if let Record::Changed(changed) = &mut record {
            shard.measured.tell(changed);
        }
        let written = u32::try_from(self.records.len() - self.base);
        let row = written.ok().and_then(|written| self.position.row.checked_add(written));
        let row = row.expect("a commit has fewer than 2^32 records");
        shard.apply(Position { sequence: self.position.sequence, row }, &record);
        self.records.push(record);
    }
}
