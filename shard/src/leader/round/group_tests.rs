//! Which nodes count as equal.

use muster_api::shape::ShapeText;
use muster_core::control::{Cordon, Place};
use muster_core::shape::{Affinity, Requirement, Shape, Term};

use super::*;
use crate::leader::table::Taken;
use crate::leader::testing::{
    amounts, ask, head, node, offers, pool_offer, queue_offer, queues, resources, terms,
};

/// A table of one cluster `c` with these nodes, alike but for a label of which no shape speaks, and
/// one queue that has a job of each of these shapes.
fn table(nodes: &[&str], shapes: Vec<Shape>) -> Table {
    let mut table = Table::new("default");
    let has = || amounts(&[("cpu", "8"), ("pods", "8")]);
    let node = |name: &&str| bus::Node {
        labels: amounts(&[("zone", "a"), ("hostname", name)]),
        ..node(name, has(), has())
    };
    ask(&mut table, "c", nodes.iter().map(node).collect());
    let count = u32::try_from(shapes.len()).unwrap();
    let runs = (0..count).map(|shape| (0, shape, 1)).collect();
    let queue = queue_offer("q", vec![pool_offer("default", vec![head("default", runs)])]);
    let shapes = shapes.into_iter().map(|shape| ShapeText(Arc::new(shape))).collect();
    assert_eq!(table.offers(offers(shapes, vec![queue])), Taken::Yes);
    table
}

fn control() -> Control {
    queues(&["q"])
}

/// A job of one cpu and one pod that may run only where this holds.
fn only(requirement: Requirement) -> Shape {
    let term = Term { requirements: [requirement].into() };
    let affinity = Some(Affinity { terms: [term].into() });
    Shape { affinity, ..Shape::of_request(resources(&[("cpu", 1), ("pods", 1)])) }
}

/// The nodes that are picked, by shape.
fn picked(shapes: Vec<Shape>) -> (u32, BTreeMap<String, String>) {
    let table = table(&["n0", "n1", "n2", "n3"], shapes.clone());
    let clusters = BTreeMap::from([("c".into(), 100)]);
    let round = Round::new(&table, &control(), &clusters, &terms(100)).unwrap();
    let picks = round.picks(&round.solve(), &clusters).into_values().flatten().flatten();
    let keys: Vec<ShapeKey> = shapes.iter().map(Shape::key).collect();
    let place = |pick: bus::Pick| {
        let shape = keys.iter().position(|key| convert::shape_key(*key) == pick.shape).unwrap();
        (shape.to_string(), pick.node)
    };
    (round.problem.groups, picks.map(place).collect())
}

#[test]
fn a_node_has_a_group_of_its_own_only_where_a_shape_speaks_of_its_name() {
    let name = Name::from;
    let zone = only(Requirement::In(name("zone"), [name("a")].into()));
    let (groups, nodes) = picked(vec![zone.clone()]);
    assert_eq!((groups, nodes.len()), (1, 1));
    let elsewhere = only(Requirement::NotIn(name("zone"), [name("a")].into()));
    let shapes = vec![
        zone,
        only(Requirement::Named(name("n2"))),
        only(Requirement::Named(name("n9"))),
        elsewhere,
    ];
    let (groups, nodes) = picked(shapes);
    assert_eq!(groups, 2, "`n2`, and all others");
    assert_eq!(nodes.keys().collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!(nodes["1"], "n2");
    let others = ["n0", "n1", "n2"].map(|node| Requirement::NotNamed(name(node)));
    let term = Term { requirements: others.into() };
    let affinity = Some(Affinity { terms: [term].into() });
    let (groups, nodes) =
        picked(vec![Shape { affinity, ..only(Requirement::Exists(name("zone"))) }]);
    assert_eq!((groups, nodes["0"].as_str()), (4, "n3"));
}

#[test]
fn nothing_is_placed_on_nodes_and_clusters_that_are_cordoned() {
    let any = only(Requirement::Exists("zone".into()));
    let table = table(&["n0", "n1"], vec![any]);
    let clusters = BTreeMap::from([("c".into(), 100)]);
    let places = |control: &Control| {
        let round = Round::new(&table, control, &clusters, &terms(100))?;
        let picks = round.picks(&round.solve(), &clusters).into_values().flatten().flatten();
        Some(picks.map(|pick| pick.node).collect::<Vec<_>>())
    };
    let node = |node| Place::Node { cluster: "c", node };
    let one = control().with_cordon(node("n0"), Cordon::default()).unwrap();
    assert_eq!(places(&one), Some(vec!["n1".to_owned()]));
    let other = control().with_cordon(node("n1"), Cordon::default()).unwrap();
    assert_eq!(places(&other), Some(vec!["n0".to_owned()]));
    let both = one.with_cordon(node("n1"), Cordon::default()).unwrap();
    assert_eq!(places(&both), None, "there is nowhere to place anything");
    let all = control().with_cordon(Place::Cluster("c"), Cordon::default()).unwrap();
    assert_eq!(places(&all), None);
    let elsewhere = control().with_cordon(Place::Cluster("d"), Cordon::default()).unwrap();
    assert_eq!(places(&elsewhere).unwrap().len(), 1);
}

#[test]
fn a_job_keeps_away_from_nodes_as_long_as_another_admits_it() {
    let mut shape = only(Requirement::Exists("zone".into()));
    for node in ["n0", "n1", "n2"] {
        shape.keep_away(&"c".into(), &node.into());
    }
    let plain = only(Requirement::Exists("zone".into()));
    let (groups, nodes) = picked(vec![shape.clone(), plain]);
    assert_eq!((groups, nodes.len(), nodes["0"].as_str()), (4, 2, "n3"));
    let mut elsewhere = only(Requirement::Exists("zone".into()));
    elsewhere.keep_away(&"d".into(), &"n0".into());
    assert_eq!(picked(vec![elsewhere]).0, 1, "the node of another cluster is another node");
    // The one that is left is too small for it, cordoned, or one that it keeps away from: then
    // there is none.
    shape.keep_away(&"c".into(), &"n3".into());
    assert_eq!(picked(vec![shape.clone()]).1.len(), 1);
    let mut one = only(Requirement::Named("n1".into()));
    one.keep_away(&"c".into(), &"n1".into());
    assert_eq!(picked(vec![one]).1["0"], "n1");
    let table = table(&["n0", "n1"], vec![only(Requirement::Exists("zone".into()))]);
    let mut of_two = only(Requirement::Exists("zone".into()));
    of_two.keep_away(&"c".into(), &"n0".into());
    assert!(avoid::has_another(&table, &control(), &of_two));
    let cordon = Place::Node { cluster: "c", node: "n1" };
    let cordoned = control().with_cordon(cordon, Cordon::default()).unwrap();
    assert!(!avoid::has_another(&table, &cordoned, &of_two));
    of_two.request.set("cpu".into(), Quantity::from_units(9));
    assert!(!avoid::has_another(&table, &control(), &of_two));
}
