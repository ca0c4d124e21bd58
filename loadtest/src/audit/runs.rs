//! What clusters really ran, by their own diaries (`executor.record_runs`): no attempt twice, no
//! two attempts of a job at once, nothing after one that succeeded. What Muster itself says of its
//! runs is not asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

/// One line of a diary.
#[derive(Debug, Deserialize)]
struct Line {
    at: i64,
    job: String,
    attempt: u32,
    what: String,
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    started: i64,
    attempt: u32,
    /// `i64::MAX` as long as it runs.
    ended: i64,
    has_succeeded: bool,
    /// Its cluster did not have it any more, or never had: it was killed before it heard of it.
    is_gone: bool,
}

/// All runs of some clusters.
#[derive(Debug, Default)]
pub struct Runs {
    jobs: BTreeMap<String, Vec<Run>>,
}

impl Runs {
    /// Reads the diaries in some state directories of executors.
    ///
    /// # Errors
    /// When one cannot be read, or a directory has none: then nothing was recorded.
    pub fn read(directories: &[impl AsRef<Path>]) -> io::Result<Self> {
        let mut runs = Self::default();
        for directory in directories {
            let directory = directory.as_ref();
            let mut found = false;
            for entry in std::fs::read_dir(directory)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name.starts_with("runs-") && name.ends_with(".jsonl") {
                    runs.take(BufReader::new(File::open(&path)?))?;
                    found = true;
                }
            }
            if !found {
                let what = format!("no runs were recorded in `{}`", directory.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, what));
            }
        }
        Ok(runs)
    }

    /// Takes in one diary.
    fn take(&mut self, lines: impl BufRead) -> io::Result<()> {
        // Runs of this diary that have not ended, as positions among those of their jobs.
        let mut open: BTreeMap<(String, u32), usize> = BTreeMap::new();
        for line in lines.lines() {
            let Line { at, job, attempt, what } =
                serde_json::from_str(&line?).map_err(io::Error::other)?;
            let runs = self.jobs.entry(job.clone()).or_default();
            let key = (job, attempt);
            if what == "started" {
                open.insert(key, runs.len());
                runs.push(Run {
                    started: at,
                    attempt,
                    ended: i64::MAX,
                    has_succeeded: false,
                    is_gone: false,
                });
            } else if let Some(run) = open.get(&key).and_then(|at| runs.get_mut(*at)) {
                run.ended = at.max(run.started);
                run.has_succeeded |= what == "succeeded";
                run.is_gone |= what == "gone";
            }
        }
        Ok(())
    }

    /// How many runs there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.jobs.values().map(|runs| runs.len() as u64).sum()
    }

    /// The same without what a cluster that was cut off may have done: there an attempt runs on
    /// that nobody believes in any more, beside the next one elsewhere.
    #[must_use]
    pub fn findings_of_attempts(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (job, runs) in &self.jobs {
            let mut runs = runs.clone();
            runs.sort_by_key(|run| (run.attempt, run.started));
            let twice = runs.windows(2).filter(|pair| is_twice(&pair[0], &pair[1]));
            found.extend(twice.map(|pair| (job.clone(), twice_text(pair[0].attempt))));
        }
        found
    }

    /// What is wrong: the job, and a sentence.
    #[must_use]
    pub fn findings(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (job, runs) in &self.jobs {
            let mut runs = runs.clone();
            runs.sort();
            for pair in runs.windows(2) {
                let (first, next) = (&pair[0], &pair[1]);
                let what = if is_twice(first, next) {
                    twice_text(first.attempt)
                } else if next.started < first.ended {
                    format!("attempt {} ran while attempt {} did", next.attempt, first.attempt)
                } else if first.has_succeeded {
                    format!("attempt {} ran after {} succeeded", next.attempt, first.attempt)
                } else {
                    continue;
                };
                found.push((job.clone(), what));
            }
        }
        found
    }
}

fn is_twice(first: &Run, next: &Run) -> bool {
    first.attempt == next.attempt && !first.is_gone
}

fn twice_text(attempt: u32) -> String {
    format!("attempt {attempt} was started twice")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(diaries: &[&[(i64, &str, u32, &str)]]) -> Runs {
        let mut runs = Runs::default();
        for diary in diaries {
            let lines: String = diary
                .iter()
                .map(|(at, job, attempt, what)| {
                    format!(
                        "{{\"at\":{at},\"job\":\"{job}\",\"attempt\":{attempt},\"what\":\"{what}\"}}\n"
                    )
                })
                .collect();
            runs.take(lines.as_bytes()).unwrap();
        }
        runs
    }

    fn found(diaries: &[&[(i64, &str, u32, &str)]]) -> Vec<String> {
        runs(diaries).findings().into_iter().map(|(_, what)| what).collect()
    }

    #[test]
    fn attempts_one_after_the_other_are_as_they_should_be() {
        let one = [(1, "a", 1, "started"), (5, "a", 1, "gone"), (2, "b", 1, "started")];
        let other = [(5, "a", 2, "started"), (9, "a", 2, "succeeded")];
        let sound = runs(&[&one, &other]);
        assert_eq!((sound.count(), sound.findings()), (3, Vec::new()));
    }

    #[test]
    fn an_attempt_that_its_cluster_never_got_may_start_again() {
        let again = [
            (1, "a", 1, "started"),
            (5, "a", 1, "gone"),
            (6, "a", 1, "started"),
            (9, "a", 1, "succeeded"),
        ];
        assert_eq!(found(&[&again]), Vec::<String>::new());
        assert_eq!(found(&[&again[..1], &again[2..]]), ["attempt 1 was started twice"]);
    }

    #[test]
    fn two_attempts_at_once_are_found_across_clusters() {
        let one = [(1, "a", 1, "started"), (6, "a", 1, "lost")];
        let other = [(5, "a", 2, "started"), (9, "a", 2, "succeeded")];
        assert_eq!(found(&[&one, &other]), ["attempt 2 ran while attempt 1 did"]);
        assert_eq!(found(&[&one[..1], &other]), ["attempt 2 ran while attempt 1 did"]);
    }

    #[test]
    fn an_attempt_started_twice_and_one_after_success_are_found() {
        let twice = [
            (1, "a", 1, "started"),
            (2, "a", 1, "failed"),
            (3, "a", 1, "started"),
            (4, "a", 1, "succeeded"),
            (5, "a", 2, "started"),
        ];
        let expected = ["attempt 1 was started twice", "attempt 2 ran after 1 succeeded"];
        assert_eq!(found(&[&twice]), expected);
    }

    #[test]
    fn of_clusters_that_were_cut_off_only_attempts_that_started_twice_count() {
        let one = [(1, "a", 1, "started"), (2, "b", 1, "started"), (9, "b", 1, "succeeded")];
        let other = [(5, "a", 2, "started"), (6, "b", 2, "started"), (7, "b", 1, "started")];
        let found = runs(&[&one, &other]).findings_of_attempts();
        assert_eq!(found, [("b".to_owned(), "attempt 1 was started twice".to_owned())]);
    }

    #[test]
    fn a_directory_without_a_diary_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Runs::read(&[directory.path()]).unwrap_err().kind(), io::ErrorKind::NotFound);
        let line = r#"{"at":1,"job":"a","attempt":1,"what":"started"}"#;
        std::fs::write(directory.path().join("runs-c.jsonl"), format!("{line}\n")).unwrap();
        assert_eq!(Runs::read(&[directory.path()]).unwrap().count(), 1);
    }
}
