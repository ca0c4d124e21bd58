//! What a chaos run found, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use muster_loadtest::audit;
use serde::{Deserialize, Serialize};

use super::nemesis::Happened;
use super::probe::{Round, recovery};
use super::schedule::Kind;

/// How a run went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The seed of the schedule.
    pub seed: u64,
    /// How long faults went on.
    pub seconds: f64,
    /// The machine's load average over a minute, at the end of the faults; where it can be read.
    pub load_average: Option<f64>,
    /// Why no disk was filled, if none could be.
    pub no_disks: Option<String>,
    /// Jobs that were acknowledged.
    pub acknowledged: u64,
    /// Of these, those that succeeded.
    pub finished: u64,
    /// Of these, those that were cancelled.
    pub cancelled: u64,
    /// Acknowledged jobs that are not there.
    pub lost: u64,
    /// How often something was there, ended, or was started more than once.
    pub duplicated: u64,
    /// Submissions, those that were sent a second time on purpose not counted.
    pub requests: u64,
    /// Submissions that were sent a second time, and gave the same ids.
    pub repeated: u64,
    /// Cancellations.
    pub cancels: u64,
    /// Rounds of the probe.
    pub probes: u64,
    /// Events that watchers saw while all that happened, without gap and repetition.
    pub events_followed: u64,
    /// How long each kind of fault was felt.
    pub recoveries: Vec<Recovery>,
    /// Processes that ended by themselves, and were started again.
    pub ended: Vec<String>,
    /// From the last fault's end until nothing lived any more and all was audited.
    pub drain_seconds: f64,
    /// The audit.
    pub audit: audit::Report,
    /// What else was not as promised.
    pub findings: Vec<String>,
}

/// How long a kind of fault was felt, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// The kind.
    pub kind: Kind,
    /// How often it happened.
    pub times: usize,
    /// How long it lasted, until it was put right.
    pub lasted: Spread,
    /// From its beginning until a job submitted later was acknowledged, in every shard.
    pub acknowledged: Spread,
    /// From its beginning until a job submitted later had run, of every shard.
    pub ran: Spread,
    /// From its end until a job submitted later had run, of every shard.
    pub ran_after: Spread,
}

/// Of some times, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// The one in the middle.
    pub median: u64,
    /// The longest.
    pub worst: u64,
}

impl Report {
    /// Whether every promise was kept.
    pub fn passed(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.findings.is_empty()
            && self.audit.passed()
            && self.audit.unacknowledged == 0
    }

    /// A page for people.
    pub fn text(&self) -> String {
        let faults = self.recoveries.iter().map(|one| one.times).sum::<usize>();
        let mut text = format!(
            "seed {}: {:.0} s, {faults} faults of {} kinds, load average {}\n\
             jobs: {} acknowledged, {} finished, {} cancelled, {} lost, {} duplicated\n\
             {} submissions, {} sent twice, {} cancellations, {} probes, {} events followed\n",
            self.seed,
            self.seconds,
            self.recoveries.len(),
            self.load_average.map_or("unknown".to_owned(), |load| format!("{load:.1}")),
            self.acknowledged,
            self.finished,
            self.cancelled,
            self.lost,
            self.duplicated,
            self.requests,
            self.repeated,
            self.cancels,
            self.probes,
            self.events_followed,
        );
        if let Some(why) = &self.no_disks {
            writeln!(text, "NO DISK WAS FILLED: {why}").expect("a string takes everything");
        }
        text += &self.table();
        for ended in &self.ended {
            writeln!(text, "ended by itself: {ended}").expect("a string takes everything");
        }
        write!(text, "{:.1} s later: {}", self.drain_seconds, self.audit.text())
            .expect("a string takes everything");
        for finding in &self.findings {
            writeln!(text, "  {finding}").expect("a string takes everything");
        }
        text += if self.passed() { "every promise was kept\n" } else { "BROKEN\n" };
        text
    }

    /// Recovery by kind, as a table of Markdown: medians and worst, in seconds.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| fault | times | lasted | acknowledged | ran | ran after its end |\n\
             | --- | --- | --- | --- | --- | --- |\n",
        );
        for one in &self.recoveries {
            let Recovery { lasted, acknowledged, ran, ran_after, .. } = one;
            let cells = [lasted, acknowledged, ran, ran_after].map(|spread| spread.text());
            let cells = cells.join(" | ");
            writeln!(text, "| {} | {} | {cells} |", one.kind.name(), one.times)
                .expect("a string takes everything");
        }
        text
    }
}

impl Spread {
    /// Of at least one time.
    fn of(times: impl Iterator<Item = Duration>) -> Option<Self> {
        let mut times = times.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let mut times = times.by_ref().collect::<Vec<_>>();
        times.sort_unstable();
        Some(Self { median: *times.get(times.len() / 2)?, worst: *times.last()? })
    }

    fn text(&self) -> String {
        format!("{:.1} / {:.1}", self.median as f64 / 1e3, self.worst as f64 / 1e3)
    }
}

/// How long each kind was felt. Faults that no probe began after are left out: there are none as
/// long as the probe goes on until after the last.
pub(super) fn recoveries(happened: &[Happened], rounds: &[Round]) -> Vec<Recovery> {
    let mut by_kind: BTreeMap<Kind, Vec<&Happened>> = BTreeMap::new();
    for fault in happened {
        by_kind.entry(fault.kind).or_default().push(fault);
    }
    let of_kind = |(kind, faults): (Kind, Vec<&Happened>)| {
        let since = |moment: fn(&Happened) -> Duration| {
            faults.iter().filter_map(move |fault| recovery(rounds, moment(fault)))
        };
        Some(Recovery {
            kind,
            times: faults.len(),
            lasted: Spread::of(faults.iter().map(|fault| fault.ended - fault.began))?,
            acknowledged: Spread::of(since(|fault| fault.began).map(|(first, _)| first))?,
            ran: Spread::of(since(|fault| fault.began).map(|(_, second)| second))?,
            ran_after: Spread::of(since(|fault| fault.ended).map(|(_, second)| second))?,
        })
    };
    by_kind.into_iter().filter_map(of_kind).collect()
}
