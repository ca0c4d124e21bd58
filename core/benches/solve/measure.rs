//! One case in one size.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::io::{Error, Result};
use std::time::Instant;

use muster_core::solve::{Problem, solve};

const ROUNDS: usize = 7;

/// What a round takes.
pub(crate) struct Figures {
    /// Half of the rounds took so long at most.
    pub(crate) ms: f64,
    pub(crate) placed: u64,
    pub(crate) looked_at_per_search: f64,
    /// Resident memory that the first round added at its most, its plan included.
    pub(crate) megabytes: f64,
}

impl Figures {
    pub(crate) fn measure(problem: &Problem) -> Result<Figures> {
        // Resets the highest resident memory to what there is now.
        fs::write("/proc/self/clear_refs", "5")?;
        let before = highest_kilobytes()?;
        let figures = solve(problem).figures;
        let megabytes = (highest_kilobytes()? - before) / 1024.0;
        let searches = figures.searches.max(1) as f64;
        Ok(Figures {
            ms: median_ms(problem),
            placed: figures.placed,
            looked_at_per_search: figures.nodes_looked_at as f64 / searches,
            megabytes,
        })
    }

    pub(crate) fn rate(&self) -> f64 {
        self.placed as f64 / (self.ms / 1e3)
    }

    /// Reads what the other process printed.
    pub(crate) fn read(text: &str) -> Result<Figures> {
        let numbers: std::result::Result<Vec<f64>, _> =
            text.split_whitespace().map(str::parse).collect();
        match numbers.map_err(Error::other)?[..] {
            [ms, placed, looked_at_per_search, megabytes] => {
                Ok(Figures { ms, placed: placed as u64, looked_at_per_search, megabytes })
            }
            _ => Err(Error::other(format!("these are no figures: {text}"))),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { ms, placed, looked_at_per_search, megabytes } = self;
        write!(f, "{ms} {placed} {looked_at_per_search} {megabytes}")
    }
}

fn highest_kilobytes() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Error::other("no highest resident memory is told"))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's own time")]
fn median_ms(problem: &Problem) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(solve(black_box(problem)));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times[ROUNDS / 2]
}
