//! Jobs that wait and are held back: by what they depend on, by the limit of their array.

use super::*;
use crate::shard::place::Held;
use crate::terms::{Dependency, HeldBack, On, Terms, When};

fn depends(line: u64, on: &[(On, When)]) -> NewJob {
    let after = on.iter().map(|(on, when)| Dependency { on: on.clone(), when: *when }).collect();
    let terms = Some(Arc::new(Terms { after, ..Terms::default() }));
    NewJob { terms, ..new_job(line, 1, 0, None) }
}

fn on(job: JobRef, when: When) -> (On, When) {
    (On::Job(job.job), when)
}

fn named(line: u64, name: &str) -> NewJob {
    NewJob { client_id: Some(name.into()), ..new_job(line, 1, 0, None) }
}

fn client(name: &str) -> (On, When) {
    (On::Client(name.into()), When::Success)
}

/// The state of a job that lives or has just ended, and why it was cancelled.
fn state(driven: &Driven, job: JobRef) -> (JobState, Option<Name>) {
    match driven.shard.job(job) {
        Some(view) => (view.state, None),
        None => {
            let done = driven.shard.finished_of(job).unwrap();
            (done.state, done.reason)
        }
    }
}

fn end(driven: &mut Driven, job: JobRef, status: RunStatus) {
    let attempt = driven.shard.job(job).unwrap().runs.last().unwrap().attempt;
    assert_eq!(driven.report(job, attempt, status), Verdict::Taken);
}

#[test]
fn a_job_is_leased_only_when_all_that_it_depends_on_has_ended_as_it_should() {
    let mut driven = Driven::new();
    let first = driven.submit("q", vec![new_job(0, 1, 0, None), new_job(1, 1, 0, None)], None);
    let wishes = [on(first[0], When::Success), on(first[1], When::Finish)];
    let last = driven.submit("q", vec![depends(0, &wishes)], None)[0];
    assert_eq!(driven.lease("q", 1, 9).len(), 2);
    let held = driven.shard.job(last).unwrap().held_back.unwrap();
    let HeldBack::After(after) = held else { panic!("{held:?}") };
    assert_eq!(after.len(), 2);
    let place = driven.shard.place(last).unwrap();
    assert_eq!(place.held, Some(Held::Back(HeldBack::After(after))));
    end(&mut driven, first[0], RunStatus::Succeeded(exit()));
    assert!(driven.lease("q", 1, 9).is_empty());
    driven.store();
    driven.checkpoint = Some((driven.durable, driven.shard.records()));
    driven.shard = driven.recovered();
    end(&mut driven, first[1], RunStatus::Failed(exit()));
    assert_eq!(driven.shard.job(last).unwrap().held_back, None);
    assert_eq!(driven.lease("q", 1, 9), [(last, 1)]);
}

#[test]
fn what_waits_for_what_can_no_longer_be_is_cancelled_along_the_chain() {
    let mut driven = Driven::new();
    let first = driven.submit("q", vec![new_job(0, 1, 0, None)], None)[0];
    let second = driven.submit("q", vec![depends(0, &[on(first, When::Success)])], None)[0];
    let third = driven.submit("q", vec![depends(0, &[on(second, When::Success)])], None)[0];
    let rescue = driven.submit("q", vec![depends(0, &[on(first, When::Failure)])], None)[0];
    let after_all = driven.submit("q", vec![depends(0, &[on(third, When::Finish)])], None)[0];
    driven.lease("q", 1, 1);
    end(&mut driven, first, RunStatus::Failed(exit()));
    let reason = format!("it waited for job `{}` to succeed, which failed", first.job);
    assert_eq!(state(&driven, second), (JobState::Cancelled, Some(reason.as_str().into())));
    let reason = format!("it waited for job `{}` to succeed, which was cancelled", second.job);
    assert_eq!(state(&driven, third), (JobState::Cancelled, Some(reason.as_str().into())));
    let leased: Vec<JobRef> = driven.lease("q", 1, 9).into_iter().map(|(job, _)| job).collect();
    assert_eq!(leased, [rescue, after_all]);
    assert_eq!(picture(&driven.replayed(None)), picture(&driven.shard));
}

#[test]
fn a_dependency_may_have_ended_before_as_long_as_that_is_remembered() {
    let mut driven = Driven::new();
    let jobs = vec![named(0, "good"), named(1, "bad"), new_job(2, 1, 0, Some(2))];
    let first = driven.submit("q", jobs, None);
    for (job, _) in driven.lease("q", 1, 9) {
        let is_bad = job == first[1];
        let status = if is_bad { RunStatus::Failed(exit()) } else { RunStatus::Succeeded(exit()) };
        end(&mut driven, job, status);
    }
    for _ in 0..2 {
        let jobs = [client("good"), client("bad"), on(first[2], When::Success)];
        let jobs = (0..).zip(jobs).map(|(line, on)| depends(line, &[on])).collect();
        let then = driven.submit("q", jobs, None);
        assert_eq!(state(&driven, then[1]).0, JobState::Cancelled);
        let leased: Vec<JobRef> = driven.lease("q", 1, 9).into_iter().map(|(job, _)| job).collect();
        assert_eq!(leased, [then[0], then[2]]);
        // And once the history has it, and another owner came.
        driven.store();
        let span = HistorySpan {
            after: driven.shard.history_through(),
            through: Position { sequence: driven.durable as u64, row: u32::MAX },
        };
        driven.run(Command::PlanHistory(span));
        driven.run(Command::NoteHistory(span));
        assert_eq!(driven.shard.finished_len(), 0);
        driven.store();
        driven.checkpoint = Some((driven.durable, driven.shard.records()));
        driven.shard = driven.recovered();
    }
}

#[test]
fn what_nobody_knows_is_refused_with_the_line_that_names_it() {
    let mut driven = Driven::new();
    let other = driven.submit("elsewhere", vec![named(0, "x")], None)[0];
    let said = driven.refused(vec![named(0, "x"), depends(1, &[client("y")])]);
    assert!(
        said.starts_with("line 2: dependsOn: client id `y` is not known in queue `q`"),
        "{said}"
    );
    let said = driven.refused(vec![depends(0, &[on(other, When::Finish)])]);
    assert!(said.starts_with(&format!("line 1: dependsOn: job `{}` is not", other.job)), "{said}");
    let said = driven.refused(vec![depends(0, &[client("z")]), named(1, "z")]);
    assert!(said.contains("it is a later line of the submission"), "{said}");
    assert_eq!(driven.shard.live(), 1, "nothing of it was taken in");
    let taken = driven.submit("q", vec![named(0, "z"), depends(1, &[client("z")])], Some(7));
    assert_eq!(driven.lease("q", 1, 9), [(taken[0], 1)]);
    let again = driven.submit("q", vec![named(0, "z"), depends(1, &[client("z")])], Some(7));
    assert_eq!(again, taken);
}

#[test]
fn clusters_hold_no_more_tasks_of_an_array_than_may_run_at_once() {
    let mut driven = Driven::new();
    let terms = Some(Arc::new(Terms { running_max: Some(2), ..Terms::default() }));
    let array = NewJob { terms, ..new_job(0, 1, 0, Some(5)) };
    let array = driven.submit("q", vec![array, new_job(1, 1, 0, None)], None)[0].job;
    let offered = |driven: &Driven| -> u64 {
        let offers = driven.shard.offers(10);
        offers.iter().flat_map(|offer| &offer.waiting).map(|(_, count)| count).sum()
    };
    assert_eq!(offered(&driven), 3);
    assert_eq!(driven.lease("q", 1, 9).len(), 3);
    assert_eq!(offered(&driven), 0);
    let task = driven.shard.job(JobRef::task(array, 4)).unwrap();
    assert_eq!(task.held_back, Some(HeldBack::ArrayFull { running_max: 2 }));
    end(&mut driven, JobRef::task(array, 0), RunStatus::Succeeded(exit()));
    end(&mut driven, JobRef::task(array, 1), RunStatus::Returned(no_room()));
    assert_eq!(offered(&driven), 2);
    driven.shard = driven.replayed(None);
    let leased = driven.lease("q", 1, 9);
    assert_eq!(leased, [(JobRef::task(array, 1), 2), (JobRef::task(array, 2), 1)]);
}
