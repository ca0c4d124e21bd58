//! Gangs in rounds, by example.

use muster_api::shape::ShapeText;
use muster_core::shape::{Gang, Shape};
use muster_core::time::Timestamp;

use super::kept::KeptRoom;
use super::*;
use crate::leader::testing::{
    amounts, ask, head, node, offers, pool_offer, queue_offer, queues, resources, terms,
};

fn with_cpu(cpu: i64) -> BTreeMap<String, String> {
    amounts(&[("cpu", &cpu.to_string()), ("memory", "64Gi"), ("pods", "100")])
}

/// A cluster with nodes: name, value of the label `rack`, free cpus of 8.
fn with_cluster(table: &mut Table, cluster: &str, nodes: &[(&str, &str, i64)]) {
    let node = |(name, rack, free): &(&str, &str, i64)| bus::Node {
        labels: amounts(&[("rack", rack)]),
        ..node(name, with_cpu(8), with_cpu(*free))
    };
    ask(table, cluster, nodes.iter().map(node).collect());
}

fn shape(cpu: i64, gang: Option<(&str, Option<&str>)>) -> ShapeText {
    let gang = gang.map(|(id, label)| Gang {
        id: id.into(),
        cardinality: 4,
        uniformity: label.map(Name::from),
    });
    ShapeText(Arc::new(Shape { gang, ..Shape::of_request(resources(&[("cpu", cpu), (PODS, 1)])) }))
}

/// A queue whose order is these runs, all of jobs that were submitted at the fifth second.
fn with_runs(table: &mut Table, queue: &str, version: u64, runs: &[(ShapeText, u64)]) {
    let told = (0..).zip(runs).map(|(number, (_, count))| (0, number, *count)).collect();
    let mut demand = Resources::new();
    for (shape, count) in runs {
        (0..*count).for_each(|_| demand.add(&shape.0.request));
    }
    let head = bus::Head { since: vec![5_000; runs.len()], ..head("default", told) };
    let demand = convert::quantities(&demand);
    let pool = bus::PoolOffer { demand, ..pool_offer("default", vec![head]) };
    let shapes = runs.iter().map(|(shape, _)| shape.clone()).collect();
    table.offers(bus::Offers {
        version,
        previous: version - 1,
        full: version == 1,
        ..offers(shapes, vec![queue_offer(queue, vec![pool])])
    });
}

/// What is leased as a whole: node and count.
type Part = Vec<(String, u32)>;

/// What is leased to whom: cluster, then the parts with node, cpus and count.
fn leased(table: &Table, leases_max: u64) -> Vec<(String, Vec<Part>)> {
    let control = queues(&["a", "b"]);
    let clusters = table.clusters.keys().map(|name| (Arc::clone(name), leases_max)).collect();
    let Some(round) = Round::new(table, &control, &clusters, &terms(1000)) else {
        return Vec::new();
    };
    let picks = round.picks(&round.solve(), &clusters);
    let part = |picks: Vec<bus::Pick>| {
        let mut part: Vec<_> = picks.into_iter().map(|pick| (pick.node, pick.count)).collect();
        part.sort();
        part
    };
    let parts = picks
        .into_iter()
        .map(|((_, cluster), parts)| (cluster.to_string(), parts.into_iter().map(part).collect()));
    parts.collect()
}

fn part(picks: &[(&str, u32)]) -> Part {
    picks.iter().map(|(node, count)| ((*node).to_owned(), *count)).collect()
}

#[test]
fn a_gang_goes_to_one_cluster_as_a_whole_or_not_at_all() {
    let mut table = Table::new("default");
    with_cluster(&mut table, "c", &[("n", "1", 3)]);
    with_cluster(&mut table, "d", &[("n", "1", 3)]);
    let gang = || shape(1, Some(("g", None)));
    with_runs(&mut table, "a", 1, &[(gang(), 4), (shape(2, None), 1)]);
    assert_eq!(leased(&table, 100), [("c".into(), vec![part(&[("n", 1)])])], "what is behind it");
    with_cluster(&mut table, "d", &[("m", "1", 2), ("n", "1", 3)]);
    let all = leased(&table, 100);
    assert_eq!(all[1], ("d".into(), vec![part(&[("m", 2), ("n", 2)])]));
}

#[test]
fn all_nodes_of_a_gang_have_one_value_of_its_label() {
    let mut table = Table::new("default");
    let nodes = [("k", "1", 3), ("l", "2", 2), ("m", "1", 0), ("n", "2", 2)];
    with_cluster(&mut table, "c", &nodes);
    with_runs(&mut table, "a", 1, &[(shape(1, Some(("g", Some("rack")))), 4)]);
    assert_eq!(leased(&table, 100), [("c".into(), vec![part(&[("l", 2), ("n", 2)])])]);
    with_runs(&mut table, "a", 2, &[(shape(1, Some(("g", Some("zone")))), 4)]);
    assert_eq!(leased(&table, 100), [], "no node has that label");
}

#[test]
fn members_of_several_shapes_are_one_part_of_the_command() {
    let mut table = Table::new("default");
    with_cluster(&mut table, "c", &[("m", "1", 8), ("n", "1", 8)]);
    let (one, two) = (shape(1, Some(("g", None))), shape(8, Some(("g", None))));
    with_runs(&mut table, "a", 1, &[(one, 3), (two, 1), (shape(1, None), 2)]);
    let all = leased(&table, 100);
    let [(_, parts)] = &all[..] else { panic!("one cluster") };
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn a_gang_of_more_jobs_than_a_cluster_takes_at_once_goes_alone() {
    let mut table = Table::new("default");
    with_cluster(&mut table, "c", &[("n", "1", 8)]);
    let gang = shape(1, Some(("g", None)));
    with_runs(&mut table, "a", 1, &[(shape(1, None), 1), (gang, 4), (shape(1, None), 3)]);
    assert_eq!(leased(&table, 2), [("c".into(), vec![part(&[("n", 4)])])]);
    let whole = [part(&[("n", 4)]), part(&[("n", 1)]), part(&[("n", 1)])];
    assert_eq!(leased(&table, 6), [("c".into(), whole.to_vec())]);
}

/// How many jobs are leased to a cluster, if room is kept as told.
fn small_ones(table: &Table, cluster: &str, overdue: i64, kept: &Kept) -> u32 {
    let terms = Terms { overdue: Timestamp(overdue), kept, ..terms(1000) };
    let control = queues(&["a"]);
    let clusters = [(Name::from(cluster), 100)].into();
    let round = Round::new(table, &control, &clusters, &terms).unwrap();
    let picks = round.picks(&round.solve(), &clusters).into_values().flatten().flatten();
    picks.map(|pick| pick.count).sum()
}

#[test]
fn room_is_kept_in_one_cluster_for_what_has_waited_too_long() {
    for gang in [None, Some(("g", None))] {
        let mut table = Table::new("default");
        with_cluster(&mut table, "c", &[("m", "1", 2), ("n", "1", 2)]);
        with_cluster(&mut table, "d", &[("m", "1", 4), ("n", "1", 2)]);
        let large = if gang.is_some() { (shape(4, gang), 4) } else { (shape(8, None), 1) };
        with_runs(&mut table, "a", 1, &[large, (shape(1, None), 99)]);
        let control = queues(&["a"]);
        let kept = |overdue: i64| {
            let limits = Limits { overdue: Timestamp(overdue), ..Limits::default() };
            let limits = Limits { picks_max: 100, preemptions_max: 1, protected: 1_000, ..limits };
            let round = Round::to_preempt(&table, &control, &[], limits).unwrap();
            round.kept(&round.solve(), Timestamp(0))
        };
        assert_eq!(kept(5_000), Kept::new(), "nobody has waited too long");
        let kept = kept(5_001);
        let clusters: Vec<&str> = kept.values().flatten().map(|room| &*room.cluster).collect();
        assert!(
            clusters.iter().all(|cluster| *cluster == "d"),
            "which is nearest to having the room"
        );
        // All of that cluster's room for a gang, that of a node for a job; none elsewhere.
        let left = if gang.is_some() { 0 } else { 2 };
        assert_eq!(small_ones(&table, "d", 5_001, &kept), left);
        assert_eq!(small_ones(&table, "c", 5_001, &kept), 4);
        assert_eq!(small_ones(&table, "d", 5_000, &kept), 6);
    }
}

#[test]
fn a_gang_makes_room_as_a_whole_wherever_it_runs() {
    let mut table = Table::new("default");
    with_cluster(&mut table, "c", &[("m", "1", 0), ("n", "1", 0)]);
    let urgent = Shape { class: "urgent".into(), ..(*shape(8, None).0).clone() };
    with_runs(&mut table, "b", 1, &[(ShapeText(Arc::new(urgent)), 1)]);
    with_runs(&mut table, "a", 2, &[(shape(1, None), 1)]);
    let control = queues(&["a"]);
    let control = control.with_queue("b", muster_core::control::Queue::default()).unwrap();
    let class = muster_core::control::PriorityClass { priority: 5_000, preemptible: false };
    let control = control.with_class("urgent", class).unwrap();
    let row = |node: &str| Row {
        cluster: "c".into(),
        node: node.into(),
        queue: "a".into(),
        shape: Keyed::new(shape(4, Some(("g", None))).0),
        count: 2,
        age: 60,
    };
    let limits = Limits { picks_max: 100, preemptions_max: 4, ..Limits::default() };
    let limits = Limits { protected: 1_000, ..limits };
    let round = Round::to_preempt(&table, &control, &[row("m"), row("n")], limits).unwrap();
    let victims = round.victims(&round.solve()).into_values().flatten();
    let told: Vec<_> = victims.map(|victims| (victims.told.node, victims.told.count)).collect();
    assert_eq!(told, [("m".to_owned(), 2), ("n".to_owned(), 2)]);
}

#[test]
fn room_is_kept_for_several_jobs_of_a_queue_below_its_share_in_the_clusters_that_were_told() {
    let mut table = Table::new("default");
    with_cluster(&mut table, "c", &[("m", "1", 2), ("n", "1", 2)]);
    with_cluster(&mut table, "d", &[("m", "1", 4), ("n", "1", 1)]);
    with_runs(&mut table, "a", 1, &[(shape(1, None), 99)]);
    with_runs(&mut table, "b", 2, &[(shape(8, None), 99)]);
    let queue = muster_core::control::Queue::default();
    let control = Control::default().with_queue("a", queue.clone()).unwrap();
    let queue = muster_core::control::Queue { weight_millis: 10_000, ..queue };
    let control = control.with_queue("b", queue).unwrap();
    let overdue = Timestamp(5_001);
    let kept = |kept_max: u64| {
        let limits = Limits { overdue, kept_max, picks_max: 100, ..Limits::default() };
        let round = Round::to_preempt(&table, &control, &[], limits).unwrap();
        let kept = round.kept(&round.solve(), Timestamp(0));
        let of_large = kept.into_iter().find(|((queue, _), _)| &**queue == "b").unwrap().1;
        let mut clusters: BTreeMap<String, u64> = BTreeMap::new();
        for room in of_large {
            *clusters.entry(room.cluster.to_string()).or_default() += room.count;
        }
        clusters.into_iter().collect::<Vec<_>>()
    };
    let of = |cluster: &str, jobs: u64| (cluster.to_owned(), jobs);
    assert_eq!(kept(0), [of("d", 1)]);
    assert_eq!(kept(250), [of("c", 1), of("d", 1)]);
    assert_eq!(kept(500), [of("c", 2), of("d", 1)]);

    let key = (Name::from("b"), shape(8, None).0.key());
    let placed = |clusters: &[&str], kept: &[(&str, u64)]| {
        let kept = kept.iter().map(|(cluster, count)| KeptRoom {
            cluster: (*cluster).into(),
            node: "m".into(),
            count: *count,
            by: None,
        });
        let kept = kept.collect();
        let kept: Kept = [(key.clone(), kept)].into();
        let terms = Terms { overdue, kept: &kept, ..terms(1000) };
        let clusters = clusters.iter().map(|name| (Name::from(*name), 100)).collect();
        let round = Round::new(&table, &control, &clusters, &terms).unwrap();
        round.solve().figures.placed
    };
    assert_eq!(placed(&["c", "d"], &[("d", 1)]), 5);
    assert_eq!(placed(&["c", "d"], &[("c", 1), ("d", 1)]), 3);
    assert_eq!(placed(&["c"], &[("c", 1), ("d", 1)]), 2);
    assert_eq!(placed(&["c"], &[("d", 2)]), 4, "none is kept here");
}

#[test]
fn what_is_sure_to_end_in_time_goes_where_room_is_kept_for_a_job_or_gang() {
    let lasting = |cpu: i64, seconds: Option<u32>| {
        let shape = Shape { lasts_max: seconds, ..(*shape(cpu, None).0).clone() };
        ShapeText(Arc::new(shape))
    };
    let large = [(shape(8, None), 1), (shape(2, Some(("g", None))), 4)];
    for (large, seconds) in large.iter().flat_map(|large| [(large, Some(600)), (large, None)]) {
        let leased = |lasts: u32| {
            let mut table = Table::new("default");
            with_cluster(&mut table, "c", &[("n", "1", 2)]);
            let small = (lasting(1, Some(lasts)), 99);
            with_runs(&mut table, "a", 1, &[large.clone(), small]);
            let control = Control::default();
            let queue = muster_core::control::Queue::default();
            let control = control.with_queue("a", queue).unwrap();
            let limits = Limits { picks_max: 100, overdue: Timestamp(5_001), ..Limits::default() };
            let mut round = Round::to_preempt(&table, &control, &[], limits).unwrap();
            // It was leased 100 s ago, and ends within 560 s, beginning and ending included.
            let row = Row {
                cluster: "c".into(),
                node: "n".into(),
                queue: "a".into(),
                shape: Keyed::new(lasting(6, seconds).0),
                count: 1,
                age: 100,
            };
            round.ending(&[row]);
            let kept = round.kept(&round.solve(), Timestamp(0));
            small_ones(&table, "c", 5_001, &kept)
        };
        let in_time = if seconds.is_some() { 2 } else { 0 };
        assert_eq!((leased(500), leased(501)), (in_time, 0), "{seconds:?}");
    }
}
