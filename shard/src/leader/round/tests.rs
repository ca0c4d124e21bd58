//! Rounds by example: what is leased, and who makes room.

use muster_api::shape::ShapeText;
use muster_core::control::{PoolSettings, PriorityClass};
use muster_core::id::{JobId, JobRef};
use muster_core::shape::Shape;

use super::*;
use crate::leader::table::NodeState;
use crate::leader::testing::{
    self, amounts, ask, head, offers, pool_offer, queue_offer, queues, resources, terms,
};

fn with_cpu(cpu: &str) -> BTreeMap<String, String> {
    amounts(&[("cpu", cpu), ("memory", "64Gi"), ("pods", "100")])
}

/// Cluster `c` of one node that is free.
fn with_node(table: &mut Table, cpu: &str) {
    with_cluster(table, "c", cpu);
}

fn with_cluster(table: &mut Table, cluster: &str, cpu: &str) {
    ask(table, cluster, vec![testing::node("n", with_cpu(cpu), with_cpu(cpu))]);
}

/// What so many jobs take.
fn of_jobs(count: i64) -> Resources {
    resources(&[("cpu", count), (PODS, count)])
}

fn shape(class: &str) -> Arc<Shape> {
    Arc::new(Shape { class: class.into(), ..Shape::of_request(of_jobs(1)) })
}

/// Queues with jobs of one cpu: (queue, class, count).
fn with_jobs(table: &mut Table, jobs: &[(&str, &str, u64)]) {
    let jobs: Vec<_> = jobs.iter().map(|(queue, class, n)| (*queue, shape(class), *n)).collect();
    with_shapes(table, &jobs);
}

/// Queues with jobs: (queue, shape, count).
fn with_shapes(table: &mut Table, jobs: &[(&str, Arc<Shape>, u64)]) {
    let offered = (0..).zip(jobs).map(|(number, (queue, shape, count))| {
        let heads = vec![head(&shape.class, vec![(0, number, *count)])];
        queue_offer(queue, vec![pool_offer(&shape.pool, heads)])
    });
    let shapes = jobs.iter().map(|(_, shape, _)| ShapeText(Arc::clone(shape))).collect();
    table.offers(offers(shapes, offered.collect()));
}

fn control(names: &[&str], classes: &[(&str, i32)]) -> Control {
    let mut control = queues(names);
    for (name, priority) in classes {
        let class = muster_core::control::PriorityClass { priority: *priority, preemptible: false };
        control = control.with_class(name, class).unwrap();
    }
    control
}

#[test]
fn jobs_hold_no_more_together_than_there_are_licences_though_no_node_has_any() {
    let mut table = Table::new("default");
    with_node(&mut table, "8");
    let mut request = of_jobs(1);
    request.set("a/seat".into(), Quantity::from_units(2));
    let licensed = Arc::new(Shape::of_request(request.clone()));
    with_shapes(&mut table, &[("a", Arc::clone(&licensed), 9), ("b", licensed, 9)]);
    let leased = |seats: i64| {
        let clusters = [("c".into(), 100)].into();
        let floating = [("a/seat".to_owned(), Quantity::from_units(seats))].into();
        let settings = PoolSettings { floating, ..PoolSettings::default() };
        let control = control(&["a", "b"], &[]).with_pool("default", settings).unwrap();
        let round = Round::new(&table, &control, &clusters, &terms(1000)).unwrap();
        let picks = round.picks(&round.solve(), &clusters);
        picks.into_values().flatten().flatten().map(|pick| pick.count).sum::<u32>()
    };
    assert_eq!(leased(0), 0);
    assert_eq!(leased(7), 3, "of both queues together");
    assert_eq!(leased(100), 8, "as many as the node holds");
    // What is held already counts.
    table.queues.get_mut("b").unwrap().holds = request;
    let control = control(&["a", "b"], &[]);
    let floating = [("a/seat".to_owned(), Quantity::from_units(7))].into();
    let settings = PoolSettings { floating, ..PoolSettings::default() };
    let control = control.with_pool("default", settings).unwrap();
    let clusters = [("c".into(), 100)].into();
    let round = Round::new(&table, &control, &clusters, &terms(1000)).unwrap();
    let placed: u64 = round.placed_jobs(&round.solve()).into_values().sum();
    assert_eq!(placed, 2);
}

#[test]
fn jobs_stand_apart_where_they_or_their_pool_say_so() {
    let clusters = ["c", "d", "e"].map(|name| (Name::from(name), 100)).into();
    let most_on_one = |of_job, of_pool: Option<Placement>| {
        let mut table = Table::new("default");
        for cluster in ["c", "d", "e"] {
            with_cluster(&mut table, cluster, "8");
        }
        let spread = Shape { placement: of_job, ..(*shape("default")).clone() };
        with_shapes(&mut table, &[("a", Arc::new(spread), 6)]);
        let settings = PoolSettings { placement: of_pool, ..PoolSettings::default() };
        let control = control(&["a"], &[]).with_pool("default", settings).unwrap();
        let round = Round::new(&table, &control, &clusters, &terms(1000)).unwrap();
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for pick in round.solve().picks {
            *counts.entry(pick.node).or_default() += pick.count;
        }
        counts.into_values().max()
    };
    assert_eq!(most_on_one(None, None), Some(6));
    assert_eq!(most_on_one(Some(Placement::Spread), None), Some(2));
    assert_eq!(most_on_one(None, Some(Placement::Spread)), Some(2));
    assert_eq!(most_on_one(Some(Placement::Pack), Some(Placement::Spread)), Some(6));
}

#[test]
fn jobs_of_another_pool_get_what_nobody_at_home_can_use_and_are_the_first_to_go() {
    let of =
        |pool: &str, class: &str| Arc::new(Shape { pool: pool.into(), ..(*shape(class)).clone() });
    let spare = "armada-preemptible";
    let borrowing = Arc::new(Shape { gang: None, ..(*of("borrower", spare)).clone() });
    let table = |lends: bool, free: &str, home: u64| {
        let mut table = Table::new("default");
        table.lends_to = lends.then(|| "borrower".into()).into_iter().collect();
        with_node(&mut table, free);
        let jobs = [
            ("a", of("default", "low"), home),
            ("b", Arc::clone(&borrowing), 9),
            ("c", of("borrower", "default"), 9),
            ("d", of("elsewhere", spare), 9),
            ("e", Arc::clone(&borrowing), 9),
        ];
        with_shapes(&mut table, &jobs);
        table
    };
    let control = control(&["a", "b", "c", "d", "e"], &[("low", -5)]);
    let limited = muster_core::control::Queue {
        rate: Some(muster_core::control::Rate::new(1.0, 5).unwrap()),
        ..muster_core::control::Queue::default()
    };
    let control = control.with_queue("e", limited).unwrap();
    let clusters = [("c".into(), 100)].into();
    let placed = |lends: bool, home: u64| {
        let round = Round::new(&table(lends, "4", home), &control, &clusters, &terms(1000));
        let round = round.unwrap();
        let plan = round.solve();
        assert_eq!(round.is_short(&plan), home > 4, "for others nobody makes room");
        round.placed_jobs(&plan)
    };
    let of = |placed: &[(&str, u64)]| -> BTreeMap<Name, u64> {
        placed.iter().map(|(name, count)| (Name::from(*name), *count)).collect()
    };
    assert_eq!(placed(true, 3), of(&[("a", 3), ("b@borrower", 1)]));
    assert_eq!(placed(true, 5), of(&[("a", 4)]));
    assert_eq!(placed(false, 3), of(&[("a", 3)]));

    let row = |age: u64| Row {
        cluster: "c".into(),
        node: "n".into(),
        queue: "b@borrower".into(),
        shape: Keyed::new(Arc::clone(&borrowing)),
        count: 2,
        age,
    };
    let mut full = table(true, "4", 1);
    let nodes = &mut full.clusters.get_mut("c").unwrap().nodes;
    let node = nodes.get_mut("n").unwrap();
    (node.free, node.amounts.free) = Default::default();
    let limits = Limits { picks_max: 9, preemptions_max: 9, protected: 1_000, ..Limits::default() };
    let round = Round::to_preempt(&full, &control, &[row(70), row(7)], limits).unwrap();
    let victims: Vec<_> = round.victims(&round.solve()).into_values().flatten().collect();
    assert_eq!(victims.len(), 1);
    assert_eq!((victims[0].told.queue.as_str(), victims[0].told.count), ("b@borrower", 1));
}

#[test]
fn a_pool_places_no_more_than_its_rate_leaves() {
    let mut table = Table::new("default");
    with_node(&mut table, "8");
    with_jobs(&mut table, &[("a", "default", 9), ("b", "default", 9)]);
    let clusters = [("c".into(), 100)].into();
    let terms = Terms { paced: Some(3), ..terms(1000) };
    let round = Round::new(&table, &control(&["a", "b"], &[]), &clusters, &terms).unwrap();
    assert_eq!(round.placed_jobs(&round.solve()).into_values().sum::<u64>(), 3);
}

#[test]
fn who_used_much_before_waits_behind_who_did_not() {
    let mut table = Table::new("default");
    with_node(&mut table, "4");
    with_jobs(&mut table, &[("a", "default", 9), ("b", "default", 9)]);
    let leased = |used: i64| {
        let clusters = [("c".into(), 100)].into();
        let control = control(&["a", "b"], &[]);
        let mut round = Round::new(&table, &control, &clusters, &terms(1000)).unwrap();
        round.charge(|queue| of_jobs(if **queue == *"a" { used } else { 0 }));
        let picks = round.picks(&round.solve(), &clusters);
        let picks = picks.into_values().flatten().flatten();
        picks.map(|pick| (pick.queue, pick.count)).collect::<Vec<_>>()
    };
    let of = |queue: &str, count| (queue.to_owned(), count);
    let mut equal = leased(0);
    equal.sort();
    assert_eq!(equal.iter().map(|(_, count)| count).sum::<u32>(), 4);
    assert_eq!(leased(4), [of("b", 4)], "until it has as much");
    assert_eq!(leased(0).iter().filter(|(queue, _)| queue == "a").map(|(_, n)| n).sum::<u32>(), 2);
}

#[test]
fn the_highest_class_of_all_queues_is_leased_first() {
    let mut table = Table::new("default");
    with_node(&mut table, "4");
    with_jobs(&mut table, &[("a", "default", 9), ("b", "urgent", 3)]);
    let leased = |urgent: i32| {
        let control = control(&["a", "b"], &[("urgent", urgent)]);
        let clusters = [("c".into(), 100)].into();
        let round = Round::new(&table, &control, &clusters, &terms(1000)).unwrap();
        let picks = round.picks(&round.solve(), &clusters);
        let picks = picks.into_values().flatten().flatten();
        picks.map(|pick| (pick.queue, pick.count)).collect::<BTreeMap<String, u32>>()
    };
    assert_eq!(leased(5_000), [("a".into(), 1), ("b".into(), 3)].into());
    assert_eq!(leased(-1), [("a".into(), 4)].into());
    // Of equal priority they share.
    let default = control(&[], &[]).class_in_effect("default").priority;
    assert_eq!(leased(default), [("a".into(), 2), ("b".into(), 2)].into());
}

/// A pool of 4 cpus that queue `a` has all of, with jobs that may be preempted; jobs of queue `b`
/// wait.
fn full(waiting: &str, count: u64) -> (Table, Control) {
    let mut table = Table::new("default");
    with_node(&mut table, "4");
    with_jobs(&mut table, &[("a", "filler", 9), ("b", waiting, count)]);
    let full = node(&mut table, "c");
    (full.free, full.amounts.free) = Default::default();
    let holder = table.queues.get_mut("a").unwrap();
    (holder.held, holder.holds, holder.demand) = (4, of_jobs(4), of_jobs(9));
    table.queues.get_mut("b").unwrap().demand = of_jobs(i64::try_from(count).unwrap());
    let filler = PriorityClass { priority: 10, preemptible: true };
    let control = control(&["a", "b"], &[("urgent", 5_000)]).with_class("filler", filler).unwrap();
    (table, control)
}

fn node<'a>(table: &'a mut Table, cluster: &str) -> &'a mut NodeState {
    table.clusters.get_mut(cluster).unwrap().nodes.get_mut("n").unwrap()
}

/// Who has to go: (queue, count, why), with what is said of it.
fn victims(table: &Table, control: &Control, protected: u64) -> Vec<(String, u32, Cause, String)> {
    let row = Row {
        cluster: "c".into(),
        node: "n".into(),
        queue: "a".into(),
        shape: Keyed::new(shape("filler")),
        count: 4,
        age: 60,
    };
    let limits = Limits { picks_max: 100, preemptions_max: 100, protected, ..Limits::default() };
    let Some(round) = Round::to_preempt(table, control, &[row], limits) else { return Vec::new() };
    let all = round.victims(&round.solve());
    assert!(all.keys().all(|(shard, cluster)| *shard == 1 && **cluster == *"c"));
    let victims = all.into_values().flatten();
    let shown = |Victims { told, shape: of, cause }: Victims| {
        assert_eq!((&*told.node, &*of.class), ("n", "filler"));
        (told.queue, told.count, cause, told.reason)
    };
    victims.map(shown).collect()
}

fn count(victims: &[(String, u32, Cause, String)]) -> u32 {
    victims.iter().map(|(_, count, ..)| count).sum()
}

#[test]
fn jobs_of_a_lower_class_make_room_for_those_of_a_higher_one() {
    let (table, control) = full("urgent", 2);
    let why = "for a job of class `urgent` of queue `b`".to_owned();
    assert_eq!(victims(&table, &control, 1_000), [("a".into(), 2, Cause::Urgency, why)]);
    let mut cordoned = control.clone();
    cordoned.queues.get_mut("b").unwrap().cordoned = true;
    assert_eq!(victims(&table, &cordoned, 1_000), []);
}

#[test]
fn a_queue_gets_its_fair_share_from_one_that_has_more_of_it_than_is_protected() {
    let (table, control) = full("filler", 4);
    let why = "for queue `b`, which has less than its fair share".to_owned();
    assert_eq!(victims(&table, &control, 1_000), [("a".into(), 2, Cause::Fairness, why)]);
    assert_eq!(count(&victims(&table, &control, 1_500)), 1);
    assert_eq!(victims(&table, &control, 1_600), []);
}

#[test]
fn nobody_has_to_go_for_room_that_comes() {
    let is_short = |table: &Table, control: &Control| {
        let round = Round::new(table, control, &[("c".into(), 100)].into(), &terms(1000)).unwrap();
        round.is_short(&round.solve())
    };
    let (mut table, mut control) = full("urgent", 2);
    control.queues.get_mut("a").unwrap().cordoned = true;
    assert!(is_short(&table, &control));
    // The executor has not heard of it.
    table.clusters.get_mut("c").unwrap().stopping.insert("n".into(), of_jobs(2));
    assert_eq!(victims(&table, &control, 1_000), []);
    assert!(!is_short(&table, &control));
    // It has, and that is not known here: it is one room all the same.
    node(&mut table, "c").freeing = of_jobs(2);
    assert_eq!(victims(&table, &control, 1_000), []);
    table.clusters.get_mut("c").unwrap().stopping.clear();
    assert_eq!(victims(&table, &control, 1_000), []);
    assert!(!is_short(&table, &control));
    node(&mut table, "c").freeing = of_jobs(1);
    assert_eq!(count(&victims(&table, &control, 1_000)), 1);
    assert!(is_short(&table, &control));
}

#[test]
fn nobody_has_to_go_for_a_job_that_fits_where_nobody_asks_at_the_moment() {
    let (mut table, control) = full("urgent", 2);
    with_cluster(&mut table, "d", "2");
    assert_eq!(victims(&table, &control, 1_000), []);
    // What was leased there counts before its executor has heard of it.
    let lease = |n: u32| bus::LeasedRun {
        job: JobRef::task(JobId::MAX, n),
        attempt: 1,
        node: "n".into(),
        shape: ShapeText(shape("filler")),
    };
    table.clusters.get_mut("d").unwrap().pending.lease(vec![lease(0)]);
    assert_eq!(count(&victims(&table, &control, 1_000)), 1);
}

#[test]
fn queues_that_are_away_find_their_shares_when_they_come_back() {
    let mut table = Table::new("default");
    with_node(&mut table, "12");
    with_jobs(&mut table, &[("a", "default", 20), ("b", "default", 20)]);
    table.queues.values_mut().for_each(|queue| queue.demand = of_jobs(20));
    let control = control(&["a", "b", "gone"], &[]);
    let placed = |absent: &Absent| {
        let terms = Terms { absent, ..terms(1_000) };
        let round = Round::new(&table, &control, &[("c".into(), 100)].into(), &terms).unwrap();
        round.placed_jobs(&round.solve()).into_values().collect::<Vec<_>>()
    };
    assert_eq!(placed(&Absent::new()), [6, 6]);
    assert_eq!(placed(&[("gone".into(), testing::gone(of_jobs(20)))].into()), [4, 4]);
    assert_eq!(placed(&[("gone".into(), testing::gone(of_jobs(2)))].into()), [5, 5]);
}
