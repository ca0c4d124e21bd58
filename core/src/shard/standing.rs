//! Who stands in the order of a queue: of what waits, all that nothing holds back.
//!
//! [`Job::standings`] says it of one job. Whatever changes a job goes through [`change`], or takes
//! its standings before and calls [`settle`] after: so the orders say what the jobs do, and nothing
//! else ever enters or leaves them, but gangs: these do so as a whole, see [`super::gangs`].

use super::Shard;
use super::job::{Body, Job};
use super::order::Place;
use crate::id::JobId;

/// Where a job stands, and with how many tasks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Standings {
    place: Option<(Place, u64)>,
    /// Those of tasks with shapes of their own.
    apart: Vec<(Place, u64)>,
}

impl Standings {
    /// Nowhere.
    pub(super) const NONE: Self = Self { place: None, apart: Vec::new() };

    /// With how many tasks it stands at a place.
    pub(super) fn at(&self, place: Place) -> u64 {
        self.iter().find(|(other, _)| *other == place).map_or(0, |(_, jobs)| jobs)
    }

    fn iter(&self) -> impl Iterator<Item = (Place, u64)> {
        self.place.into_iter().chain(self.apart.iter().copied())
    }
}

impl Job {
    /// Where it stands in the order of its queue.
    pub(super) fn standings(&self) -> Standings {
        let is_resting = self.next(None).is_some_and(|next| next.not_before.is_some());
        if !self.after().is_empty() || is_resting {
            return Standings::NONE;
        }
        let (plain, apart) = match &self.body {
            Body::Queued => (1, Vec::new()),
            Body::Active(_) => (0, Vec::new()),
            Body::Array(array) => array.standing(self.room()),
        };
        let at = |(shape, jobs)| (Place { priority: self.priority, shape }, jobs);
        let place = (plain > 0).then(|| at((self.shape, plain)));
        Standings { place, apart: apart.into_iter().map(at).collect() }
    }
}

/// Changes a job, and where it stands with it.
pub(super) fn change<T>(shard: &mut Shard, id: JobId, how: impl FnOnce(&mut Job) -> T) -> T {
    let job = shard.jobs.get_mut(id).expect("only live jobs change");
    let before = job.standings();
    let result = how(job);
    let after = job.standings();
    settle(shard, id, &before, &after);
    result
}

/// A job that stood as `before` stands as `after`.
pub(super) fn settle(shard: &mut Shard, id: JobId, before: &Standings, after: &Standings) {
    if before == after {
        return;
    }
    let Shard { jobs, queues, shapes, changed, .. } = shard;
    let job = jobs.get(id).expect("what stands is live");
    let number = job.queue;
    let queue = queues.get_mut(&number).expect("a job's queue is known");
    changed.insert(number);
    if shapes.value(job.shape).gang.is_some() {
        return;
    }
    for (place, was) in before.iter() {
        let now = after.at(place);
        if now < was {
            let stands =
                |other| jobs.get(other).map_or(0, |job: &Job| job.standings().at(place)) > 0;
            queue.orders.remove(shapes.value(place.shape), place, id, was - now, now == 0, stands);
        }
    }
    for (place, now) in after.iter() {
        let was = before.at(place);
        if now > was {
            queue.orders.add(shapes.value(place.shape), place, id, now - was, was > 0);
        }
    }
}
