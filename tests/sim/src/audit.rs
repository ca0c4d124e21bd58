//! A last look through the API, once everything has settled: each job in the state that the log
//! gives it, none missing, none too many, and job sets that count the same.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::client;
use crate::http::{Ask, ask};
use crate::ledger::Ledger;
use crate::world::Shared;

/// How often something is asked before it counts as not answered.
const ATTEMPTS_MAX: usize = 60;
/// Pages of a queue's jobs.
const PAGES_MAX: usize = 1_000;

/// Everything that the API says and the log does not, or the other way round.
pub(crate) async fn audit(shared: &Shared, ledger: &Ledger) -> Vec<String> {
    let mut findings = Vec::new();
    for queue in (0..shared.site.plan.queues).map(client::queue) {
        jobs(shared, ledger, &queue, &mut findings).await;
        job_sets(shared, ledger, &queue, &mut findings).await;
    }
    findings
}

async fn jobs(shared: &Shared, ledger: &Ledger, queue: &str, findings: &mut Vec<String>) {
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let after = cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let path = format!("/api/v1/jobs?queue={queue}&limit=100{after}");
        let Some(page) = get(shared, &path).await else {
            findings.push(format!("{path} was not answered once all was quiet"));
            return;
        };
        for job in page["jobs"].as_array().into_iter().flatten() {
            let text = |name: &str| job[name].as_str().unwrap_or_default().to_owned();
            if shown.insert(text("jobId"), text("state")).is_some() {
                findings.push(format!("{} is listed twice", text("jobId")));
            }
        }
        cursor = page["cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    for (reference, _, task) in ledger.tasks().filter(|(_, job, _)| job.queue == queue) {
        let (id, state) = (reference.to_string(), task.standing.name());
        match shown.remove(&id) {
            Some(listed) if listed == state => {}
            listed => findings.push(format!("{id} is {state}, the API lists it as {listed:?}")),
        }
    }
    for (id, state) in shown {
        findings.push(format!("the API lists {id} as {state}, the log has it not"));
    }
}

async fn job_sets(shared: &Shared, ledger: &Ledger, queue: &str, findings: &mut Vec<String>) {
    let mut expected: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for (_, job, task) in ledger.tasks().filter(|(_, job, _)| job.queue == queue) {
        let counts = expected.entry(job.job_set.clone()).or_default();
        *counts.entry(task.standing.name().to_owned()).or_default() += 1;
    }
    let path = format!("/api/v1/queues/{queue}/job-sets?limit=100");
    let Some(page) = get(shared, &path).await else {
        findings.push(format!("{path} was not answered once all was quiet"));
        return;
    };
    let mut shown: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for set in page["jobSets"].as_array().into_iter().flatten() {
        let counts = set["counts"].as_object().into_iter().flatten();
        let counts = counts.filter_map(|(state, count)| Some((state.clone(), count.as_u64()?)));
        let name = set["jobSet"].as_str().unwrap_or_default().to_owned();
        shown.insert(name, counts.filter(|(_, count)| *count > 0).collect());
    }
    if shown != expected {
        findings.push(format!("job sets of {queue} are {expected:?}, the API has {shown:?}"));
    }
}

/// Asks until it is answered.
async fn get(shared: &Shared, path: &str) -> Option<Value> {
    for attempt in 0..ATTEMPTS_MAX {
        let answer = ask(shared, attempt, Ask::get(path.to_owned())).await;
        if let Some(answer) = answer.filter(|answer| answer.status.is_success() && answer.is_whole)
        {
            shared.history.checked();
            return serde_json::from_slice(&answer.body).ok();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    None
}
