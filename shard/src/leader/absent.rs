//! Queues whose shard is away: the worker that had it died, and the next has not told what waits
//! yet. Meanwhile others get no more than their fair shares, the absent counted in, so that these
//! find theirs when they come back, and need not wait for what was begun in their places. That is
//! for a while of each leader only: nothing stays idle for a shard that nobody takes over. No IO,
//! no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_api::{convert, http};
use muster_core::Name;
use muster_core::control::Control;
use muster_core::route::shard_of_queue;
use muster_core::solve::{CapIn, Problem, Share};

use super::fading::{Fading, Gone};
use super::table::Table;
use super::{away, tree};

/// For how many times as long as a lease of a shard holds shares are kept: it takes one of these
/// until somebody else may take the shard over, and then as long as it takes to read what it is.
const LEASES: u32 = 8;

/// Queues that are away, as each is by now.
pub(super) type Absent = BTreeMap<Name, Gone>;

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// What a leader before told of all queues.
    queues: BTreeMap<Name, Gone>,
    /// The clusters that it knew.
    pub(super) clusters: BTreeSet<Name>,
    /// When this one took over.
    at: Duration,
}

impl Published {
    pub(super) fn new(pool: &http::Pool, at: Duration) -> Self {
        let queue = |queue: &http::QueueShare| {
            let before = Gone {
                queued: queue.queued,
                running: queue.running,
                holds: convert::resources(&queue.allocated),
                demand: convert::resources(&queue.demand),
            };
            (Name::from(queue.queue.as_str()), before)
        };
        let clusters = pool.clusters.iter().map(|cluster| Name::from(cluster.name.as_str()));
        Self { queues: pool.queues.iter().map(queue).collect(), clusters: clusters.collect(), at }
    }

    /// Whether nothing was told.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

impl Table {
    /// The queues that are away at `now`, of a deployment of so many shards, and when the first of
    /// them is away for too long to be waited for. One that is deleted or cordoned gets nothing
    /// when its shard is back, and is not waited for.
    pub(super) fn absent(
        &self,
        control: &Control,
        shards: u16,
        lease_ttl: Duration,
        now: Duration,
    ) -> (Absent, Option<Duration>) {
        let gone = self.gone(shards);
        if gone.is_empty() {
            return (Absent::new(), None);
        }
        let fading = Fading::of(self, control, gone.iter().map(|(_, gone, _)| &gone.holds));
        let (mut absent, mut until) = (Absent::new(), None);
        for (name, gone, since) in gone {
            let end = since + lease_ttl * LEASES;
            let gets_any = control.queues.get(&**name).is_some_and(|queue| !queue.cordoned);
            let gone = fading.now(gone);
            if now < end && gets_any && !gone.demand.is_empty() {
                until = Some(until.map_or(end, |until| Duration::min(until, end)));
                absent.insert(Arc::clone(name), gone);
            }
        }
        (absent, until)
    }

    /// All queues that are away, as they were when somebody last told of them, and since when they
    /// are.
    fn gone(&self, shards: u16) -> Vec<(&Name, Gone, Duration)> {
        let unreachable = self.queues.iter().filter_map(|(name, queue)| {
            let since = self.unreachable_since(queue.shard)?;
            let (queued, running, holds) = (queue.waiting, queue.held, queue.holds.clone());
            let mut demand = holds.clone();
            demand.add(&queue.demand);
            Some((name, Gone { queued, running, holds, demand }, since))
        });
        let is_untold = |name: &Name| {
            !self.queues.contains_key(name) && !self.has_told(shard_of_queue(name, shards).0)
        };
        let of_before = self.published.queues.iter().filter(|(name, _)| is_untold(name));
        let of_before = of_before.map(|(name, gone)| (name, gone.clone(), self.published.at));
        unreachable.chain(of_before).collect()
    }
}

/// What each of the queues that are there (with what it holds, and what it holds and waits for) may
/// still be given, by resource, so that the absent find their shares; nothing where nobody is
/// absent.
pub(super) fn left<'a>(
    control: &Control,
    total: &[i64],
    absent: Vec<(&Name, Vec<i64>)>,
    present: impl Iterator<Item = (&'a Name, Vec<i64>, Vec<i64>)>,
) -> Option<BTreeMap<&'a Name, Vec<i64>>> {
    if absent.is_empty() {
        return None;
    }
    let away: BTreeSet<&Name> = absent.iter().map(|(name, _)| *name).collect();
    let (mut names, mut demands) = (Vec::new(), Vec::new());
    for (name, held, demand) in present.filter(|(name, ..)| !away.contains(*name)) {
        names.push((name, held));
        demands.push((name, demand));
    }
    demands.extend(absent);
    let shares = tree::shares(control, total, demands);
    let left = names.into_iter().zip(shares).map(|((name, held), share)| {
        let amounts = total.iter().zip(&held).map(|(total, held)| part(share, *total) - held);
        (name, amounts.collect())
    });
    Some(left.collect())
}

/// So much of a resource a share is at most.
fn part(share: Share, total: i64) -> i64 {
    if total == 0 {
        // Nobody's share is counted by it.
        return i64::MAX >> 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "to the job it does not matter")]
    #[expect(clippy::cast_possible_truncation, reason = "a part of what is an integer")]
    let part = (share.ideal * total as f64).ceil() as i64;
    part
}

/// Puts all queues of a round under caps that leave absent ones their shares. Jobs of other pools
/// get nothing meanwhile.
pub(super) fn put_caps(
    control: &Control,
    absent: Vec<(&Name, Vec<i64>)>,
    names: &[Name],
    problem: &mut Problem,
) {
    let home = names.iter().zip(&problem.queues).filter(|(name, _)| away::parts(name).is_none());
    let present = home.map(|(name, input)| (name, input.allocated.clone(), input.demand.clone()));
    let Some(left) = left(control, &problem.total, absent, present) else { return };
    let mut put = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let nothing = || vec![0; problem.total.len()];
        if let Some(left) = left.get(name).cloned().or(away::parts(name).map(|_| nothing())) {
            put.push((place, left));
        }
    }
    for (place, left) in put {
        let number = u32::try_from(problem.caps.len()).expect("fewer than 2^32 caps");
        problem.caps.push(CapIn { left });
        problem.queues[place].caps.push((None, number));
    }
}

#[cfg(test)]
mod tests {
    use muster_core::control::Queue;
    use muster_core::quantity::Quantity;
    use muster_core::resources::Resources;

    use super::*;

    fn cpus(cpu: i64) -> Resources {
        [("cpu".into(), Quantity::from_units(cpu))].into_iter().collect()
    }

    #[test]
    fn those_that_are_there_get_no_more_than_what_is_theirs_with_the_absent_counted_in() {
        let queue = |weight_millis| Queue { weight_millis, ..Queue::default() };
        let control = Control::default().with_queue("a", queue(1_000)).unwrap();
        let control = control.with_queue("b", queue(2_000)).unwrap();
        let control = control.with_queue("gone", queue(1_000)).unwrap();
        let of = |wanted: i64, absent: &[(&str, i64)]| {
            let names = ["a", "b"].map(Name::from);
            let gone: Vec<_> = absent.iter().map(|(name, cpu)| (Name::from(*name), *cpu)).collect();
            let absent = gone.iter().map(|(name, cpu)| (name, vec![*cpu])).collect();
            let present = names.iter().map(|name| (name, vec![10], vec![wanted]));
            let left = left(&control, &[100], absent, present).unwrap_or_default();
            names.iter().filter_map(|name| left.get(name)).map(|of| of[0]).collect::<Vec<_>>()
        };
        assert_eq!(of(100, &[("gone", 100)]), [15, 40]);
        assert_eq!(of(100, &[("gone", 4)]), [22, 54]);
        // Nobody is held back for what nobody wants, or while nobody is away.
        assert_eq!(of(30, &[("gone", 100)]), [20, 20]);
        assert!(of(100, &[]).is_empty());
        // Of one that is away it does not matter what was told before.
        assert_eq!(of(100, &[("a", 100)]), [57]);
    }

    #[test]
    fn shares_are_kept_until_their_shard_is_back_or_nobody_takes_it_over() {
        let shard_of = |name: &Name| shard_of_queue(name, 16).0;
        let a = Name::from("a");
        let of_a = shard_of(&a);
        let mut others = (0..).map(|number| Name::from(format!("b{number}")));
        let b = others.find(|name| shard_of(name) != of_a).unwrap();
        let share = |name: &Name| http::QueueShare {
            queue: name.to_string(),
            demand: convert::quantities(&cpus(7)),
            ..http::QueueShare::default()
        };
        let (at, ttl) = (Duration::from_secs(100), Duration::from_secs(4));
        let pool = http::Pool { queues: vec![share(&a), share(&b)], ..http::Pool::default() };
        let mut table = Table::new("default");
        table.published = Published::new(&pool, at);
        let with = |control: &Control, name: &Name, cordoned| {
            control.clone().with_queue(name, Queue { cordoned, ..Queue::default() }).unwrap()
        };
        let control = with(&with(&Control::default(), &a, false), &b, false);
        let absent_of = |table: &Table, control: &Control, seconds: u64| {
            let (absent, until) = table.absent(control, 16, ttl, Duration::from_secs(seconds));
            let until = until.map(|until| until.as_secs());
            (absent.into_keys().collect::<Vec<_>>(), until)
        };
        let absent = |table: &Table, seconds: u64| absent_of(table, &control, seconds);
        assert_eq!(absent(&table, 131), (vec![a.clone(), b.clone()], Some(132)));
        assert_eq!(absent(&table, 132), (vec![], None));
        // Who gets nothing is not waited for: `a` is cordoned, `b` is deleted.
        let cordoned = with(&Control::default(), &a, true);
        assert_eq!(absent_of(&table, &cordoned, 131), (vec![], None));
        // One that has told everything and does not tell of a queue knows better.
        let offers = muster_api::bus::Offers {
            shard: of_a,
            owner: "w".into(),
            epoch: 1,
            version: 1,
            previous: 0,
            full: true,
            shapes: vec![],
            queues: vec![],
        };
        table.offers(offers);
        assert_eq!(absent(&table, 131), (vec![b.clone()], Some(132)));
        // A shard that was there and does not answer any more.
        let queue = table.queues.entry(a.clone()).or_default();
        (queue.shard, queue.demand) = (of_a, cpus(3));
        table.unreachable(of_a, Duration::from_secs(120));
        table.unreachable(of_a, Duration::from_secs(125));
        assert_eq!(absent(&table, 140), (vec![a], Some(152)));
    }
}
