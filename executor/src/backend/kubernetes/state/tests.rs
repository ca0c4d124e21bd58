//! What pods mean, case by case.

use serde_json::{Value, json};

use super::*;

const START: &str = "2026-01-01T00:00:10Z";
const END: &str = "2026-01-01T00:00:20Z";

fn pod(status: Value) -> Pod {
    let spec = json!({ "nodeName": "n1", "containers": [{ "name": "main" }] });
    serde_json::from_value(json!({ "spec": spec, "status": status })).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn terminated(code: i32, reason: &str, message: &str) -> Value {
    json!({ "name": "main", "state": { "terminated": { "exitCode": code, "reason": reason,
        "message": message, "startedAt": START, "finishedAt": END } } })
}

fn end(status: Value) -> End {
    match stage(&pod(status)) {
        Stage::Ended(end) => end,
        other => panic!("{other:?} is no end"),
    }
}

#[test]
fn a_pod_that_ended_well_says_when_it_began_and_ended() {
    let found = end(json!({ "phase": "Succeeded",
        "containerStatuses": [terminated(0, "Completed", "")] }));
    let expected = End {
        started: Some(at(START)),
        status: RunStatus::Succeeded,
        at: Some(at(END)),
        exit: Exit { code: Some(0), ..Exit::default() },
    };
    assert_eq!(found, expected);
}

/// Status, exit code, signal and reason of pods that failed.
#[test]
fn pods_that_failed_say_why() {
    let ran = |code, reason| json!([terminated(code, reason, "")]);
    let disrupted =
        |reason: &str| json!([{ "type": "DisruptionTarget", "status": "True", "reason": reason }]);
    use RunStatus::{Failed, Lost, Returned};
    let cases = [
        (json!({ "containerStatuses": ran(3, "Error") }), Failed, Some(3), None, "Error"),
        (
            json!({ "containerStatuses": ran(137, "OOMKilled") }),
            Failed,
            Some(137),
            Some(9),
            "OOMKilled",
        ),
        (json!({ "containerStatuses": ran(143, "Error") }), Failed, Some(143), Some(15), "Error"),
        (json!({ "containerStatuses": ran(255, "Error") }), Failed, Some(255), None, "Error"),
        (
            json!({ "reason": "Evicted", "containerStatuses": ran(137, "Error") }),
            Failed,
            Some(137),
            Some(9),
            "Evicted",
        ),
        (json!({ "reason": "Evicted" }), Returned, None, None, "Evicted"),
        (json!({ "reason": "OutOfcpu" }), Returned, None, None, "OutOfcpu"),
        (
            json!({ "reason": "UnexpectedAdmissionError" }),
            Returned,
            None,
            None,
            "UnexpectedAdmissionError",
        ),
        (json!({ "reason": "DeadlineExceeded" }), Failed, None, None, "DeadlineExceeded"),
        (
            json!({ "reason": "DeadlineExceeded", "containerStatuses": ran(137, "Error") }),
            Failed,
            Some(137),
            Some(9),
            "DeadlineExceeded",
        ),
        (
            json!({ "reason": "NodeLost", "containerStatuses": ran(137, "Error") }),
            Lost,
            Some(137),
            Some(9),
            "NodeLost",
        ),
        (
            json!({ "reason": "Terminated", "containerStatuses": ran(137, "Error") }),
            Lost,
            Some(137),
            Some(9),
            "NodeLost",
        ),
        (
            json!({ "conditions": disrupted("PreemptionByScheduler"), "containerStatuses": ran(143, "Error") }),
            Lost,
            Some(143),
            Some(15),
            "Preempted",
        ),
        (
            json!({ "conditions": disrupted("EvictionByEvictionAPI"), "containerStatuses": ran(143, "Error") }),
            Lost,
            Some(143),
            Some(15),
            "Evicted",
        ),
        (json!({ "conditions": disrupted("DeletionByPodGC") }), Returned, None, None, "NodeLost"),
        (json!({}), Returned, None, None, "Error"),
    ];
    for (status, expected, code, signal, reason) in cases {
        let mut status = status;
        status["phase"] = json!("Failed");
        let found = end(status.clone());
        let (exit, why) = (found.exit, Some(reason.to_owned()));
        assert_eq!(
            (found.status, exit.code, exit.signal, exit.reason),
            (expected, code, signal, why),
            "{status}"
        );
    }
}

#[test]
fn a_container_that_cannot_be_started_has_not_run() {
    let status = json!({ "phase": "Failed", "containerStatuses": [{ "name": "main", "state": {
        "terminated": { "exitCode": 128, "reason": "StartError", "message": "no such file",
            "startedAt": "1970-01-01T00:00:00Z", "finishedAt": END } } }] });
    let found = end(status);
    assert_eq!((found.started, found.status), (None, RunStatus::Failed));
    assert_eq!(found.exit.reason.as_deref(), Some("StartError"));
    assert_eq!(found.exit.message.as_deref(), Some("no such file"));
}

#[test]
fn of_several_containers_the_first_that_failed_is_named() {
    let one = |name: &str, code: i32, finished: &str| {
        json!({ "name": name, "state": { "terminated": { "exitCode": code, "reason": "Error",
            "message": format!("{name} is done"), "startedAt": START, "finishedAt": finished } } })
    };
    let found = end(json!({ "phase": "Failed", "containerStatuses":
        [one("a", 1, END), one("b", 2, "2026-01-01T00:00:15Z"), one("c", 0, START)] }));
    assert_eq!((found.exit.code, found.at), (Some(2), Some(at(END))));
    assert_eq!(found.exit.message.as_deref(), Some("b: b is done"));
}

#[test]
fn a_pod_that_waits_says_for_what() {
    let found = stage(&pod(json!({ "phase": "Pending", "containerStatuses": [{ "name": "main",
        "state": { "waiting": { "reason": "ErrImagePull", "message": "not found" } } }] })));
    let waiting = vec![("ErrImagePull".to_owned(), "not found".to_owned())];
    assert_eq!(found, Stage::Waiting(Hold { waiting, ..Hold::default() }));
    let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available" });
    let nowhere = json!({ "status": { "phase": "Pending", "conditions": [condition] } });
    let unscheduled = ("Unschedulable".to_owned(), "0/1 nodes are available".to_owned());
    let expected = Hold { unscheduled: Some(unscheduled), ..Hold::default() };
    assert_eq!(stage(&serde_json::from_value(nowhere).unwrap()), Stage::Waiting(expected));
    let init = json!({ "phase": "Pending", "initContainerStatuses": [{ "name": "i",
        "state": { "running": { "startedAt": START } } }] });
    let Stage::Waiting(hold) = stage(&pod(init)) else { panic!("it waits") };
    assert!(hold.is_initialising);
}

#[test]
fn a_pod_that_is_gone_ends_as_it_was_last_seen() {
    let running = Stage::Running { started: Some(at(START)) };
    let waiting = Stage::Waiting(Hold::default());
    let of = |last: &Stage, pod: Option<&Pod>| {
        let end = gone(last, pod);
        (end.status, end.exit.reason.unwrap(), end.started)
    };
    let deleted = "Deleted".to_owned();
    assert_eq!(of(&running, None), (RunStatus::Lost, deleted.clone(), Some(at(START))));
    assert_eq!(of(&waiting, None), (RunStatus::Returned, deleted, None));
    let collected = pod(json!({ "conditions": [{ "type": "DisruptionTarget", "status": "True",
        "reason": "DeletionByPodGC" }] }));
    assert_eq!(of(&running, Some(&collected)).1, "NodeLost");
    let ended = stage(&pod(
        json!({ "phase": "Failed", "containerStatuses": [terminated(3, "Error", "")] }),
    ));
    assert_eq!(gone(&ended, None).exit.code, Some(3));
}

#[test]
fn of_a_long_message_the_last_lines_are_kept() {
    assert_eq!(tail("abc\n", 10), "abc");
    assert_eq!(tail("one\ntwo\nthree", 10), "two\nthree");
    assert_eq!(tail("one\ntwo\nthree", 9), "two\nthree");
    assert_eq!(tail("one\ntwo\nthree", 8), "three");
    assert_eq!(tail("abcdef", 3), "def");
    assert_eq!(tail("ééé", 3), "é");
}
