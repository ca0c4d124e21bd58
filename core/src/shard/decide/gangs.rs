//! Gangs in decisions: who may join one, and what becomes of the others when something becomes of
//! one member.

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, Shard, Writer};
use crate::Name;
use crate::command::{NewJob, Refusal};
use crate::id::{JobId, JobRef};
use crate::job::Exit;
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::{Change, Changed, Record};
use crate::shape::{Gang, Shape, ShapeKey};
use crate::shard::gangs::{self, Key};
use crate::shard::job::Body;

/// Why a run ended that was well: its gang runs again, or has failed.
const GANG_FAILED: &str = "GangFailed";

/// What the members of a gang have in common, and how many there are.
struct Known {
    gang: Gang,
    pool: Name,
    class: Name,
    priority: u32,
    live: u64,
    shapes: BTreeSet<ShapeKey>,
    is_started: bool,
}

impl Known {
    fn of_first(gang: &Gang, shape: &Shape, priority: u32) -> Self {
        Self {
            gang: gang.clone(),
            pool: shape.pool.clone(),
            class: shape.class.clone(),
            priority,
            live: 0,
            shapes: BTreeSet::new(),
            is_started: false,
        }
    }

    /// The live members, if there are any.
    fn of_live(shard: &Shard, key: &Key) -> Option<Self> {
        let live = shard.gangs.get(key)?;
        let first = shard.jobs.get(live.members().next()?)?;
        let shape = shard.shapes.value(first.shape);
        let mut known = Self::of_first(shape.gang.as_ref()?, shape, first.priority);
        known.live = live.live();
        known.is_started = live.is_started();
        let jobs = live.members().filter_map(|id| shard.jobs.get(id));
        known.shapes = jobs.map(|job| shard.shapes.value(job.shape).key()).collect();
        Some(known)
    }

    /// Takes a new member in, unless something speaks against it.
    fn join(&mut self, job: &NewJob, gang: &Gang) -> Result<(), String> {
        let Gang { cardinality, uniformity, .. } = &self.gang;
        let none = || "none".into();
        let label = |label: &Option<Name>| label.clone().unwrap_or_else(none);
        let differs = |what: &str, mine: &str, theirs: &str| {
            Err(format!("its {what} is `{mine}`, that of the other members is `{theirs}`"))
        };
        let shape = &job.shape;
        if gang.cardinality != *cardinality {
            let (mine, theirs) = (gang.cardinality.to_string(), cardinality.to_string());
            return differs("cardinality", &mine, &theirs);
        }
        if gang.uniformity != *uniformity {
            let (mine, theirs) = (label(&gang.uniformity), label(uniformity));
            return differs("uniformity label", &mine, &theirs);
        }
        if shape.pool != self.pool {
            return differs("pool", &shape.pool, &self.pool);
        }
        if shape.class != self.class {
            return differs("priority class", &shape.class, &self.class);
        }
        if job.priority != self.priority {
            return differs("priority", &job.priority.to_string(), &self.priority.to_string());
        }
        if self.is_started {
            return Err("the gang has started".to_owned());
        }
        self.live += u64::from(job.count.unwrap_or(1));
        if self.live > u64::from(*cardinality) {
            return Err(format!("it would have {} members, not {cardinality}", self.live));
        }
        self.shapes.insert(shape.key());
        if self.shapes.len() > limits::GANG_SHAPES_MAX {
            let max = limits::GANG_SHAPES_MAX;
            return Err(format!("its members are of more than {max} different shapes"));
        }
        Ok(())
    }
}

/// The first job among new ones that cannot be a member of the gang that it names.
pub(super) fn misfit<'a>(
    shard: &Shard,
    queue: &Name,
    jobs: impl Iterator<Item = &'a NewJob>,
) -> Option<Refusal> {
    let number = shard.names.number(queue);
    let mut known: BTreeMap<&Name, Known> = BTreeMap::new();
    for job in jobs {
        let Some(gang) = &job.shape.gang else { continue };
        let members = known.entry(&gang.id).or_insert_with(|| {
            let live = number.and_then(|n| Known::of_live(shard, &(n, gang.id.clone())));
            live.unwrap_or_else(|| Known::of_first(gang, &job.shape, job.priority))
        });
        if let Err(why) = members.join(job, gang) {
            let (line, gang) = (job.line + 1, gang.id.clone());
            return Some(Refusal::NoMember { line, gang, why: why.as_str().into() });
        }
    }
    None
}

/// The live members of a job's gang; itself when it is of none.
pub(super) fn with_members(shard: &Shard, id: JobId) -> Vec<JobId> {
    let gang = gangs::key_of(shard, id).and_then(|key| shard.gangs.get(&key));
    gang.map_or_else(|| vec![id], |gang| gang.members().collect())
}

/// Runs of other members of a job's gang that the system believes in, by job or task.
fn other_runs(shard: &Shard, key: &Key, but: JobRef) -> Vec<(JobRef, u32)> {
    let mut runs = Vec::new();
    let members = shard.gangs.get(key).into_iter().flat_map(gangs::Gang::members);
    for (id, job) in members.filter_map(|id| Some((id, shard.jobs.get(id)?))) {
        match &job.body {
            Body::Queued => {}
            Body::Active(active) => runs.push((JobRef::whole(id), active.run.attempt)),
            Body::Array(array) => {
                let active = array.touched.iter().filter_map(|(index, task)| {
                    let (_, run) = task.active.as_ref()?;
                    Some((JobRef::task(id, *index), run.attempt))
                });
                runs.extend(active);
            }
        }
    }
    runs.retain(|(job, _)| *job != but);
    runs
}

/// What `change` of one member does to the others of its gang: they are to run again with it, fail
/// with it, or be cancelled with it (then the job itself may be among them). Called before the
/// change is applied.
pub(super) fn others(shard: &Shard, job: JobRef, change: &Change) -> Vec<(JobRef, Change)> {
    let Some(key) = gangs::key_of(shard, job.job).filter(|_| !mutant::is(Mutant::TearsGangs))
    else {
        return Vec::new();
    };
    let gang = &key.1;
    let runs = || other_runs(shard, &key, job).into_iter();
    match change {
        Change::Requeued { .. } | Change::Preempted { .. } => {
            let reason: Name =
                format!("gang `{gang}` runs again as a whole, because of `{job}`").as_str().into();
            let again =
                |attempt| Change::Preempted { attempt, reason: reason.clone(), usage: None };
            runs().map(|(other, attempt)| (other, again(attempt))).collect()
        }
        Change::Failed { .. } => {
            let exit = Exit {
                reason: Some(GANG_FAILED.into()),
                message: Some(format!("`{job}` of gang `{gang}` failed").as_str().into()),
                ..Exit::default()
            };
            let fails = |attempt| Change::Failed { attempt, exit: exit.clone() };
            runs().map(|(other, attempt)| (other, fails(attempt))).collect()
        }
        Change::Cancelled { reason, .. } => {
            let with = || format!("gang `{gang}` was cancelled with `{job}`").as_str().into();
            let reason = Some(reason.clone().unwrap_or_else(with));
            let members = with_members(shard, job.job).into_iter().map(JobRef::whole);
            let cancelled =
                |other| (other, Change::Cancelled { reason: reason.clone(), usage: None });
            members.map(cancelled).collect()
        }
        Change::Leased { .. }
        | Change::Pending { .. }
        | Change::Running { .. }
        | Change::Succeeded { .. }
        | Change::Reprioritized { .. } => Vec::new(),
    }
}

/// Whether a run that fails is to be stopped: it was well, but its gang failed.
pub(in crate::shard) fn is_to_be_stopped(exit: &Exit) -> bool {
    exit.reason.as_deref() == Some(GANG_FAILED)
}

/// Writes what became of a run, and with it of the other members of its gang.
pub(super) fn write(
    shard: &mut Shard,
    job: JobRef,
    at: crate::time::Timestamp,
    change: Change,
    ctx: Context,
    writer: &mut Writer<'_>,
) {
    let others = others(shard, job, &change);
    write_one(shard, job, at, change, writer);
    for (other, change) in others {
        write_one(shard, other, ctx.now.max(at), change, writer);
    }
}

fn write_one(
    shard: &mut Shard,
    job: JobRef,
    at: crate::time::Timestamp,
    change: Change,
    writer: &mut Writer<'_>,
) {
    let Some((queue, job_set)) = shard.names_of(job.job) else { return };
    let changed = Changed { job, queue, job_set, at, count: 1, change };
    writer.write(shard, Record::Changed(changed));
}
