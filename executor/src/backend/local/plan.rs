//! From a pod spec to the process to start: what it runs, with what environment, how long.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_api::bus::JobPayload;
use muster_core::shape::Shape;

use crate::backend::pod::{self, Container, PodSpec, expand};
use crate::runs::RunKey;

/// A process to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The command and its arguments, at least one.
    pub(super) command: Vec<String>,
    /// The whole environment.
    pub(super) env: BTreeMap<String, String>,
    /// Where it runs, if not in its scratch directory.
    pub(super) working_dir: Option<String>,
    /// How long it may run.
    pub(super) deadline: Duration,
    /// How long it may take to end when it is told to.
    pub(super) grace: Duration,
}

/// Why a pod cannot run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A word.
    pub(super) reason: &'static str,
    /// A sentence.
    pub(super) message: String,
}

/// The process of a job's pod. `inherited` is what every process gets from this one's environment.
pub(super) fn plan(
    key: RunKey,
    payload: &JobPayload,
    shape: &Shape,
    inherited: &BTreeMap<String, String>,
) -> Result<Plan, Refusal> {
    let spec: PodSpec = serde_json::from_slice(&payload.pod_spec).map_err(|error| {
        refusal("InvalidPodSpec", format!("the pod spec cannot be read: {error}"))
    })?;
    let container = single_container(&spec)?;
    let env = environment(key, payload, container, inherited)?;
    let words = |words: &Option<Vec<String>>| {
        let words = words.iter().flatten();
        words.map(|word| expand(word, &env)).collect::<Vec<_>>()
    };
    let mut command = words(&container.command);
    if command.is_empty() {
        let message = "the container has no command, and there are no images here to name one";
        return Err(refusal("NoCommand", message));
    }
    command.extend(words(&container.args));
    Ok(Plan {
        command,
        working_dir: container.working_dir.clone().filter(|folder| !folder.is_empty()),
        deadline: pod::deadline(spec.active_deadline_seconds, shape),
        grace: pod::grace(spec.termination_grace_period_seconds),
        env,
    })
}

fn single_container(spec: &PodSpec) -> Result<&Container, Refusal> {
    if spec.init_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
        return Err(unsupported("init containers"));
    }
    let [container] = &spec.containers[..] else {
        return Err(unsupported("pods that do not have exactly one container"));
    };
    if container.env_from.as_ref().is_some_and(|sources| !sources.is_empty()) {
        return Err(unsupported("`envFrom`"));
    }
    if container.volume_mounts.as_ref().is_some_and(|mounts| !mounts.is_empty()) {
        return Err(unsupported("`volumeMounts`"));
    }
    Ok(container)
}

/// The inherited variables, Muster's, then the container's, each of which may refer to those before
/// it.
fn environment(
    key: RunKey,
    payload: &JobPayload,
    container: &Container,
    inherited: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut env = inherited.clone();
    env.insert("MUSTER_JOB_ID".to_owned(), key.job.to_string());
    env.insert("MUSTER_QUEUE".to_owned(), payload.queue.clone());
    env.insert("MUSTER_JOB_SET".to_owned(), payload.job_set.clone());
    env.insert("MUSTER_ATTEMPT".to_owned(), key.attempt.to_string());
    if let Some(index) = key.job.index {
        env.insert("MUSTER_ARRAY_INDEX".to_owned(), index.to_string());
    }
    for variable in container.env.iter().flatten() {
        if variable.value_from.is_some() {
            return Err(unsupported("environment variables with `valueFrom`"));
        }
        if variable.name.is_empty() || variable.name.contains('=') {
            let message = format!("`{}` is no name of an environment variable", variable.name);
            return Err(refusal("InvalidPodSpec", message));
        }
        let value = expand(variable.value.as_deref().unwrap_or_default(), &env);
        env.insert(variable.name.clone(), value);
    }
    Ok(env)
}

fn unsupported(what: &str) -> Refusal {
    refusal("Unsupported", format!("the local back end does not support {what}"))
}

fn refusal(reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { reason, message: message.into() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use muster_core::id::{JobId, JobRef};
    use muster_core::quantity::Quantity;
    use muster_core::resources::Resources;

    use super::*;

    fn planned(pod_spec: &'static str) -> Result<Plan, Refusal> {
        planned_with(pod_spec, Resources::new())
    }

    fn planned_with(pod_spec: &'static str, request: Resources) -> Result<Plan, Refusal> {
        let shape = Shape::of_request(request);
        let job = JobId::default();
        let payload = JobPayload {
            job,
            found: true,
            queue: "q".into(),
            job_set: "s".into(),
            namespace: "default".into(),
            count: Some(9),
            labels: Bytes::new(),
            annotations: Bytes::new(),
            network: Bytes::new(),
            pod_spec: Bytes::from_static(pod_spec.as_bytes()),
        };
        let inherited = BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]);
        plan(RunKey { job: JobRef::task(job, 7), attempt: 2 }, &payload, &shape, &inherited)
    }

    #[test]
    fn a_pod_that_does_not_say_how_long_has_the_times_of_armada() {
        let plain = planned(r#"{"containers":[{"command":["a"]}]}"#).unwrap();
        assert_eq!(
            (plain.deadline, plain.grace),
            (Duration::from_hours(72), Duration::from_secs(1))
        );
        let request = [("nvidia.com/gpu".into(), Quantity::from_units(1))].into_iter().collect();
        let gpu = planned_with(r#"{"containers":[{"command":["a"]}]}"#, request).unwrap();
        assert_eq!(gpu.deadline, Duration::from_hours(336));
        let zero = r#"{"containers":[{"command":["a"]}],"terminationGracePeriodSeconds":0}"#;
        assert_eq!(planned(zero).unwrap().grace, Duration::from_secs(1));
    }

    #[test]
    fn variables_refer_to_those_before_them() {
        let plan = planned(
            r#"{"containers":[{"command":["run","$(B)"],"args":["$(MUSTER_ARRAY_INDEX)","$$(B)"],
                "env":[{"name":"A","value":"1"},{"name":"B","value":"$(A)$(C)"},{"name":"C"}]}],
                "activeDeadlineSeconds":5,"terminationGracePeriodSeconds":7}"#,
        )
        .unwrap();
        assert_eq!(plan.command, ["run", "1$(C)", "7", "$(B)"]);
        assert_eq!(plan.env["C"], "");
        assert_eq!(plan.env["PATH"], "/bin");
        assert_eq!((&*plan.env["MUSTER_QUEUE"], &*plan.env["MUSTER_ATTEMPT"]), ("q", "2"));
        let seconds = Duration::from_secs;
        assert_eq!((plan.deadline, plan.grace), (seconds(5), seconds(7)));
    }

    #[test]
    fn what_cannot_run_here_is_refused_with_a_reason() {
        let cases = [
            ("{", "InvalidPodSpec"),
            ("{}", "Unsupported"),
            (r#"{"containers":[{},{}]}"#, "Unsupported"),
            (r#"{"containers":[{"command":["a"]}],"initContainers":[{}]}"#, "Unsupported"),
            (r#"{"containers":[{"args":["a"],"image":"b"}]}"#, "NoCommand"),
            (r#"{"containers":[{"command":[]}]}"#, "NoCommand"),
            (r#"{"containers":[{"command":["a"],"envFrom":[{}]}]}"#, "Unsupported"),
            (r#"{"containers":[{"command":["a"],"volumeMounts":[{}]}]}"#, "Unsupported"),
            (
                r#"{"containers":[{"command":["a"],"env":[{"name":"A","valueFrom":{}}]}]}"#,
                "Unsupported",
            ),
            (r#"{"containers":[{"command":["a"],"env":[{"name":"A=B"}]}]}"#, "InvalidPodSpec"),
        ];
        for (spec, reason) in cases {
            assert_eq!(planned(spec).unwrap_err().reason, reason, "{spec}");
        }
    }
}
