//! A leader's rounds without bus, store and clock: for the benchmark of all that a round does
//! beside waiting for shards and executors.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use muster_api::bus;
use muster_core::Name;
use muster_core::control::Control;
use muster_core::solve::Plan;
use muster_core::time::Timestamp;

use super::absent::Absent;
use super::round::{Kept, Round, Terms};
use super::table::{Heard, Table};

/// A pool as its leader knows it.
#[derive(Debug)]
pub struct Rehearsal {
    table: Table,
    control: Control,
}

/// One round, step by step.
pub struct Rehearsed {
    round: Round,
    plan: Plan,
}

impl Rehearsal {
    /// A pool of which nothing is known yet.
    #[must_use]
    pub fn new(pool: &str, control: Control) -> Self {
        Self { table: Table::new(pool), control }
    }

    /// Takes in what a shard has published.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn offers(&mut self, payload: &[u8]) -> Result<(), String> {
        let offers = bus::decode(payload).map_err(|error| error.to_string())?;
        self.table.offers(offers);
        Ok(())
    }

    /// Takes in what an executor asks.
    ///
    /// # Errors
    /// When it cannot be read, or follows on nothing that is known.
    pub fn request(&mut self, payload: &[u8]) -> Result<(), String> {
        let request = bus::decode(payload).map_err(|error| error.to_string())?;
        match self.table.request(&request, Duration::ZERO, Timestamp(0)) {
            Heard::Yes => Ok(()),
            other => Err(format!("it follows on nothing that is known: {other:?}")),
        }
    }

    /// The problem of leasing to clusters that take so many jobs each, `jobs_max` in all; `None`
    /// when nothing waits. What is known stays as it is.
    #[must_use]
    pub fn prepare(&self, clusters: &BTreeMap<Name, u64>, jobs_max: u64) -> Option<Rehearsed> {
        let (rates, kept) = (BTreeMap::new(), Kept::new());
        let (paced, overdue) = (None, Timestamp(0));
        let now = Timestamp(0);
        let absent = Absent::new();
        let (rates, kept, absent) = (&rates, &kept, &absent);
        let terms = Terms { jobs_max, paced, rates, overdue, kept, absent, now };
        let round = Round::new(&self.table, &self.control, clusters, &terms)?;
        Some(Rehearsed { round, plan: Plan::default() })
    }
}

impl Rehearsed {
    /// Decides it; how many jobs are placed.
    pub fn solve(&mut self) -> u64 {
        self.plan = self.round.solve();
        self.plan.figures.placed
    }

    /// Notes what a leader notes of a round, and makes the lease commands: how many.
    #[must_use]
    pub fn tell(&self, clusters: &BTreeMap<Name, u64>) -> usize {
        let (round, plan) = (&self.round, &self.plan);
        let missed = (round.stuck(plan), round.is_short(plan), round.claims(plan, Timestamp(0)));
        let placed = (round.placed_jobs(plan), round.held_back(plan), round.placed(plan));
        black_box((missed, placed));
        round.picks(plan, clusters).len()
    }
}
