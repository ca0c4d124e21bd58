//! How simulated clusters and run times are written.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use muster_core::quantity::Quantity;
use muster_runtime::Random;
use muster_runtime::config::HumanDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::SimulatedConfig;

/// Simulated clusters: `COUNTxNODESxCPUxMEMORY`, such as `2x100x16x64Gi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedSpec {
    /// How many clusters.
    pub count: u32,
    /// Nodes of each.
    pub nodes: u32,
    /// Cpu of each node, as a quantity.
    pub cpu: String,
    /// Memory of each node, as a quantity.
    pub memory: String,
}

/// A text that says no such thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No description of clusters.
    #[error("`{0}` is not COUNTxNODESxCPUxMEMORY, such as `2x100x16x64Gi`")]
    Spec(String),
    /// No run time.
    #[error("`{0}` is not a run time such as `2s`, `50ms..200ms` or `exp(1s)`")]
    RunTime(String),
}

impl SimulatedSpec {
    /// Reads `COUNTxNODESxCPUxMEMORY`.
    ///
    /// # Errors
    /// When it is none, or counts nothing.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let fail = || ParseError::Spec(text.to_owned());
        let parts: Vec<&str> = text.split('x').collect();
        let [count, nodes, cpu, memory] = parts[..] else { return Err(fail()) };
        let number = |text: &str| text.parse().ok().filter(|n: &u32| *n > 0).ok_or_else(fail);
        let quantity = |text: &str| match text.parse::<Quantity>() {
            Ok(quantity) if quantity > Quantity::ZERO => Ok(text.to_owned()),
            Ok(_) | Err(_) => Err(fail()),
        };
        Ok(Self {
            count: number(count)?,
            nodes: number(nodes)?,
            cpu: quantity(cpu)?,
            memory: quantity(memory)?,
        })
    }

    /// The clusters' names: `simulated-1` and so on.
    pub fn names(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.count).map(|n| format!("simulated-{n}"))
    }

    /// The settings of one of them, everything else as in `base`.
    #[must_use]
    pub fn config(&self, base: &SimulatedConfig) -> SimulatedConfig {
        SimulatedConfig {
            nodes: self.nodes,
            cpu: self.cpu.clone(),
            memory: self.memory.clone(),
            ..base.clone()
        }
    }
}

/// How long simulated pods run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunTime {
    /// Always so long.
    Fixed(HumanDuration),
    /// Evenly spread between two times.
    Uniform(HumanDuration, HumanDuration),
    /// Exponentially distributed with that mean.
    Exponential(HumanDuration),
}

impl RunTime {
    /// A run time, drawn.
    #[must_use]
    pub fn draw(self, random: &Random) -> Duration {
        match self {
            Self::Fixed(time) => time.0,
            Self::Uniform(from, to) => from.0 + to.0.saturating_sub(from.0).mul_f64(random.unit()),
            Self::Exponential(mean) => mean.0.mul_f64(-(1.0 - random.unit()).ln()),
        }
    }
}

impl Default for RunTime {
    fn default() -> Self {
        Self::Fixed(HumanDuration::secs(1))
    }
}

impl fmt::Display for RunTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(time) => time.fmt(f),
            Self::Uniform(from, to) => write!(f, "{from}..{to}"),
            Self::Exponential(mean) => write!(f, "exp({mean})"),
        }
    }
}

impl FromStr for RunTime {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseError::RunTime(text.to_owned());
        let time = |text: &str| text.trim().parse::<HumanDuration>().map_err(|_| fail());
        if let Some(mean) = text.strip_prefix("exp(").and_then(|rest| rest.strip_suffix(')')) {
            return Ok(Self::Exponential(time(mean)?));
        }
        match text.split_once("..") {
            None => Ok(Self::Fixed(time(text)?)),
            Some((from, to)) => {
                let (from, to) = (time(from)?, time(to)?);
                if from <= to { Ok(Self::Uniform(from, to)) } else { Err(fail()) }
            }
        }
    }
}

impl Serialize for RunTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_read() {
        let spec = SimulatedSpec::parse("2x100x500mx64Gi").unwrap();
        assert_eq!((spec.count, spec.nodes), (2, 100));
        assert_eq!((spec.cpu.as_str(), spec.memory.as_str()), ("500m", "64Gi"));
        assert_eq!(spec.names().collect::<Vec<_>>(), ["simulated-1", "simulated-2"]);
        for bad in ["", "2x100x16", "0x1x1x1Gi", "1x1x1x1x1", "1x1xax1Gi", "1x1x1x0"] {
            assert!(SimulatedSpec::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn run_times_are_read_shown_and_drawn() {
        let random = Random::seeded(1);
        for text in ["2s", "50ms..200ms", "exp(1s)"] {
            let time: RunTime = text.parse().unwrap();
            assert_eq!(time.to_string(), text);
            let drawn = time.draw(&random);
            assert!(drawn < Duration::from_secs(60));
        }
        let uniform: RunTime = "50ms..200ms".parse().unwrap();
        for _ in 0..100 {
            let drawn = uniform.draw(&random).as_millis();
            assert!((50..=200).contains(&drawn));
        }
        for bad in ["", "soon", "2s..1s", "exp(x)", "exp(1s"] {
            assert!(bad.parse::<RunTime>().is_err(), "{bad}");
        }
    }
}
