//! The run table decides alone: no bus, no clock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_api::bus::{BelievedRun, Exit, JobPayload, LeaseAnswer, LeasedRun, Report, RunStatus};
use muster_api::shape::ShapeText;
use muster_core::id::{CommandId, JobId, JobRef, ShardId, run_digest};
use muster_core::quantity::Quantity;
use muster_core::resources::{PODS, Resources};
use muster_core::shape::{DEFAULT_POOL, POOL_LABEL, Shape};
use muster_core::time::Timestamp;

use super::{Claim, Counts, Effect, Now, RunKey, Runs};
use crate::backend::{Event, Node, NodeChange};
use crate::limits::POOLS_MAX;

mod sizes;

const SHARD: ShardId = ShardId(3);

fn now() -> Now {
    Now { wall: Timestamp(1000), monotonic: Duration::from_secs(1) }
}

fn key(n: u64) -> RunKey {
    let job = JobId::new(Timestamp(1), SHARD, n);
    RunKey { job: JobRef::whole(job), attempt: 1 }
}

fn pods(count: i64) -> Resources {
    [(PODS.into(), Quantity::from_units(count))].into_iter().collect()
}

fn node(name: &str, count: i64) -> Node {
    Node {
        name: name.into(),
        labels: std::collections::BTreeMap::new(),
        taints: Vec::new(),
        allocatable: pods(count),
        schedulable: true,
    }
}

fn lease(key: RunKey) -> LeasedRun {
    let shape = ShapeText(Arc::new(Shape::of_request(pods(1))));
    LeasedRun { job: key.job, attempt: key.attempt, node: "a".into(), shape }
}

fn payload(key: RunKey, found: bool) -> JobPayload {
    JobPayload {
        job: key.job.job,
        found,
        queue: String::new(),
        job_set: String::new(),
        namespace: String::new(),
        count: None,
        labels: Bytes::new(),
        annotations: Bytes::new(),
        network: Bytes::new(),
        pod_spec: Bytes::new(),
    }
}

fn event(key: RunKey, status: RunStatus) -> Event {
    Event { key, status, at: Timestamp(5), exit: Exit::default(), addresses: Vec::new() }
}

/// Runs on one node that holds two.
fn runs() -> Runs {
    let mut runs = Runs::new(DEFAULT_POOL.into());
    runs.on_nodes(vec![node("a", 2)]);
    runs
}

fn answer(runs: &mut Runs, number: u64, keys: &[RunKey]) -> usize {
    let leases = keys.iter().map(|key| lease(*key)).collect();
    let answer = LeaseAnswer {
        session: "s".into(),
        answer: number,
        version: runs.nodes_version(DEFAULT_POOL),
        leases,
        stops: Vec::new(),
    };
    runs.on_answer(&DEFAULT_POOL.into(), answer, now())
}

fn effects(runs: &mut Runs) -> Vec<(char, RunKey)> {
    let name = |effect: Effect| match effect {
        Effect::Start(start) => ('+', start.key),
        Effect::Stop(key) => ('-', key),
        Effect::Settle(key) => ('.', key),
    };
    runs.take_effects().into_iter().map(name).collect()
}

fn message(runs: &mut Runs) -> Vec<Report> {
    runs.message(SHARD, || CommandId(1), 1 << 20).map(|(_, reports)| reports).unwrap_or_default()
}

fn statuses(runs: &mut Runs) -> Vec<RunStatus> {
    message(runs).iter().map(|report| report.status).collect()
}

fn started(runs: &mut Runs, key: RunKey) {
    answer(runs, 1, &[key]);
    let asked = runs.payloads_wanted(SHARD);
    runs.on_payloads(asked, vec![payload(key, true)]);
    assert_eq!(effects(runs), [('+', key)]);
}

fn free(runs: &mut Runs) -> String {
    runs.on_lost(DEFAULT_POOL);
    let told = runs.ask(&DEFAULT_POOL.into(), 10, 1 << 20).nodes.nodes;
    told.first().map_or("not told".into(), |n| n.free.get(PODS).cloned().unwrap_or("0".into()))
}

#[test]
fn a_run_goes_from_its_lease_to_a_confirmed_end() {
    let mut runs = runs();
    assert_eq!(answer(&mut runs, 1, &[key(1)]), 1);
    assert_eq!(free(&mut runs), "1");
    assert_eq!(answer(&mut runs, 1, &[key(1)]), 0);
    let asked = runs.payloads_wanted(SHARD);
    assert_eq!(asked, [key(1).job.job]);
    assert!(runs.payloads_wanted(SHARD).is_empty());
    runs.on_payloads(asked, vec![payload(key(1), true)]);
    assert_eq!(effects(&mut runs), [('+', key(1))]);
    runs.on_event(event(key(1), RunStatus::Running), now());
    assert_eq!(statuses(&mut runs), [RunStatus::Running]);
    runs.on_event(event(key(1), RunStatus::Succeeded), now());
    assert_eq!(free(&mut runs), "2");
    // The message in flight stays as it is until it is answered.
    assert_eq!(statuses(&mut runs), [RunStatus::Running]);
    runs.on_verdicts(SHARD, &[true], now());
    assert_eq!(statuses(&mut runs), [RunStatus::Succeeded]);
    runs.on_verdicts(SHARD, &[true], now());
    assert_eq!(effects(&mut runs), [('.', key(1))]);
    assert_eq!(runs.counts(), Counts::default());
    assert!(runs.is_flushed());
    // A lease that comes again is ignored.
    assert_eq!(answer(&mut runs, 2, &[key(1)]), 0);
    assert!(effects(&mut runs).is_empty());
}

#[test]
fn of_what_was_not_sent_the_newest_status_is_kept_and_that_it_ran() {
    let mut runs = runs();
    started(&mut runs, key(1));
    for status in [RunStatus::Pending, RunStatus::Running, RunStatus::Failed] {
        runs.on_event(event(key(1), status), now());
    }
    assert_eq!(statuses(&mut runs), [RunStatus::Running, RunStatus::Failed]);
    runs.on_verdicts(SHARD, &[true, true], now());
    assert_eq!(runs.counts(), Counts::default());
    assert!(runs.is_flushed());
    assert_eq!(effects(&mut runs), [('.', key(1))]);

    started(&mut runs, key(2));
    for status in [RunStatus::Pending, RunStatus::Failed] {
        runs.on_event(event(key(2), status), now());
    }
    assert_eq!(statuses(&mut runs), [RunStatus::Failed], "it never ran");
    // Refused for both reasons, it is over once.
    runs.on_verdicts(SHARD, &[false], now());
    assert_eq!(runs.counts(), Counts::default());
}

#[test]
fn a_refused_run_is_stopped_and_keeps_its_place_until_it_is_gone() {
    let mut runs = runs();
    started(&mut runs, key(1));
    runs.on_event(event(key(1), RunStatus::Running), now());
    message(&mut runs);
    assert_eq!(runs.on_verdicts(SHARD, &[false], now()), 1);
    assert_eq!(effects(&mut runs), [('-', key(1))]);
    assert_eq!((runs.claim(SHARD).count, free(&mut runs).as_str()), (0, "1"));
    runs.on_event(event(key(1), RunStatus::Failed), now());
    assert_eq!(effects(&mut runs), [('.', key(1))]);
    assert_eq!(free(&mut runs), "2");
    assert!(message(&mut runs).is_empty());
}

#[test]
fn what_does_not_fit_is_returned() {
    let mut runs = runs();
    answer(&mut runs, 1, &[key(1), key(2), key(3)]);
    let reports = message(&mut runs);
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].job, reports[0].status), (key(3).job, RunStatus::Returned));
    assert_eq!(runs.counts(), Counts { wanted: 2, ended: 1, ..Counts::default() });
}

#[test]
fn a_run_whose_node_vanished_keeps_what_it_holds_when_the_node_returns() {
    let mut runs = runs();
    started(&mut runs, key(1));
    runs.on_nodes(Vec::new());
    answer(&mut runs, 2, &[key(2)]);
    assert_eq!(statuses(&mut runs), [RunStatus::Returned]);
    runs.on_nodes(vec![node("a", 2)]);
    assert_eq!(free(&mut runs), "1");
    runs.on_event(event(key(1), RunStatus::Succeeded), now());
    assert_eq!(free(&mut runs), "2");
}

#[test]
fn a_stop_before_the_start_returns_the_run() {
    let mut runs = runs();
    answer(&mut runs, 1, &[key(1)]);
    runs.on_stop(key(1), now());
    assert_eq!(statuses(&mut runs), [RunStatus::Returned]);
    assert!(runs.payloads_wanted(SHARD).is_empty());
    assert_eq!(free(&mut runs), "2");
}

/// What is free of node `a`, and what will be.
fn free_and_freeing(runs: &mut Runs) -> (Option<String>, Option<String>) {
    runs.on_lost(DEFAULT_POOL);
    let told = runs.ask(&DEFAULT_POOL.into(), 10, 1 << 20).nodes.nodes.remove(0);
    (told.free.get(PODS).cloned(), told.freeing.get(PODS).cloned())
}

#[test]
fn what_stops_is_told_as_room_that_comes_until_it_is_gone() {
    let mut runs = runs();
    started(&mut runs, key(1));
    started(&mut runs, key(2));
    let amount = |count: u32| (count > 0).then(|| count.to_string());
    let told = |free, freeing| (amount(free), amount(freeing));
    assert_eq!(free_and_freeing(&mut runs), told(0, 0));
    let version = runs.nodes_version(DEFAULT_POOL);
    runs.on_stop(key(1), now());
    assert!(runs.nodes_version(DEFAULT_POOL) > version, "the leader is to hear of it");
    assert_eq!(free_and_freeing(&mut runs), told(0, 1));
    // Told again, or found to be stale: it is one run all the same.
    runs.on_stop(key(1), now());
    runs.on_event(event(key(1), RunStatus::Running), now());
    message(&mut runs);
    runs.on_verdicts(SHARD, &[false], now());
    assert_eq!(free_and_freeing(&mut runs), told(0, 1));
    // Its node goes and comes back with it.
    runs.on_nodes(Vec::new());
    runs.on_nodes(vec![node("a", 2)]);
    assert_eq!(free_and_freeing(&mut runs), told(0, 1));
    runs.on_event(event(key(1), RunStatus::Failed), now());
    assert_eq!(free_and_freeing(&mut runs), told(1, 0));
    runs.on_stop(key(2), now());
    runs.on_event(event(key(2), RunStatus::Succeeded), now());
    assert_eq!(free_and_freeing(&mut runs), told(2, 0));
}

#[test]
fn a_newer_attempt_stops_the_older_one() {
    let mut runs = runs();
    started(&mut runs, key(1));
    let newer = RunKey { attempt: 2, ..key(1) };
    answer(&mut runs, 2, &[newer]);
    assert_eq!(effects(&mut runs), [('-', key(1))]);
    assert_eq!(runs.counts(), Counts { wanted: 1, condemned: 1, ..Counts::default() });
}

#[test]
fn payloads_that_did_not_come_are_asked_for_again_and_missing_jobs_dropped() {
    let mut runs = runs();
    answer(&mut runs, 1, &[key(1), key(2)]);
    let asked = runs.payloads_wanted(SHARD);
    assert_eq!(asked.len(), 2);
    runs.on_payloads(asked, vec![payload(key(1), false)]);
    assert_eq!(runs.payloads_wanted(SHARD), [key(2).job.job]);
    assert_eq!(runs.counts().wanted, 1);
    assert!(message(&mut runs).is_empty());
}

#[test]
fn both_sides_agree_by_count_and_digest() {
    let mut runs = runs();
    answer(&mut runs, 1, &[key(1), key(2)]);
    let claim = runs.claim(SHARD);
    let digest = run_digest(key(1).job, 1) ^ run_digest(key(2).job, 1);
    assert_eq!((claim.count, claim.digest), (2, digest));
}

#[test]
fn a_comparison_settles_every_difference() {
    let mut runs = runs();
    started(&mut runs, key(1));
    runs.on_event(event(key(1), RunStatus::Running), now());
    message(&mut runs);
    runs.on_verdicts(SHARD, &[true], now());
    let mut claim = runs.claim(SHARD);
    let believed = |n, state: &str| BelievedRun { run: lease(key(n)), state: state.into() };
    runs.on_believed(&mut claim, vec![believed(2, "leased"), believed(4, "running")], now());
    assert_eq!(runs.on_believed_all(claim, now()), 3);
    assert_eq!(runs.payloads_wanted(SHARD), [key(2).job.job]);
    let told: Vec<_> = message(&mut runs).iter().map(|r| (r.job, r.status)).collect();
    let lost = (key(4).job, RunStatus::Lost);
    assert_eq!(told, [lost, (key(1).job, RunStatus::Running)]);
}

#[test]
fn nodes_are_told_once_and_in_pieces() {
    let mut runs = Runs::new(DEFAULT_POOL.into());
    runs.on_nodes((0..10).map(|n| node(&format!("n{n}"), 1)).collect());
    let mut told = Vec::new();
    for number in 1..20 {
        let ask = runs.ask(&DEFAULT_POOL.into(), 7, 600);
        assert_eq!(ask.leases_max, if ask.more { 0 } else { 7 });
        told.extend(ask.nodes.nodes.into_iter().map(|node| node.name));
        let version = ask.nodes.version;
        let (session, leases) = ("s".to_owned(), Vec::new());
        let answer = LeaseAnswer { session, answer: number, version, leases, stops: Vec::new() };
        runs.on_answer(&DEFAULT_POOL.into(), answer, now());
        if !ask.more {
            break;
        }
    }
    told.sort();
    assert_eq!(told, (0..10).map(|n| format!("n{n}")).collect::<Vec<_>>());
    let ask = runs.ask(&DEFAULT_POOL.into(), 7, 600);
    assert!(ask.nodes.nodes.is_empty() && ask.nodes.base.is_some() && ask.seen.is_some());
    runs.on_nodes((0..9).map(|n| node(&format!("n{n}"), 1)).collect());
    assert_eq!(runs.ask(&DEFAULT_POOL.into(), 7, 600).nodes.removed, ["n9"]);
    runs.on_tell_all(DEFAULT_POOL);
    assert_eq!(runs.ask(&DEFAULT_POOL.into(), 7, 1 << 20).nodes.nodes.len(), 9);
}

fn node_of(pool: &str, name: &str) -> Node {
    Node { labels: [(POOL_LABEL.into(), pool.into())].into(), ..node(name, 2) }
}

/// (told, gone) to the leader of a pool, which knows it from then on.
fn tell(runs: &mut Runs, pool: &str) -> (Vec<String>, Vec<String>) {
    let ask = runs.ask(&pool.into(), 7, 1 << 20);
    let number = ask.seen.map_or(1, |(_, number)| number + 1);
    let (session, version) = (pool.to_owned(), ask.nodes.version);
    let (leases, stops) = (Vec::new(), Vec::new());
    let answer = LeaseAnswer { session, answer: number, version, leases, stops };
    runs.on_answer(&pool.into(), answer, now());
    (ask.nodes.nodes.into_iter().map(|node| node.name).collect(), ask.nodes.removed)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn each_node_is_told_to_the_leader_of_its_pool_only() {
    let mut runs = runs();
    assert!(runs.on_nodes(vec![node("a", 2), node_of("gpu", "g"), node_of("big", "b")]).is_empty());
    assert_eq!(runs.pools().map(|pool| &**pool).collect::<Vec<_>>(), ["big", "default", "gpu"]);
    for (pool, node) in [("big", "b"), ("default", "a"), ("gpu", "g")] {
        assert_eq!(tell(&mut runs, pool), (names(&[node]), vec![]), "{pool}");
        assert_eq!(tell(&mut runs, pool), (vec![], vec![]), "{pool}");
    }
    // What changes in one pool is no news to the others.
    let before = ["big", "default", "gpu"].map(|pool| runs.nodes_version(pool));
    started(&mut runs, key(1));
    let after = ["big", "default", "gpu"].map(|pool| runs.nodes_version(pool));
    assert!(before[1] < after[1] && before[0] == after[0] && before[2] == after[2]);
}

#[test]
fn a_node_that_changes_its_pool_takes_its_runs_along() {
    let mut runs = runs();
    started(&mut runs, key(1));
    tell(&mut runs, DEFAULT_POOL);
    runs.on_nodes(vec![node_of("gpu", "a")]);
    assert_eq!(tell(&mut runs, DEFAULT_POOL), (vec![], names(&["a"])));
    let told = runs.ask(&"gpu".into(), 7, 1 << 20).nodes;
    assert_eq!((told.nodes[0].free[PODS].as_str(), told.nodes[0].runs), ("1", 1));
    // A lease of the old pool's leader, which did not know it yet, goes back.
    assert_eq!(answer(&mut runs, 2, &[key(2)]), 1);
    let reports = message(&mut runs);
    let refusal = reports.iter().find(|report| report.status == RunStatus::Returned).unwrap();
    let why = refusal.exit.message.as_deref().unwrap();
    assert_eq!(why, "node `a` belongs to pool `gpu`");
    runs.on_nodes(vec![node("a", 2)]);
    assert_eq!(tell(&mut runs, DEFAULT_POOL), (names(&["a"]), vec![]));
}

#[test]
fn a_node_whose_label_names_no_pool_takes_no_runs() {
    let mut runs = runs();
    let misplaced = runs.on_nodes(vec![node_of("a..b", "a")]);
    assert_eq!(misplaced, ["a".into()]);
    assert!(runs.on_nodes(vec![node_of("a..b", "a")]).is_empty(), "it is told once");
    assert!(!runs.ask(&DEFAULT_POOL.into(), 7, 1 << 20).nodes.nodes[0].schedulable);
    let many = (0..=POOLS_MAX).map(|n| node_of(&format!("p{n}"), &format!("n{n}"))).collect();
    assert_eq!(runs.on_nodes(many).len(), 2, "there was a pool before");
    assert_eq!(runs.pools().count(), POOLS_MAX);
}

#[test]
fn the_end_of_an_unknown_run_is_settled_and_its_life_stopped() {
    let mut runs = runs();
    runs.on_event(event(key(1), RunStatus::Running), now());
    runs.on_event(event(key(2), RunStatus::Succeeded), now());
    assert_eq!(effects(&mut runs), [('-', key(1)), ('.', key(2))]);
}

#[test]
fn a_node_is_told_with_the_queues_whose_jobs_failed_there_since_one_ended_well() {
    let mut runs = Runs::new(DEFAULT_POOL.into());
    runs.on_nodes(vec![node("a", 9)]);
    let mut end = |n: u64, queue: &str, status: RunStatus, reason: &str, at: i64, stops: bool| {
        answer(&mut runs, n, &[key(n)]);
        let asked = runs.payloads_wanted(SHARD);
        let payload = JobPayload { queue: queue.into(), ..payload(key(n), true) };
        runs.on_payloads(asked, vec![payload]);
        if stops {
            runs.on_stop(key(n), now());
        }
        let exit = Exit { reason: Some(reason.into()), ..Exit::default() };
        runs.on_event(
            Event { key: key(n), status, at: Timestamp(at), exit, addresses: Vec::new() },
            now(),
        );
        runs.on_lost(DEFAULT_POOL);
        runs.ask(&DEFAULT_POOL.into(), 10, 1 << 20).nodes.nodes.remove(0).failing
    };
    let told = |queues: &[(&str, i64)]| -> Vec<(String, i64)> {
        queues.iter().map(|(queue, at)| ((*queue).to_owned(), *at)).collect()
    };
    assert_eq!(end(1, "x", RunStatus::Failed, "Error", 10, false), told(&[("x", 10)]));
    assert_eq!(end(2, "y", RunStatus::Returned, "StartError", 20, false).len(), 2);
    let both = told(&[("x", 30), ("y", 20)]);
    assert_eq!(end(3, "x", RunStatus::Failed, "", 30, false), both);
    // What the job itself is to blame for, and what was told to stop, says nothing.
    assert_eq!(end(4, "z", RunStatus::Failed, "OOMKilled", 40, false), both);
    assert_eq!(end(5, "z", RunStatus::Failed, "Error", 50, true), both);
    assert_eq!(end(6, "z", RunStatus::Succeeded, "", 60, false), told(&[]));
    assert_eq!(end(7, "y", RunStatus::Failed, "", 70, false), told(&[("y", 70)]));
}

#[test]
fn a_job_of_another_pool_starts_on_a_node_whose_pools_leader_leased_it_there() {
    let mut runs = Runs::new(DEFAULT_POOL.into());
    runs.on_nodes(vec![node_of("gpu", "a")]);
    let mut answered = |pool: &str, n: u64| {
        let (session, version) = (format!("of {pool}"), runs.nodes_version(pool));
        let leases = vec![lease(key(n))];
        let answer = LeaseAnswer { session, answer: 1, version, leases, stops: Vec::new() };
        runs.on_answer(&pool.into(), answer, now());
        message(&mut runs).len()
    };
    // The shape of both says `default`.
    assert_eq!(answered("gpu", 1), 0);
    assert_eq!(answered(DEFAULT_POOL, 2), 1, "it goes back");
}

#[test]
fn of_nodes_that_have_changed_only_these_are_told_and_runs_stay_where_they_are() {
    let mut runs = Runs::new(DEFAULT_POOL.into());
    runs.on_nodes(vec![node("a", 2), node("b", 2), node("c", 2)]);
    answer(&mut runs, 1, &[key(1)]);
    tell(&mut runs, DEFAULT_POOL);
    let change = |name: &str, node: Option<Node>| NodeChange { name: name.into(), node };
    assert!(runs.on_node_changes(vec![change("b", Some(node("b", 2)))]).is_empty());
    assert_eq!(tell(&mut runs, DEFAULT_POOL), (names(&[]), names(&[])), "it is as it was");
    let cordoned = Node { schedulable: false, ..node("a", 2) };
    let changes = vec![
        change("a", Some(cordoned)),
        change("c", None),
        change("d", Some(node("d", 1))),
        change("e", None),
    ];
    assert!(runs.on_node_changes(changes).is_empty());
    let ask = runs.ask(&DEFAULT_POOL.into(), 7, 1 << 20);
    let told: Vec<_> =
        ask.nodes.nodes.iter().map(|it| (&*it.name, it.schedulable, it.runs)).collect();
    assert_eq!(told, [("a", false, 1), ("d", true, 0)]);
    assert_eq!(ask.nodes.removed, ["c"]);
    let changes = vec![change("d", Some(node_of("a..b", "d")))];
    assert_eq!(runs.on_node_changes(changes), ["d".into()]);
    runs.on_node_changes(vec![change("a", None)]);
    runs.on_node_changes(vec![change("a", Some(node("a", 2)))]);
    let ask = runs.ask(&DEFAULT_POOL.into(), 7, 1 << 20);
    let back = ask.nodes.nodes.iter().find(|it| it.name == "a").unwrap();
    assert_eq!((back.runs, back.schedulable), (1, true), "its run is on it again");
}
