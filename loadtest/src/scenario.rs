//! A scenario: which queues, how jobs arrive, what they are like, for how long.

use std::time::Duration;

use muster_core::limits::{JOB_BYTES_MAX, JOBS_PER_JSON_MAX};
use muster_runtime::config::HumanDuration;
use muster_runtime::random::Random;
use serde::{Deserialize, Serialize};

use crate::job::Kind;

/// A scenario file (TOML).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Whose shares are watched.
    #[serde(default = "default_pool")]
    pub pool: String,
    /// The job set; a number that differs in every run is added to it.
    #[serde(default = "default_job_set")]
    pub job_set: String,
    /// How long jobs arrive.
    pub duration: HumanDuration,
    /// How long the deployment may take afterwards to finish what has arrived.
    pub drain: HumanDuration,
    /// The same seed gives the same arrivals.
    #[serde(default)]
    pub seed: u64,
    /// How jobs arrive.
    pub arrivals: Arrivals,
    /// Where they arrive.
    pub queues: Vec<Queue>,
    /// What they are like.
    pub jobs: Vec<Jobs>,
}

/// How jobs arrive: whatever the deployment does, an open loop does not wait for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrivals {
    /// In which rhythm.
    #[serde(default)]
    pub pattern: Pattern,
    /// Requests a second, on average.
    pub requests_per_second: f64,
    /// Jobs of each request.
    pub jobs_per_request: usize,
    /// More requests than this are not on their way at once; those that come due meanwhile are sent
    /// late, and measured from when they were due.
    #[serde(default = "default_in_flight_max")]
    pub in_flight_max: usize,
}

/// The rhythm of arrivals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Independent of each other.
    #[default]
    Poisson,
    /// Evenly spaced.
    Constant,
}

/// A queue of the scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Its name; it is created if it is not there, and given the weight.
    pub name: String,
    /// Its weight.
    #[serde(default = "one")]
    pub weight: f64,
    /// Its part of the requests, in proportion to the other queues'.
    #[serde(default = "one")]
    pub portion: f64,
}

/// A kind of job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// Its part of the jobs, in proportion to the other kinds'.
    #[serde(default = "one")]
    pub portion: f64,
    /// What it asks for.
    #[serde(default = "default_cpu")]
    pub cpu: String,
    /// What it asks for.
    #[serde(default = "default_memory")]
    pub memory: String,
    /// How long it runs, where it is simulated.
    pub runtime: Option<HumanDuration>,
    /// How likely it fails, where it is simulated.
    pub failure_rate: Option<f64>,
    /// Tasks, for arrays.
    pub count: Option<u32>,
    /// Bytes of its pod spec, at least.
    #[serde(default)]
    pub spec_bytes: usize,
}

fn default_pool() -> String {
    "default".to_owned()
}

fn default_job_set() -> String {
    "load".to_owned()
}

fn default_cpu() -> String {
    "100m".to_owned()
}

fn default_memory() -> String {
    "64Mi".to_owned()
}

fn default_in_flight_max() -> usize {
    256
}

fn one() -> f64 {
    1.0
}

/// Why a text is no scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not the fields or types of one.
    #[error("{0}")]
    Malformed(String),
    /// A value that makes no sense.
    #[error("`{field}` {reason}")]
    Senseless {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let scenario: Self =
            toml::from_str(text).map_err(|error| Error::Malformed(error.to_string()))?;
        scenario.validate()?;
        Ok(scenario)
    }

    fn validate(&self) -> Result<(), Error> {
        let senseless =
            |field, reason: &str| Err(Error::Senseless { field, reason: reason.to_owned() });
        let arrivals = &self.arrivals;
        if !(arrivals.requests_per_second.is_finite() && arrivals.requests_per_second > 0.0) {
            return senseless("arrivals.requests_per_second", "must be above 0");
        }
        if !(1..=JOBS_PER_JSON_MAX).contains(&arrivals.jobs_per_request) {
            return senseless("arrivals.jobs_per_request", "must be from 1 to 10000");
        }
        if arrivals.in_flight_max == 0 {
            return senseless("arrivals.in_flight_max", "must be above 0");
        }
        let positive = |portion: f64| portion.is_finite() && portion > 0.0;
        if self.queues.is_empty() || !self.queues.iter().all(|queue| positive(queue.portion)) {
            return senseless("queues", "needs an entry, and portions above 0");
        }
        if self.jobs.is_empty() || !self.jobs.iter().all(|jobs| positive(jobs.portion)) {
            return senseless("jobs", "needs an entry, and portions above 0");
        }
        if self.jobs.iter().any(|jobs| jobs.spec_bytes > JOB_BYTES_MAX / 2) {
            return senseless("jobs.spec_bytes", "must be at most 32768");
        }
        let rate = |jobs: &Jobs| jobs.failure_rate.is_none_or(|rate| (0.0..=1.0).contains(&rate));
        if !self.jobs.iter().all(rate) {
            return senseless("jobs.failure_rate", "must be from 0 to 1");
        }
        Ok(())
    }
}

impl Jobs {
    /// What one such job is like.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind {
            cpu: self.cpu.clone(),
            memory: self.memory.clone(),
            runtime: self.runtime.map(Duration::from),
            failure_rate: self.failure_rate,
            count: self.count,
            spec_bytes: self.spec_bytes,
        }
    }
}

impl Arrivals {
    /// The time between two arrivals.
    #[must_use]
    pub fn gap(&self, random: &Random) -> Duration {
        let mean = 1.0 / self.requests_per_second;
        match self.pattern {
            Pattern::Constant => Duration::from_secs_f64(mean),
            // 1 - unit is in (0, 1]: its logarithm is finite.
            Pattern::Poisson => Duration::from_secs_f64(-(1.0 - random.unit()).ln() * mean),
        }
    }
}

/// The index that `random` picks, in proportion to the portions.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn pick(portions: &[f64], random: &Random) -> usize {
    let mut left = random.unit() * portions.iter().sum::<f64>();
    for (at, portion) in portions.iter().enumerate() {
        left -= portion;
        if left < 0.0 {
            return at;
        }
    }
    portions.len().checked_sub(1).expect("a scenario has at least one of each")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
duration = "30s"
drain = "2m"
[arrivals]
pattern = "constant"
requests_per_second = 20.0
jobs_per_request = 50
[[queues]]
name = "a"
[[queues]]
name = "b"
weight = 3.0
portion = 2.0
[[jobs]]
cpu = "250m"
runtime = "2s"
failure_rate = 0.1
[[jobs]]
count = 10
portion = 0.1
"#;

    #[test]
    fn a_scenario_is_read_with_its_defaults() {
        let scenario = Scenario::parse(TEXT).unwrap();
        assert_eq!(scenario.drain.0, Duration::from_secs(120));
        assert_eq!((scenario.queues[0].weight, scenario.queues[1].weight), (1.0, 3.0));
        assert_eq!(scenario.jobs[0].kind().runtime, Some(Duration::from_secs(2)));
        assert_eq!(scenario.jobs[1].memory, "64Mi");
        let random = Random::seeded(1);
        assert_eq!(scenario.arrivals.gap(&random), Duration::from_millis(50));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let why = |from: &str, to: &str| {
            Scenario::parse(&TEXT.replace(from, to)).unwrap_err().to_string()
        };
        assert!(why("20.0", "0.0").contains("requests_per_second"));
        assert!(why("= 50", "= 0").contains("jobs_per_request"));
        assert!(why("0.1\n[[jobs]]", "1.1\n[[jobs]]").contains("failure_rate"));
        assert!(why("portion = 2.0", "portion = 0.0").contains("queues"));
        assert!(why("count", "cuont").contains("cuont"));
    }

    #[test]
    fn poisson_gaps_have_the_right_mean_and_picks_the_right_portions() {
        let mut arrivals = Scenario::parse(TEXT).unwrap().arrivals;
        arrivals.pattern = Pattern::Poisson;
        let random = Random::seeded(3);
        let total: Duration = (0..20_000).map(|_| arrivals.gap(&random)).sum();
        assert!((total.as_secs_f64() - 1000.0).abs() < 30.0, "{total:?}");
        let picked = (0..10_000).filter(|_| pick(&[1.0, 3.0], &random) == 1).count();
        assert!((7_300..7_700).contains(&picked), "{picked}");
    }
}
