//! What a kubelet reports of a pod, in the words of a real one.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::tracked::{Stage, Tracked};
use crate::kubernetes::behaviour::End;

/// The exit code of what ended on SIGTERM.
const TERMINATED: i32 = 143;
/// The exit code of what was killed with SIGKILL.
const KILLED: i32 = 137;

/// What happens to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The kubelet does not take it: reason and message.
    Refused(String, String),
    /// It waits for its image; or it has waited for a while.
    NoImage { for_long: bool },
    /// It waits for a volume.
    NoVolume,
    /// Its containers run.
    Runs,
    /// They have ended by themselves.
    Ends(End, Option<String>),
    /// It took longer than it may.
    Late,
    /// They have ended since it is deleted.
    Killed,
}

/// A time as Kubernetes writes it.
pub(super) fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The patch that reports it.
pub(super) fn patch(pod: &Tracked, change: &Change, now: Timestamp) -> Value {
    let mut status = match change {
        Change::Refused(reason, message) => json!({
            "phase": "Failed", "reason": reason, "message": message, "startTime": time(now),
        }),
        Change::NoImage { for_long } => {
            let reason = if *for_long { "ImagePullBackOff" } else { "ErrImagePull" };
            waiting(pod, reason, now)
        }
        Change::NoVolume => waiting(pod, "ContainerCreating", now),
        Change::Runs => running(pod, now),
        Change::Ends(end, message) => ended(pod, *end, message.as_deref(), now),
        Change::Late => {
            let mut status = terminated(pod, KILLED, "Error", None, now);
            status["reason"] = json!("DeadlineExceeded");
            let text = "Pod was active on the node longer than the specified deadline";
            status["message"] = json!(text);
            status
        }
        Change::Killed if pod.stage == Stage::Running => {
            terminated(pod, TERMINATED, "Error", None, now)
        }
        Change::Killed => never_ran(pod, now),
    };
    if !matches!(change, Change::Refused(..)) {
        status["hostIP"] = json!("127.0.0.1");
        status["hostIPs"] = json!([{ "ip": "127.0.0.1" }]);
    }
    // Its id, that the report does not go to another pod which has its name by now.
    json!({ "metadata": { "uid": pod.uid }, "status": status })
}

/// The event that tells people of it: reason and message.
pub(super) fn event(pod: &Tracked, change: &Change) -> Option<(&'static str, String)> {
    let image = pod.containers.first().map_or("", |(_, image)| image);
    match change {
        Change::Refused(reason, message) if reason.starts_with("OutOf") => {
            Some(("OutOfResources", message.clone()))
        }
        Change::NoImage { for_long: false } => Some(("Failed", no_image(image))),
        Change::NoImage { for_long: true } => {
            Some(("BackOff", format!("Back-off pulling image \"{image}\"")))
        }
        Change::NoVolume => Some((
            "FailedMount",
            "MountVolume.SetUp failed for volume \"data\" : configmap \"data\" not found"
                .to_owned(),
        )),
        Change::Ends(End::Evicted, _) => Some(("Evicted", EVICTED.to_owned())),
        _ => None,
    }
}

const EVICTED: &str = "The node was low on resource: memory. Threshold quantity: 100Mi, available: \
                       52Mi.";

fn no_image(image: &str) -> String {
    format!("Failed to pull image \"{image}\": failed to resolve reference \"{image}\": not found")
}

fn condition(kind: &str, holds: bool, reason: Option<&str>, now: Timestamp) -> Value {
    let mut condition = json!({
        "type": kind,
        "status": if holds { "True" } else { "False" },
        "lastTransitionTime": time(now),
    });
    if let Some(reason) = reason {
        condition["reason"] = json!(reason);
    }
    condition
}

/// A container as all reports name it.
fn container(pod: &Tracked, (name, image): &(String, String), state: &Value) -> Value {
    let runs = state.get("running").is_some();
    let mut status = json!({
        "name": name, "image": image, "imageID": "", "ready": runs, "started": runs,
        "restartCount": 0, "state": state,
    });
    if state.get("waiting").is_none() {
        status["imageID"] = json!(format!("virtual://{image}"));
        status["containerID"] = json!(format!("virtual://{}/{name}", pod.uid));
    }
    status
}

/// Those that run first: they take no time.
fn first(pod: &Tracked, now: Timestamp) -> Vec<Value> {
    let state = json!({ "terminated": {
        "exitCode": 0, "reason": "Completed", "startedAt": time(now), "finishedAt": time(now),
    } });
    pod.first.iter().map(|each| container(pod, each, &state)).collect()
}

fn waiting(pod: &Tracked, reason: &str, now: Timestamp) -> Value {
    let mut state = json!({ "waiting": { "reason": reason } });
    let statuses = pod.containers.iter().map(|each| {
        match reason {
            "ErrImagePull" => state["waiting"]["message"] = json!(no_image(&each.1)),
            "ImagePullBackOff" => {
                let text = format!("Back-off pulling image \"{}\": ErrImagePull", each.1);
                state["waiting"]["message"] = json!(text);
            }
            _ => {}
        }
        container(pod, each, &state)
    });
    let statuses = statuses.collect::<Vec<_>>();
    let not_ready = Some("ContainersNotReady");
    json!({
        "phase": "Pending",
        "startTime": time(now),
        "conditions": [
            condition("Initialized", true, None, now),
            condition("Ready", false, not_ready, now),
            condition("ContainersReady", false, not_ready, now),
        ],
        "containerStatuses": statuses,
    })
}

fn running(pod: &Tracked, now: Timestamp) -> Value {
    let state = json!({ "running": { "startedAt": time(now) } });
    let statuses = pod.containers.iter().map(|each| container(pod, each, &state));
    json!({
        "phase": "Running",
        "startTime": time(now),
        "podIP": pod.address,
        "podIPs": [{ "ip": pod.address }],
        "conditions": [
            condition("Initialized", true, None, now),
            condition("Ready", true, None, now),
            condition("ContainersReady", true, None, now),
        ],
        "initContainerStatuses": first(pod, now),
        "containerStatuses": statuses.collect::<Vec<_>>(),
    })
}

fn ended(pod: &Tracked, end: End, message: Option<&str>, now: Timestamp) -> Value {
    let reason = match end {
        End::Exit(0) => "Completed",
        End::Exit(_) | End::Evicted => "Error",
        End::OutOfMemory => "OOMKilled",
    };
    let mut status = terminated(pod, end.code(), reason, message, now);
    if end == End::Evicted {
        status["reason"] = json!("Evicted");
        status["message"] = json!(EVICTED);
        let disrupted = condition("DisruptionTarget", true, Some("TerminationByKubelet"), now);
        if let Some(conditions) = status["conditions"].as_array_mut() {
            conditions.push(disrupted);
        }
    }
    status
}

/// What is removed before it ran: a kubelet finds nothing to tell of.
fn never_ran(pod: &Tracked, now: Timestamp) -> Value {
    let state = json!({ "terminated": {
        "exitCode": KILLED,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
        "startedAt": null,
        "finishedAt": null,
    } });
    let statuses = pod.containers.iter().map(|each| container(pod, each, &state));
    json!({
        "phase": "Failed",
        "conditions": [
            condition("Ready", false, Some("PodFailed"), now),
            condition("ContainersReady", false, Some("PodFailed"), now),
        ],
        "containerStatuses": statuses.collect::<Vec<_>>(),
    })
}

/// The first container ends like this, and the others with it, well.
fn terminated(
    pod: &Tracked,
    code: i32,
    reason: &str,
    message: Option<&str>,
    now: Timestamp,
) -> Value {
    let statuses = pod.containers.iter().enumerate().map(|(number, each)| {
        let (code, reason) = if number == 0 { (code, reason) } else { (0, "Completed") };
        let mut state = json!({ "terminated": {
            "exitCode": code,
            "reason": reason,
            "startedAt": time(pod.started),
            "finishedAt": time(now),
            "containerID": format!("virtual://{}/{}", pod.uid, each.0),
        } });
        if let (0, Some(message)) = (number, message) {
            state["terminated"]["message"] = json!(message);
        }
        container(pod, each, &state)
    });
    let (phase, why) =
        if code == 0 { ("Succeeded", "PodCompleted") } else { ("Failed", "PodFailed") };
    json!({
        "phase": phase,
        "conditions": [
            condition("Ready", false, Some(why), now),
            condition("ContainersReady", false, Some(why), now),
        ],
        "containerStatuses": statuses.collect::<Vec<_>>(),
    })
}
