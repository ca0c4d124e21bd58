//! Gangs: jobs of a queue that run together or not at all.
//!
//! The members of a gang stand in their queue's order all together or not at all: from the moment
//! the last of them has come, as long as none of them is on a cluster, nor rests. So a gang is
//! offered as a whole, and leased as a whole. How many there must be is what the gang says until it
//! was leased for the first time, and what is left of it after that: members that succeeded do not
//! come back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shard;
use super::job::{Body, Job};
use super::order::Place;
use crate::Name;
use crate::id::JobId;
use crate::shape::Shape;
use crate::time::Timestamp;

/// A queue, and what it calls the gang.
pub(super) type Key = (u32, Name);

/// Gangs with live members.
#[derive(Debug, Default)]
pub(super) struct Gangs(BTreeMap<Key, Gang>);

/// The live members of a gang.
#[derive(Debug, Default)]
pub(super) struct Gang {
    members: BTreeMap<JobId, Member>,
    /// The shape of one of them: pool, class and what it says of the gang are those of all.
    shape: Option<Arc<Shape>>,
    waiting: u64,
    live: u64,
    /// Members by their priority: while some of them were given another and others were not yet,
    /// the gang has no place in the order.
    priorities: BTreeMap<u32, u64>,
    /// Members that are tried again, and not at once, and when.
    resting: BTreeMap<JobId, Timestamp>,
    /// Whether it was leased before.
    is_started: bool,
    is_in_order: bool,
}

/// A member as it counts in the sums of its gang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    place: Place,
    waiting: u64,
    live: u64,
}

impl Gang {
    /// The first of its members: where all of them stand.
    pub(super) fn first(&self) -> Option<JobId> {
        self.members.keys().next().copied()
    }

    /// How many of its jobs wait, tasks one by one.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Its live members.
    pub(super) fn members(&self) -> impl Iterator<Item = JobId> {
        self.members.keys().copied()
    }

    /// How many of its jobs live, tasks one by one.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    /// Whether it was leased before: nobody can join it any more.
    pub(super) fn is_started(&self) -> bool {
        self.is_started
    }

    /// Until when it rests, all of it with the members that do.
    pub(super) fn rests_until(&self) -> Option<Timestamp> {
        self.resting.values().max().copied()
    }

    /// Whether it stands in the order of its queue.
    pub(super) fn is_in_order(&self) -> bool {
        self.is_in_order
    }

    fn is_ready(&self) -> bool {
        let gang = self.shape.as_ref().and_then(|shape| shape.gang.as_ref());
        let is_all = gang.is_some_and(|gang| self.live == u64::from(gang.cardinality));
        let is_whole = self.is_started || is_all;
        let waits = self.waiting > 0 && self.waiting == self.live && self.resting.is_empty();
        is_whole && waits && self.priorities.len() == 1
    }

    fn add(&mut self, id: JobId, member: Member) {
        self.members.insert(id, member);
        self.waiting += member.waiting;
        self.live += member.live;
        *self.priorities.entry(member.place.priority).or_default() += 1;
    }

    fn remove(&mut self, id: JobId) -> Option<Member> {
        self.resting.remove(&id);
        let member = self.members.remove(&id)?;
        self.waiting -= member.waiting;
        self.live -= member.live;
        let of_priority = self.priorities.get_mut(&member.place.priority);
        let of_priority = of_priority.expect("a member's priority is counted");
        *of_priority -= 1;
        if *of_priority == 0 {
            self.priorities.remove(&member.place.priority);
        }
        Some(member)
    }
}

/// Which jobs may run at most once: those that say so, and all with whom one of them runs, without
/// which they cannot run again. Asked of many of a gang, it looks at its members once.
#[derive(Debug, Default)]
pub(super) struct AtMostOnce(BTreeMap<Key, bool>);

impl AtMostOnce {
    pub(super) fn is(&mut self, shard: &Shard, id: JobId) -> bool {
        let is_once = |id: JobId| shard.jobs.get(id).is_some_and(Job::at_most_once);
        let Some(key) = key_of(shard, id) else { return is_once(id) };
        let of_members = |key: &Key| {
            let members = shard.gangs.get(key).into_iter().flat_map(Gang::members);
            members.into_iter().any(is_once)
        };
        *self.0.entry(key).or_insert_with_key(of_members)
    }
}

impl Gangs {
    /// The gang, while members of it live.
    pub(super) fn get(&self, key: &Key) -> Option<&Gang> {
        self.0.get(key)
    }
}

/// The gang of a job, if it is a member of one.
pub(super) fn key_of(shard: &Shard, id: JobId) -> Option<Key> {
    let job = shard.jobs.get(id)?;
    let gang = shard.shapes.value(job.shape).gang.as_ref()?;
    Some((job.queue, gang.id.clone()))
}

/// A member came, changed or went: the gang enters the order of its queue when it has become whole
/// by that, and leaves it when it no longer is.
pub(super) fn update(shard: &mut Shard, key: Key, id: JobId) {
    let mut gang = shard.gangs.0.remove(&key).unwrap_or_default();
    let before = gang.remove(id);
    if let Some(job) = shard.jobs.get(id).filter(|job| job.live() > 0) {
        let place = Place { priority: job.priority, shape: job.shape };
        gang.add(id, Member { place, waiting: job.waiting(), live: job.live() });
        gang.resting.extend(job.rests_until().map(|until| (id, until)));
        gang.is_started |= was_leased(job);
        gang.shape.get_or_insert_with(|| Arc::clone(shard.shapes.value(job.shape)));
    }
    let is_ready = gang.is_ready();
    let Shard { queues, changed, .. } = &mut *shard;
    let Some(shape) = gang.shape.clone() else { return };
    let orders = &mut queues.get_mut(&key.0).expect("a gang's queue is known").orders;
    // Who leaves the order: the whole gang as it stood, or of one that stays the member as it was.
    let mut leave: Vec<(JobId, Member)> = before.map(|was| (id, was)).into_iter().collect();
    let mut enter: Vec<(JobId, Member)> = Vec::new();
    if is_ready && gang.is_in_order {
        enter.extend(gang.members.get(&id).map(|now| (id, *now)));
    } else if gang.is_in_order {
        leave.extend(gang.members.iter().filter(|(other, _)| **other != id).map(copied));
    } else {
        leave.clear();
        if is_ready {
            enter.extend(gang.members.iter().map(copied));
        }
    }
    for (id, Member { place, waiting, .. }) in leave {
        let stays = |other| other != id && gang.members.contains_key(&other);
        orders.remove(&shape, place, id, waiting, true, stays);
    }
    for (id, Member { place, waiting, .. }) in enter {
        orders.add(&shape, place, id, waiting, false);
    }
    gang.is_in_order = is_ready;
    changed.insert(key.0);
    if !gang.members.is_empty() {
        shard.gangs.0.insert(key, gang);
    }
}

fn was_leased(job: &Job) -> bool {
    match &job.body {
        Body::Queued => job.attempts > 0,
        Body::Active(_) => true,
        Body::Array(array) => !array.touched.is_empty(),
    }
}

fn copied((id, member): (&JobId, &Member)) -> (JobId, Member) {
    (*id, *member)
}
