//! The proof that the simulation finds bugs: each mutation of `muster_core::mutant` is put in force
//! alone, and seeds are run from a fixed one on until a promise is found broken.

use std::sync::Mutex;

use muster_core::mutant::Mutant;

use crate::soak::watched;
use crate::{Options, Summary};

/// The first seed.
const FIRST: u64 = 1;

/// What is known of a mutation.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it breaks.
    pub breaks: &'static str,
    /// Seeds within which it is found; none where so many were tried in vain that no number can be
    /// stated.
    pub stated: Option<u64>,
}

/// What is known of each: its name, what it breaks, and within how many seeds it is found.
const ABOUT: [(Mutant, &str, &str, Option<u64>); 31] = [
    (
        Mutant::AcknowledgesEarly,
        "acknowledges-early",
        "an answer leaves before its commit is durable",
        Some(5),
    ),
    (
        Mutant::TimeoutIsSuccess,
        "timeout-is-success",
        "a put without an answer counts as written",
        Some(50),
    ),
    (
        Mutant::TimeoutIsFailure,
        "timeout-is-failure",
        "a put without an answer counts as not written",
        Some(50),
    ),
    (
        Mutant::ConflictIsOurs,
        "conflict-is-ours",
        "a key that is taken counts as taken by oneself",
        Some(50),
    ),
    (Mutant::NoFence, "no-fence", "a takeover writes no fence", Some(5)),
    (Mutant::IgnoresFence, "ignores-fence", "an owner that is fenced goes on", Some(70)),
    (
        Mutant::DropsLastRecord,
        "drops-last-record",
        "the last record of a commit is not written",
        Some(5),
    ),
    (
        Mutant::CarriesOutTwice,
        "carries-out-twice",
        "a command that comes again is carried out again",
        Some(10),
    ),
    (
        Mutant::ForgetsAnswers,
        "forgets-answers",
        "a takeover does not read what was answered to whom",
        Some(20),
    ),
    (Mutant::TakesOverAtOnce, "takes-over-at-once", "a takeover does not wait", Some(20)),
    (
        Mutant::TrustsForEver,
        "trusts-for-ever",
        "trust in a lease does not end with its time",
        Some(20),
    ),
    (
        Mutant::ReadsUncommitted,
        "reads-uncommitted",
        "a read does not wait for the commit of what it shows",
        Some(20),
    ),
    (
        Mutant::NotesHistoryEarly,
        "notes-history-early",
        "history is noted before it is written",
        Some(50),
    ),
    (
        Mutant::WritesUnplannedHistory,
        "writes-unplanned-history",
        "history is written before its plan is durable",
        Some(250),
    ),
    (Mutant::CheckpointLosesJob, "checkpoint-loses-job", "a checkpoint lacks a job", Some(20)),
    (
        Mutant::CheckpointForgetsAttempts,
        "checkpoint-forgets-attempts",
        "a checkpoint lacks how often jobs ran",
        Some(50),
    ),
    (
        Mutant::CheckpointForgetsTerms,
        "checkpoint-forgets-terms",
        "a checkpoint lacks what jobs wait for",
        Some(50),
    ),
    (Mutant::CollectsFences, "collects-fences", "garbage collection deletes fences", Some(5)),
    (Mutant::RepeatsEvent, "repeats-event", "a cursor's own event comes again", Some(5)),
    (
        Mutant::ForgetsAttempt,
        "forgets-attempt",
        "a report is believed whatever its attempt",
        Some(10),
    ),
    (
        Mutant::TriesAgain,
        "tries-again",
        "an at-most-once job is tried again when its cluster is lost",
        Some(10),
    ),
    (Mutant::LeasesCancelled, "leases-cancelled", "a cancelled job goes on waiting", Some(10)),
    (Mutant::StartsAfterFailure, "starts-after-failure", "no job is waited for", Some(10)),
    (Mutant::RetriesForEver, "retries-for-ever", "retries are not counted", Some(10)),
    (Mutant::RunsAllTasks, "runs-all-tasks", "arrays run all tasks at once", Some(10)),
    (
        Mutant::LeasesPartOfGang,
        "leases-part-of-gang",
        "the last of a gang is not leased with it",
        Some(10),
    ),
    (Mutant::TearsGangs, "tears-gangs", "a gang's members go their own ways", Some(10)),
    (Mutant::IdsGoBack, "ids-go-back", "ids follow the clock when it goes back", Some(15)),
    (
        Mutant::StartsWithoutRoom,
        "starts-without-room",
        "an executor starts runs that do not fit",
        Some(10),
    ),
    (
        Mutant::KeepsOlderAttempt,
        "keeps-older-attempt",
        "an executor lets an older attempt run on",
        Some(10),
    ),
    (Mutant::StartsAgain, "starts-again", "an executor starts a run that is over", None),
];

/// What is known of a mutation.
#[must_use]
pub fn about(mutant: Mutant) -> About {
    let known = ABOUT.into_iter().find(|(of, ..)| *of == mutant);
    let (_, name, breaks, stated) = known.expect("each has a row");
    About { name, breaks, stated }
}

/// What became of a mutation.
#[derive(Debug, Clone)]
pub struct Caught {
    /// The mutation.
    pub mutant: Mutant,
    /// The seed that found it, and what it found first; none if none of the seeds did.
    pub by: Option<(u64, String)>,
    /// Seeds that were allowed.
    pub seeds_max: u64,
}

/// Hunts for every mutation within its stated number of seeds, or for all there are within
/// `seeds_max`, `threads` at once; `seen` is told of each.
///
/// # Errors
/// When this build has no mutations.
pub fn hunt(
    seeds_max: Option<u64>,
    threads: usize,
    seen: impl Fn(&Caught) + Sync,
) -> anyhow::Result<Vec<Caught>> {
    let allowed = |mutant| Some((mutant, seeds_max.or(about(mutant).stated)?));
    let left = Mutex::new(Mutant::ALL.into_iter().filter_map(allowed).enumerate());
    let caught = Mutex::new(Vec::new());
    let work = || -> anyhow::Result<()> {
        loop {
            let next = left.lock().expect("no code panics while it holds this lock").next();
            let Some((place, (mutant, seeds_max))) = next else { return Ok(()) };
            let one = hunt_one(mutant, seeds_max)?;
            seen(&one);
            caught.lock().expect("no code panics while it holds this lock").push((place, one));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let ends = threads.into_iter().map(|thread| thread.join().expect("it does not panic"));
        ends.collect::<anyhow::Result<Vec<()>>>()
    })?;
    let mut caught = caught.into_inner().expect("no code panics while it holds this lock");
    caught.sort_by_key(|(place, _)| *place);
    Ok(caught.into_iter().map(|(_, one)| one).collect())
}

fn hunt_one(mutant: Mutant, seeds_max: u64) -> anyhow::Result<Caught> {
    for seed in FIRST..FIRST + seeds_max {
        let options = Options { mutant: Some(mutant), ..Options::default() };
        let found = watched(seed, options)?.findings.into_iter().next();
        if let Some(finding) = found {
            return Ok(Caught { mutant, by: Some((seed, finding)), seeds_max });
        }
    }
    Ok(Caught { mutant, by: None, seeds_max })
}

/// The seeds that all mutations were hunted with, without one.
///
/// # Errors
/// As [`crate::soak`].
pub fn unmutated(caught: &[Caught], threads: usize) -> anyhow::Result<Summary> {
    let needed = caught.iter().filter_map(|one| one.by.as_ref().map(|(seed, _)| *seed)).max();
    let seeds_max = needed.map_or(1, |seed| seed + 1 - FIRST);
    let time_max = std::time::Duration::MAX;
    let soak = crate::Soak { first: FIRST, seeds_max, time_max, threads, stops_at_broken: false };
    crate::soak(&soak, |_| {})
}

/// The table, for people and for documents.
#[must_use]
pub fn table(caught: &[Caught]) -> String {
    let mut text = "| mutation | what it breaks | seeds needed | stated | found by |\n\
                    | --- | --- | ---: | ---: | --- |\n"
        .to_owned();
    for Caught { mutant, by, seeds_max } in caught {
        let About { name, breaks, .. } = about(*mutant);
        let (needed, finding) = match by {
            Some((seed, finding)) => ((seed + 1 - FIRST).to_string(), in_short(finding)),
            None => ("—".to_owned(), "NOT FOUND".to_owned()),
        };
        text += &format!("| `{name}` | {breaks} | {needed} | {seeds_max} | {finding} |\n");
    }
    text
}

fn in_short(finding: &str) -> String {
    /// Characters of a finding that say what it is.
    const SHOWN: usize = 110;
    let mut short: String = finding.replace('|', "/").chars().take(SHOWN).collect();
    if finding.chars().count() > SHOWN {
        short.push('…');
    }
    short
}
