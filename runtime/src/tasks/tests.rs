//! Tasks fail, panic, restart and end as their policies say.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const SOON: Duration = Duration::from_secs(5);

fn supervisor() -> Supervisor {
    Supervisor::new(Random::seeded(1))
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_cancels_the_rest_and_is_returned() {
    let tasks = supervisor();
    tasks.spawn("drains", Policy::VITAL, |token| async move {
        token.cancelled().await;
        Err("second failure")
    });
    tasks.spawn_once("fails", Policy::VITAL, |_| async { Err("first failure") });
    tasks.cancelled().await;
    let failure = tasks.shutdown(SOON).await.unwrap_err();
    assert_eq!(failure.to_string(), "task `fails` failed: first failure");
    assert!(tasks.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure() {
    let tasks = supervisor();
    let mut task = tasks.spawn("breaks", Policy::VITAL, |_| async {
        if true {
            panic!("out of {}", "luck");
        }
        Ok::<_, BoxError>(())
    });
    let failure = task.finished().await.unwrap_err();
    assert_eq!(failure, Failure::Panic { task: "breaks".into(), reason: "out of luck".into() });
    assert_eq!(tasks.failure(), Some(failure));
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_is_restarted_until_its_policy_gives_up() {
    let tasks = supervisor();
    let starts = Arc::new(AtomicU32::new(0));
    let policy = Policy {
        on_error: OnError::Restart(retry::Policy::at_most(3)),
        on_cancel: OnCancel::Abort,
    };
    let count = Arc::clone(&starts);
    let mut task = tasks.spawn("flaps", policy, move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Err("again") }
    });
    assert!(task.finished().await.is_err());
    assert_eq!(starts.load(Ordering::Relaxed), 4);
    assert!(tasks.failure().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_logged_failure_stops_nobody() {
    let tasks = supervisor();
    let mut task = tasks.spawn("odd job", Policy::DETACHED, |_| async { Err("no matter") });
    assert!(task.finished().await.is_err());
    assert_eq!(tasks.shutdown(SOON).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn tasks_that_do_not_drain_are_dropped_at_the_deadline_and_named() {
    let tasks = supervisor();
    tasks.spawn("sleeps", Policy::VITAL, |_| async {
        std::future::pending::<()>().await;
        Ok::<_, BoxError>(())
    });
    tasks.spawn("aborts", Policy::DETACHED, |_| async {
        std::future::pending::<()>().await;
        Ok::<_, BoxError>(())
    });
    let failure = tasks.shutdown(SOON).await.unwrap_err();
    assert_eq!(failure, Failure::Deadline { tasks: vec!["sleeps".into()], deadline: SOON });
    assert!(tasks.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_child_fails_alone_and_ends_with_its_parent() {
    let parent = supervisor();
    let (broken, whole) = (parent.child(), parent.child());
    broken.spawn("fails", Policy::VITAL, |_| async { Err("of its own") });
    let mut waits = whole.spawn("waits", Policy::VITAL, |token| async move {
        token.cancelled().await;
        Ok::<_, BoxError>(())
    });
    broken.cancelled().await;
    assert!(broken.shutdown(SOON).await.is_err());
    assert!(!waits.is_finished());
    assert_eq!(parent.running(), vec![Arc::from("waits")]);
    assert_eq!(parent.shutdown(SOON).await, Ok(()));
    assert_eq!(waits.finished().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_frozen_process_notices_nothing_and_a_killed_one_drops_everything() {
    let gate = Gate::default();
    let tasks = Supervisor::behind(gate.clone(), Random::seeded(1));
    let turns = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&turns);
    let policy = Policy::VITAL;
    let mut task = tasks.child().spawn_once("ticks", policy, move |_| async move {
        loop {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        #[expect(unreachable_code, reason = "it says what the task may fail with")]
        Ok::<(), BoxError>(())
    });
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(turns.load(Ordering::Relaxed), 3);
    gate.freeze();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(turns.load(Ordering::Relaxed), 3);
    gate.thaw();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(turns.load(Ordering::Relaxed), 4);
    gate.kill();
    assert_eq!(task.finished().await, Ok(()));
    assert!(gate.is_killed() && tasks.running().is_empty());
    gate.thaw();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((turns.load(Ordering::Relaxed), Arc::strong_count(&turns)), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_process_can_be_killed_between_two_turns_that_take_no_time() {
    let gate = Gate::default();
    let tasks = Supervisor::behind(gate.clone(), Random::seeded(1));
    let turns = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&turns);
    let mut task = tasks.spawn_once("yields", Policy::VITAL, move |_| async move {
        for _ in 0..1_000 {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        Ok::<(), BoxError>(())
    });
    gate.kill_after(8);
    assert_eq!(task.finished().await, Ok(()));
    assert!(gate.is_killed() && tasks.running().is_empty());
    assert_eq!(turns.load(Ordering::Relaxed), 7);
}
