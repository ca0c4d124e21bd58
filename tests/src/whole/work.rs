//! The jobs, and what has to come of each of them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use muster_api::http::{Job, Run, time_from_text};
use muster_api::request::SubmitAnswer;
use muster_client::{Answers, Client, Format, JobFilter, Submission, Submitted};
use muster_loadtest::acknowledged::{Acknowledged, Record};
use serde_json::{Value, json};

use super::plant::{NAMESPACE, SITE, SPARE};
use crate::kubernetes::Behaviour;

/// Jobs of a block, tasks of its array one by one.
pub(super) const BLOCK: usize = 20;
/// The class of jobs that hold nodes until somebody else needs them.
const HELD: &str = "armada-preemptible";
/// The class of all others.
pub(super) const URGENT: &str = "urgent";
/// Records of one request.
const RECORDS_MAX: usize = 500;
/// Jobs of one page.
const PAGE: usize = 1000;
const GANG: usize = 4;
const ARRAY: u32 = 4;
/// With what those fail that fail once, and those that fail for good.
const FIRST_CODE: i32 = 3;
const LAST_CODE: i32 = 7;

/// What a job is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// It runs for a moment.
    Plain,
    /// It runs together with the others of its gang.
    Member(String),
    /// Its first attempt fails, and its retry policy gives it another one.
    FailsOnce,
    /// It fails.
    Fails,
    /// It takes more memory than it may.
    OutOfMemory,
    /// An array.
    Array,
    /// Its first attempt runs until it is made to end; the next one for a moment.
    Held,
    /// The same, but nobody makes it end who needs its room, for that is small.
    Anchor,
    /// It runs for a moment in that cluster only.
    Probe(&'static str),
}

/// What was submitted and acknowledged.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) acknowledged: Acknowledged,
    kinds: BTreeMap<String, Kind>,
}

impl Kind {
    /// The job as JSON; `runs` is how long it runs.
    fn job(&self, runs: Duration) -> Value {
        let brief = Behaviour::runs_for(runs);
        let behaviour = match self {
            Self::Plain | Self::Member(_) | Self::Array | Self::Probe(_) => brief,
            Self::FailsOnce => brief.exits_at_first(FIRST_CODE),
            Self::Fails => brief.exits(LAST_CODE),
            Self::OutOfMemory => brief.runs_out_of_memory(),
            Self::Held | Self::Anchor => brief.runs_forever_at_first(),
        };
        let pod = behaviour.pod("unnamed");
        let mut job = json!({
            "namespace": NAMESPACE, "annotations": behaviour.annotations(), "podSpec": pod["spec"],
        });
        let class = if *self == Self::Held { HELD } else { URGENT };
        job["podSpec"]["priorityClassName"] = json!(class);
        let is_small = matches!(self, Self::Anchor | Self::Probe(_));
        if is_small {
            job["podSpec"]["nodeSelector"] = json!({ SPARE: "yes" });
        }
        let asked = json!({ "cpu": if is_small { "100m" } else { "1" }, "memory": "64Mi" });
        let resources = json!({ "requests": asked, "limits": asked });
        job["podSpec"]["containers"][0]["resources"] = resources;
        match self {
            Self::Member(gang) => {
                job["annotations"]["muster.dev/gangId"] = json!(gang);
                job["annotations"]["muster.dev/gangCardinality"] = json!(GANG.to_string());
            }
            Self::FailsOnce => {
                let rule = json!({ "exitCodes": [FIRST_CODE], "action": "retry", "limit": 1 });
                job["retry"] = json!([rule]);
            }
            Self::Array => job["count"] = json!(ARRAY),
            Self::Probe(site) => job["podSpec"]["nodeSelector"][SITE] = json!(site),
            Self::Plain | Self::Fails | Self::OutOfMemory | Self::Held | Self::Anchor => {}
        }
        job
    }

    fn tasks(&self) -> Option<u32> {
        (*self == Self::Array).then_some(ARRAY)
    }

    /// What is wrong with how a job of the kind has ended.
    fn fault(&self, job: &Job) -> Option<String> {
        let last = job.runs.last();
        let code = last.and_then(|run| run.exit_code);
        let reason = last.and_then(|run| run.reason.as_deref());
        let is_right = match self {
            Self::Plain | Self::Member(_) | Self::Array => job.state == "succeeded",
            // The first attempt may have been given up with its cluster, which is one, too.
            Self::FailsOnce | Self::Anchor => job.state == "succeeded" && job.runs.len() > 1,
            Self::Fails => job.state == "failed" && code == Some(LAST_CODE),
            Self::OutOfMemory => job.state == "failed" && reason == Some("OOMKilled"),
            Self::Held => matches!(&*job.state, "succeeded" | "cancelled"),
            Self::Probe(site) => {
                job.state == "succeeded" && last.is_some_and(|run| run.cluster == *site)
            }
        };
        (!is_right).then(|| format!("{self:?} {} is {}: {:?}", job.job_id, job.state, job.runs))
    }
}

/// The kinds of so many blocks; `name` makes the gangs' names their own.
pub(super) fn blocks(count: usize, name: &str) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for block in 0..count {
        let gang = Kind::Member(format!("{name}-{block}"));
        kinds.extend(std::iter::repeat_n(gang, GANG));
        kinds.extend([Kind::FailsOnce, Kind::FailsOnce, Kind::Fails, Kind::OutOfMemory]);
        kinds.push(Kind::Array);
        kinds.extend(std::iter::repeat_n(Kind::Plain, 8));
    }
    kinds
}

impl Sent {
    /// Submits jobs of such kinds; gives their ids.
    pub(super) async fn submit(
        &mut self,
        client: &Client,
        (queue, job_set): (&str, &str),
        kinds: &[Kind],
        runs: Duration,
    ) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for kinds in kinds.chunks(RECORDS_MAX) {
            let lines = kinds.iter().flat_map(|kind| format!("{}\n", kind.job(runs)).into_bytes());
            let submission = Submission {
                queue: queue.to_owned(),
                job_set: job_set.to_owned(),
                format: Format::Ndjson,
                answers: Answers::Each,
                body: vec![Bytes::from(lines.collect::<Vec<_>>())],
                ..Submission::default()
            };
            let submitted = client.submit(&submission).await?;
            let Submitted::Each(answers) = submitted else { bail!("each is to be answered") };
            ensure!(answers.len() == kinds.len(), "{} of {}", answers.len(), kinds.len());
            let of_set = self.acknowledged.job_set(queue, job_set);
            for (answer, kind) in answers.into_iter().zip(kinds) {
                let id = match answer {
                    SubmitAnswer::Accepted { job_id } => job_id,
                    SubmitAnswer::Rejected { error } => bail!("{kind:?}: {}", error.detail),
                };
                of_set.records.push(Record::new(id.parse()?, kind.tasks()));
                self.kinds.insert(id.clone(), kind.clone());
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Looks at every job of all job sets, and says what has not ended as it should.
    pub(super) async fn faults(&self, client: &Client) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        let mut gangs: BTreeMap<&str, Vec<Vec<Run>>> = BTreeMap::new();
        for (queue, job_set) in self.acknowledged.job_sets.keys() {
            let (queue, job_set) = (Some(queue.clone()), Some(job_set.clone()));
            let filter = JobFilter { queue, job_set, states: Vec::new() };
            let mut cursor = None;
            loop {
                let page = client.jobs(&filter, PAGE, cursor.as_deref()).await?;
                for job in &page.jobs {
                    // Who was not acknowledged is the audit's concern, and so are tasks one by one.
                    let Some(kind) = self.kinds.get(&job.job_id) else { continue };
                    faults.extend(kind.fault(job));
                    if let Kind::Member(gang) = kind {
                        gangs.entry(gang).or_default().push(job.runs.clone());
                    }
                }
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
        faults.extend(gangs.iter().filter_map(|(gang, members)| torn(gang, members)));
        Ok(faults)
    }
}

/// What is wrong with where the members of a gang ran: each attempt is in one cluster. A member
/// that takes no part in one had ended before that began: it had succeeded when its cluster was
/// lost.
fn torn(gang: &str, members: &[Vec<Run>]) -> Option<String> {
    if members.len() != GANG {
        return Some(format!("gang {gang} has {} members", members.len()));
    }
    let mut attempts: BTreeMap<u32, Vec<&Run>> = BTreeMap::new();
    for run in members.iter().flatten() {
        attempts.entry(run.attempt).or_default().push(run);
    }
    for (attempt, runs) in attempts {
        if runs.iter().any(|run| run.cluster != runs[0].cluster) {
            let at: Vec<&str> = runs.iter().map(|run| &*run.cluster).collect();
            return Some(format!("attempt {attempt} of gang {gang} was in {at:?}"));
        }
        let began = runs.iter().filter_map(|run| time_from_text(&run.leased_at)).min();
        let before = members.iter().filter_map(|runs| runs.last()).filter(|l| l.attempt < attempt);
        for last in before {
            let ended = last.ended_at.as_deref().and_then(time_from_text);
            if ended.is_none() || ended > began {
                let (of, at) = (last.attempt, &last.cluster);
                return Some(format!(
                    "attempt {attempt} of gang {gang} began while attempt {of} ran in {at}"
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a member ran, attempt after attempt: one is leased each minute and ends after so many
    /// seconds.
    fn member(clusters: &[&str], seconds: u32) -> Vec<Run> {
        let run = |(attempt, cluster): (u32, &&str)| {
            let at = |seconds: u32| format!("2026-11-26T10:{attempt:02}:{seconds:02}Z");
            let run = json!({ "attempt": attempt, "cluster": cluster, "node": "n",
                "leasedAt": at(0), "endedAt": at(seconds) });
            serde_json::from_value(run).unwrap()
        };
        (1..).zip(clusters).map(run).collect()
    }

    #[test]
    fn a_gang_is_torn_whose_members_are_in_several_clusters_at_a_time() {
        let of = |members: [&[&str]; GANG]| torn("g", &members.map(|at| member(at, 30)));
        assert_eq!(of([&["a"], &["a"], &["a"], &["a"]]), None);
        assert_eq!(of([&["a", "b"], &["a", "b"], &["a"], &["a", "b"]]), None);
        let told = of([&["a", "b"], &["a", "b"], &["a"], &["a", "a"]]);
        assert_eq!(told.as_deref(), Some(r#"attempt 2 of gang g was in ["b", "b", "a"]"#));
        let three = torn("g", &[member(&["a"], 1), member(&["a"], 1), member(&["a"], 1)]);
        assert_eq!(three.as_deref(), Some("gang g has 3 members"));
        let mut late = [&["a", "b"][..], &["a", "b"], &["a"], &["a"]].map(|at| member(at, 30));
        late[3][0].ended_at = Some("2026-11-26T10:02:01Z".to_owned());
        let told = torn("g", &late);
        assert_eq!(told.as_deref(), Some("attempt 2 of gang g began while attempt 1 ran in a"));
    }
}
