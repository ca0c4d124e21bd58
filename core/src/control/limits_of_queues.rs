//! Limits of queues: what a queue may hold of a pool, how many jobs may wait in it, how fast its
//! jobs are placed.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use crate::limits;
use crate::names;
use crate::quantity::Quantity;

/// What jobs of a queue may hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Of this priority class; `None` for all jobs of the queue.
    pub class: Option<String>,
    /// In this pool; `None` for each pool by itself.
    pub pool: Option<String>,
    /// How much of each resource; what is not named is not limited.
    pub resources: BTreeMap<String, Amount>,
}

/// So much of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Exactly.
    Exact(Quantity),
    /// A part of what the pool has, in thousandths of a percent.
    PercentMillis(u32),
}

/// How fast jobs are placed: a bucket that holds `burst` jobs and is filled at a steady rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Jobs a second, in thousandths.
    pub per_second_millis: u64,
    /// Jobs at once.
    pub burst: u32,
}

/// All of the pool.
const PERCENT_MILLIS_MAX: u32 = 100_000;
/// Jobs a second, in thousandths, that a rate may allow.
const RATE_MILLIS_MAX: f64 = 1e9;

impl Amount {
    /// An amount as people write it: a quantity, or a percentage with up to three decimals
    /// (`12.5%`).
    ///
    /// # Errors
    /// When it is neither, negative, or more than 100 %.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Amount(text.to_owned());
        let Some(percent) = text.strip_suffix('%') else {
            let quantity: Quantity = text.parse().map_err(|_| wrong())?;
            return if quantity.is_negative() { Err(wrong()) } else { Ok(Self::Exact(quantity)) };
        };
        let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
        let is_number =
            |text: &str| !text.is_empty() && text.chars().all(|digit| digit.is_ascii_digit());
        if !is_number(whole) || !is_number(part) || part.len() > 3 {
            return Err(wrong());
        }
        let millis: Option<u32> = format!("{whole}{part:0<3}").parse().ok();
        let millis = millis.filter(|millis| *millis <= PERCENT_MILLIS_MAX);
        millis.map(Self::PercentMillis).ok_or_else(wrong)
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(quantity) => quantity.fmt(f),
            Self::PercentMillis(millis) => {
                let (whole, part) = (millis / 1000, format!("{:03}", millis % 1000));
                match part.trim_end_matches('0') {
                    "" => write!(f, "{whole}%"),
                    part => write!(f, "{whole}.{part}%"),
                }
            }
        }
    }
}

impl Rate {
    /// A rate as given by people.
    ///
    /// # Errors
    /// When it is not from 0.001 to 1,000,000 jobs a second, or nothing may be placed at once.
    pub fn new(per_second: f64, burst: u32) -> Result<Self, Error> {
        let millis = (per_second * 1000.0).round();
        if !(1.0..=RATE_MILLIS_MAX).contains(&millis) {
            return Err(Error::Rate(per_second.to_string()));
        }
        if burst == 0 {
            return Err(Error::Burst);
        }
        // The range check leaves only whole numbers that fit.
        Ok(Self { per_second_millis: millis as u64, burst })
    }
}

/// Whether a queue may have these.
pub(super) fn check(given: &[Limit]) -> Result<(), Error> {
    if given.len() > limits::QUEUE_LIMITS_MAX {
        return Err(Error::Limits(given.len()));
    }
    let mut seen = BTreeSet::new();
    for limit in given {
        let place = || place(limit.class.as_deref(), limit.pool.as_deref());
        if let Some(class) = &limit.class {
            names::priority_class(class)?;
        }
        if let Some(pool) = &limit.pool {
            names::pool(pool)?;
        }
        if !seen.insert((&limit.class, &limit.pool)) {
            return Err(Error::LimitTwice(place()));
        }
        if limit.resources.is_empty() {
            return Err(Error::LimitOfNothing(place()));
        }
        if limit.resources.len() > limits::RESOURCES_PER_JOB_MAX {
            return Err(Error::LimitResources(place(), limit.resources.len()));
        }
        limit.resources.keys().try_for_each(|name| names::resource(name))?;
    }
    Ok(())
}

/// What a limit is of, as the command line has it: class and pool with `*` for all.
fn place(class: Option<&str>, pool: Option<&str>) -> String {
    format!("{}/{}", class.unwrap_or("*"), pool.unwrap_or("*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(class: Option<&str>, pool: Option<&str>, resources: &[(&str, &str)]) -> Limit {
        let amount =
            |(name, text): &(&str, &str)| ((*name).to_owned(), Amount::parse(text).unwrap());
        Limit {
            class: class.map(str::to_owned),
            pool: pool.map(str::to_owned),
            resources: resources.iter().map(amount).collect(),
        }
    }

    #[test]
    fn amounts_are_quantities_or_percentages_and_are_written_as_they_are_read() {
        for text in ["100m", "0", "12Gi", "50%", "100%", "0%", "12.5%", "0.001%", "99.999%"] {
            assert_eq!(Amount::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Amount::parse("7.50%"), Ok(Amount::PercentMillis(7_500)));
        for bad in ["", "x", "-1", "%", "-5%", "100.001%", "101%", "1.2345%", ".5%", "5 %", "1e1%"]
        {
            assert_eq!(Amount::parse(bad), Err(Error::Amount(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn rates_are_positive_and_let_something_through() {
        let rate = Rate { per_second_millis: 500, burst: 1 };
        assert_eq!(Rate::new(0.5, 1), Ok(rate));
        for bad in [0.0, -1.0, 1e7, f64::NAN] {
            assert!(matches!(Rate::new(bad, 1), Err(Error::Rate(_))), "{bad}");
        }
        assert_eq!(Rate::new(1.0, 0), Err(Error::Burst));
    }

    #[test]
    fn limits_that_contradict_each_other_or_say_nothing_are_refused() {
        let cpu = [("cpu", "1")];
        assert_eq!(check(&[limit(None, None, &cpu), limit(None, Some("gpu"), &cpu)]), Ok(()));
        let twice = [limit(Some("a"), None, &cpu), limit(Some("a"), None, &[("memory", "1%")])];
        assert_eq!(check(&twice), Err(Error::LimitTwice("a/*".to_owned())));
        let nothing = limit(None, Some("gpu"), &[]);
        assert_eq!(check(&[nothing]), Err(Error::LimitOfNothing("*/gpu".to_owned())));
        assert!(matches!(check(&[limit(Some("A"), None, &cpu)]), Err(Error::Name(_))));
        assert!(matches!(check(&[limit(None, Some(".."), &cpu)]), Err(Error::Name(_))));
        assert!(matches!(check(&[limit(None, None, &[("", "1")])]), Err(Error::Name(_))));
        let max = limits::QUEUE_LIMITS_MAX;
        let of = |n: usize| limit(Some(&format!("c{n}")), None, &cpu);
        assert_eq!(check(&(0..max).map(of).collect::<Vec<_>>()), Ok(()));
        assert_eq!(check(&(0..=max).map(of).collect::<Vec<_>>()), Err(Error::Limits(max + 1)));
    }
}
