//! What has become of a run, read from its pod. Without IO: a pod goes in, what it means comes out.

use muster_api::bus::{Exit, RunStatus};
use muster_core::time::Timestamp;

use super::object::{Condition, ContainerStatus, Pod, Terminated};
use crate::limits::MESSAGE_BYTES_MAX;

/// Why a container ended that ended badly, where there is nothing more to say of it.
pub(super) const ERROR: &str = "Error";
/// The exit code of a process that a signal ended is this and the signal's number …
const SIGNALLED: i32 = 128;
/// … which is one of these.
const SIGNAL_MAX: i32 = 31;

/// How far a pod has come.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// None of its containers has run.
    Waiting(Hold),
    /// Containers run, or have.
    Running {
        /// Since when, as the kubelet saw it.
        started: Option<Timestamp>,
    },
    /// It is over.
    Ended(End),
}

/// Why a pod does not run yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hold {
    /// Whether it has no node, and what the scheduler says.
    pub(super) unscheduled: Option<(String, String)>,
    /// What containers wait for.
    pub(super) waiting: Vec<(String, String)>,
    /// Whether an init container runs, which may take as long as it likes.
    pub(super) is_initialising: bool,
}

/// How a pod ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    pub(super) started: Option<Timestamp>,
    pub(super) status: RunStatus,
    /// When, if the kubelet said so.
    pub(super) at: Option<Timestamp>,
    pub(super) exit: Exit,
}

impl Stage {
    /// Rises as a pod comes further.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Waiting(_) => 0,
            Self::Running { .. } => 1,
            Self::Ended(_) => 2,
        }
    }
}

/// How far a pod has come.
pub(super) fn stage(pod: &Pod) -> Stage {
    let started = started(pod);
    match pod.status.phase.as_str() {
        "Succeeded" => Stage::Ended(End {
            started,
            status: RunStatus::Succeeded,
            at: finished(pod),
            exit: Exit { code: Some(0), message: last_words(pod), ..Exit::default() },
        }),
        "Failed" => Stage::Ended(failed(pod)),
        "Running" => Stage::Running { started },
        _ => Stage::Waiting(hold(pod)),
    }
}

/// How a pod ended that is gone, as far as it was last seen to have come.
pub(super) fn gone(last: &Stage, pod: Option<&Pod>) -> End {
    let disruption = pod.and_then(disruption);
    let (word, sentence) = match disruption {
        Some(condition) => (disrupted(&condition.reason), condition.message.clone()),
        None => ("Deleted", "its pod was deleted by somebody else".to_owned()),
    };
    let exit = Exit { reason: Some(word.into()), message: Some(sentence), ..Exit::default() };
    let at = pod.and_then(finished);
    match last {
        Stage::Ended(end) => end.clone(),
        Stage::Running { started } => End { started: *started, status: RunStatus::Lost, at, exit },
        Stage::Waiting(_) => End { started: None, status: RunStatus::Returned, at, exit },
    }
}

fn failed(pod: &Pod) -> End {
    let started = started(pod);
    let culprit = culprit(pod);
    let (word, is_taken_away) = reason(pod, culprit.map(|(_, ended)| ended));
    let status = match (is_taken_away, started.is_some() || culprit.is_some()) {
        (true, true) => RunStatus::Lost,
        // Nothing of it has run: its node would not have it.
        (_, false) if word != "DeadlineExceeded" => RunStatus::Returned,
        (true | false, _) => RunStatus::Failed,
    };
    let code = culprit.map(|(_, ended)| ended.exit_code);
    let signal = culprit.and_then(|(_, ended)| signal(ended));
    let sentence = culprit.and_then(|(name, ended)| said(name, ended, pod));
    let sentence = sentence.or_else(|| some(&pod.status.message));
    let sentence = sentence.or_else(|| disruption(pod).map(|found| found.message.clone()));
    let exit = Exit { code, signal, reason: Some(word), message: sentence, ..Exit::default() };
    End { started, status, at: finished(pod), exit }
}

/// A word for why a pod failed, and whether the cluster took it away rather than that it ended by
/// itself.
fn reason(pod: &Pod, culprit: Option<&Terminated>) -> (String, bool) {
    let word = |word: &str| word.to_owned();
    match pod.status.reason.as_str() {
        "NodeLost" | "NodeShutdown" | "Terminated" => return (word("NodeLost"), true),
        "Preempting" => return (word("Preempted"), true),
        known @ ("DeadlineExceeded" | "Evicted") => return (word(known), false),
        _ => {}
    }
    if let Some(found) = disruption(pod) {
        return (word(disrupted(&found.reason)), true);
    }
    let of_container = culprit.map(|ended| ended.reason.as_str()).filter(|word| !word.is_empty());
    let of_pod = some(&pod.status.reason);
    (of_container.map(word).or(of_pod).unwrap_or_else(|| word(ERROR)), false)
}

/// The condition by which Kubernetes says that it took a pod away.
fn disruption(pod: &Pod) -> Option<&Condition> {
    let is_it = |one: &&Condition| one.kind == "DisruptionTarget" && one.status == "True";
    pod.status.conditions.iter().find(is_it)
}

fn disrupted(why: &str) -> &'static str {
    match why {
        "PreemptionByScheduler" => "Preempted",
        "DeletionByPodGC" => "NodeLost",
        // By the eviction API, for a taint, by the kubelet.
        _ => "Evicted",
    }
}

/// The container that made the pod fail: of those that ended badly, the first.
fn culprit(pod: &Pod) -> Option<(&str, &Terminated)> {
    let sidecar = |name: &str| {
        pod.spec.init_containers.iter().any(|it| it.name == name && it.restart_policy == "Always")
    };
    let bad = statuses(pod).filter_map(|each| {
        let ended = each.state.terminated.as_ref()?;
        (ended.exit_code != 0).then_some((each.name.as_str(), ended))
    });
    let mut bad: Vec<_> = bad.collect();
    bad.sort_by_key(|(name, ended)| (sidecar(name), ended.finished_at));
    bad.first().copied()
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses)
}

fn signal(ended: &Terminated) -> Option<i32> {
    let by_code = ended.exit_code - SIGNALLED;
    match ended.signal {
        0 => (1..=SIGNAL_MAX).contains(&by_code).then_some(by_code),
        signal => Some(signal),
    }
}

/// When the first of the job's own containers, or of those before them, began to run.
fn started(pod: &Pod) -> Option<Timestamp> {
    let of = |each: &ContainerStatus| {
        let running = each.state.running.as_ref().and_then(|it| it.started_at);
        let ended = each.state.terminated.as_ref().and_then(|it| it.started_at);
        // A container that could not be started has the beginning of time.
        running.or(ended).map(|moment| moment.0).filter(|at| at.0 > 0)
    };
    let own = pod.status.container_statuses.iter().filter_map(of).min();
    own.or_else(|| pod.status.init_container_statuses.iter().filter_map(of).min())
}

fn finished(pod: &Pod) -> Option<Timestamp> {
    let ends = statuses(pod).filter_map(|each| each.state.terminated.as_ref()?.finished_at);
    let last = ends.map(|moment| moment.0).filter(|at| at.0 > 0).max();
    let conditions = pod.status.conditions.iter().filter_map(|one| one.last_transition_time);
    last.or_else(|| conditions.map(|moment| moment.0).max())
}

/// What containers of a pod that ended well have left behind for people.
fn last_words(pod: &Pod) -> Option<String> {
    let statuses = pod.status.container_statuses.iter();
    let said = statuses.filter_map(|each| some(&each.state.terminated.as_ref()?.message));
    said.map(|text| tail(&text, MESSAGE_BYTES_MAX).to_owned()).next()
}

/// What a container has left behind for people: with its name, where there are several.
fn said(name: &str, ended: &Terminated, pod: &Pod) -> Option<String> {
    let text = some(&ended.message)?;
    let is_alone = statuses(pod).count() == 1;
    let prefix = if is_alone { String::new() } else { format!("{name}: ") };
    let room = MESSAGE_BYTES_MAX.saturating_sub(prefix.len());
    Some(format!("{prefix}{}", tail(&text, room)))
}

/// The last lines of a text that have room in so many bytes; of one line that has none, its end.
fn tail(text: &str, bytes_max: usize) -> &str {
    let text = text.trim_end();
    if text.len() <= bytes_max {
        return text;
    }
    let from = text.ceil_char_boundary(text.len() - bytes_max);
    let end = &text[from..];
    match end.split_once('\n') {
        Some((_, lines)) if !text[..from].ends_with('\n') => lines,
        _ => end,
    }
}

fn hold(pod: &Pod) -> Hold {
    let unscheduled = pod.spec.node_name.is_empty().then(|| {
        let found = pod.status.conditions.iter().find(|one| one.kind == "PodScheduled");
        found.map(|one| (one.reason.clone(), one.message.clone())).unwrap_or_default()
    });
    let waiting = statuses(pod).filter_map(|each| each.state.waiting.as_ref());
    let waiting = waiting.map(|it| (it.reason.clone(), it.message.clone())).collect();
    let mut init = pod.status.init_container_statuses.iter();
    let is_initialising = init.any(|each| each.state.running.is_some());
    Hold { unscheduled, waiting, is_initialising }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
