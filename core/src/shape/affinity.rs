//! Required node affinity, as Kubernetes has it: a node must meet one of several terms, and of a
//! term everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{eat, put, take};
use crate::Name;

/// Alternatives. Without any, no node will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Affinity {
    /// One of them has to hold.
    pub terms: BTreeSet<Term>,
}

/// Requirements of which each has to hold. There is at least one: a term that asks for nothing is
/// met by no node, and so left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term {
    /// The requirements.
    pub requirements: BTreeSet<Requirement>,
}

/// What is asked of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// It has the label, with one of these values.
    In(Name, BTreeSet<Name>),
    /// It does not have the label, or with another value.
    NotIn(Name, BTreeSet<Name>),
    /// It has the label.
    Exists(Name),
    /// It does not have the label.
    DoesNotExist(Name),
    /// It has the label, and its value is a larger integer.
    Gt(Name, i64),
    /// It has the label, and its value is a smaller integer.
    Lt(Name, i64),
    /// It has this name.
    Named(Name),
    /// It has another name.
    NotNamed(Name),
}

impl Affinity {
    /// Whether a node of that name with these labels meets it.
    #[must_use]
    pub fn admits(&self, node: &str, labels: &BTreeMap<Name, Name>) -> bool {
        let is_met = |term: &Term| {
            !term.requirements.is_empty()
                && term.requirements.iter().all(|requirement| requirement.is_met(node, labels))
        };
        self.terms.iter().any(is_met)
    }

    /// The names of nodes that it speaks of: all other nodes with the same labels are equal to it.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        let requirements = self.terms.iter().flat_map(|term| &term.requirements);
        requirements.filter_map(|requirement| match requirement {
            Requirement::Named(name) | Requirement::NotNamed(name) => Some(name),
            Requirement::In(..)
            | Requirement::NotIn(..)
            | Requirement::Exists(_)
            | Requirement::DoesNotExist(_)
            | Requirement::Gt(..)
            | Requirement::Lt(..) => None,
        })
    }

    /// The labels that it speaks of: nodes that differ in others only are equal to it.
    pub fn labels(&self) -> impl Iterator<Item = &Name> {
        let requirements = self.terms.iter().flat_map(|term| &term.requirements);
        requirements.filter_map(|requirement| match requirement {
            Requirement::In(label, _)
            | Requirement::NotIn(label, _)
            | Requirement::Exists(label)
            | Requirement::DoesNotExist(label)
            | Requirement::Gt(label, _)
            | Requirement::Lt(label, _) => Some(label),
            Requirement::Named(_) | Requirement::NotNamed(_) => None,
        })
    }

    /// Its part of a shape's canonical text.
    pub(super) fn write(&self, text: &mut String) {
        count(text, self.terms.len());
        for term in &self.terms {
            count(text, term.requirements.len());
            term.requirements.iter().for_each(|requirement| requirement.write(text));
        }
    }

    /// Reads what [`Affinity::write`] wrote.
    pub(super) fn read(rest: &mut &str) -> Option<Self> {
        let mut terms = BTreeSet::new();
        for _ in 0..counted(rest)? {
            let mut requirements = BTreeSet::new();
            for _ in 0..counted(rest)? {
                requirements.insert(Requirement::read(rest)?);
            }
            terms.insert(Term { requirements });
        }
        Some(Self { terms })
    }
}

impl Requirement {
    fn is_met(&self, node: &str, labels: &BTreeMap<Name, Name>) -> bool {
        let number = |key: &Name| labels.get(key).and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
            Self::Gt(key, bound) => number(key).is_some_and(|value| value > *bound),
            Self::Lt(key, bound) => number(key).is_some_and(|value| value < *bound),
            Self::Named(name) => **name == *node,
            Self::NotNamed(name) => **name != *node,
        }
    }

    fn write(&self, text: &mut String) {
        let mut tagged = |tag: char, name: &Name| {
            text.push(tag);
            put(text, name);
        };
        match self {
            Self::In(key, values) => {
                tagged('i', key);
                list(text, values);
            }
            Self::NotIn(key, values) => {
                tagged('n', key);
                list(text, values);
            }
            Self::Exists(key) => tagged('e', key),
            Self::DoesNotExist(key) => tagged('d', key),
            Self::Gt(key, bound) => {
                tagged('g', key);
                let _ = write!(text, "{bound},");
            }
            Self::Lt(key, bound) => {
                tagged('l', key);
                let _ = write!(text, "{bound},");
            }
            Self::Named(name) => tagged('I', name),
            Self::NotNamed(name) => tagged('N', name),
        }
    }

    fn read(rest: &mut &str) -> Option<Self> {
        let tag = rest.chars().next()?;
        eat(rest, tag);
        let name = take(rest)?;
        Some(match tag {
            'i' => Self::In(name, listed(rest)?),
            'n' => Self::NotIn(name, listed(rest)?),
            'e' => Self::Exists(name),
            'd' => Self::DoesNotExist(name),
            'g' => Self::Gt(name, number(rest)?),
            'l' => Self::Lt(name, number(rest)?),
            'I' => Self::Named(name),
            'N' => Self::NotNamed(name),
            _ => return None,
        })
    }
}

fn count(text: &mut String, count: usize) {
    let _ = write!(text, "{count},");
}

fn counted(rest: &mut &str) -> Option<usize> {
    // What is counted takes a byte each at least.
    usize::try_from(number(rest)?).ok().filter(|count| *count <= rest.len())
}

fn number(rest: &mut &str) -> Option<i64> {
    let (number, behind) = rest.split_once(',')?;
    *rest = behind;
    number.parse().ok()
}

fn list(text: &mut String, values: &BTreeSet<Name>) {
    count(text, values.len());
    values.iter().for_each(|value| put(text, value));
}

fn listed(rest: &mut &str) -> Option<BTreeSet<Name>> {
    (0..counted(rest)?).map(|_| take(rest)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::{btree_map, btree_set};
    use proptest::prelude::*;

    use super::*;

    /// Any affinity with names of that kind.
    pub(in crate::shape) fn affinity(
        name: impl Strategy<Value = Name> + Clone + 'static,
    ) -> impl Strategy<Value = Affinity> {
        let values = btree_set(name.clone(), 1..4);
        let requirement =
            (0..8u8, name, values, -3..4i64).prop_map(|(which, name, values, bound)| match which {
                0 => Requirement::In(name, values),
                1 => Requirement::NotIn(name, values),
                2 => Requirement::Exists(name),
                3 => Requirement::DoesNotExist(name),
                4 => Requirement::Gt(name, bound),
                5 => Requirement::Lt(name, bound),
                6 => Requirement::Named(name),
                _ => Requirement::NotNamed(name),
            });
        let term = btree_set(requirement, 1..4).prop_map(|requirements| Term { requirements });
        btree_set(term, 0..4).prop_map(|terms| Affinity { terms })
    }

    fn word() -> impl Strategy<Value = Name> + Clone {
        prop::sample::select(vec!["a", "b", "0", "2", "-1", "x"]).prop_map(Name::from)
    }

    /// The same, put down word by word from the documentation of Kubernetes.
    fn meets(affinity: &Affinity, node: &str, labels: &BTreeMap<Name, Name>) -> bool {
        let mut any = false;
        for term in &affinity.terms {
            let mut all = true;
            for requirement in &term.requirements {
                let value = |key: &Name| labels.get(key).map(|value| value.to_string());
                let listed = |value: &str, values: &BTreeSet<Name>| {
                    values.iter().any(|one| one.to_string() == value)
                };
                all &= match requirement {
                    Requirement::In(key, values) => match value(key) {
                        Some(value) => listed(&value, values),
                        None => false,
                    },
                    Requirement::NotIn(key, values) => match value(key) {
                        Some(value) => !listed(&value, values),
                        None => true,
                    },
                    Requirement::Exists(key) => value(key).is_some(),
                    Requirement::DoesNotExist(key) => value(key).is_none(),
                    Requirement::Gt(key, bound) => match value(key).map(|value| value.parse()) {
                        Some(Ok(value)) => *bound < value,
                        Some(Err(_)) | None => false,
                    },
                    Requirement::Lt(key, bound) => match value(key).map(|value| value.parse()) {
                        Some(Ok(value)) => *bound > value,
                        Some(Err(_)) | None => false,
                    },
                    Requirement::Named(name) => name.to_string() == node,
                    Requirement::NotNamed(name) => name.to_string() != node,
                };
            }
            any |= all;
        }
        any
    }

    proptest! {
        #[test]
        fn a_node_meets_one_term_and_of_it_everything(
            affinity in affinity(word()),
            node in word(),
            labels in btree_map(word(), word(), 0..4),
        ) {
            prop_assert_eq!(affinity.admits(&node, &labels), meets(&affinity, &node, &labels));
        }

        #[test]
        fn nodes_that_are_not_named_are_equal_to_it(
            affinity in affinity(word()),
            nodes in (word(), word()),
            labels in btree_map(word(), word(), 0..4),
        ) {
            let named: BTreeSet<&Name> = affinity.names().collect();
            let of = |node: &Name| affinity.admits(node, &labels);
            if !named.contains(&nodes.0) && !named.contains(&nodes.1) {
                prop_assert_eq!(of(&nodes.0), of(&nodes.1));
                prop_assert_eq!(of(&nodes.0), of(&"".into()));
            }
        }
    }

    #[test]
    fn what_has_no_term_or_an_empty_one_is_met_by_no_node() {
        let labels = BTreeMap::new();
        assert!(!Affinity::default().admits("n", &labels));
        assert!(!Affinity { terms: [Term::default()].into() }.admits("n", &labels));
    }
}
