//! What is said of room for a gang is true (property L of the solver): with less room than it needs
//! the gang is not placed, with as much it is, and a gang of as many as there is said to be room
//! for is placed.

use muster_api::bus;
use muster_api::shape::ShapeText;
use muster_core::resources::PODS;
use muster_core::shape::Gang;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::absent::Absent;
use super::super::round::Round;
use super::super::testing::{
    amounts, ask, head, node, offers, pool_offer, queue_offer, queues, resources, terms,
};
use super::*;

/// A gang of equal members, and nodes: (cluster, zone, free cpus) each.
#[derive(Debug, Clone)]
struct Case {
    nodes: Vec<(usize, Option<usize>, i64)>,
    members: u32,
    cpu: i64,
    is_uniform: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let zone = prop::option::weighted(0.8, 0..2_usize);
    let nodes = vec((0..2_usize, zone, 0..6_i64), 1..8);
    (nodes, 2..7_u32, 1..4_i64, any::<bool>()).prop_map(|(nodes, members, cpu, is_uniform)| Case {
        nodes,
        members,
        cpu,
        is_uniform,
    })
}

impl Case {
    fn shape(&self) -> Shape {
        let uniformity = self.is_uniform.then(|| Name::from("zone"));
        let gang = Gang { id: "g".into(), cardinality: self.members, uniformity };
        Shape { gang: Some(gang), ..Shape::of_request(resources(&[("cpu", self.cpu), (PODS, 1)])) }
    }

    fn table(&self) -> Table {
        let mut table = Table::new("default");
        let clusters = self.nodes.iter().map(|(cluster, ..)| cluster + 1).max().unwrap_or(0);
        for cluster in 0..clusters {
            let has = |cpu: i64| amounts(&[("cpu", &cpu.to_string()), (PODS, "100")]);
            let node = |(number, (_, zone, free)): (usize, &(usize, Option<usize>, i64))| {
                let zone = zone.map(|zone| ("zone".to_owned(), zone.to_string()));
                let labels = zone.into_iter().collect();
                bus::Node { labels, ..node(&format!("n{number}"), has(100), has(*free)) }
            };
            let of = self.nodes.iter().enumerate().filter(|(_, (of, ..))| *of == cluster);
            ask(&mut table, &format!("c{cluster}"), of.map(node).collect());
        }
        let runs = vec![(0, 0, u64::from(self.members))];
        let head = bus::Head { since: vec![0], ..head("default", runs) };
        let queue = queue_offer("a", vec![pool_offer("default", vec![head])]);
        table.offers(offers(vec![ShapeText(Arc::new(self.shape()))], vec![queue]));
        table
    }

    fn placed(&self) -> u32 {
        let (table, control) = (self.table(), control());
        let clusters = table.clusters.keys().map(|name| (Name::clone(name), 1_000)).collect();
        let round = Round::new(&table, &control, &clusters, &terms(1_000)).unwrap();
        let picks = round.picks(&round.solve(), &clusters).into_values().flatten().flatten();
        picks.map(|pick| pick.count).sum()
    }

    fn blockers(&self) -> Vec<Blocker> {
        let (table, control) = (self.table(), control());
        let (claims, paces) = (Claims::new(), Paces::new(Duration::ZERO));
        let (usage, absent) = (Usage::default(), Absent::new());
        let past = Past {
            claims: &claims,
            paces: &paces,
            usage: &usage,
            usage_weight: 1_000,
            absent: &absent,
        };
        let known = Known::new(&table, &control, past, (BTreeMap::new(), None), Duration::ZERO);
        let shape = ShapeText(Arc::new(self.shape()));
        let asked = GetWhy { queue: "a".into(), shape, place: LinePlace::default() };
        known.explain(&asked, Timestamp(0)).blockers
    }

    /// For how many there is said to be room, where that is not enough.
    fn room(&self) -> Option<u64> {
        self.blockers().into_iter().find_map(|blocker| match blocker {
            Blocker::GangRoom { room, .. } => Some(room.expect("members are alike")),
            _ => None,
        })
    }
}

fn control() -> Control {
    queues(&["a"])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn l_a_gang_is_said_to_lack_room_if_and_only_if_it_does(case in cases()) {
        let Some(room) = case.room() else {
            prop_assert_eq!(case.blockers(), [Blocker::NextRound]);
            prop_assert_eq!(case.placed(), case.members);
            return Ok(());
        };
        prop_assert_eq!(case.placed(), 0);
        let members = u32::try_from(room).unwrap();
        prop_assert!(members < case.members);
        if members > 1 {
            let smaller = Case { members, ..case.clone() };
            prop_assert_eq!(smaller.room(), None);
            prop_assert_eq!(smaller.placed(), members);
        }
        // With room for all of it in one place it goes.
        let mut wider = case.clone();
        wider.nodes.push((2, Some(0), i64::from(case.members) * case.cpu));
        prop_assert_eq!(wider.blockers(), [Blocker::NextRound]);
        prop_assert_eq!(wider.placed(), case.members);
    }
}
