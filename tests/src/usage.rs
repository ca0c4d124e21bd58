//! What processes have used, as Linux tells it: processor time and memory.

use std::path::Path;

use anyhow::{Context, Result};

/// The unit of processor times that Linux shows to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub now: u64,
    /// At most so far.
    pub peak: u64,
}

/// Seconds of processor time of a process so far.
///
/// # Errors
/// When it has ended.
pub fn cpu_seconds(process: u32) -> Result<f64> {
    seconds(Path::new(&format!("/proc/{process}/stat")))
}

/// The same of the threads of this process that have this name.
///
/// # Errors
/// When the system does not tell.
pub fn cpu_seconds_of_threads(name: &str) -> Result<f64> {
    let mut sum = 0.0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let thread = thread?.path();
        // One that ends at this moment is none any more.
        let Ok(named) = std::fs::read_to_string(thread.join("comm")) else { continue };
        if named.trim_end() == name {
            sum += seconds(&thread.join("stat"))?;
        }
    }
    Ok(sum)
}

/// The memory of a process.
///
/// # Errors
/// When it has ended.
pub fn memory(process: u32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    memory_of(&status)
}

/// How many threads of the machine run or wait to, in the mean of the last minute.
///
/// # Errors
/// When the system does not tell.
pub fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().next().context("a load average")?.parse()?)
}

fn seconds(stat: &Path) -> Result<f64> {
    seconds_of(&std::fs::read_to_string(stat)?)
}

fn seconds_of(stat: &str) -> Result<f64> {
    // Behind the name, which may hold anything, user and system time are the 12th and 13th field.
    let (_, fields) = stat.rsplit_once(')').context("a process has a name")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

fn memory_of(status: &str) -> Result<Memory> {
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.split_whitespace().next());
        let kibibytes: u64 = kibibytes.with_context(|| format!("no {name}"))?.parse()?;
        anyhow::Ok(kibibytes * 1024)
    };
    Ok(Memory { now: of("VmRSS:")?, peak: of("VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_as_the_system_writes_them() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 800 0 0 0 250 50 0 0 20 0 9 0 0 0 0";
        assert!((seconds_of(stat).unwrap() - 3.0).abs() < 1e-9);
        let status = "Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n";
        assert_eq!(memory_of(status).unwrap(), Memory { now: 1 << 20, peak: 2 << 20 });
        assert!(memory(std::process::id()).unwrap().peak > 0);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
