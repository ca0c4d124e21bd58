//! What new jobs depend on: client ids become ids, and nothing is taken that nobody knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Name;
use crate::command::{NewJob, Refusal, Unknown};
use crate::id::JobId;
use crate::job::JobState;
use crate::shard::commands::client_key;
use crate::shard::{Shard, dependencies};
use crate::terms::{Dependency, On, Terms};

/// Refuses jobs that depend on what is not known, or on a later line of the same submission.
/// `is_new` says of which jobs: what came before is what it was.
pub(super) fn refuse_unknown(
    shard: &Shard,
    queue: &Name,
    jobs: &[NewJob],
    is_new: impl Fn(&NewJob) -> bool,
) -> Option<Refusal> {
    let depends = |job: &&NewJob| job.terms.as_ref().is_some_and(|terms| !terms.after.is_empty());
    if !jobs.iter().any(|job| depends(&job)) {
        return None;
    }
    let client_ids = jobs.iter().filter_map(|job| Some((&**job.client_id.as_ref()?, job.line)));
    // The first line of a client id is the job that it stands for.
    let lines: BTreeMap<&str, u64> = client_ids.rev().collect();
    for job in jobs.iter().filter(depends).filter(|job| is_new(job)) {
        for dependency in job.terms.iter().flat_map(|terms| &terms.after) {
            let reason = match &dependency.on {
                On::Job(id) => is_known(shard, queue, *id),
                On::Client(name) => match shard.commands.client(client_key(queue, name)) {
                    Some(id) => is_known(shard, queue, id),
                    None => match lines.get(&**name) {
                        Some(line) if *line < job.line => Ok(()),
                        Some(_) => Err(Unknown::Later),
                        None => Err(Unknown::NotThere),
                    },
                },
            };
            if let Err(reason) = reason {
                let (line, on) = (job.line + 1, dependency.on.clone());
                return Some(Refusal::DependencyUnknown { line, on, queue: queue.clone(), reason });
            }
        }
    }
    None
}

fn is_known(shard: &Shard, queue: &str, id: JobId) -> Result<(), Unknown> {
    dependencies::end_of(shard, queue, id).map(|_| ()).map_err(|()| Unknown::NotThere)
}

/// The terms of a new job with ids in place of client ids and without what it need not wait for,
/// and why it cannot run, if it cannot.
pub(super) fn resolve(
    shard: &Shard,
    queue: &str,
    terms: Option<Arc<Terms>>,
) -> (Option<Arc<Terms>>, Option<Name>) {
    let Some(terms) = terms.filter(|terms| !terms.is_empty()) else { return (None, None) };
    if terms.after.is_empty() {
        return (Some(terms), None);
    }
    let mut after: Vec<Dependency> = Vec::new();
    let mut doom = None;
    for Dependency { on, when } in &terms.after {
        let id = match on {
            On::Job(id) => Some(*id),
            On::Client(name) => shard.commands.client(client_key(queue, name)),
        };
        let Some(id) = id else { continue };
        let dependency = Dependency { on: On::Job(id), when: *when };
        let end: Option<JobState> = dependencies::end_of(shard, queue, id).unwrap_or_default();
        match end {
            Some(end) if when.is_met_by(end) => continue,
            Some(end) => doom = doom.or_else(|| Some(dependencies::reason(id, &dependency, end))),
            None => {}
        }
        if !after.contains(&dependency) {
            after.push(dependency);
        }
    }
    let terms = Terms { after, ..(*terms).clone() };
    (Some(terms).filter(|terms| !terms.is_empty()).map(Arc::new), doom)
}
