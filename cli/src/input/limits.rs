//! Limits of queues as they are typed and shown: `class/pool:cpu=100,memory=50%`, where `*` stands
//! for all classes and for each pool, `50/s`.

use std::collections::BTreeMap;

use muster_api::http::{QueueLimit, QueueSettings};

/// What takes a setting away.
const NONE: &str = "none";

/// A limit; `cpu=100` alone is of all classes in each pool.
pub(crate) fn limit(text: &str) -> Result<QueueLimit, String> {
    let (place, amounts) = text.split_once(':').unwrap_or(("*/*", text));
    let mut limit = of_place(place)?;
    for amount in amounts.split(',') {
        let (name, amount) = amount.split_once('=').ok_or("an amount is RESOURCE=AMOUNT")?;
        if limit.resources.insert(name.to_owned(), amount.to_owned()).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(limit)
}

/// The class and pool of a limit, without amounts.
pub(crate) fn of_place(text: &str) -> Result<QueueLimit, String> {
    let (class, pool) = text.split_once('/').ok_or("a limit is of CLASS/POOL, `*` for all")?;
    let named = |name: &str| (name != "*").then(|| name.to_owned());
    Ok(QueueLimit { class: named(class), pool: named(pool), resources: BTreeMap::new() })
}

/// Jobs a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    number.parse().map_err(|_| format!("`{text}` is no number of jobs a second, as in `50/s`"))
}

/// A value, or `none`, which takes away what was set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OrNone<T>(pub(crate) Option<T>);

/// A number of jobs, or `none`.
pub(crate) fn number_or_none(text: &str) -> Result<OrNone<u64>, String> {
    or_none(text, number)
}

/// A name, or `none`.
pub(crate) fn name_or_none(text: &str) -> Result<OrNone<String>, String> {
    or_none(text, |name| Ok(name.to_owned()))
}

/// Jobs a second, or `none`.
pub(crate) fn rate_or_none(text: &str) -> Result<OrNone<f64>, String> {
    or_none(text, rate)
}

pub(super) fn or_none<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<OrNone<T>, String> {
    if text == NONE { Ok(OrNone(None)) } else { parse(text).map(|value| OrNone(Some(value))) }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number of jobs"))
}

/// Jobs placed at once, where nothing is said of them: those of a second.
pub(crate) fn burst(given: Option<u32>, per_second: f64) -> u32 {
    // The cast saturates; the deployment says what is too much.
    given.unwrap_or_else(|| per_second.ceil().max(1.0) as u32)
}

/// All limits of a queue in one text; empty when it has none.
pub(crate) fn text(settings: &QueueSettings) -> String {
    let star = |name: &Option<String>| name.clone().unwrap_or_else(|| "*".to_owned());
    let mut parts: Vec<String> = Vec::new();
    for limit in &settings.limits {
        let amounts: Vec<String> =
            limit.resources.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        let (class, pool) = (star(&limit.class), star(&limit.pool));
        parts.push(format!("{class}/{pool}:{}", amounts.join(",")));
    }
    parts.extend(settings.parent.as_ref().map(|parent| format!("below {parent}")));
    parts.extend(settings.jobs_queued_max.map(|max| format!("queued {max}")));
    parts.extend(settings.rate.map(|rate| format!("{}/s burst {}", rate.per_second, rate.burst)));
    let rules = settings.retry.len();
    parts.extend((rules > 0).then(|| format!("retry rules {rules}")));
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use muster_api::http::Rate;

    use super::*;

    #[test]
    fn limits_are_shown_as_they_are_typed() {
        let typed = ["spare/gpu:cpu=100,memory=50%", "*/gpu:pods=5", "*/*:cpu=1"];
        let settings = QueueSettings {
            limits: typed.map(|text| limit(text).unwrap()).into(),
            jobs_queued_max: Some(7),
            rate: Some(Rate { per_second: rate("0.5/s").unwrap(), burst: burst(None, 0.5) }),
            ..QueueSettings::default()
        };
        assert_eq!(text(&settings), format!("{} queued 7 0.5/s burst 1", typed.join(" ")));
        assert_eq!(limit("cpu=1"), limit("*/*:cpu=1"));
        assert_eq!(text(&QueueSettings::default()), "");
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for bad in ["", "spare:cpu=1", "*/*:", "*/*:cpu", "*/*:cpu=1,cpu=2"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
        assert!(rate("x/s").is_err() && rate("5/m").is_err());
        assert_eq!(number_or_none("none"), Ok(OrNone(None)));
        assert_eq!(number_or_none("5"), Ok(OrNone(Some(5))));
        assert_eq!(rate_or_none("0.5/s"), Ok(OrNone(Some(0.5))));
        assert!(number_or_none("-5").is_err());
    }
}
