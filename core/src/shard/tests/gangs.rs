//! Gangs: together or not at all, by example and under any commands.

use super::*;
use crate::shape::Gang;
use crate::shard::RunningJobs;

/// A member of a gang of `cardinality`.
fn member(line: u64, cpu: i64, gang: &str, cardinality: u32) -> NewJob {
    let gang = Gang { id: gang.into(), cardinality, uniformity: None };
    let shape = Shape { gang: Some(gang), ..(*shape(cpu)).clone() };
    NewJob { shape: Arc::new(shape), ..new_job(line, cpu, 0, None) }
}

/// What is offered: shape and count of each run.
fn offered(shard: &Shard) -> Vec<(Arc<Shape>, u64)> {
    let heads = shard.offers(100).into_iter().flat_map(|offer| offer.heads);
    heads.flat_map(|head| head.runs).map(|run| (run.shape, run.count)).collect()
}

fn counts(shard: &Shard) -> Vec<u64> {
    offered(shard).into_iter().map(|(_, count)| count).collect()
}

fn lease_all(driven: &mut Driven) -> Vec<(JobRef, u32)> {
    let picks = offered(&driven.shard).into_iter().map(|(shape, count)| pick(&shape, count));
    let picks = picks.collect();
    lease(driven, picks)
}

fn pick(shape: &Shape, count: u64) -> Pick {
    let (queue, node) = ("q".into(), "n".into());
    Pick { queue, priority: 0, shape: shape.key(), node, count: u32::try_from(count).unwrap() }
}

fn lease(driven: &mut Driven, picks: Vec<Pick>) -> Vec<(JobRef, u32)> {
    match driven.run(Command::Lease(Lease { cluster: "c".into(), is_away: false, picks })) {
        Outcome::Leased(runs) => runs.iter().map(|run| (run.job, run.attempt)).collect(),
        other => panic!("{other:?}"),
    }
}

fn states(shard: &Shard, jobs: &[JobRef]) -> Vec<Option<JobState>> {
    let finished = |job| shard.finished_of(job).map(|finished| finished.state);
    jobs.iter().map(|job| shard.job(*job).map(|job| job.state).or(finished(*job))).collect()
}

#[test]
fn a_gang_is_offered_when_its_last_member_has_come_and_leased_as_a_whole_or_not_at_all() {
    let mut driven = Driven::new();
    driven.submit("q", vec![member(0, 1, "g", 4), new_job(1, 7, 0, None)], None);
    driven.submit("q", vec![member(0, 2, "g", 4), member(1, 1, "g", 4)], None);
    assert_eq!(counts(&driven.shard), [1], "what is no member");
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
    driven.submit("q", vec![member(0, 2, "g", 4)], None);
    // From the first member on, one next to the other.
    let runs = offered(&driven.shard);
    assert_eq!(runs.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 2, 1]);
    let (one, two) = (runs[0].0.clone(), runs[1].0.clone());
    for torn in [vec![(&one, 2)], vec![(&one, 2), (&two, 1)], vec![(&one, 3), (&two, 1)]] {
        let picks = torn.into_iter().map(|(shape, count)| pick(shape, count)).collect();
        assert_eq!(lease(&mut driven, picks), []);
    }
    let leased = lease_all(&mut driven);
    assert_eq!(leased.len(), 5);
    assert_eq!(counts(&driven.shard), []);
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}

#[test]
fn a_gang_is_retried_as_a_whole() {
    let mut driven = Driven::new();
    let jobs = driven.submit("q", (0..3).map(|line| member(line, 1, "g", 3)).collect(), None);
    assert_eq!(lease_all(&mut driven).len(), 3);
    driven.report(jobs[0], 1, RunStatus::Running);
    driven.shard.take_stops();
    driven.report(jobs[1], 1, RunStatus::Returned(exit()));
    assert_eq!(states(&driven.shard, &jobs), vec![Some(JobState::Queued); 3]);
    let stops: Vec<_> = driven.shard.take_stops().iter().map(|stop| stop.job).collect();
    assert_eq!(stops, [jobs[0], jobs[2]], "what still ran is stopped");
    assert_eq!(driven.report(jobs[0], 1, RunStatus::Succeeded(exit())), Verdict::Stale);
    let again: Vec<_> = jobs.iter().map(|job| (*job, 2)).collect();
    assert_eq!(lease_all(&mut driven), again);
    // Who succeeded does not come back: the others run again without it.
    driven.report(jobs[2], 2, RunStatus::Succeeded(exit()));
    driven.report(jobs[0], 2, RunStatus::Lost(exit()));
    assert_eq!(lease_all(&mut driven), [(jobs[0], 3), (jobs[1], 3)]);
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}

/// So many of the jobs of a row, and everything else that is told of: as a leader would say it.
fn victims_of(row: &RunningJobs, count: u32) -> Vec<Victims> {
    let (queue, shape, node) = (row.queue.clone(), row.shape.key(), row.node.clone());
    vec![Victims { queue, shape, node, count, reason: "for `b`".into() }]
}

#[test]
fn a_gang_is_preempted_as_a_whole_and_only_what_was_named_is_answered() {
    let mut driven = Driven::new();
    let gang = vec![member(0, 1, "g", 3), member(1, 1, "g", 3), member(2, 2, "g", 3)];
    let jobs = driven.submit("q", gang, None);
    assert_eq!(lease_all(&mut driven).len(), 3);
    let rows = driven.shard.preemptible("default", |_| true);
    assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 3);
    let of_two = rows.iter().find(|row| row.count == 2).unwrap();
    let of_one = rows.iter().find(|row| row.count == 1).unwrap();
    let all = [victims_of(of_two, 2), victims_of(of_one, 1)].concat();
    let preempt = |victims| Command::Preempt(Preempt { cluster: "c".into(), victims });
    let Outcome::Preempted(mut runs) = driven.run(preempt(all)) else { panic!("it is one") };
    runs.sort_by_key(|run| run.job);
    let told: Vec<_> = runs.iter().map(|run| (run.victims, run.job, run.attempt)).collect();
    assert_eq!(told, [(0, jobs[0], 1), (0, jobs[1], 1), (1, jobs[2], 1)]);
    assert_eq!(states(&driven.shard, &jobs), vec![Some(JobState::Queued); 3]);
    assert_eq!(driven.shard.take_stops().len(), 3);
    let again: Vec<_> = jobs.iter().map(|job| (*job, 2)).collect();
    assert_eq!(lease_all(&mut driven), again);
    // One is named, and all go.
    let one = victims_of(&driven.shard.preemptible("default", |_| true)[0], 1);
    let Outcome::Preempted(runs) = driven.run(preempt(one)) else { panic!("it is one") };
    assert!((1..=2).contains(&runs.len()), "{runs:?}");
    assert_eq!(states(&driven.shard, &jobs), vec![Some(JobState::Queued); 3]);
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}

#[test]
fn a_gang_with_a_member_that_may_run_once_is_not_preempted() {
    let mut driven = Driven::new();
    let once = NewJob { at_most_once: true, ..member(0, 1, "g", 2) };
    driven.submit("q", vec![once, member(1, 2, "g", 2)], None);
    let leased = lease_all(&mut driven);
    assert_eq!(driven.shard.preemptible("default", |_| true), []);
    assert_eq!(driven.preempt("q", 1, 9), []);
    assert_eq!(driven.shard.cluster_runs("c").0, leased.len() as u64);
}

#[test]
fn a_gang_fails_as_a_whole() {
    let mut driven = Driven::new();
    let jobs = driven.submit("q", (0..3).map(|line| member(line, 1, "g", 3)).collect(), None);
    lease_all(&mut driven);
    driven.report(jobs[0], 1, RunStatus::Succeeded(exit()));
    driven.shard.take_stops();
    driven.report(jobs[1], 1, RunStatus::Failed(exit()));
    let expected = [JobState::Succeeded, JobState::Failed, JobState::Failed].map(Some);
    assert_eq!(states(&driven.shard, &jobs), expected);
    let stops: Vec<_> = driven.shard.take_stops().iter().map(|stop| stop.job).collect();
    assert_eq!(stops, [jobs[2]]);
    let (_, exit) = driven.shard.finished_of(jobs[2]).unwrap().runs[0].ended.clone().unwrap();
    assert_eq!(exit.reason.as_deref(), Some("GangFailed"));
    assert_eq!(exit.message.unwrap().to_string(), format!("`{}` of gang `g` failed", jobs[1]));
    // The name is free again.
    driven.submit("q", (0..2).map(|line| member(line, 1, "g", 2)).collect(), None);
    assert_eq!(lease_all(&mut driven).len(), 2);
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}

#[test]
fn a_gang_with_a_member_that_may_run_once_fails_where_others_would_be_retried() {
    for status in [RunStatus::Lost(exit()), RunStatus::Returned(exit())] {
        let mut driven = Driven::new();
        let once = NewJob { at_most_once: true, ..member(0, 1, "g", 2) };
        let jobs = driven.submit("q", vec![once, member(1, 1, "g", 2)], None);
        lease_all(&mut driven);
        driven.report(jobs[1], 1, status);
        assert_eq!(states(&driven.shard, &jobs), vec![Some(JobState::Failed); 2]);
    }
}

#[test]
fn a_gang_is_cancelled_and_gets_another_priority_as_a_whole() {
    let mut driven = Driven::new();
    let jobs = driven.submit("q", (0..3).map(|line| member(line, 1, "g", 3)).collect(), None);
    let target = Target::Jobs(vec![jobs[1]]);
    let outcome = driven.run(Command::Reprioritize { target: target.clone(), priority: 7 });
    let applied = |changed| Outcome::Applied { changed, finished: Vec::new(), missing: Vec::new() };
    assert_eq!(outcome, applied(3));
    assert_eq!(counts(&driven.shard), [3]);
    assert_eq!(driven.shard.job(jobs[2]).unwrap().priority, 7);
    lease_all(&mut driven);
    driven.shard.take_stops();
    assert_eq!(driven.run(Command::Cancel { target, reason: None }), applied(3));
    assert_eq!(states(&driven.shard, &jobs), vec![Some(JobState::Cancelled); 3]);
    assert_eq!(driven.shard.take_stops().len(), 3);
    let reason = driven.shard.finished_of(jobs[0]).unwrap().reason.unwrap();
    assert_eq!(reason.to_string(), format!("gang `g` was cancelled with `{}`", jobs[1]));
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}

#[test]
fn who_cannot_be_a_member_is_refused_with_the_whole_submission() {
    let mut driven = Driven::new();
    driven.submit("q", vec![member(0, 1, "g", 3)], None);
    let cases = [
        (member(1, 1, "g", 4), "its cardinality is `4`, that of the other members is `3`"),
        (NewJob { priority: 5, ..member(1, 1, "g", 3) }, "its priority is `5`"),
        (NewJob { count: Some(3), ..member(1, 1, "g", 3) }, "it would have 5 members, not 3"),
    ];
    for (job, expected) in cases {
        let said = driven.refused(vec![member(0, 1, "g", 3), job]);
        assert!(said.starts_with("line 2 cannot be a member of gang `g`: "), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(driven.shard.live(), 1, "nothing of a refused submission is there");
    let many = (0..20).map(|line| member(line, 1 + line as i64, "h", 20)).collect();
    assert!(driven.refused(many).contains("more than 16 different shapes"));
    driven.submit("q", (0..2).map(|line| member(line, 1, "g", 3)).collect(), None);
    let leased = lease_all(&mut driven);
    driven.report(leased[0].0, 1, RunStatus::Succeeded(exit()));
    assert!(driven.refused(vec![member(0, 1, "g", 3)]).contains("the gang has started"));
}

#[test]
fn the_tasks_of_an_array_are_a_gang_too() {
    let mut driven = Driven::new();
    let array = NewJob { count: Some(4), ..member(0, 1, "g", 4) };
    let id = driven.submit("q", vec![array], None)[0].job;
    assert_eq!(counts(&driven.shard), [4]);
    let leased = lease_all(&mut driven);
    assert_eq!(leased, (0..4).map(|n| (JobRef::task(id, n), 1)).collect::<Vec<_>>());
    driven.report(JobRef::task(id, 2), 1, RunStatus::Lost(exit()));
    assert_eq!(lease_all(&mut driven).len(), 4);
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}

#[derive(Debug, Clone)]
enum Deed {
    Submit { gang: u8, cpus: Vec<u8>, array: bool },
    Single { priority: u8 },
    Lease { torn: Option<u8> },
    Report { which: u8, status: u8 },
    Cancel { which: u8 },
    Reprioritize { which: u8, priority: u8 },
    Preempt { which: u8, count: u8 },
    Expire { runs_max: u8 },
    Checkpoint,
    Crash,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        5 => (0u8..3, vec(1u8..4, 1..4), prop::bool::weighted(0.2))
            .prop_map(|(gang, cpus, array)| Deed::Submit { gang, cpus, array }),
        1 => (0u8..3).prop_map(|priority| Deed::Single { priority }),
        4 => prop::option::weighted(0.3, any::<u8>()).prop_map(|torn| Deed::Lease { torn }),
        6 => (any::<u8>(), 0u8..6).prop_map(|(which, status)| Deed::Report { which, status }),
        1 => any::<u8>().prop_map(|which| Deed::Cancel { which }),
        2 => (any::<u8>(), 0u8..4)
            .prop_map(|(which, priority)| Deed::Reprioritize { which, priority }),
        1 => (any::<u8>(), 1_u8..4).prop_map(|(which, count)| Deed::Preempt { which, count }),
        1 => (1u8..4).prop_map(|runs_max| Deed::Expire { runs_max }),
        1 => Just(Deed::Checkpoint),
        1 => Just(Deed::Crash),
    ]
}

fn active(shard: &Shard) -> Vec<(JobRef, u32)> {
    let runs = shard.runs("c", None, usize::MAX);
    runs.into_iter().map(|run| (run.job, run.attempt)).collect()
}

fn do_deed(driven: &mut Driven, deed: &Deed) {
    let jobs = |driven: &Driven| {
        let filter = JobFilter { queue: None, job_set: None, states: StateSet::ALL };
        let live = driven.shard.live_jobs(&filter, None, usize::MAX);
        live.into_iter().map(|job| JobRef::whole(job.job.job)).collect::<Vec<_>>()
    };
    let nth = |jobs: Vec<JobRef>, n: u8| (!jobs.is_empty()).then(|| jobs[n as usize % jobs.len()]);
    match deed {
        Deed::Submit { gang, cpus, array } => {
            let name = format!("g{gang}");
            let count = array.then_some(2);
            let member = |(line, cpu): (u64, &u8)| NewJob {
                count,
                ..member(line, (*cpu).into(), &name, 3 + u32::from(*gang))
            };
            let jobs = (0..).zip(cpus).map(member).collect();
            let submit = Submit {
                queue: "q".into(),
                incarnation: 1,
                job_set: "set".into(),
                key: None,
                queued_max: None,
                jobs,
            };
            driven.run(Command::Submit(submit));
        }
        Deed::Single { priority } => {
            driven.submit("q", vec![new_job(0, 5, (*priority).into(), None)], None);
        }
        Deed::Lease { torn } => {
            let mut offered = offered(&driven.shard);
            if let Some(torn) = torn.filter(|_| !offered.is_empty()) {
                let at = torn as usize % offered.len();
                offered[at].1 -= 1;
            }
            let picks = offered.iter().map(|(shape, count)| pick(shape, *count)).collect();
            lease(driven, picks);
        }
        Deed::Report { which, status } => {
            let runs = active(&driven.shard);
            if runs.is_empty() {
                return;
            }
            let (job, attempt) = runs[*which as usize % runs.len()];
            let status = match status {
                0 => RunStatus::Pending,
                1 => RunStatus::Running,
                2 => RunStatus::Succeeded(exit()),
                3 => RunStatus::Failed(exit()),
                4 => RunStatus::Returned(exit()),
                _ => RunStatus::Lost(exit()),
            };
            driven.report(job, attempt, status);
        }
        Deed::Cancel { which } => {
            if let Some(job) = nth(jobs(driven), *which) {
                let target = Target::Jobs(vec![job]);
                driven.run(Command::Cancel { target, reason: None });
            }
        }
        Deed::Reprioritize { which, priority } => {
            if let Some(job) = nth(jobs(driven), *which) {
                let (target, priority) = (Target::Jobs(vec![job]), (*priority).into());
                driven.run(Command::Reprioritize { target, priority });
            }
        }
        Deed::Preempt { which, count } => {
            let rows = driven.shard.preemptible("default", |_| true);
            if let Some(row) = rows.get(*which as usize % rows.len().max(1)) {
                let victims = victims_of(row, (*count).into());
                driven.run(Command::Preempt(Preempt { cluster: "c".into(), victims }));
            }
        }
        Deed::Expire { runs_max } => {
            let (cluster, runs_max) = ("c".into(), (*runs_max).into());
            driven.run(Command::ExpireCluster { cluster, runs_max });
        }
        Deed::Checkpoint => {
            driven.store();
            driven.checkpoint = Some((driven.durable, driven.stored().records()));
        }
        Deed::Crash => {
            driven.store();
            driven.crash(0);
        }
    }
}

/// No member of a gang is on a cluster while another waits, and what is offered of a gang is all
/// that lives of it, in one piece.
fn assert_together(shard: &Shard) {
    let filter = JobFilter { queue: None, job_set: None, states: StateSet::ALL };
    let mut gangs: BTreeMap<Name, (u64, u64)> = BTreeMap::new();
    for job in shard.live_jobs(&filter, None, usize::MAX) {
        let Some(gang) = &job.shape.gang else { continue };
        let (waiting, running) = gangs.entry(gang.id.clone()).or_default();
        *(if job.state == JobState::Queued { waiting } else { running }) += 1;
    }
    let torn = gangs.iter().find(|(_, (waiting, running))| *waiting > 0 && *running > 0);
    assert_eq!(torn, None);
    let mut told: Vec<(Option<Name>, u64)> = Vec::new();
    for (shape, count) in offered(shard) {
        let gang = shape.gang.as_ref().map(|gang| gang.id.clone());
        match told.last_mut().filter(|(last, _)| gang.is_some() && *last == gang) {
            Some((_, sum)) => *sum += count,
            None => told.push((gang, count)),
        }
    }
    for (gang, sum) in told.into_iter().filter_map(|(gang, sum)| Some((gang?, sum))) {
        assert_eq!(sum, gangs[&gang].0, "gang `{gang}` is offered in pieces");
    }
}

proptest! {
    #[test]
    fn members_of_a_gang_wait_together_and_run_together_whatever_happens(
        deeds in vec(deed(), 1..60),
    ) {
        let mut driven = Driven::new();
        for deed in deeds {
            do_deed(&mut driven, &deed);
            assert_together(&driven.shard);
            assert_counted(&driven.shard);
        }
        assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
    }
}

#[test]
fn members_of_a_gang_stand_where_the_first_does_once_all_have_come_and_are_held_till_then() {
    use crate::shard::{Bound, Held};
    let mut driven = Driven::new();
    let first = driven.submit("q", vec![member(0, 1, "g", 3), new_job(1, 7, 0, None)], None);
    let second = driven.submit("q", vec![member(0, 2, "g", 3)], None);
    let held = |live, waiting, is_started| {
        Some(Held::Gang { id: "g".into(), live, waiting, cardinality: 3, is_started })
    };
    assert_eq!(driven.shard.place(first[0]).unwrap().held, held(2, 2, false));
    let alone = driven.shard.place(first[1]).unwrap();
    assert_eq!((alone.ahead, alone.held), (Bound::exactly(0), None));
    driven.submit("q", vec![member(0, 1, "g", 3)], None);
    let of_member = driven.shard.place(second[0]).unwrap();
    assert_eq!((of_member.ahead, of_member.held), (Bound::exactly(0), None));
    assert_eq!(driven.shard.place(first[1]).unwrap().ahead, Bound::exactly(3));
}
