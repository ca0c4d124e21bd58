//! The affinity of a pod. What is required of nodes becomes part of the shape: what of it says no
//! more than a node selector is taken as one, so that equal wishes are equal shapes. What is
//! preferred of nodes is left to the cluster that gets the pod. What concerns other pods is
//! refused. Nothing is left out silently.

use std::collections::BTreeSet;

use muster_core::shape::{Affinity as NodeRules, Requirement, Shape, Term as Rules};
use muster_core::{Name, limits};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Error;
use super::json::{Object, Text};
use super::pod;

const REQUIRED: &str = "podSpec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
/// The field of a node that can be matched.
const NODE_NAME: &str = "metadata.name";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Affinity<'a> {
    #[serde(borrow)]
    node_affinity: Option<Object<NodeAffinity<'a>>>,
    pod_affinity: Option<Object<Terms>>,
    pod_anti_affinity: Option<Object<Terms>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeAffinity<'a> {
    #[serde(borrow)]
    required_during_scheduling_ignored_during_execution: Option<Object<NodeSelector<'a>>>,
    /// For the cluster, which gets the pod spec as it is.
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    _preferred: Option<Vec<IgnoredAny>>,
}

/// Terms about other pods.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terms {
    required_during_scheduling_ignored_during_execution: Option<Vec<IgnoredAny>>,
    preferred_during_scheduling_ignored_during_execution: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeSelector<'a> {
    #[serde(borrow)]
    node_selector_terms: Option<Vec<Object<Term<'a>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Term<'a> {
    #[serde(borrow)]
    match_expressions: Option<Vec<Object<Expression<'a>>>>,
    match_fields: Option<Vec<Object<Expression<'a>>>>,
}

#[derive(Deserialize)]
struct Expression<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    operator: Text<'a>,
    values: Option<Vec<Text<'a>>>,
}

/// Adds what the affinity asks of nodes.
pub(super) fn select(affinity: &Affinity<'_>, shape: &mut Shape) -> Result<(), Error> {
    for (terms, path) in [
        (&affinity.pod_affinity, "podSpec.affinity.podAffinity"),
        (&affinity.pod_anti_affinity, "podSpec.affinity.podAntiAffinity"),
    ] {
        let Some(Object(terms)) = terms else { continue };
        let required = some(&terms.required_during_scheduling_ignored_during_execution);
        if required || some(&terms.preferred_during_scheduling_ignored_during_execution) {
            return Err(Error::Unsupported { path });
        }
    }
    let Some(Object(node)) = &affinity.node_affinity else { return Ok(()) };
    let Some(Object(required)) = &node.required_during_scheduling_ignored_during_execution else {
        return Ok(());
    };
    let given = required.node_selector_terms.as_deref().unwrap_or_default();
    let mut terms = few(given)?;
    // One that asks for nothing is met by no node: it is no alternative to the others.
    terms.retain(|term| !term.is_empty());
    if let ([_], [only]) = (given, &mut terms[..]) {
        select_labels(only, shape)?;
        if only.is_empty() {
            return Ok(());
        }
    }
    let terms = terms.into_iter().map(|requirements| Rules { requirements }).collect();
    shape.affinity = Some(NodeRules { terms });
    Ok(())
}

/// The requirements of each term.
fn few(given: &[Object<Term<'_>>]) -> Result<Vec<BTreeSet<Requirement>>, Error> {
    match given.len() {
        0 => return Err(Error::field(REQUIRED, "there is none")),
        len if len > limits::AFFINITY_TERMS_MAX => {
            let max = limits::AFFINITY_TERMS_MAX;
            return Err(Error::field(REQUIRED, format!("{len} terms, limit is {max}")));
        }
        _ => {}
    }
    let len = |Object(term): &Object<Term<'_>>| {
        let expressions = term.match_expressions.as_ref().map_or(0, Vec::len);
        expressions + term.match_fields.as_ref().map_or(0, Vec::len)
    };
    let requirements: usize = given.iter().map(len).sum();
    if requirements > limits::AFFINITY_REQUIREMENTS_MAX {
        let max = limits::AFFINITY_REQUIREMENTS_MAX;
        let reason = format!("{requirements} requirements in all, limit is {max}");
        return Err(Error::field(REQUIRED, reason));
    }
    given.iter().enumerate().map(|(at, Object(term))| requirements_of(term, at)).collect()
}

fn requirements_of(term: &Term<'_>, at: usize) -> Result<BTreeSet<Requirement>, Error> {
    let mut requirements = BTreeSet::new();
    let lists = [
        (&term.match_expressions, "matchExpressions", of_label as fn(_) -> _),
        (&term.match_fields, "matchFields", of_field),
    ];
    for (list, what, read) in lists {
        for (place, Object(expression)) in list.iter().flatten().enumerate() {
            let path = || format!("{REQUIRED}[{at}].{what}[{place}]");
            requirements.insert(read(expression).map_err(|e| Error::field(path(), e))?);
        }
    }
    Ok(requirements)
}

/// What an expression asks of a label.
fn of_label(expression: &Expression<'_>) -> Result<Requirement, String> {
    let key = Name::from(&*expression.key.0);
    pod::bounded(&key)?;
    let values = expression.values.as_deref().unwrap_or_default();
    match &*expression.operator.0 {
        "In" => Ok(Requirement::In(key, set(values)?)),
        "NotIn" => Ok(Requirement::NotIn(key, set(values)?)),
        "Exists" => none("Exists", values).map(|()| Requirement::Exists(key)),
        "DoesNotExist" => none("DoesNotExist", values).map(|()| Requirement::DoesNotExist(key)),
        "Gt" => Ok(Requirement::Gt(key, integer(one("Gt", values)?)?)),
        "Lt" => Ok(Requirement::Lt(key, integer(one("Lt", values)?)?)),
        other => Err(format!(
            "operator `{other}` is not `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` or `Lt`"
        )),
    }
}

/// What an expression asks of a field of the node.
fn of_field(expression: &Expression<'_>) -> Result<Requirement, String> {
    if &*expression.key.0 != NODE_NAME {
        return Err(format!("key `{}` is not `{NODE_NAME}`", expression.key.0));
    }
    let operator = &*expression.operator.0;
    let name = || {
        let name = one(operator, expression.values.as_deref().unwrap_or_default())?;
        pod::bounded(name).map(|()| Name::from(name))
    };
    match operator {
        "In" => Ok(Requirement::Named(name()?)),
        "NotIn" => Ok(Requirement::NotNamed(name()?)),
        other => Err(format!("operator `{other}` is not `In` or `NotIn`")),
    }
}

/// Makes a node selector of what says no more than that.
fn select_labels(term: &mut BTreeSet<Requirement>, shape: &mut Shape) -> Result<(), Error> {
    let mut labels = Vec::new();
    term.retain(|requirement| {
        let label = match requirement {
            Requirement::In(key, values) if values.len() == 1 => {
                values.first().map(|value| (key.clone(), value.clone()))
            }
            _ => None,
        };
        let stays = label.is_none();
        labels.extend(label);
        stays
    });
    labels.iter().try_for_each(|(key, value)| {
        pod::select(shape, key, value, || format!("{REQUIRED}[0].matchExpressions"))
    })
}

fn set(values: &[Text<'_>]) -> Result<BTreeSet<Name>, String> {
    if values.is_empty() {
        return Err("there are no values".to_owned());
    }
    let value = |text: &Text<'_>| pod::bounded_value(&text.0).map(|()| Name::from(&*text.0));
    values.iter().map(value).collect()
}

fn none(operator: &str, values: &[Text<'_>]) -> Result<(), String> {
    if values.is_empty() { Ok(()) } else { Err(format!("operator `{operator}` takes no values")) }
}

fn one<'a>(operator: &str, values: &'a [Text<'_>]) -> Result<&'a str, String> {
    match values {
        [value] => Ok(&value.0),
        _ => Err(format!("operator `{operator}` takes one value, not {}", values.len())),
    }
}

fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("`{text}` is no integer"))
}

fn some<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}
