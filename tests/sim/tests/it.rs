//! The simulation as a test: it can be repeated, what it once found stays found, and fresh seeds
//! keep every promise.

use std::time::Duration;

use muster_runtime::Random;
use sim::{Options, Soak, run, soak};

/// How long fresh seeds are tried; `MUSTER_SIM_SECONDS` says otherwise.
const FRESH: Duration = Duration::from_secs(180);

/// Seeds that once broke a promise, one a line, with what they found behind it.
const REGRESSIONS: &str = include_str!("../../regressions/seeds.txt");

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [9, 12] {
        let (one, other) =
            (run(seed, Options::default()).unwrap(), run(seed, Options::default()).unwrap());
        assert!(one.steps > 1_000, "seed {seed} has {} steps only", one.steps);
        assert_eq!((one.digest, one.steps), (other.digest, other.steps), "seed {seed}");
    }
    let (one, other) = (run(9, Options::default()).unwrap(), run(12, Options::default()).unwrap());
    assert_ne!(one.digest, other.digest);
}

#[test]
fn seeds_that_once_broke_a_promise_keep_it() {
    let lines = REGRESSIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let seed = line.split_whitespace().next().unwrap().parse().unwrap();
        let outcome = run(seed, Options::default()).unwrap();
        assert!(outcome.findings.is_empty(), "seed {seed}: {:#?}", outcome.findings);
    }
}

#[test]
fn fresh_seeds_keep_every_promise() {
    let seconds = std::env::var("MUSTER_SIM_SECONDS").ok().map(|text| text.parse().unwrap());
    let time_max = seconds.map_or(FRESH, Duration::from_secs);
    // Small enough to be typed.
    let first = Random::from_os().below(1 << 40);
    let fresh = Soak { first, seeds_max: u64::MAX, time_max, threads: 2, stops_at_broken: true };
    let summary = soak(&fresh, |_| {}).unwrap();
    let broken = summary.broken.first();
    assert!(
        broken.is_none(),
        "run `cargo run -p sim -- --seed {}`: {broken:#?}",
        broken.map_or(0, |outcome| outcome.seed)
    );
    assert!(summary.seeds > 0, "no seed was run");
}
