//! Pods that have ended, that do not run or do not end, and what others do to them.

use super::*;

/// A pod that was deleted, and has nine seconds to end: until then, by the API server's clock.
fn going(n: u32, status: &Value, until_ms: i64) -> object::Pod {
    let mut pod = pod(n, status);
    pod.metadata.deletion_timestamp = Some(object::Moment(Timestamp(until_ms)));
    pod.metadata.deletion_grace_period_seconds = Some(9);
    pod
}

fn stuck(reason: &str) -> Value {
    json!({ "phase": "Pending", "containerStatuses": [{ "name": "main",
        "state": { "waiting": { "reason": reason, "message": "why" } } }] })
}

#[test]
fn a_pod_that_does_not_end_is_removed_by_force_after_a_while() {
    let mut world = running_world();
    world.stop(1);
    assert_eq!(world.calls(), ["remove 1"]);
    world.removed(1, Ok(Removed::Taken));
    world.pass(5 + 29);
    assert!(world.calls().is_empty());
    world.pass(1);
    assert_eq!(world.calls(), ["remove 1 in 0"]);
    assert_eq!(world.table.take_forced(), 1);
    world.removed(1, Err("it was away".to_owned()));
    world.pass(1);
    assert_eq!(world.calls(), ["remove 1 in 0"], "until the API server has taken it");
    world.removed(1, Ok(Removed::Taken));
    world.gone(1, &running());
    let events = world.table.take_events();
    assert!(events[0].exit.message.as_ref().unwrap().contains("by force"), "{events:?}");
    assert_eq!(events[0].status, RunStatus::Failed);
}

#[test]
fn a_pod_that_somebody_else_deletes_is_waited_for_and_then_forced() {
    // Whatever the API server's clock says: an hour behind, the same, an hour ahead.
    for moment in [-3_591_000, 9_000, 3_609_000] {
        let mut world = running_world();
        let going = going(1, &running(), moment);
        let now = world.now();
        world.table.seen(&going, now);
        world.pass(38);
        assert!(world.calls().is_empty(), "it has its grace period: {moment}");
        world.pass(1);
        assert_eq!(world.calls(), ["remove 1 in 0"], "{moment}");
        world.gone(1, &running());
        assert_eq!(world.said(), ["1 Lost Deleted"]);
    }
}

#[test]
fn what_ends_since_somebody_else_deletes_it_runs_again_and_what_failed_by_itself_does_not() {
    let of = |status: &Value| {
        let mut world = running_world();
        let now = world.now();
        for status in [&running(), status] {
            world.table.seen(&going(1, status, 9_000), now);
        }
        world.gone(1, status);
        world.said()
    };
    assert_eq!(of(&ended("Failed", 143)), ["1 Lost Deleted"]);
    assert_eq!(of(&ended("Failed", 137)), ["1 Lost Deleted"]);
    assert_eq!(of(&ended("Failed", 2)), ["1 Failed Error"]);
    assert_eq!(of(&ended("Succeeded", 0)), ["1 Succeeded"]);
    let mut starved = ended("Failed", 137);
    starved["containerStatuses"][0]["state"]["terminated"]["reason"] = json!("OOMKilled");
    assert_eq!(of(&starved), ["1 Failed OOMKilled"]);
}

#[test]
fn a_pod_that_is_stuck_is_removed_before_its_run_is_given_back() {
    let mut world = world();
    world.start(1);
    world.see(1, &stuck("ErrImagePull"));
    world.calls();
    world.pass(599);
    world.calls();
    assert_eq!(world.said(), ["1 Pending"]);
    world.pass(1);
    assert_eq!(world.calls(), ["remove 1"]);
    assert!(world.said().is_empty());
    world.gone(1, &stuck("ErrImagePull"));
    assert_eq!(world.said(), ["1 Returned ErrImagePull"]);
    world.start(2);
    world.see(2, &stuck("InvalidImageName"));
    world.removed(2, Ok(Removed::Taken));
    world.gone(2, &stuck("InvalidImageName"));
    assert_eq!(world.said(), ["2 Pending", "2 Failed InvalidImageName"]);
}

#[test]
fn a_pod_that_began_to_run_while_it_was_removed_is_not_as_if_it_had_not() {
    for (code, expected) in [(143, "Lost ErrImagePull"), (3, "Failed Error")] {
        let mut world = world();
        world.start(1);
        world.see(1, &stuck("ErrImagePull"));
        world.pass(600);
        world.see(1, &ended("Failed", code));
        assert_eq!(world.said(), ["1 Pending", "1 Running", &format!("1 {expected}")]);
    }
}

#[test]
fn the_events_of_a_pod_are_looked_at_only_when_it_has_waited_for_a_while() {
    let mut world = world();
    world.start(1);
    world.see(1, &stuck("ContainerCreating"));
    world.calls();
    world.pass(149);
    assert!(world.calls().is_empty());
    world.pass(1);
    assert_eq!(world.calls(), ["events 1"]);
    let failed_mount = object::Happening {
        kind: "Warning".into(),
        reason: "FailedMount".into(),
        message: "no such volume".into(),
    };
    let now = world.now();
    world.table.happened(key(1), vec![failed_mount], now);
    world.pass(300);
    assert!(world.calls().contains(&"remove 1".to_owned()));
    world.gone(1, &stuck("ContainerCreating"));
    assert_eq!(world.said(), ["1 Pending", "1 Returned FailedMount"]);
}

#[test]
fn ended_pods_are_kept_for_a_time_and_in_a_number() {
    let config = KubernetesConfig { ended_pods_max: 2, ..KubernetesConfig::default() };
    let mut world = World::new(config);
    for n in 1..=3 {
        world.start(n);
        world.see(n, &ended("Succeeded", 0));
        world.pass(1);
    }
    world.calls();
    for n in 1..=3 {
        world.settle(n);
    }
    assert_eq!(world.calls(), ["remove 1"], "the oldest of those that are too many");
    world.removed(1, Ok(Removed::Taken));
    world.gone(1, &ended("Succeeded", 0));
    assert_eq!(world.table.len(), 2);
    world.pass(178);
    assert_eq!(world.calls(), ["remove 2"]);
    world.pass(1);
    assert_eq!(world.calls(), ["remove 3"]);
    assert_eq!(world.said().len(), 6);
}

#[test]
fn a_run_nobody_knows_is_told_and_a_pod_that_comes_too_late_goes() {
    let mut world = world();
    world.see(1, &running());
    assert_eq!(world.said(), ["1 Running"], "the executor decides about it");
    world.start(2);
    world.calls();
    let refused = Creation::NoNamespace("gone".to_owned());
    world.created(2, refused, None);
    assert_eq!(world.said(), ["2 Failed NamespaceMissing"]);
    world.see(2, &running());
    assert_eq!(world.calls(), ["remove 2"]);
    assert_eq!(world.table.leftover().len(), 1, "it takes its room until it is gone");
    world.settle(2);
    world.gone(2, &running());
    assert!(world.said().is_empty());
    assert_eq!(world.table.len(), 1);
}
