//! Limits of queues in a round: what they leave of a pool as caps for the solver, and how many jobs
//! their rates leave. No IO, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_core::Name;
use muster_core::control::{Amount, Control, Limit, Rate};
use muster_core::quantity::Quantity;
use muster_core::resources::{Resources, dense, from_dense};
use muster_core::shape::Shape;
use muster_core::solve::{CapIn, Problem, QueueIn};

use super::round::{Numbers, ordinal};
use super::table::{QueueState, Table};

/// What a node has of what belongs to no node: more than all jobs ask for together.
const PLENTY: i64 = 1 << 56;
/// All of a pool, in thousandths of a percent.
const WHOLE: i128 = 100_000;
/// Millionths of a job: with a rate in thousandths a second, so many come in each millisecond.
const JOB: u64 = 1_000_000;

/// A pool as limits see it.
pub(super) struct Pool<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its resources, and how much it has of each.
    pub(super) resources: &'a [Name],
    pub(super) total: &'a [i64],
}

/// A limit that leaves no room for one more job.
pub(super) struct Binding {
    /// The class that it is for, if it is for one only.
    pub(super) class: Option<String>,
    pub(super) resource: Name,
    pub(super) limit: Quantity,
    pub(super) held: Quantity,
    pub(super) requested: Quantity,
}

/// What a queue's limits leave in a pool: for a class, or for all of the queue.
fn caps_of(queue: &QueueState, limits: &[Limit], pool: &Pool<'_>) -> Vec<(Option<Name>, CapIn)> {
    let counts_here = |limit: &&Limit| limit.pool.as_deref().is_none_or(|of| of == pool.name);
    let cap = |limit: &Limit| {
        let none = Resources::new();
        let held = match &limit.class {
            None => &queue.holds,
            // A class of which nothing waits here is under no cap in this round.
            Some(class) => queue.classes.get(class.as_str()).map_or(&none, |class| &class.holds),
        };
        let left = pool.resources.iter().zip(pool.total).map(|(name, total)| {
            let amount = limit.resources.get(&**name)?;
            Some(allowed(name, *amount, *total).saturating_sub(dense(name, held.get(name))))
        });
        let left = left.map(|left| left.unwrap_or(i64::MAX)).collect();
        (limit.class.as_deref().map(Name::from), CapIn { left })
    };
    limits.iter().filter(counts_here).map(cap).collect()
}

/// Limits of a queue that leave no room for one more job of a shape.
pub(super) fn binding(
    queue: &QueueState,
    limits: &[Limit],
    pool: &Pool<'_>,
    shape: &Shape,
) -> Vec<Binding> {
    let mut found = Vec::new();
    let of_class = |class: &String| **class == *shape.class;
    for limit in limits.iter().filter(|limit| limit.class.as_ref().is_none_or(of_class)) {
        for (_, cap) in caps_of(queue, std::slice::from_ref(limit), pool) {
            let left = pool.resources.iter().zip(&cap.left);
            let asked =
                left.map(|(name, left)| (name, dense(name, shape.request.get(name)), *left));
            for (name, asked, left) in asked.filter(|(_, asked, left)| *asked > 0 && left < asked) {
                let held = match &limit.class {
                    None => queue.holds.get(name),
                    Some(class) => {
                        let class = queue.classes.get(class.as_str());
                        class.map_or(Quantity::ZERO, |class| class.holds.get(name))
                    }
                };
                found.push(Binding {
                    class: limit.class.clone(),
                    resource: Arc::clone(name),
                    limit: from_dense(name, left.saturating_add(dense(name, held))),
                    held,
                    requested: from_dense(name, asked),
                });
            }
        }
    }
    found
}

/// Puts queues under the caps that their limits leave, and gives the caps.
pub(super) fn put_under(
    table: &Table,
    control: &Control,
    numbers: &Numbers,
    total: &[i64],
    (names, inputs): (&[Name], &mut [QueueIn]),
) -> Vec<CapIn> {
    let pool = Pool { name: &table.pool, resources: &numbers.resources, total };
    let classes = numbers.class_names();
    let mut caps = Vec::new();
    for (name, input) in names.iter().zip(inputs) {
        let known = control.queues.get(&**name).zip(table.queues.get(name));
        let Some((settings, queue)) = known.filter(|(settings, _)| !settings.limits.is_empty())
        else {
            continue;
        };
        for (class, cap) in caps_of(queue, &settings.limits, &pool) {
            // A class of which nobody has jobs needs no cap.
            let class = match class {
                Some(class) if classes.binary_search(&&class).is_err() => continue,
                class => class.map(|class| ordinal(&classes, &class)),
            };
            let number = u32::try_from(caps.len()).expect("fewer than 2^32 caps");
            input.caps.push((class, number));
            caps.push(cap);
        }
    }
    caps
}

/// Puts all queues under a cap that leaves what the pool has of its floating resources, and gives
/// the pool and its nodes these: the pool so much, each node as much as anybody may ask for.
pub(super) fn put_floating(
    table: &Table,
    control: &Control,
    resources: &[Name],
    problem: &mut Problem,
) {
    let Some(settings) = control.pools.get(&table.pool) else { return };
    let mut cap = CapIn { left: vec![i64::MAX; resources.len()] };
    let mut is_asked_for = false;
    for (place, name) in resources.iter().enumerate() {
        let Some(amount) = settings.floating.get(&**name) else { continue };
        is_asked_for = true;
        let held = table.queues.values().map(|queue| dense(name, queue.holds.get(name)));
        let amount = dense(name, *amount);
        cap.left[place] = held.fold(amount, i64::saturating_sub);
        problem.total[place] = amount;
        for node in &mut problem.nodes {
            node.free[place] = PLENTY;
            if let Some(capacity) = node.capacity.get_mut(place) {
                *capacity = PLENTY;
            }
        }
    }
    if is_asked_for {
        let number = u32::try_from(problem.caps.len()).expect("fewer than 2^32 caps");
        problem.caps.push(cap);
        problem.queues.iter_mut().for_each(|queue| queue.caps.push((None, number)));
    }
}

/// So much of a resource of which a pool has `total`.
fn allowed(name: &str, amount: Amount, total: i64) -> i64 {
    match amount {
        Amount::Exact(quantity) => dense(name, quantity),
        Amount::PercentMillis(millis) => {
            let part = i128::from(total) * i128::from(millis) / WHOLE;
            i64::try_from(part).unwrap_or(i64::MAX)
        }
    }
}

/// How many jobs the rates of queues leave: buckets of tokens, full at first.
#[derive(Debug, Default)]
pub(super) struct Rates {
    buckets: BTreeMap<Name, Bucket>,
    /// That of the pool.
    pool: Option<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Millionths of jobs.
    tokens: u64,
    /// When it had so many.
    at: Duration,
}

impl Rates {
    /// How many jobs of each queue with a rate may be placed now.
    pub(super) fn left(&mut self, control: &Control, now: Duration) -> BTreeMap<Name, u64> {
        let known = |name: &Name| control.queues.get(&**name).is_some_and(|q| q.rate.is_some());
        self.buckets.retain(|name, _| known(name));
        let rates = control.queues.iter().filter_map(|(name, queue)| Some((name, queue.rate?)));
        let left = rates.map(|(name, rate)| {
            let name = Name::from(name.as_str());
            let full = Bucket::full(rate, now);
            let bucket = self.buckets.entry(Arc::clone(&name)).or_insert(full);
            bucket.fill(rate, now);
            (name, bucket.tokens / JOB)
        });
        left.collect()
    }

    /// How many jobs the rate of the pool leaves, if it has one.
    pub(super) fn left_in_pool(&mut self, rate: Option<Rate>, now: Duration) -> Option<u64> {
        let Some(rate) = rate else {
            self.pool = None;
            return None;
        };
        let bucket = self.pool.get_or_insert(Bucket::full(rate, now));
        bucket.fill(rate, now);
        Some(bucket.tokens / JOB)
    }

    /// How long until a job may be placed again, as far as the rate of the pool goes.
    pub(super) fn wait_of_pool(&self, rate: Option<Rate>) -> Option<Duration> {
        Some(self.pool?.wait(rate?))
    }

    /// Jobs of a queue were placed.
    pub(super) fn placed(&mut self, queue: &Name, jobs: u64) {
        if let Some(bucket) = self.buckets.get_mut(queue) {
            bucket.take(jobs);
        }
        if let Some(bucket) = &mut self.pool {
            bucket.take(jobs);
        }
    }

    /// How long until one of these queues may have a job placed again.
    pub(super) fn wait(&self, control: &Control, queues: &[Name]) -> Option<Duration> {
        let wait = |name: &Name| {
            let rate = control.queues.get(&**name)?.rate?;
            Some(self.buckets.get(name)?.wait(rate))
        };
        queues.iter().filter_map(wait).min()
    }
}

impl Bucket {
    fn full(rate: Rate, now: Duration) -> Self {
        Self { tokens: u64::from(rate.burst) * JOB, at: now }
    }

    fn take(&mut self, jobs: u64) {
        self.tokens = self.tokens.saturating_sub(jobs.saturating_mul(JOB));
    }

    /// How long until there is a job in it.
    fn wait(&self, rate: Rate) -> Duration {
        let lacking = JOB.saturating_sub(self.tokens);
        Duration::from_millis(lacking.div_ceil(rate.per_second_millis.max(1)))
    }

    fn fill(&mut self, rate: Rate, now: Duration) {
        let millis = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let more = millis.saturating_mul(rate.per_second_millis);
        self.at += Duration::from_millis(millis);
        let full = u64::from(rate.burst) * JOB;
        self.tokens = self.tokens.saturating_add(more).min(full);
    }
}

#[cfg(test)]
mod tests {
    use muster_core::control::Queue;

    use super::super::table::ClassState;
    use super::*;

    fn cpus(cpu: i64) -> Resources {
        [("cpu".into(), Quantity::from_units(cpu))].into_iter().collect()
    }

    fn limit(class: Option<&str>, pool: Option<&str>, cpu: &str) -> Limit {
        Limit {
            class: class.map(str::to_owned),
            pool: pool.map(str::to_owned),
            resources: [("cpu".to_owned(), Amount::parse(cpu).unwrap())].into(),
        }
    }

    #[test]
    fn a_limit_leaves_what_is_not_held_yet_of_an_amount_or_a_part_of_the_pool() {
        let class = ClassState { holds: cpus(3), ..ClassState::default() };
        let mut queue = QueueState::default();
        queue.holds = cpus(7);
        queue.classes = [("urgent".into(), class)].into();
        let resources = ["cpu".into(), "memory".into()];
        let pool = Pool { name: "p", resources: &resources, total: &[40_000, 1 << 30] };
        let left = |limit: Limit| {
            let caps = caps_of(&queue, &[limit], &pool);
            caps.into_iter().map(|(class, cap)| (class, cap.left)).next()
        };
        let open = i64::MAX;
        assert_eq!(left(limit(None, None, "10")), Some((None, vec![3_000, open])));
        assert_eq!(left(limit(None, Some("p"), "25%")), Some((None, vec![3_000, open])));
        assert_eq!(left(limit(None, Some("other"), "1")), None);
        let urgent = Some("urgent".into());
        assert_eq!(left(limit(Some("urgent"), None, "5")), Some((urgent, vec![2_000, open])));
        assert_eq!(left(limit(None, None, "2")), Some((None, vec![-5_000, open])));
    }

    #[test]
    fn a_rate_lets_a_burst_through_and_then_so_many_a_second() {
        let rate = Rate::new(2.5, 4).unwrap();
        let queue = Queue { rate: Some(rate), ..Queue::default() };
        let control = Control::default().with_queue("a", queue).unwrap();
        let control = control.with_queue("b", Queue::default()).unwrap();
        let (mut rates, name) = (Rates::default(), Name::from("a"));
        let at = Duration::from_millis;
        let left = |rates: &mut Rates, now| rates.left(&control, at(now)).get("a").copied();
        assert_eq!(rates.left(&control, at(5)).len(), 1, "the other queue has no rate");
        assert_eq!(left(&mut rates, 5), Some(4));
        rates.placed(&name, 4);
        assert_eq!(left(&mut rates, 6), Some(0));
        let wait = rates.wait(&control, &[name.clone(), "b".into()]).unwrap();
        assert!(wait > at(390) && wait <= at(400), "{wait:?}");
        // However often it is looked, nothing is lost.
        let steps = (6..=1_005).map(|now| left(&mut rates, now)).last();
        assert_eq!(steps, Some(Some(2)));
        rates.placed(&name, 2);
        assert_eq!(left(&mut rates, 60_000), Some(4), "no more than a burst");
    }
}
