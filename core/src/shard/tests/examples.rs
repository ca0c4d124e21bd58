//! Single promises of the state machine, by example.

use super::*;

#[test]
fn a_command_sent_again_is_answered_again_and_done_once() {
    let mut driven = Driven::new();
    let submit = Submit {
        queue: "q".into(),
        incarnation: 1,
        job_set: "set".into(),
        key: None,
        queued_max: None,
        jobs: vec![new_job(0, 1, 0, None), new_job(1, 1, 0, None)],
    };
    let first = driven.run_as(CommandId(9), Command::Submit(submit.clone()));
    let written = driven.written();
    driven.shard = driven.recovered();
    assert_eq!(driven.run_as(CommandId(9), Command::Submit(submit)), first);
    assert_eq!(driven.written(), written);
}

#[test]
fn a_submission_cut_off_and_sent_again_keeps_its_ids_and_gets_the_rest() {
    let mut driven = Driven::new();
    let lines = |range: std::ops::Range<u64>| range.map(|l| new_job(l, 1, 0, None)).collect();
    let first = driven.submit("q", lines(0..5), Some(42));
    driven.now = Timestamp(5_000);
    driven.shard = driven.recovered();
    let again = driven.submit("q", lines(0..8), Some(42));
    assert_eq!(again[..5], first);
    assert_eq!(driven.shard.live(), 8);
    let other_key = driven.submit("q", lines(0..1), Some(43));
    assert!(!again.contains(&other_key[0]));
}

#[test]
fn a_change_of_a_job_set_that_found_nothing_does_not_find_what_was_submitted_after_it() {
    let mut driven = Driven::new();
    let target = Target::JobSet {
        queue: "q".into(),
        job_set: "set".into(),
        states: crate::job::StateSet::ALL,
    };
    let cancel = Command::Cancel { target: target.clone(), reason: None };
    let prefer = Command::Reprioritize { target, priority: 9 };
    for (id, command) in [(CommandId(7), cancel), (CommandId(8), prefer)] {
        let first = driven.run_as(id, command.clone());
        let submitted = driven.submit("q", vec![new_job(0, 1, 0, None)], None);
        let before = driven.written();
        driven.shard = driven.recovered();
        assert_eq!(driven.run_as(id, command), first);
        assert_eq!(driven.written(), before, "{submitted:?}");
    }
    assert_eq!(driven.shard.live(), 2);
}

fn cancel(driven: &mut Driven, job: JobRef) {
    driven.run(Command::Cancel { target: Target::Jobs(vec![job]), reason: None });
}

/// Everything that is stored so far goes to the history.
fn to_history(driven: &mut Driven) {
    driven.store();
    let after = driven.shard.history_through();
    let through = Position { sequence: driven.durable as u64, row: u32::MAX };
    driven.run(Command::PlanHistory(HistorySpan { after, through }));
    driven.run(Command::NoteHistory(HistorySpan { after, through }));
}

fn named() -> Vec<NewJob> {
    vec![NewJob { client_id: Some("mine".into()), ..new_job(0, 1, 0, None) }]
}

#[test]
fn a_client_id_stands_for_one_job_for_a_day() {
    let mut driven = Driven::new();
    let first = driven.submit("q", named(), None);
    cancel(&mut driven, first[0]);
    driven.wait(23);
    assert_eq!(driven.submit("q", named(), None), first);
    assert_ne!(driven.submit("r", named(), None), first, "another queue");
    driven.wait(2);
    assert_ne!(driven.submit("q", named(), None), first);
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}

#[test]
fn a_client_id_stands_for_its_job_as_long_as_that_lives() {
    let mut driven = Driven::new();
    let first = driven.submit("q", named(), None);
    driven.wait(40);
    assert_eq!(driven.submit("q", named(), None), first);
    driven.store();
    driven.checkpoint = Some((driven.durable, driven.shard.records()));
    driven.shard = driven.recovered();
    driven.wait(40);
    assert_eq!(driven.submit("q", named(), None), first);
    cancel(&mut driven, first[0]);
    assert_ne!(driven.submit("q", named(), None), first);
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}

#[test]
fn a_key_used_again_for_another_job_is_refused_and_takes_nothing_in() {
    let mut driven = Driven::new();
    let jobs = |cpu| vec![new_job(0, 1, 0, None), new_job(1, cpu, 0, None)];
    let first = driven.submit("q", jobs(1), Some(42));
    let other = |jobs, job_set: &str| {
        let (queue, job_set) = ("q".into(), job_set.into());
        Command::Submit(Submit {
            queue,
            incarnation: 1,
            job_set,
            key: Some(42),
            queued_max: None,
            jobs,
        })
    };
    let refused = Outcome::Refused(Refusal::KeyReused { line: 2, job: first[1].job });
    assert_eq!(driven.run(other(jobs(2), "set")), refused);
    assert!(matches!(driven.run(other(jobs(1), "other")), Outcome::Refused(_)));
    let array = vec![new_job(0, 1, 0, Some(3))];
    assert!(matches!(driven.run(other(array, "set")), Outcome::Refused(_)));
    assert_eq!(driven.shard.live(), 2);
    // What a client id stands for is no other job, and an answer stays what it was.
    let mine = driven.submit("q", named(), None);
    let mapped = || vec![NewJob { shape: shape(7), ..named().remove(0) }];
    assert_eq!(driven.submit("q", mapped(), Some(43)), mine);
    assert_eq!(driven.submit("q", mapped(), Some(43)), mine);
}

#[test]
fn no_job_finishes_before_its_id_says_that_it_came() {
    let mut driven = Driven::new();
    driven.wait(100);
    driven.submit("q", vec![new_job(0, 1, 0, None)], None);
    driven.wait(-90);
    let job = driven.submit("q", vec![new_job(0, 1, 0, None)], None)[0];
    cancel(&mut driven, job);
    let done = driven.shard.finished_of(job).unwrap();
    assert!(done.job.job.submitted_at() > driven.now, "ids rise all the same");
    assert_eq!(done.finished_at, done.job.job.submitted_at());
}

#[test]
fn an_array_that_is_done_leaves_memory_when_the_history_has_all_of_it() {
    let mut driven = Driven::new();
    let jobs = vec![new_job(0, 1, 0, Some(3)), new_job(1, 1, 0, None)];
    let array = driven.submit("q", jobs, None)[0];
    let task = |index| JobRef::task(array.job, index);
    cancel(&mut driven, task(1));
    to_history(&mut driven);
    assert!(driven.shard.job(array).is_some(), "two of its tasks live");
    cancel(&mut driven, task(0));
    driven.store();
    let done = HistorySpan {
        after: driven.shard.history_through(),
        through: Position { sequence: driven.durable as u64, row: u32::MAX },
    };
    cancel(&mut driven, array);
    driven.run(Command::PlanHistory(done));
    driven.run(Command::NoteHistory(done));
    let view = driven.shard.job(array).unwrap();
    assert_eq!(view.state, JobState::Cancelled, "its last task is not in the history yet");
    to_history(&mut driven);
    assert_eq!(driven.shard.job(array), None);
    assert_eq!((driven.shard.table_len(), driven.shard.live()), (1, 1));
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}

#[test]
fn an_array_that_an_old_checkpoint_kept_for_nothing_is_left_out() {
    let mut driven = Driven::new();
    let array = driven.submit("q", vec![new_job(0, 1, 0, Some(3))], None)[0];
    cancel(&mut driven, array);
    let records = driven.shard.records();
    let with = |keep: fn(&Record) -> bool| {
        let mut shard = Shard::new(ShardId(3));
        for record in records.iter().filter(|record| keep(record)) {
            shard.apply(Position::default(), record);
        }
        (shard.job(array).is_some(), shard.last_id)
    };
    assert_eq!(with(|_| true), (true, array.job));
    let with_history = |record: &Record| !matches!(record, Record::Finished(_));
    assert_eq!(with(with_history), (false, array.job));
}

#[test]
fn a_job_set_that_is_forgotten_and_used_again_counts_anew_for_every_owner() {
    let mut driven = Driven::new();
    let job = driven.submit("q", vec![new_job(0, 1, 0, None)], None)[0];
    cancel(&mut driven, job);
    driven.wait(6 * 24);
    driven.submit("r", vec![new_job(0, 1, 0, None)], None);
    assert!(driven.shard.job_set("q", "set").is_some());
    driven.wait(25);
    driven.submit("q", vec![new_job(0, 1, 0, None)], None);
    let set = driven.shard.job_set("q", "set").unwrap();
    assert_eq!(set.counts.total(), 1);
    assert_eq!(driven.recovered().job_set("q", "set"), Some(set));
    assert!(driven.shard.job_set("r", "set").is_some(), "a job of it lives");
}

/// How many records so many commands, so far apart, cost for what was forgotten of them.
fn forgotten(commands: usize, apart_ms: i64) -> usize {
    let mut driven = Driven::new();
    for _ in 0..commands {
        driven.submit("q", vec![new_job(0, 1, 0, None)], None);
        driven.now = Timestamp(driven.now.0 + apart_ms);
    }
    driven.written() - 2 * commands
}

#[test]
fn old_answers_cost_one_record_a_minute_and_not_one_a_command() {
    // 20 minutes of many commands, and hours of few.
    let (many, few) = (forgotten(4_800, 250), forgotten(3_000, 5_000));
    assert!((3..=6).contains(&many), "{many}");
    assert!((3..=8).contains(&few), "{few}");
}

#[test]
fn ids_rise_also_when_the_clock_goes_back() {
    let mut driven = Driven::new();
    let a = driven.submit("q", vec![new_job(0, 1, 0, None)], None);
    driven.now = Timestamp(1);
    let b = driven.submit("q", vec![new_job(0, 1, 0, None)], None);
    assert!(b[0] > a[0]);
    assert_eq!(a[0].job.shard(), ShardId(3));
}

#[test]
fn a_stale_attempt_is_not_believed() {
    let mut driven = Driven::new();
    let job = driven.submit("q", vec![new_job(0, 1, 0, None)], None)[0];
    assert_eq!(driven.lease("q", 1, 1), [(job, 1)]);
    assert_eq!(driven.report(job, 1, RunStatus::Running), Verdict::Taken);
    driven.run(Command::ExpireCluster { cluster: "c".into(), runs_max: 10 });
    assert_eq!(driven.lease("q", 1, 1), [(job, 2)]);
    assert_eq!(driven.report(job, 1, RunStatus::Succeeded(exit())), Verdict::Stale);
    assert_eq!(driven.report(job, 2, RunStatus::Succeeded(exit())), Verdict::Taken);
    let done = driven.shard.finished_of(job).unwrap();
    assert_eq!(done.state, JobState::Succeeded);
    assert_eq!(done.runs.iter().map(|run| run.attempt).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_run_ends_neither_before_it_began_nor_in_the_future() {
    let mut driven = Driven::new();
    driven.submit("a", vec![new_job(0, 1, 0, None), new_job(1, 1, 0, None)], None);
    let runs = driven.lease("a", 1, 2);
    for ((job, attempt), end) in runs.into_iter().zip([Timestamp(5), Timestamp(9_999)]) {
        driven.report_of(job, attempt, RunStatus::Running, Timestamp(1_000));
        driven.now = Timestamp(1_500);
        driven.report_of(job, attempt, RunStatus::Running, Timestamp(1_400));
        driven.report_of(job, attempt, RunStatus::Succeeded(Exit::default()), end);
        let done = driven.shard.finished_of(job).unwrap();
        let started_at = done.runs[0].started_at.unwrap();
        assert!(started_at <= done.finished_at && done.finished_at <= driven.now, "{done:?}");
    }
}

#[test]
fn a_lost_run_of_an_at_most_once_job_fails_it() {
    let mut driven = Driven::new();
    let once = NewJob { at_most_once: true, ..new_job(0, 1, 0, None) };
    let job = driven.submit("q", vec![once], None)[0];
    driven.lease("q", 1, 1);
    driven.run(Command::ExpireCluster { cluster: "c".into(), runs_max: 10 });
    assert_eq!(driven.shard.finished_of(job).unwrap().state, JobState::Failed);
}

#[test]
fn ten_million_tasks_are_one_record_and_their_cancellation_another() {
    let mut driven = Driven::new();
    let job = driven.submit("q", vec![new_job(0, 1, 0, Some(10_000_000))], None)[0];
    assert_eq!(driven.written(), 2, "the array and the command");
    let leased = driven.lease("q", 1, 2);
    assert_eq!(leased, [(JobRef::task(job.job, 0), 1), (JobRef::task(job.job, 1), 1)]);
    driven.run(Command::Cancel {
        target: Target::Jobs(vec![JobRef::task(job.job, 5)]),
        reason: None,
    });
    let before = driven.written();
    driven.run(Command::Cancel { target: Target::Jobs(vec![job]), reason: None });
    assert_eq!(driven.written() - before, 4, "two running tasks, the rest, the command");
    assert_eq!(driven.shard.take_stops().len(), 2);
    let state = |index| driven.shard.finished_of(JobRef::task(job.job, index)).unwrap().state;
    assert_eq!(state(9_999_999), JobState::Cancelled);
    assert_eq!(state(5), JobState::Cancelled);
    let view = driven.shard.job(job).unwrap();
    assert_eq!(view.array.unwrap().1[JobState::Cancelled], 10_000_000);
    assert_eq!(driven.shard.live(), 0);
}

#[test]
fn a_closed_queue_takes_nothing_of_the_old_incarnation() {
    let mut driven = Driven::new();
    let job = driven.submit("q", vec![new_job(0, 1, 0, None)], None)[0];
    let close =
        |driven: &mut Driven| driven.run(Command::CloseQueue { queue: "q".into(), incarnation: 1 });
    assert!(matches!(close(&mut driven), Outcome::Refused(_)));
    driven.run(Command::Cancel { target: Target::Jobs(vec![job]), reason: None });
    assert_eq!(close(&mut driven), Outcome::QueueClosed);
    let submit = |incarnation| Submit {
        queue: "q".into(),
        incarnation,
        job_set: "set".into(),
        key: None,
        queued_max: None,
        jobs: vec![new_job(0, 1, 0, None)],
    };
    assert!(matches!(driven.run(Command::Submit(submit(1))), Outcome::Refused(_)));
    assert!(matches!(driven.run(Command::Submit(submit(2))), Outcome::Submitted(_)));
}

#[test]
fn a_log_object_is_in_use_until_the_history_has_the_last_of_its_jobs() {
    let mut driven = Driven::new();
    let jobs = driven.submit("q", vec![new_job(0, 1, 0, None), new_job(1, 1, 0, Some(2))], None);
    driven.store();
    driven.submit("q", vec![new_job(0, 1, 0, None)], None);
    assert_eq!(driven.shard.log_in_use(), [1, 2]);
    cancel(&mut driven, jobs[0]);
    to_history(&mut driven);
    assert_eq!(driven.shard.log_in_use(), [1, 2], "the array lives");
    cancel(&mut driven, jobs[1]);
    assert_eq!(driven.shard.log_in_use(), [1, 2], "the history does not have it");
    to_history(&mut driven);
    assert_eq!(driven.shard.log_in_use(), [2]);
}

#[test]
fn history_keeps_what_finished_behind_the_span() {
    let mut driven = Driven::new();
    let jobs = driven.submit("q", vec![new_job(0, 1, 0, None), new_job(1, 1, 0, None)], None);
    let cancel = |job| Command::Cancel { target: Target::Jobs(vec![job]), reason: None };
    driven.run(cancel(jobs[0]));
    let span = HistorySpan { after: Position::default(), through: at(driven.written() - 1) };
    driven.run(cancel(jobs[1]));
    driven.run(Command::PlanHistory(span));
    driven.shard = driven.recovered();
    assert_eq!(driven.shard.history_planned(), Some(span));
    let rows = driven.shard.finished_in(span);
    assert_eq!(rows.iter().map(|row| row.job).collect::<Vec<_>>(), [jobs[0]]);
    driven.run(Command::NoteHistory(span));
    assert_eq!(driven.shard.finished_of(jobs[0]), None);
    assert!(driven.shard.finished_of(jobs[1]).is_some());
}

#[test]
fn a_queue_takes_no_more_jobs_than_may_wait_in_it_and_of_one_submission_all_or_none() {
    let mut driven = Driven::new();
    let submit = |key: u128, counts: &[Option<u32>]| {
        let jobs = (0..).zip(counts).map(|(line, count)| new_job(line, 1, 0, *count));
        Command::Submit(Submit {
            queue: "q".into(),
            incarnation: 1,
            job_set: "set".into(),
            key: Some(key),
            queued_max: Some(5),
            jobs: jobs.collect(),
        })
    };
    let first = driven.run(submit(1, &[None, Some(2)]));
    assert!(matches!(first, Outcome::Submitted(_)));
    // Tasks count one by one, and nothing of what is too much is taken.
    let full = |queued, more| {
        Outcome::Refused(Refusal::QueueFull { queue: "q".into(), queued, more, max: 5 })
    };
    assert_eq!(driven.run(submit(2, &[None, Some(2)])), full(3, 3));
    assert_eq!(driven.shard.live(), 3);
    assert!(matches!(driven.run(submit(3, &[Some(2)])), Outcome::Submitted(_)));
    assert_eq!(driven.run(submit(4, &[None])), full(5, 1));
    // What came before is answered as it was then, also with more behind it that has no room.
    assert_eq!(driven.run(submit(1, &[None, Some(2)])), first);
    assert_eq!(driven.run(submit(1, &[None, Some(2), None])), full(5, 1));
    // What is leased waits no longer, in this owner and the next.
    assert_eq!(driven.lease("q", 1, 2).len(), 2);
    driven.shard = driven.recovered();
    assert!(matches!(driven.run(submit(5, &[Some(2)])), Outcome::Submitted(_)));
    assert_eq!(driven.run(submit(6, &[None])), full(5, 1));
}
