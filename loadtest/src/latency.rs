//! Latencies in microseconds, to three digits, up to an hour.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

const MICROS_MAX: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// How often each latency was measured.
#[derive(Debug, Clone)]
pub struct Latency {
    histogram: Histogram<u64>,
}

/// The percentiles that reports show, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// The mean.
    pub mean_ms: f64,
    /// Half of them are no slower.
    pub p50_ms: f64,
    /// 90 % of them are no slower.
    pub p90_ms: f64,
    /// 99 % of them are no slower.
    pub p99_ms: f64,
    /// 99.9 % of them are no slower.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_max(MICROS_MAX, DIGITS);
        Self { histogram: histogram.expect("the bounds are sound") }
    }
}

impl Latency {
    /// Adds one; what is longer than an hour counts as an hour.
    pub fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(MICROS_MAX);
        self.histogram.saturating_record(micros.clamp(1, MICROS_MAX));
    }

    /// Adds what another one measured.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
    }

    /// The percentiles.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Percentiles {
            count: self.histogram.len(),
            mean_ms: self.histogram.mean() / 1000.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: self.histogram.max() as f64 / 1000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let mut latency = Latency::default();
        (1..=1000).for_each(|ms| latency.add(Duration::from_millis(ms)));
        let shown = latency.percentiles();
        assert_eq!(shown.count, 1000);
        assert!((shown.p50_ms - 500.0).abs() < 1.0 && (shown.p99_ms - 990.0).abs() < 1.0);
        let mut sum = Latency::default();
        sum.merge(&latency);
        sum.add(Duration::from_secs(1_000_000));
        assert_eq!(sum.percentiles().count, 1001);
    }
}
