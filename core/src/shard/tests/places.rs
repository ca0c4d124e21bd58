//! Where jobs stand in their queue's line.

use super::*;
use crate::shard::job::Body;

/// The jobs of a queue that stand in line and how many stand before each, counted one by one.
fn standing(shard: &Shard, queue: &Name) -> Vec<(JobRef, u64)> {
    let filter = JobFilter {
        queue: Some(queue.clone()),
        job_set: None,
        states: [JobState::Queued].into_iter().collect(),
    };
    let mut waiting = shard.live_jobs(&filter, None, usize::MAX);
    waiting.retain(|view| view.state == JobState::Queued && view.array.is_none());
    waiting.retain(|view| view.held_back.is_none());
    waiting.sort_by_key(|view| (view.priority, view.job));
    let line = |view: &JobView| (view.shape.pool.clone(), view.shape.class.clone());
    let before = |at: usize| {
        let mine = &waiting[at];
        let of_line = waiting[..at].iter().filter(|other| line(other) == line(mine));
        let (own, others): (Vec<_>, Vec<_>) =
            of_line.partition(|other| other.job.job == mine.job.job);
        let mut jobs: BTreeMap<JobId, u64> = BTreeMap::new();
        others.iter().for_each(|other| *jobs.entry(other.job.job).or_default() += 1);
        // Of an array no more tasks stand than may run.
        let room = |id: &JobId| shard.jobs.get(*id).unwrap().room();
        own.len() as u64 + jobs.iter().map(|(id, jobs)| room(id).min(*jobs)).sum::<u64>()
    };
    // Of an array that has tasks of several shapes, the place is that of those like most.
    let is_plain = |view: &JobView| match &shard.jobs.get(view.job.job).unwrap().body {
        Body::Array(array) => array.apart.is_empty() && array.resting.is_empty(),
        Body::Queued | Body::Active(_) => true,
    };
    let plain = (0..waiting.len()).filter(|at| is_plain(&waiting[*at]));
    plain.map(|at| (waiting[at].job, before(at))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_job_is_told_how_many_stand_before_it(steps in vec(step(), 1..60)) {
        let (mut driven, mut ids) = (Driven::new(), Vec::new());
        for mut step in steps {
            // Which tasks of an array stand that may not all do so is told of none of them.
            if let Step::Submit { jobs, .. } = &mut step {
                jobs.iter_mut().for_each(|job| job.running_max = None);
            }
            take(&mut driven, &step, &mut ids);
        }
        for queue in (0..3).map(queue) {
            for (job, before) in standing(&driven.shard, &queue) {
                let place = driven.shard.place(job).unwrap();
                prop_assert_eq!(place.ahead, Bound::exactly(before), "{}", job);
            }
        }
    }
}

#[test]
fn what_a_submission_would_come_to_is_what_it_comes_to_and_nothing_is_changed() {
    let mut driven = Driven::new();
    let submit = |max: u64, jobs: u64, key: Option<u128>| Submit {
        queue: "q".into(),
        incarnation: 1,
        job_set: "set".into(),
        key,
        queued_max: Some(max),
        jobs: (0..jobs).map(|line| new_job(line, 1, 0, Some(2))).collect(),
    };
    let written = driven.written();
    let would =
        |driven: &Driven, submit: &Submit, before| driven.shard.would_submit(submit, before);
    assert_eq!(would(&driven, &submit(6, 3, None), 0), Ok(6));
    let full = |queued, more| Err(Refusal::QueueFull { queue: "q".into(), queued, more, max: 6 });
    assert_eq!(would(&driven, &submit(6, 3, None), 1), full(1, 6));
    assert_eq!(would(&driven, &submit(6, 4, None), 0), full(0, 8));
    assert_eq!((driven.written(), driven.shard.live()), (written, 0));
    driven.run(Command::Submit(submit(6, 2, Some(5))));
    assert_eq!(would(&driven, &submit(6, 3, None), 0), full(4, 6));
    assert_eq!(would(&driven, &submit(6, 3, Some(5)), 0), Ok(2), "two came before");
    let line = ClassLine { class: "default".into(), before: 0, same: 4, all: 4 };
    assert_eq!(driven.shard.lines(&"q".into(), "default", 0), [line]);
    driven.run(Command::Cancel { target: Target::Jobs(live(&driven)), reason: None });
    driven.run(Command::CloseQueue { queue: "q".into(), incarnation: 1 });
    let closed = Err(Refusal::QueueClosed { queue: "q".into() });
    assert_eq!(would(&driven, &submit(6, 1, None), 0), closed);
}

fn live(driven: &Driven) -> Vec<JobRef> {
    let filter = JobFilter { queue: None, job_set: None, states: StateSet::ALL };
    let live = driven.shard.live_jobs(&filter, None, usize::MAX);
    live.iter().map(|view| view.job).collect()
}

#[test]
fn of_a_long_line_it_is_told_between_which_numbers_a_job_stands() {
    let mut driven = Driven::new();
    let many = |range: std::ops::Range<u64>| range.map(|line| new_job(line, 1, 0, None)).collect();
    let mut ids = driven.submit("q", many(0..15_000), None);
    ids.extend(driven.submit("q", many(0..15_000), None));
    ids.extend(driven.submit("q", vec![new_job(0, 1, 0, Some(500)), new_job(1, 2, 0, None)], None));
    let place = |driven: &Driven, at: usize| driven.shard.place(ids[at]).unwrap().ahead;
    assert_eq!(place(&driven, 14_000), Bound::exactly(14_000));
    assert_eq!(place(&driven, 29_000), Bound { least: 29_000, most: 29_499 });
    // It stands behind an array of 500, and the line of its shape is empty.
    assert_eq!(place(&driven, 30_001), Bound { least: 30_001, most: 30_500 });
    let array = JobRef::task(ids[30_000].job, 7);
    let ahead = driven.shard.place(array).unwrap().ahead;
    assert_eq!(ahead, Bound { least: 30_007, most: 30_506 });
    let taken = driven.lease("q", 1, 100);
    assert_eq!(driven.shard.place(taken[0].0), None, "it does not wait");
    assert_eq!(place(&driven, 14_000), Bound::exactly(13_900));
}
