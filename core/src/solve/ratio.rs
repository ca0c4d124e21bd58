//! Exact comparison of shares: fractions of integers, compared by cross multiplication in 192 bits.
//!
//! Decisions of the solver never touch floating point, so that equal shares are equal and the order
//! of any two shares does not depend on how large the pool is.

use std::cmp::Ordering;

/// A part of a whole, `amount / of`, not negative. Equal parts need not have equal numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    amount: u64,
    /// More than 0, less than 2^63.
    of: u64,
}

/// How high a queue stands: a part for each unit of its weight. Two levels are equal when their
/// values are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    /// The value in units of 2^-64, rounded down: of two levels where this differs, the order is
    /// known without the fractions.
    rounded: u64,
    amount: u64,
    of: u128,
}

impl Part {
    const NONE: Part = Part { amount: 0, of: 1 };

    /// The largest part that `amounts` are of `total`. A resource of which the pool has nothing
    /// does not count; a negative amount counts as none.
    pub(super) fn dominant(total: &[i64], amounts: impl Iterator<Item = i64>) -> Part {
        total
            .iter()
            .zip(amounts)
            .filter_map(|(&total, amount)| Part::new(amount, total))
            .fold(Part::NONE, |most, part| if part.is_more_than(most) { part } else { most })
    }

    /// This part for each unit of `weight`, which is not zero.
    pub(super) fn per(self, weight: u64) -> Level {
        // The denominator is below 2^63 times 2^64, so the product stays below 2^127.
        let of = u128::from(self.of) * u128::from(weight);
        let rounded = u64::try_from((u128::from(self.amount) << 64) / of).unwrap_or(u64::MAX);
        Level { rounded, amount: self.amount, of }
    }

    /// `share`, in 0..=1, with a little `more`, or less where that is negative: in units of 2^-52,
    /// so that what floating point cannot say exactly does not cost a job.
    pub(super) fn about(share: f64, more: i64) -> Part {
        const ONE: i64 = 1 << 52;
        let amount = (share * ONE as f64) as i64;
        Part { amount: u64::try_from(amount + more).unwrap_or(0), of: ONE as u64 }
    }

    /// So many thousandths.
    pub(super) fn thousandths(count: u64) -> Part {
        Part { amount: count, of: 1_000 }
    }

    /// So many thousandths of this part, at most 2^63 times the whole.
    pub(super) fn times(self, thousandths: u64) -> Part {
        let amount = u128::from(self.amount) * u128::from(thousandths) / 1_000;
        Part { amount: u64::try_from(amount).unwrap_or(u64::MAX), of: self.of }
    }

    /// This part in units of 2^-32, rounded up.
    pub(super) fn rounded_up(self) -> u64 {
        let parts = (u128::from(self.amount) << 32).div_ceil(u128::from(self.of));
        u64::try_from(parts).unwrap_or(u64::MAX)
    }

    /// The nearest floating-point number, for reports.
    pub(super) fn to_f64(self) -> f64 {
        self.amount as f64 / self.of as f64
    }

    fn new(amount: i64, total: i64) -> Option<Part> {
        let of = u64::try_from(total).ok().filter(|&total| total > 0)?;
        Some(Part { amount: u64::try_from(amount).unwrap_or(0), of })
    }

    pub(super) fn is_more_than(self, other: Part) -> bool {
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        product(self.amount, other.of) > product(other.amount, self.of)
    }
}

impl Ord for Level {
    fn cmp(&self, other: &Level) -> Ordering {
        self.rounded.cmp(&other.rounded).then_with(|| {
            wide_product(self.amount, other.of).cmp(&wide_product(other.amount, self.of))
        })
    }
}

impl PartialOrd for Level {
    fn partial_cmp(&self, other: &Level) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Level {
    fn eq(&self, other: &Level) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Level {}

/// The resource of which `request` takes the largest part of `total`, the first of equals; none
/// when it asks for nothing that the pool has.
pub(super) fn dominant_resource(total: &[i64], request: &[i64]) -> Option<usize> {
    let mut most = Part::NONE;
    let mut found = None;
    for (resource, (&total, &amount)) in total.iter().zip(request).enumerate() {
        match Part::new(amount, total) {
            Some(part) if part.is_more_than(most) => {
                most = part;
                found = Some(resource);
            }
            Some(_) | None => {}
        }
    }
    found
}

/// `a * b` as its upper 128 and lower 64 bits.
fn wide_product(a: u64, b: u128) -> (u128, u64) {
    let a = u128::from(a);
    let low = a * (b & u128::from(u64::MAX));
    let high = a * (b >> 64) + (low >> 64);
    (high, low as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn the_largest_amounts_compare_exactly() {
        let of = i64::MAX as u64;
        let level = |amount, of| Part { amount, of }.per(u64::MAX);
        assert!(level(u64::MAX - 1, of) < level(u64::MAX, of));
        assert!(level(u64::MAX, of - 1) > level(u64::MAX, of));
        assert_eq!(Part { amount: 2, of: 6 }.per(7), Part { amount: 1, of: 3 }.per(7));
        assert!(Part { amount: u64::MAX, of: 1 }.per(1) > Part { amount: u64::MAX, of: 2 }.per(1));
    }

    #[test]
    fn a_resource_that_the_pool_lacks_is_never_dominant() {
        assert_eq!(dominant_resource(&[0, 10], &[5, 1]), Some(1));
        assert_eq!(dominant_resource(&[0, 10], &[5, 0]), None);
        assert_eq!(dominant_resource(&[10, 10], &[2, 2]), Some(0));
        assert_eq!(Part::dominant(&[0, 10], [5, -1].into_iter()).amount, 0);
    }

    proptest! {
        #[test]
        fn levels_are_in_the_order_of_their_values(
            a in (any::<u64>(), 1..1_u64 << 63, 1_u64..),
            b in (any::<u64>(), 1..1_u64 << 63, 1_u64..),
            close in 0_u64..3,
        ) {
            let level = |(amount, of, weight)| Part { amount, of }.per(weight);
            let fraction = |(amount, of, weight): (u64, u64, u64)| {
                (u128::from(amount), u128::from(of) * u128::from(weight))
            };
            // Also two levels that differ by next to nothing, or not at all.
            for b in [b, (a.0.saturating_add(close), a.1, a.2)] {
                let expected = by_euclid(fraction(a), fraction(b));
                prop_assert_eq!(level(a).cmp(&level(b)), expected);
            }
        }
    }

    /// Compares two fractions by their whole parts, then what remains the other way round.
    fn by_euclid(a: (u128, u128), b: (u128, u128)) -> Ordering {
        (a.0 / a.1).cmp(&(b.0 / b.1)).then_with(|| match (a.0 % a.1, b.0 % b.1) {
            (0, 0) => Ordering::Equal,
            (0, _) => Ordering::Less,
            (_, 0) => Ordering::Greater,
            (left_a, left_b) => by_euclid((b.1, left_b), (a.1, left_a)),
        })
    }
}
