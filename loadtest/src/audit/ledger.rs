//! The books of one job set: what was acknowledged on one side, what is shown on the other.

use std::collections::{BTreeMap, BTreeSet};

use muster_api::http::{Event, Job, Run};
use muster_core::id::{JobId, JobRef};
use muster_core::job::JobState;

use super::FINDINGS_NAMED;
use crate::acknowledged::{JobSet, Record};

/// The books.
pub(super) struct Ledger {
    /// Sorted by id.
    records: Vec<Record>,
    unanswered: u64,
    entries: Vec<Entry>,
    arrays: BTreeMap<usize, Tasks>,
    /// Ids that were not acknowledged.
    strangers: BTreeSet<JobId>,
    total: u64,
    result: Result,
}

/// What is wrong, and how much was looked at.
#[derive(Debug, Default)]
pub(super) struct Result {
    pub(super) found: u64,
    pub(super) events: u64,
    pub(super) unacknowledged: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) findings: u64,
    pub(super) named: Vec<(Option<String>, String)>,
}

/// What was seen of one record.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// How often it was listed as a whole.
    listed: u8,
    /// The attempt that lives, or 0.
    attempt: u32,
    /// Jobs of it that events ended.
    ended: u32,
    /// As listed.
    state: Option<JobState>,
    /// As the event that ended it said.
    ended_as: Option<JobState>,
}

/// What was seen of an array's tasks.
#[derive(Debug, Default)]
struct Tasks {
    listed: BTreeSet<u32>,
    ended: BTreeSet<u32>,
    attempts: BTreeMap<u32, u32>,
}

impl Ledger {
    pub(super) fn new(job_set: JobSet) -> Self {
        let JobSet { mut records, unanswered } = job_set;
        records.sort_unstable();
        let mut result = Result::default();
        for pair in records.windows(2).filter(|pair| pair[0].id == pair[1].id) {
            result.add_repeated(Some(id_text(&pair[0])), "was given to two submissions");
        }
        records.dedup_by_key(|record| record.id);
        let entries = vec![Entry::default(); records.len()];
        let (arrays, strangers) = (BTreeMap::new(), BTreeSet::new());
        Self { records, unanswered, entries, arrays, strangers, total: 0, result }
    }

    pub(super) fn see_counts(&mut self, counts: &BTreeMap<String, u64>) {
        self.total = counts.values().sum();
        for (name, count) in counts.iter().filter(|(_, count)| **count > 0) {
            if !JobState::from_name(name).is_some_and(JobState::is_final) {
                self.result.add(None, format!("{count} jobs are counted as {name} at the end"));
            }
        }
    }

    pub(super) fn see_job(&mut self, job: &Job) {
        let Some((reference, at)) = self.find(&job.job_id) else { return };
        let state = JobState::from_name(&job.state);
        if !state.is_some_and(JobState::is_final) {
            self.result.add(Some(job.job_id.clone()), format!("is {} at the end", job.state));
        }
        if let Some(what) = overlap(&job.runs) {
            self.result.add(Some(job.job_id.clone()), what);
        }
        let again = match reference.index {
            Some(index) => !self.arrays.entry(at).or_default().listed.insert(index),
            None => {
                let entry = &mut self.entries[at];
                entry.listed = entry.listed.saturating_add(1);
                entry.state = state;
                entry.listed > 1
            }
        };
        if again {
            self.result.add_repeated(Some(job.job_id.clone()), "is listed twice");
        }
    }

    pub(super) fn see_event(&mut self, event: &Event) {
        self.result.events += 1;
        let Some((reference, at)) = self.find(&event.job_id) else { return };
        let id = || Some(event.job_id.clone());
        match event.event.as_str() {
            "leased" => {
                let attempt = event.attempt.unwrap_or(1);
                let before = std::mem::replace(self.attempt(at, reference), attempt);
                if before != 0 {
                    let what = format!("attempt {attempt} was leased while attempt {before} lived");
                    self.result.add(id(), what);
                }
            }
            "requeued" | "preempted" => *self.attempt(at, reference) = 0,
            name => {
                // Every other event leaves the attempt as it is.
                let Some(state) = JobState::from_name(name).filter(|state| state.is_final()) else {
                    return;
                };
                *self.attempt(at, reference) = 0;
                let again = match reference.index {
                    Some(index) => !self.arrays.entry(at).or_default().ended.insert(index),
                    None => self.records[at].tasks == 0 && self.entries[at].ended > 0,
                };
                if again {
                    self.result.add_repeated(id(), format!("ended again: {name}"));
                }
                let entry = &mut self.entries[at];
                entry.ended = entry.ended.saturating_add(event.count);
                entry.ended_as = Some(state);
            }
        }
    }

    pub(super) fn finish(mut self) -> Result {
        let mut expected = 0;
        for at in 0..self.records.len() {
            expected += self.records[at].jobs();
            self.close(at);
        }
        self.result.unacknowledged = self.strangers.len() as u64;
        if self.result.unacknowledged > self.unanswered {
            for id in &self.strangers {
                self.result.add(Some(id.to_string()), "is there and was not acknowledged");
            }
        }
        let surplus = self.total.checked_sub(expected);
        // A job that was not answered may be an array of any size.
        let fits = surplus == Some(0) || (surplus.is_some() && self.result.unacknowledged > 0);
        if !fits {
            let what = format!("{} jobs are counted, {expected} were acknowledged", self.total);
            self.result.add(None, what);
        }
        self.result
    }

    fn close(&mut self, at: usize) {
        let (record, entry) = (self.records[at], self.entries[at]);
        let tasks_listed = self.arrays.get(&at).map_or(0, |tasks| tasks.listed.len() as u64);
        let is_array = record.tasks > 0;
        let listed = entry.listed > 0 || (is_array && tasks_listed == record.jobs());
        let id = || Some(id_text(&record));
        if listed {
            self.result.found += 1;
        } else if tasks_listed > 0 {
            let what = format!("{tasks_listed} of its {} tasks are listed", record.tasks);
            self.result.add(id(), what);
        } else {
            self.result.lost += record.jobs();
            self.result.add(id(), "was acknowledged and is not there");
        }
        let ended = u64::from(entry.ended);
        if ended != record.jobs() {
            let what = format!("{ended} events ended its {} jobs", record.jobs());
            self.result.add(id(), what);
        }
        if let (false, Some(state), Some(ended_as)) = (is_array, entry.state, entry.ended_as)
            && state != ended_as
        {
            let what = format!("is {}, its last event was {}", state.name(), ended_as.name());
            self.result.add(id(), what);
        }
    }

    fn attempt(&mut self, at: usize, reference: JobRef) -> &mut u32 {
        match reference.index {
            Some(index) => self.arrays.entry(at).or_default().attempts.entry(index).or_default(),
            None => &mut self.entries[at].attempt,
        }
    }

    /// The record that an id means; a stranger is noted.
    fn find(&mut self, text: &str) -> Option<(JobRef, usize)> {
        let Ok(reference) = text.parse::<JobRef>() else {
            self.result.add(Some(text.to_owned()), "is no id");
            return None;
        };
        let bytes = reference.job.to_bytes();
        let Ok(at) = self.records.binary_search_by_key(&bytes, |record| record.id) else {
            self.strangers.insert(reference.job);
            return None;
        };
        let tasks = self.records[at].tasks;
        if reference.index.is_some_and(|index| index >= tasks) {
            self.result.add(Some(text.to_owned()), "is no task of its array");
            return None;
        }
        Some((reference, at))
    }
}

impl Result {
    fn add_repeated(&mut self, id: Option<String>, what: impl Into<String>) {
        self.repeated += 1;
        self.add(id, what);
    }

    fn add(&mut self, id: Option<String>, what: impl Into<String>) {
        self.findings += 1;
        if self.named.len() < FINDINGS_NAMED {
            self.named.push((id, what.into()));
        }
    }
}

fn id_text(record: &Record) -> String {
    JobId::from_bytes(record.id).to_string()
}

/// What is wrong with the runs, if they are not one behind the other.
fn overlap(runs: &[Run]) -> Option<String> {
    runs.windows(2).find_map(|pair| {
        let (earlier, later) = (&pair[0], &pair[1]);
        if earlier.attempt >= later.attempt {
            return Some(format!("attempt {} follows {}", later.attempt, earlier.attempt));
        }
        // Times of one form: their order is that of their texts.
        match &earlier.ended_at {
            Some(ended) if *ended <= later.leased_at => None,
            Some(_) | None => {
                Some(format!("attempts {} and {} overlap", earlier.attempt, later.attempt))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use muster_core::id::ShardId;
    use muster_core::time::Timestamp;
    use serde_json::json;

    use super::*;

    fn id(n: u64) -> JobId {
        JobId::new(Timestamp(1), ShardId(0), n)
    }

    fn ledger(jobs: u64, arrays: &[u32]) -> Ledger {
        let mut records: Vec<_> = (0..jobs).map(|n| Record::new(id(n), None)).collect();
        let arrays = arrays.iter().enumerate();
        records.extend(arrays.map(|(n, tasks)| Record::new(id(100 + n as u64), Some(*tasks))));
        records.reverse();
        Ledger::new(JobSet { records, unanswered: 0 })
    }

    fn job(id: &str, state: &str) -> Job {
        serde_json::from_value(json!({
            "jobId": id, "queue": "q", "jobSet": "s", "state": state, "priority": 0,
            "submittedAt": "", "resources": {}, "runs": [],
        }))
        .unwrap()
    }

    fn event(id: &str, name: &str, attempt: u32, count: u32) -> Event {
        serde_json::from_value(json!({
            "cursor": "1-1", "jobId": id, "event": name, "at": "", "attempt": attempt, "count": count,
        }))
        .unwrap()
    }

    fn counts(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
        entries.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    /// Two jobs and an array of three, all as they should be.
    fn sound() -> Ledger {
        let mut ledger = ledger(2, &[3]);
        ledger.see_counts(&counts(&[("succeeded", 4), ("cancelled", 1), ("queued", 0)]));
        for n in [0, 1, 100] {
            ledger.see_job(&job(&id(n).to_string(), "succeeded"));
        }
        for n in [0, 1] {
            for (name, attempt) in
                [("submitted", 0), ("leased", 1), ("requeued", 1), ("leased", 2), ("succeeded", 2)]
            {
                ledger.see_event(&event(&id(n).to_string(), name, attempt, 1));
            }
        }
        for name in ["leased", "succeeded"] {
            ledger.see_event(&event(&format!("{}-0", id(100)), name, 1, 1));
            ledger.see_event(&event(&format!("{}-1", id(100)), name, 1, 1));
        }
        ledger.see_event(&event(&id(100).to_string(), "cancelled", 0, 1));
        ledger
    }

    fn findings(ledger: Ledger) -> Vec<String> {
        ledger.finish().named.into_iter().map(|(_, what)| what).collect()
    }

    #[test]
    fn sound_books_have_no_findings() {
        let result = sound().finish();
        assert_eq!((result.findings, result.found, result.events), (0, 3, 15), "{result:?}");
    }

    #[test]
    fn a_lost_job_is_named() {
        let mut ledger = ledger(2, &[]);
        ledger.see_counts(&counts(&[("succeeded", 1)]));
        ledger.see_job(&job(&id(0).to_string(), "succeeded"));
        ledger.see_event(&event(&id(0).to_string(), "succeeded", 1, 1));
        let result = ledger.finish();
        assert_eq!((result.lost, result.repeated), (1, 0));
        assert_eq!(result.named[0].0, Some(id(1).to_string()));
        assert_eq!(
            result.named.into_iter().map(|(_, what)| what).collect::<Vec<_>>(),
            [
                "was acknowledged and is not there",
                "0 events ended its 1 jobs",
                "1 jobs are counted, 2 were acknowledged"
            ]
        );
    }

    #[test]
    fn a_job_that_ends_twice_or_is_listed_twice_is_a_finding() {
        let mut ledger = sound();
        ledger.see_event(&event(&id(0).to_string(), "failed", 2, 1));
        ledger.see_event(&event(&format!("{}-1", id(100)), "succeeded", 1, 1));
        ledger.see_job(&job(&id(1).to_string(), "succeeded"));
        let result = ledger.finish();
        assert_eq!((result.lost, result.repeated), (0, 3));
        assert_eq!(
            result.named.into_iter().map(|(_, what)| what).collect::<Vec<_>>(),
            [
                "ended again: failed",
                "ended again: succeeded",
                "is listed twice",
                "2 events ended its 1 jobs",
                "is succeeded, its last event was failed",
                "4 events ended its 3 jobs",
            ]
        );
    }

    #[test]
    fn overlapping_attempts_are_found_in_events_and_in_runs() {
        let mut ledger = sound();
        ledger.see_event(&event(&id(1).to_string(), "leased", 3, 1));
        ledger.see_event(&event(&id(1).to_string(), "leased", 4, 1));
        assert_eq!(findings(ledger), ["attempt 4 was leased while attempt 3 lived"]);

        let run = |attempt: u32, leased: &str, ended: Option<&str>| -> Run {
            serde_json::from_value(json!({
                "attempt": attempt, "cluster": "c", "node": "n", "leasedAt": leased, "endedAt": ended,
            }))
            .unwrap()
        };
        assert_eq!(overlap(&[run(1, "1", Some("2")), run(2, "2", None)]), None);
        assert!(overlap(&[run(1, "1", Some("3")), run(2, "2", None)]).is_some());
        assert!(overlap(&[run(1, "1", None), run(2, "2", None)]).is_some());
        assert!(overlap(&[run(2, "1", Some("1")), run(2, "2", None)]).is_some());
    }

    #[test]
    fn strangers_are_allowed_only_as_far_as_answers_were_lost() {
        let with = |unanswered| {
            let mut ledger = sound();
            ledger.unanswered = unanswered;
            ledger.see_counts(&counts(&[("succeeded", 6)]));
            ledger.see_job(&job(&id(50).to_string(), "succeeded"));
            ledger
        };
        assert_eq!(with(1).finish().findings, 0);
        assert_eq!(findings(with(0)), ["is there and was not acknowledged"]);
    }

    #[test]
    fn what_still_lives_is_a_finding_and_so_is_an_id_given_twice() {
        let mut ledger = sound();
        ledger.see_counts(&counts(&[("succeeded", 4), ("running", 1)]));
        ledger.see_job(&job(&format!("{}-2", id(100)), "running"));
        let mut found = findings(ledger);
        found.sort();
        assert_eq!(found, ["1 jobs are counted as running at the end", "is running at the end"]);

        let records = vec![Record::new(id(1), None); 2];
        let ledger = Ledger::new(JobSet { records, unanswered: 0 });
        assert_eq!(findings(ledger)[0], "was given to two submissions");
    }

    #[test]
    fn an_array_listed_by_its_tasks_needs_all_of_them() {
        let listed = |tasks: u32| {
            let mut ledger = ledger(0, &[3]);
            ledger.see_counts(&counts(&[("failed", 3)]));
            ledger.see_event(&event(&id(100).to_string(), "failed", 1, 3));
            for index in 0..tasks {
                ledger.see_job(&job(&format!("{}-{index}", id(100)), "failed"));
            }
            findings(ledger)
        };
        assert!(listed(3).is_empty());
        assert_eq!(listed(2), ["2 of its 3 tasks are listed"]);
    }
}
