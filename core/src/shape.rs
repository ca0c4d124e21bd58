//! Shapes: what the scheduler needs to know of a job. Jobs of one shape are interchangeable to it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_128;

use crate::quantity::Quantity;
use crate::resources::Resources;
use crate::{Name, limits};

mod affinity;
mod gang;
mod mismatch;
mod placement;

pub use affinity::{Affinity, Requirement, Term};
pub use gang::Gang;
pub use mismatch::Mismatch;
pub use placement::Placement;

/// The name of the priority class of a job that names none.
pub const DEFAULT_CLASS: &str = "default";
/// The name of the pool of a job that names none, and of a node without a pool label.
pub const DEFAULT_POOL: &str = "default";
/// The label that names the pool of a node; in a job's node selector or annotations, that of the
/// job.
pub const POOL_LABEL: &str = "muster.dev/pool";

/// What begins the section of a canonical text that holds the affinity.
const AFFINITY: &str = ";a";
/// The same of the gang, which stands behind it.
const GANG: &str = ";g";
/// The same of the nodes that are avoided, which stand behind it.
const AVOID: &str = ";n";
/// The same of how a node is chosen, which stands behind them.
const PLACEMENT: &str = ";p";
/// The same of how long a run lasts at most, which stands behind it.
const LASTS: &str = ";t";

/// Which taints a pod puts up with, as Kubernetes has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Toleration {
    /// The taint's key; none tolerates every key.
    pub key: Option<Name>,
    /// `Some` for operator `Equal`, `None` for `Exists`.
    pub value: Option<Name>,
    /// The taint's effect; none tolerates every effect.
    pub effect: Option<Name>,
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Taint {
    /// The key.
    pub key: Name,
    /// The value, empty where there is none.
    pub value: Name,
    /// `NoSchedule`, `NoExecute` or `PreferNoSchedule`; the last keeps no pod away.
    pub effect: Name,
}

impl Toleration {
    /// Whether it puts up with `taint`.
    #[must_use]
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let effect = self.effect.as_ref().is_none_or(|effect| *effect == taint.effect);
        let key = self.key.as_ref().is_none_or(|key| *key == taint.key);
        let value = self.value.as_ref().is_none_or(|value| *value == taint.value);
        effect && key && value
    }
}

/// Resource request, placement constraints, pool, priority class and gang of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// What one job of this shape takes from a node, `pods` included.
    pub request: Resources,
    /// Labels that the node must have.
    pub node_selector: BTreeMap<Name, Name>,
    /// What the node must be like beyond that, if anything.
    pub affinity: Option<Affinity>,
    /// Taints that the node may have.
    pub tolerations: Vec<Toleration>,
    /// The pool whose nodes may run it.
    pub pool: Name,
    /// The name of its priority class.
    pub class: Name,
    /// Its gang, if it is a member of one.
    pub gang: Option<Gang>,
    /// Nodes that it keeps away from as long as there is another, (cluster, node) each: attempts
    /// failed there. In order, none twice.
    pub avoid: Vec<(Name, Name)>,
    /// How one of the nodes that have room is chosen; none as its pool has it.
    pub placement: Option<Placement>,
    /// How many seconds a run lasts at most once it began: its deadline, and the grace to end in.
    pub lasts_max: Option<u32>,
}

/// A shape's identity between processes: the hash of its canonical text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeKey(pub u128);

impl Shape {
    /// A shape that asks for `request` and may run anywhere in the default pool.
    #[must_use]
    pub fn of_request(request: Resources) -> Self {
        Self {
            request,
            node_selector: BTreeMap::new(),
            affinity: None,
            tolerations: Vec::new(),
            pool: DEFAULT_POOL.into(),
            class: DEFAULT_CLASS.into(),
            gang: None,
            avoid: Vec::new(),
            placement: None,
            lasts_max: None,
        }
    }

    /// XXH3 (128 bit) of [`Shape::canonical`].
    #[must_use]
    pub fn key(&self) -> ShapeKey {
        ShapeKey(xxh3_128(self.canonical().as_bytes()))
    }

    /// One text a shape, the same everywhere: fields in a fixed order, strings with their lengths
    /// before them so that no value can look like another field, amounts in nano-units. What most
    /// shapes do not have stands in sections of its own at the end, which are left out where there
    /// is nothing: so the text of a shape stays the same when there comes to be more to say of
    /// others.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = String::with_capacity(128);
        put(&mut text, &self.pool);
        put(&mut text, &self.class);
        for (name, quantity) in self.request.iter() {
            put(&mut text, name);
            let _ = write!(text, "={},", quantity.nanos());
        }
        text.push(';');
        for (name, value) in &self.node_selector {
            put(&mut text, name);
            put(&mut text, value);
        }
        text.push(';');
        for toleration in &self.tolerations {
            for part in [&toleration.key, &toleration.value, &toleration.effect] {
                match part {
                    Some(part) => put(&mut text, part),
                    None => text.push('*'),
                }
            }
        }
        if let Some(affinity) = &self.affinity {
            text.push_str(AFFINITY);
            affinity.write(&mut text);
        }
        if let Some(gang) = &self.gang {
            text.push_str(GANG);
            gang.write(&mut text);
        }
        if !self.avoid.is_empty() {
            text.push_str(AVOID);
            for (cluster, node) in &self.avoid {
                put(&mut text, cluster);
                put(&mut text, node);
            }
        }
        if let Some(placement) = self.placement {
            text.push_str(PLACEMENT);
            put(&mut text, placement.name());
        }
        if let Some(seconds) = self.lasts_max {
            let _ = write!(text, "{LASTS}{seconds},");
        }
        text
    }

    /// The shape behind a canonical text; `None` when it is none.
    #[must_use]
    pub fn from_canonical(text: &str) -> Option<Self> {
        let mut rest = text;
        let (pool, class) = (take(&mut rest)?, take(&mut rest)?);
        let mut request = Resources::new();
        while !eat(&mut rest, ';') {
            let name = take(&mut rest)?;
            let (amount, behind) = rest.strip_prefix('=')?.split_once(',')?;
            rest = behind;
            request.set(name, Quantity::from_nanos(amount.parse().ok()?)?);
        }
        let mut node_selector = BTreeMap::new();
        while !eat(&mut rest, ';') {
            node_selector.insert(take(&mut rest)?, take(&mut rest)?);
        }
        let mut tolerations = Vec::new();
        let part = |rest: &mut &str| if eat(rest, '*') { Some(None) } else { take(rest).map(Some) };
        while !rest.is_empty() && !rest.starts_with(';') {
            tolerations.push(Toleration {
                key: part(&mut rest)?,
                value: part(&mut rest)?,
                effect: part(&mut rest)?,
            });
        }
        let mut affinity = None;
        if let Some(behind) = rest.strip_prefix(AFFINITY) {
            rest = behind;
            affinity = Some(Affinity::read(&mut rest)?);
        }
        let mut gang = None;
        if let Some(behind) = rest.strip_prefix(GANG) {
            rest = behind;
            gang = Some(Gang::read(&mut rest)?);
        }
        let mut avoid = Vec::new();
        if let Some(behind) = rest.strip_prefix(AVOID) {
            rest = behind;
            while !rest.is_empty() && !rest.starts_with(';') {
                avoid.push((take(&mut rest)?, take(&mut rest)?));
            }
            if avoid.is_empty() || !avoid.is_sorted_by(|a, b| a < b) {
                return None;
            }
        }
        let mut placement = None;
        if let Some(behind) = rest.strip_prefix(PLACEMENT) {
            rest = behind;
            placement = Some(Placement::from_name(&take(&mut rest)?)?);
        }
        let mut lasts_max = None;
        if let Some(behind) = rest.strip_prefix(LASTS) {
            let (seconds, behind) = behind.split_once(',')?;
            rest = behind;
            lasts_max = Some(seconds.parse().ok()?);
        }
        let shape = Self {
            request,
            node_selector,
            affinity,
            tolerations,
            pool,
            class,
            gang,
            avoid,
            placement,
            lasts_max,
        };
        rest.is_empty().then_some(shape)
    }

    /// Keeps away from one more node; of too many, the ones that come first by name are given up.
    pub fn keep_away(&mut self, cluster: &Name, node: &Name) {
        let place = (Name::clone(cluster), Name::clone(node));
        if let Err(at) = self.avoid.binary_search(&place) {
            self.avoid.insert(at, place);
            if self.avoid.len() > limits::AVOIDED_NODES_MAX {
                self.avoid.remove(usize::from(at == 0));
            }
        }
    }

    /// Whether it keeps away from a node.
    #[must_use]
    pub fn keeps_away(&self, cluster: &str, node: &str) -> bool {
        self.avoid.iter().any(|(c, n)| **c == *cluster && **n == *node)
    }
}

fn put(text: &mut String, part: &str) {
    let _ = write!(text, "{}:{part}", part.len());
}

fn take(rest: &mut &str) -> Option<Name> {
    let (len, behind) = rest.split_once(':')?;
    let len: usize = len.parse().ok()?;
    let part = behind.get(..len)?;
    *rest = &behind[len..];
    Some(part.into())
}

fn eat(rest: &mut &str, c: char) -> bool {
    match rest.strip_prefix(c) {
        Some(behind) => {
            *rest = behind;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::option;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Name> {
        "[a-z:;=*,0-9é/.]{0,8}".prop_map(|s| Name::from(s.as_str()))
    }

    pub(crate) fn shape() -> impl Strategy<Value = Shape> {
        let toleration = (option::of(name()), option::of(name()), option::of(name()))
            .prop_map(|(key, value, effect)| Toleration { key, value, effect });
        let request = btree_map(name(), 1i64..1 << 40, 0..4)
            .prop_map(|m| m.into_iter().map(|(n, q)| (n, Quantity::from_millis(q))).collect());
        let selector = btree_map(name(), name(), 0..3);
        let affinity = option::of(affinity::tests::affinity(name().boxed()));
        let gang = (name(), any::<u32>(), option::of(name()))
            .prop_map(|(id, cardinality, uniformity)| Gang { id, cardinality, uniformity });
        let avoid = btree_set((name(), name()), 0..3);
        let placement = option::of(prop::sample::select(Placement::ALL.to_vec()));
        let names = (name(), name(), option::of(gang), avoid);
        let rest = (names, placement, option::of(any::<u32>()));
        (request, selector, affinity, vec(toleration, 0..3), rest).prop_map(
            |(request, node_selector, affinity, tolerations, (names, placement, lasts_max))| {
                let (pool, class, gang, avoid) = names;
                Shape {
                    request,
                    node_selector,
                    affinity,
                    tolerations,
                    pool,
                    class,
                    gang,
                    avoid: avoid.into_iter().collect(),
                    placement,
                    lasts_max,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_shape_survives_its_canonical_text(shape in shape()) {
            prop_assert_eq!(Shape::from_canonical(&shape.canonical()), Some(shape));
        }

        #[test]
        fn different_shapes_have_different_texts(a in shape(), b in shape()) {
            prop_assert_eq!(a == b, a.canonical() == b.canonical());
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[0-9:;=*,ainegldé]{0,40}") {
            let _ = Shape::from_canonical(&text);
        }
    }

    /// The keys of shapes lie in logs, histories and the tables of leaders.
    #[test]
    fn the_texts_that_older_versions_wrote_stay_what_they_are() {
        let plain = "7:default7:default3:cpu=1500000000,4:pods=1000000000,;;";
        let full = "3:gpu4:high3:cpu=1500000000,;4:disk3:ssd4:zone1:a;3:gpu*10:NoSchedule*1:v*";
        for (text, key) in [(plain, PLAIN_KEY), (full, FULL_KEY)] {
            let shape = Shape::from_canonical(text).unwrap();
            assert_eq!((shape.canonical().as_str(), shape.key()), (text, ShapeKey(key)));
            assert_eq!((shape.affinity, shape.gang, shape.avoid), (None, None, Vec::new()));
            assert_eq!((shape.placement, shape.lasts_max), (None, None));
        }
    }

    const PLAIN_KEY: u128 = 327_941_572_202_152_610_621_737_012_434_283_612_060;
    const FULL_KEY: u128 = 287_962_044_954_256_072_467_330_620_620_847_552_314;

    #[test]
    fn a_shape_keeps_away_from_the_last_nodes_and_from_no_more_than_may_be() {
        let mut shape = Shape::of_request(Resources::new());
        let node = |n: usize| Name::from(format!("n{n:03}"));
        for n in (0..limits::AVOIDED_NODES_MAX + 5).rev() {
            shape.keep_away(&"c".into(), &node(n));
            shape.keep_away(&"c".into(), &node(n));
            assert!(shape.keeps_away("c", &node(n)));
            assert!(shape.avoid.len() <= limits::AVOIDED_NODES_MAX);
            assert_eq!(Shape::from_canonical(&shape.canonical()).as_ref(), Some(&shape));
        }
        assert!(!shape.keeps_away("d", &node(0)));
    }

    #[test]
    fn a_taint_keeps_away_what_does_not_tolerate_it() {
        let mut shape = Shape::of_request(Resources::new());
        let taint =
            |effect: &str| Taint { key: "gpu".into(), value: "a".into(), effect: effect.into() };
        let labels = BTreeMap::new();
        assert!(!shape.admits("n", &labels, &[taint("NoSchedule")]));
        assert!(shape.admits("n", &labels, &[taint("PreferNoSchedule")]));
        shape.tolerations.push(Toleration { key: Some("gpu".into()), value: None, effect: None });
        assert!(shape.admits("n", &labels, &[taint("NoSchedule"), taint("NoExecute")]));
        shape.tolerations[0].value = Some("b".into());
        assert!(!shape.admits("n", &labels, &[taint("NoSchedule")]));
    }
}
