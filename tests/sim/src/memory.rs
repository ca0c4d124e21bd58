//! The memory of the process over a long run, so that a leak shows: seeds come and go, and what
//! they used has to go with them.

use std::fmt::Write as _;
use std::time::Duration;

/// Lines of the plot.
const LINES: usize = 12;
/// Width of the longest bar.
const BAR_CHARS: u64 = 50;
const MIB: u64 = 1024 * 1024;

/// Resident bytes at moments of a run.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<(Duration, u64)>);

impl Samples {
    /// Notes what is resident now, `at` into the run.
    pub fn take(&mut self, at: Duration) {
        // Where the system does not say, nothing is plotted.
        let bytes = muster_runtime::metrics::resident_bytes();
        self.0.extend(bytes.and_then(|bytes| Some((at, u64::try_from(bytes).ok()?))));
    }

    /// A bar for each twelfth of the run: the most that was resident in it. Empty without samples.
    #[must_use]
    pub fn plot(&self) -> String {
        let Some((last, _)) = self.0.last() else { return String::new() };
        let part = (*last / u32::try_from(LINES).expect("it is small")).max(Duration::from_secs(1));
        let mut most = [None; LINES];
        for (at, bytes) in &self.0 {
            let index = usize::try_from(at.as_nanos() / part.as_nanos()).unwrap_or(usize::MAX);
            let slot = &mut most[index.min(LINES - 1)];
            *slot = (*slot).max(Some(*bytes));
        }
        let peak = most.iter().flatten().max().copied().unwrap_or_default().max(1);
        let mut text = "resident memory, at most, from each minute on\n".to_owned();
        for (index, bytes) in most.iter().enumerate() {
            let Some(bytes) = bytes else { continue };
            let minutes = part.as_secs_f64() * f64::from(u32::try_from(index).unwrap_or(0)) / 60.0;
            let bar = "█".repeat(usize::try_from(bytes * BAR_CHARS / peak).unwrap_or_default());
            let _ = writeln!(text, "  {minutes:>6.1}  {:>6} MiB  {bar}", bytes / MIB);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_run_has_a_bar_with_its_peak() {
        let minute = |n: u64| Duration::from_secs(60 * n);
        let mut samples = Samples::default();
        assert_eq!(samples.plot(), "");
        samples.0 = (0..=24).map(|n| (minute(n), (100 + n) * MIB)).collect();
        samples.0[7].1 = 248 * MIB;
        let plot = samples.plot();
        let lines: Vec<&str> = plot.lines().skip(1).collect();
        assert_eq!(lines.len(), LINES);
        assert!(lines[0].starts_with("     0.0     101 MiB  ████"), "{plot}");
        assert_eq!(lines[3].matches('█').count(), 50, "{plot}");
        assert!(lines[3].starts_with("     6.0     248 MiB"), "{plot}");
        assert!(lines[11].starts_with("    22.0     124 MiB"), "{plot}");
        assert_eq!(lines[11].matches('█').count(), 25, "{plot}");
    }

    #[test]
    fn this_process_has_memory() {
        let mut samples = Samples::default();
        samples.take(Duration::ZERO);
        assert_eq!(samples.plot().lines().count(), 2, "{}", samples.plot());
    }
}
