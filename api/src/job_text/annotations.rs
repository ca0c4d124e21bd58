//! What the annotations of a job say to Muster: its pool, whether there is to be a second attempt,
//! its gang. All others are kept, and mean nothing here.

use std::borrow::Cow;

use muster_core::shape::{Gang, POOL_LABEL, Placement};
use muster_core::{Name, limits, names};

use super::json::Text;
use super::{Error, pod, strings};

/// The annotation that names the pool; a node selector by the same label does too.
pub const POOL_ANNOTATION: &str = POOL_LABEL;
/// The annotation that forbids a second attempt: `"true"`.
pub const AT_MOST_ONCE_ANNOTATION: &str = "muster.dev/at-most-once";

/// The annotation that says which of the nodes that have room is chosen: `pack` or `spread`.
const PLACEMENT_ANNOTATION: &str = "muster.dev/placement";

/// The annotations about gangs: Muster's name of each, and Armada's.
const GANG_ID: [&str; 2] = ["muster.dev/gangId", "armadaproject.io/gangId"];
const GANG_CARDINALITY: [&str; 2] =
    ["muster.dev/gangCardinality", "armadaproject.io/gangCardinality"];
const GANG_UNIFORMITY: [&str; 2] =
    ["muster.dev/gangNodeUniformityLabel", "armadaproject.io/gangNodeUniformityLabel"];

/// What the annotations say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Annotated<'a> {
    pub(super) pool: Option<Cow<'a, str>>,
    pub(super) at_most_once: bool,
    pub(super) gang: Option<Gang>,
    pub(super) placement: Option<Placement>,
}

type Given<'a> = Option<(&'static str, Cow<'a, str>)>;

/// Reads the annotations, a JSON object.
pub(super) fn read<'a>(text: Option<&'a str>) -> Result<Annotated<'a>, Error> {
    let mut annotated = Annotated::default();
    let (mut id, mut cardinality, mut uniformity) = (None, None, None);
    for (name, value) in strings(text, "annotations")? {
        if name.0 == POOL_ANNOTATION {
            let path = || format!("annotations.{POOL_ANNOTATION}");
            names::pool(&value.0).map_err(|error| Error::field(path(), error))?;
            annotated.pool = Some(value.0);
        } else if name.0 == AT_MOST_ONCE_ANNOTATION {
            annotated.at_most_once = truth(&value.0)?;
        } else if name.0 == PLACEMENT_ANNOTATION {
            annotated.placement = Some(placement(&value.0)?);
        } else {
            keep(&mut id, GANG_ID, &name, &value)?;
            keep(&mut cardinality, GANG_CARDINALITY, &name, &value)?;
            keep(&mut uniformity, GANG_UNIFORMITY, &name, &value)?;
        }
    }
    annotated.gang = gang(id, cardinality, uniformity)?;
    Ok(annotated)
}

/// Keeps the value of an annotation that goes by several names, which must not differ.
fn keep<'a>(
    kept: &mut Given<'a>,
    names: [&'static str; 2],
    name: &Text<'a>,
    value: &Text<'a>,
) -> Result<(), Error> {
    let Some(name) = names.into_iter().find(|known| *known == name.0) else { return Ok(()) };
    match kept {
        Some((other, before)) if *before != value.0 => {
            let reason = format!("is `{}`, but `{other}` is `{before}`", value.0);
            Err(Error::field(format!("annotations.{name}"), reason))
        }
        Some(_) => Ok(()),
        None => {
            *kept = Some((name, value.0.clone()));
            Ok(())
        }
    }
}

/// The gang; none of one job alone.
fn gang(
    id: Given<'_>,
    cardinality: Given<'_>,
    uniformity: Given<'_>,
) -> Result<Option<Gang>, Error> {
    let wrong =
        |name: &str, reason: String| Err(Error::field(format!("annotations.{name}"), reason));
    let (path, id) = match (id, &cardinality, &uniformity) {
        (Some(id), _, _) => id,
        (None, Some((name, _)), _) | (None, None, Some((name, _))) => {
            return wrong(name, "needs a gangId beside it".to_owned());
        }
        (None, None, None) => return Ok(None),
    };
    names::gang(&id).map_err(|error| Error::field(format!("annotations.{path}"), error))?;
    let Some((name, count)) = cardinality else {
        return wrong(path, "needs a gangCardinality beside it".to_owned());
    };
    let max = limits::GANG_CARDINALITY_MAX;
    let cardinality = match count.parse::<u32>() {
        Ok(1) => return Ok(None),
        Ok(count) if (2..=max).contains(&count) => count,
        _ => return wrong(name, format!("{count:?} is not a number from 1 to {max}")),
    };
    let uniformity = uniformity.filter(|(_, label)| !label.is_empty());
    let uniformity = uniformity.map(|(name, label)| match pod::bounded(&label) {
        Ok(()) => Ok(Name::from(&*label)),
        Err(error) => Err(Error::field(format!("annotations.{name}"), error)),
    });
    Ok(Some(Gang { id: Name::from(&*id), cardinality, uniformity: uniformity.transpose()? }))
}

fn placement(text: &str) -> Result<Placement, Error> {
    Placement::from_name(text).ok_or_else(|| {
        let reason = format!("`{text}` is neither `pack` nor `spread`");
        Error::field(format!("annotations.{PLACEMENT_ANNOTATION}"), reason)
    })
}

fn truth(text: &str) -> Result<bool, Error> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => {
            let reason = format!("`{other}` is neither `true` nor `false`");
            Err(Error::field(format!("annotations.{AT_MOST_ONCE_ANNOTATION}"), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gang_of(text: &str) -> Result<Option<Gang>, String> {
        let read = read(Some(text)).map(|annotated| annotated.gang);
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn how_a_node_is_chosen_is_read_and_another_word_refused() {
        let of = |word: &str| {
            read(Some(&format!(r#"{{"muster.dev/placement":"{word}"}}"#)))
                .map(|annotated| annotated.placement)
                .map_err(|error| error.to_string())
        };
        assert_eq!(of("spread"), Ok(Some(Placement::Spread)));
        assert_eq!(of("pack"), Ok(Some(Placement::Pack)));
        let refused = "annotations.muster.dev/placement: `wide` is neither `pack` nor `spread`";
        assert_eq!(of("wide"), Err(refused.to_owned()));
    }

    #[test]
    fn a_gang_is_read_by_either_name() {
        let expected = |uniformity: Option<&str>| {
            Ok(Some(Gang {
                id: "g".into(),
                cardinality: 4,
                uniformity: uniformity.map(Name::from),
            }))
        };
        for prefix in ["muster.dev", "armadaproject.io"] {
            let ids = format!(r#""{prefix}/gangId":"g","{prefix}/gangCardinality":"4""#);
            assert_eq!(gang_of(&format!("{{{ids}}}")), expected(None));
            let label = format!(r#""{prefix}/gangNodeUniformityLabel""#);
            assert_eq!(gang_of(&format!(r#"{{{label}:"rack",{ids}}}"#)), expected(Some("rack")));
            assert_eq!(gang_of(&format!(r#"{{{label}:"",{ids}}}"#)), expected(None));
        }
        let both = r#"{"muster.dev/gangId":"g","armadaproject.io/gangId":"g",
            "armadaproject.io/gangCardinality":"4"}"#;
        assert_eq!(gang_of(both), expected(None));
        assert_eq!(
            gang_of(r#"{"muster.dev/gangId":"g","muster.dev/gangCardinality":"1"}"#),
            Ok(None)
        );
        assert_eq!(gang_of(r#"{"other/gangId":"g"}"#), Ok(None));
    }

    #[test]
    fn a_gang_that_makes_no_sense_is_refused_with_its_annotation() {
        let of = |id: &str, count: &str| {
            gang_of(&format!(
                r#"{{"muster.dev/gangId":"{id}","muster.dev/gangCardinality":"{count}"}}"#
            ))
        };
        let max = limits::GANG_CARDINALITY_MAX;
        assert!(of("g", &max.to_string()).is_ok());
        for count in ["0", "-1", "x", "", "1.5", &(max + 1).to_string()] {
            let said = of("g", count).unwrap_err();
            assert!(
                said.starts_with("annotations.muster.dev/gangCardinality: \""),
                "{count}: {said}"
            );
        }
        let id_max = limits::GANG_ID_BYTES_MAX;
        assert!(of(&"g".repeat(id_max), "2").is_ok());
        let said = of(&"g".repeat(id_max + 1), "2").unwrap_err();
        assert!(said.starts_with("annotations.muster.dev/gangId: gang has 254 bytes"), "{said}");
        assert!(of("", "2").unwrap_err().contains("gang is empty"));
        let cases = [
            (r#"{"muster.dev/gangId":"g"}"#, "gangId: needs a gangCardinality"),
            (r#"{"armadaproject.io/gangCardinality":"2"}"#, "needs a gangId beside it"),
            (r#"{"muster.dev/gangNodeUniformityLabel":"a"}"#, "needs a gangId beside it"),
            (
                r#"{"muster.dev/gangId":"a","armadaproject.io/gangId":"b"}"#,
                "annotations.armadaproject.io/gangId: is `b`, but `muster.dev/gangId` is `a`",
            ),
        ];
        for (text, expected) in cases {
            let said = gang_of(text).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
