//! Figures over time in bounded room: means over spans of equal length, which double when there
//! come to be too many of them.

use std::time::Duration;

/// Spans that are kept at most.
const SPANS_MAX: usize = 256;
/// How long a span is at first.
const SPAN_FIRST: Duration = Duration::from_secs(1);

/// Figures over time.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    span: Duration,
    columns: usize,
    /// Of each span, the seconds that are known, and each figure times seconds.
    sums: Vec<(f64, Vec<f64>)>,
}

impl Series {
    /// So many figures.
    pub(crate) fn new(columns: usize) -> Self {
        Self { span: SPAN_FIRST, columns, sums: Vec::new() }
    }

    /// From `from` on, for so long, the figures were these.
    pub(crate) fn add(&mut self, from: Duration, lasted: Duration, values: &[f64]) {
        let to = from + lasted;
        while to > self.span * u32::try_from(SPANS_MAX).expect("it is small") {
            self.halve();
        }
        let mut at = from;
        while at < to {
            let place = usize::try_from(at.as_nanos() / self.span.as_nanos()).unwrap_or(SPANS_MAX);
            let end = self.span * u32::try_from(place + 1).expect("it is small");
            let seconds = end.min(to).saturating_sub(at).as_secs_f64();
            if self.sums.len() <= place {
                self.sums.resize(place + 1, (0.0, vec![0.0; self.columns]));
            }
            let (known, sums) = &mut self.sums[place];
            *known += seconds;
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * seconds);
            at = end;
        }
    }

    fn halve(&mut self) {
        self.span *= 2;
        let mut halved = Vec::with_capacity(self.sums.len() / 2 + 1);
        for pair in self.sums.chunks(2) {
            let (mut known, mut sums) = pair[0].clone();
            if let Some((more, others)) = pair.get(1) {
                known += more;
                sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
            }
            halved.push((known, sums));
        }
        self.sums = halved;
    }

    /// The middle of each span in seconds, of those of which something is known.
    pub(crate) fn times(&self) -> Vec<f64> {
        let span = self.span.as_secs_f64();
        let known = self.sums.iter().enumerate().filter(|(_, (known, _))| *known > 0.0);
        known.map(|(place, _)| (place as f64 + 0.5) * span).collect()
    }

    /// The means of a figure, as many as there are times.
    pub(crate) fn column(&self, column: usize) -> Vec<f64> {
        let known = self.sums.iter().filter(|(known, _)| *known > 0.0);
        known.map(|(known, sums)| sums[column] / known).collect()
    }

    /// The mean of a figure over all time.
    pub(crate) fn mean(&self, column: usize) -> f64 {
        let known: f64 = self.sums.iter().map(|(known, _)| known).sum();
        let sum: f64 = self.sums.iter().map(|(_, sums)| sums[column]).sum();
        if known > 0.0 { sum / known } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_stay_right_while_spans_become_longer() {
        let mut series = Series::new(1);
        let secs = Duration::from_secs;
        for n in 0..10_000_u64 {
            series.add(secs(n), secs(1), &[if n < 5_000 { 1.0 } else { 3.0 }]);
        }
        series.add(secs(10_000), secs(10_000), &[0.0]);
        assert!(series.sums.len() <= SPANS_MAX);
        assert!((series.mean(0) - 1.0).abs() < 1e-9, "{}", series.mean(0));
        let (times, column) = (series.times(), series.column(0));
        assert_eq!(times.len(), column.len());
        let at = |time: f64| column[times.iter().position(|at| *at > time).unwrap()];
        assert!((at(1_000.0) - 1.0).abs() < 1e-9 && (at(7_000.0) - 3.0).abs() < 1e-9);
        assert!(at(15_000.0).abs() < 1e-9);
    }
}
