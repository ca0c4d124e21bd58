//! The affinity of a pod: what of it says no more than a node selector is taken as one, the rest is
//! refused. Nothing is left out silently.

use muster_core::shape::Shape;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Error;
use super::json::{Object, Text};
use super::pod;

const REQUIRED: &str =
    "podSpec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str =
    "podSpec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution";

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
    preferred_during_scheduling_ignored_during_execution: Option<Vec<IgnoredAny>>,
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
    match_fields: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct Expression<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    operator: Text<'a>,
    values: Option<Vec<Text<'a>>>,
}

/// Adds the labels that the affinity asks for.
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
    if some(&node.preferred_during_scheduling_ignored_during_execution) {
        return Err(Error::Unsupported { path: PREFERRED });
    }
    let Some(Object(required)) = &node.required_during_scheduling_ignored_during_execution else {
        return Ok(());
    };
    let unsupported = || Error::Unsupported { path: REQUIRED };
    // Several terms are alternatives; a node selector has none.
    let Some([Object(term)]) = required.node_selector_terms.as_deref() else {
        return Err(unsupported());
    };
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    if expressions.is_empty() || some(&term.match_fields) {
        return Err(unsupported());
    }
    for Object(expression) in expressions {
        match (&*expression.operator.0, expression.values.as_deref()) {
            ("In", Some([value])) => {
                pod::select(shape, &expression.key.0, &value.0, || REQUIRED.to_owned())?;
            }
            _ => return Err(unsupported()),
        }
    }
    Ok(())
}

fn some<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}
