//! Kubernetes quantities (`500m`, `1.5Gi`, `12e6`), read exactly: whole nano-units, no floating
//! point.
//!
//! The format is that of `k8s.io/apimachinery/pkg/api/resource`: a decimal number and a suffix,
//! binary (`Ki` … `Ei`), decimal (`n`, `u`, `m`, none, `k` … `E`) or an exponent (`e3`, `E-3`).
//! What is finer than a nano-unit is rounded up, as there.

use std::fmt;
use std::str::FromStr;

const NANOS: i128 = 1_000_000_000;
const TEXT_LEN_MAX: usize = 64;

/// An amount of a resource in nano-units; at most 2⁶³ − 1 units either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i128);

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// Not a number with a known suffix.
    #[error("`{0}` is not a quantity such as `2`, `500m` or `1.5Gi`")]
    Malformed(String),
    /// More than 2⁶³ − 1 units.
    #[error("quantity `{0}` is beyond 9223372036854775807")]
    TooLarge(String),
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many whole units (cores, bytes, devices).
    #[must_use]
    pub fn from_units(units: i64) -> Self {
        Self(i128::from(units) * NANOS)
    }

    /// So many thousandths of a unit.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(i128::from(millis) * (NANOS / 1000))
    }

    /// Whole units, rounded up: how Kubernetes counts everything but cpu.
    #[must_use]
    pub fn units_ceil(self) -> i64 {
        saturate(div_ceil(self.0, NANOS))
    }

    /// Thousandths of a unit, rounded up: how Kubernetes counts cpu.
    #[must_use]
    pub fn millis_ceil(self) -> i64 {
        saturate(div_ceil(self.0, NANOS / 1000))
    }

    /// The sum, at most the largest quantity.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let max = i128::from(i64::MAX) * NANOS;
        Self((self.0 + other.0).clamp(-max, max))
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// So many nano-units; `None` beyond 2⁶³ − 1 units.
    #[must_use]
    pub fn from_nanos(nanos: i128) -> Option<Self> {
        (nanos.abs() <= i128::from(i64::MAX) * NANOS).then_some(Self(nanos))
    }

    /// The amount in nano-units.
    #[must_use]
    pub fn nanos(self) -> i128 {
        self.0
    }
}

fn div_ceil(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// What a suffix multiplies by, as `numerator / denominator` of nano-units.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((NANOS << (10 * power), 1));
    let decimal = |power: u32| Some((NANOS * 10i128.pow(power), 1));
    match suffix {
        "" => decimal(0),
        "n" => Some((1, 1)),
        "u" => Some((1_000, 1)),
        "m" => Some((1_000_000, 1)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => exponent(suffix),
    }
}

fn exponent(suffix: &str) -> Option<(i128, i128)> {
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let power: i32 = digits.parse().ok()?;
    match power {
        0..=18 => Some((NANOS * 10i128.pow(power.unsigned_abs()), 1)),
        -27..=-1 => Some((NANOS, 10i128.pow(power.unsigned_abs()))),
        _ => None,
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ParseQuantityError::Malformed(text.chars().take(TEXT_LEN_MAX).collect());
        let too_large = || ParseQuantityError::TooLarge(text.to_owned());
        if text.len() > TEXT_LEN_MAX {
            return Err(malformed());
        }
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(malformed());
        }
        let (numerator, denominator) = scale(suffix).ok_or_else(malformed)?;
        let value = magnitude(whole, fraction, numerator, denominator).ok_or_else(too_large)?;
        if value > i128::from(i64::MAX) * NANOS {
            return Err(too_large());
        }
        Ok(Self(if negative { -value } else { value }))
    }
}

/// `whole.fraction × numerator / denominator`, rounded up; `None` when an intermediate does not
/// fit.
fn magnitude(whole: &str, fraction: &str, numerator: i128, denominator: i128) -> Option<i128> {
    let fraction = fraction.trim_end_matches('0');
    let digits = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    let value: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let power = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let divisor = power.checked_mul(denominator)?;
    let common = gcd(divisor, numerator);
    Some(div_ceil(value.checked_mul(numerator / common)?, divisor / common))
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The shortest exact text: a suffix where one fits (`500m`, `2Gi`), plain digits otherwise.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        if value % NANOS == 0 {
            let units = value / NANOS;
            for (suffix, shift) in
                [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)]
            {
                if units != 0 && units % (1i128 << shift) == 0 {
                    return write!(f, "{}{suffix}", units >> shift);
                }
            }
            return write!(f, "{units}");
        }
        for (suffix, by) in [("m", 1_000_000), ("u", 1_000)] {
            if value % by == 0 {
                return write!(f, "{}{suffix}", value / by);
            }
        }
        write!(f, "{value}n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nanos(text: &str) -> i128 {
        text.parse::<Quantity>().unwrap_or_else(|e| panic!("{text}: {e}")).nanos()
    }

    #[test]
    fn every_suffix_means_what_kubernetes_says() {
        for (text, expected) in [
            ("0", 0),
            ("1", NANOS),
            ("100m", NANOS / 10),
            ("1u", 1_000),
            ("1n", 1),
            ("1.5Gi", 3 * (NANOS << 29)),
            ("2k", 2_000 * NANOS),
            ("3E", 3_000_000_000_000_000_000 * NANOS),
            ("7Ei", NANOS * (7i128 << 60)),
            ("12e6", 12_000_000 * NANOS),
            ("12E-3", 12 * NANOS / 1000),
            (".5", NANOS / 2),
            ("5.", 5 * NANOS),
            ("+1", NANOS),
            ("-1", -NANOS),
            ("0.1", NANOS / 10),
            ("0.0000000001", 1),
            ("1.0000000001n", 2),
        ] {
            assert_eq!(nanos(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for bad in
            ["", ".", "m", "1.2.3", "1 Gi", "1gi", "1GiB", "0x10", "1e", "1e19", "NaN", "--1", "١"]
        {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
        let past = "9223372036854775808";
        assert_eq!(past.parse::<Quantity>(), Err(ParseQuantityError::TooLarge(past.to_owned())));
        assert!("9223372036854775807".parse::<Quantity>().is_ok());
    }

    #[test]
    fn cpu_counts_in_thousandths_and_memory_in_bytes_both_rounded_up() {
        assert_eq!("1u".parse::<Quantity>().map(Quantity::millis_ceil), Ok(1));
        assert_eq!("1m".parse::<Quantity>().map(Quantity::units_ceil), Ok(1));
        assert_eq!("1500m".parse::<Quantity>().map(Quantity::millis_ceil), Ok(1500));
    }

    const MAX: i128 = i64::MAX as i128 * NANOS;

    proptest! {
        #[test]
        fn a_quantity_survives_its_text(nanos in -MAX..=MAX) {
            let quantity = Quantity(nanos);
            prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[-+]?[0-9.]{0,40}[a-zA-Z0-9-]{0,4}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
