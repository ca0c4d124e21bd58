//! Exact comparison of shares: fractions of integers, compared by cross multiplication in 192 bits.
//!
//! Decisions of the solver never touch floating point, so that equal shares are equal and the order
//! of any two shares does not depend on how large the pool is.

use std::cmp::Ordering;

/// A fraction `amount / of` that is not negative. Two ratios are equal when their values are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ratio {
    amount: u64,
    of: u128,
}

impl Ratio {
    const ZERO: Ratio = Ratio { amount: 0, of: 1 };

    /// The largest part that `amounts` are of `total`. A resource of which the pool has nothing
    /// does not count; a negative amount counts as none.
    pub(super) fn dominant(total: &[i64], amounts: impl Iterator<Item = i64>) -> Ratio {
        total
            .iter()
            .zip(amounts)
            .filter_map(|(&total, amount)| Ratio::part(amount, total))
            .fold(Ratio::ZERO, |most, part| if part > most { part } else { most })
    }

    /// This ratio for each unit of `weight`, which is not zero.
    pub(super) fn per(self, weight: u64) -> Ratio {
        // The denominator is one `total`, below 2^63, so the product stays below 2^127.
        Ratio { amount: self.amount, of: self.of * u128::from(weight) }
    }

    /// The nearest floating-point number, for reports.
    pub(super) fn to_f64(self) -> f64 {
        self.amount as f64 / self.of as f64
    }

    fn part(amount: i64, total: i64) -> Option<Ratio> {
        let total = u64::try_from(total).ok().filter(|&total| total > 0)?;
        Some(Ratio { amount: u64::try_from(amount).unwrap_or(0), of: u128::from(total) })
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Ratio) -> Ordering {
        wide_product(self.amount, other.of).cmp(&wide_product(other.amount, self.of))
    }
}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Ratio) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ratio {
    fn eq(&self, other: &Ratio) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ratio {}

/// The resource of which `request` takes the largest part of `total`, the first of equals; none
/// when it asks for nothing that the pool has.
pub(super) fn dominant_resource(total: &[i64], request: &[i64]) -> Option<usize> {
    let mut most = Ratio::ZERO;
    let mut found = None;
    for (resource, (&total, &amount)) in total.iter().zip(request).enumerate() {
        match Ratio::part(amount, total) {
            Some(part) if part > most => {
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

    #[test]
    fn the_largest_amounts_compare_exactly() {
        let of = u128::from(u64::MAX) * (i64::MAX as u128);
        let less = Ratio { amount: u64::MAX - 1, of };
        let more = Ratio { amount: u64::MAX, of };
        assert!(less < more);
        assert!(Ratio { amount: u64::MAX, of: of - 1 } > more);
        assert_eq!(Ratio { amount: 2, of: 6 }, Ratio { amount: 1, of: 3 });
    }

    #[test]
    fn a_resource_that_the_pool_lacks_is_never_dominant() {
        assert_eq!(dominant_resource(&[0, 10], &[5, 1]), Some(1));
        assert_eq!(dominant_resource(&[0, 10], &[5, 0]), None);
        assert_eq!(dominant_resource(&[10, 10], &[2, 2]), Some(0));
        assert_eq!(Ratio::dominant(&[0, 10], [5, -1].into_iter()), Ratio::ZERO);
    }
}
