//! What the checker holds of grants: leases in the log, against the pods that were started for them
//! and the room that nodes have.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::Name;
use muster_core::id::JobRef;
use muster_core::quantity::Quantity;
use muster_core::resources::{PODS, Resources};
use muster_executor::runs::RunKey;

use crate::ledger::Ledger;
use crate::observed::Pods;
use crate::plan::Plan;
use crate::profile::Profile;

/// A lease, by the log.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) cluster: Name,
    pub(crate) node: Name,
    /// From when on the log had it, and until when.
    pub(crate) at: Duration,
    pub(crate) until: Option<Duration>,
}

/// Everything that is wrong.
pub(crate) fn check(plan: &Plan, pods: &Pods, ledger: &Ledger) -> Vec<String> {
    let mut findings = ungranted(pods, ledger);
    at_most_once(pods, ledger, &mut findings);
    if plan.profile == Profile::Calm {
        findings.extend(oversubscribed(plan, pods, ledger));
    }
    findings
}

/// A pod is started only for a lease of that attempt to that cluster which is durable. So none
/// starts for a job whose cancellation was durable before its lease: by the log, such a job is
/// never leased. One that was leased before may start and be stopped.
fn ungranted(pods: &Pods, ledger: &Ledger) -> Vec<String> {
    let mut findings = Vec::new();
    for (key, cluster, at) in pods.starts() {
        let RunKey { job, attempt } = key;
        match ledger.grants.get(&(job, attempt)) {
            Some(grant) if *grant.cluster == *cluster && grant.at <= at => {}
            other => findings.push(format!(
                "attempt {attempt} of {job} was started on {cluster} at {at:?}, the log has \
                 {other:?}"
            )),
        }
    }
    findings
}

/// Of a job that runs at most once nothing is leased any more when an attempt was started: on a
/// cluster that remembers that.
fn at_most_once(pods: &Pods, ledger: &Ledger, findings: &mut Vec<String>) {
    let started = pods.runs_started();
    for (job, known, _) in ledger.tasks().filter(|(_, job, _)| job.at_most_once) {
        let first = started.range((job, 0)..=(job, u32::MAX)).next();
        let Some((_, first)) = first else { continue };
        let mut later = ledger.grants.range((job, first + 1)..=(job, u32::MAX));
        if let Some(((_, attempt), grant)) = later.next() {
            findings.push(format!(
                "{job} ({}) is to run at most once: attempt {first} was started, and {attempt} is \
                 leased: {grant:?}",
                known.tag
            ));
        }
    }
}

/// While one leader leads and nothing goes wrong, nodes are never granted more than they have. When
/// leaders change, the next one may not know what the one before granted; then the executor hands
/// back what does not fit, and what is placed on nodes is held against what they have elsewhere.
fn oversubscribed(plan: &Plan, pods: &Pods, ledger: &Ledger) -> Vec<String> {
    let amount = |text: &str| text.parse::<Quantity>().unwrap_or_default();
    let simulated = &plan.executor.simulated;
    let mut has = Resources::new();
    has.set("cpu".into(), amount(&simulated.cpu));
    has.set("memory".into(), amount(&simulated.memory));
    has.set(PODS.into(), Quantity::from_units(simulated.pods.into()));
    let ended = pods.ended();
    let mut by_node: BTreeMap<(&str, &str), Vec<Stay<'_>>> = BTreeMap::new();
    for ((job, attempt), grant) in &ledger.grants {
        let Some(known) = ledger.jobs.get(&job.job) else { continue };
        let key = RunKey { job: *job, attempt: *attempt };
        // Its cluster knows first that there is room again, and tells leader and shard at once.
        let over = ended.get(&key).copied().into_iter().chain(grant.until).min();
        let stay = Stay {
            job: *job,
            from: grant.at,
            until: over.unwrap_or(Duration::MAX),
            request: &known.request,
        };
        by_node.entry((&grant.cluster, &grant.node)).or_default().push(stay);
    }
    let mut findings = Vec::new();
    for ((cluster, node), stays) in &by_node {
        for Stay { job, from, .. } in stays {
            let mut used = Resources::new();
            let there = stays.iter().filter(|stay| stay.from <= *from && *from < stay.until);
            there.for_each(|stay| used.add(stay.request));
            if used.iter().any(|(name, quantity)| quantity > has.get(name)) {
                findings.push(format!(
                    "when {job} was leased at {from:?}, {node} of {cluster} had {has:?}, and \
                     {used:?} was granted"
                ));
            }
        }
    }
    findings
}

/// A run on a node, from its grant until its end.
struct Stay<'a> {
    job: JobRef,
    from: Duration,
    until: Duration,
    request: &'a Resources,
}
