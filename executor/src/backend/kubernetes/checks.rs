//! Pods that do not come to run: what is the matter with them, for how long it has been, and what
//! is done about it. Without IO and clock.

use std::time::Duration;

use muster_runtime::config::HumanDuration;

use crate::config::{Check, Remedy, Symptom, matches};

use super::object::Happening;
use super::state::Hold;

/// What is looked for where the settings say nothing else, in this order.
const BUILT_IN: [(Symptom, &str, &str, Duration, Remedy); 9] = [
    (Symptom::Waiting, "InvalidImageName", "", Duration::ZERO, Remedy::Fail),
    (
        Symptom::Waiting,
        "ErrImagePull|ImagePullBackOff|ErrImageNeverPull|RegistryUnavailable",
        "",
        Duration::from_mins(10),
        Remedy::Retry,
    ),
    (Symptom::Waiting, "CreateContainerConfigError", "", Duration::from_mins(5), Remedy::Fail),
    (
        Symptom::Waiting,
        "CreateContainerError|RunContainerError|CreatePodSandboxError",
        "",
        Duration::from_mins(5),
        Remedy::Retry,
    ),
    (Symptom::Unscheduled, "SchedulingGated", "", Duration::from_mins(15), Remedy::Retry),
    (Symptom::Unscheduled, "Unschedulable", "", Duration::from_secs(30), Remedy::Retry),
    (Symptom::Unscheduled, "", "", Duration::from_mins(2), Remedy::Retry),
    (
        Symptom::Event,
        "FailedMount|FailedAttachVolume|FailedCreatePodSandBox",
        "",
        Duration::from_mins(5),
        Remedy::Retry,
    ),
    (Symptom::Starting, "", "", Duration::from_mins(15), Remedy::Retry),
];

/// The checks, in order.
#[derive(Debug, Clone)]
pub(super) struct Checks(Vec<Check>);

/// What is the matter with one pod, and since when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// By the number of the check.
    since: Vec<(usize, Duration)>,
}

/// What is to be done with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) remedy: Remedy,
    /// A word for why.
    pub(super) reason: String,
    /// A sentence for people.
    pub(super) message: String,
}

impl Checks {
    /// Those of the settings, and behind them the built-in ones.
    pub(super) fn new(first: &[Check]) -> Self {
        let built_in = BUILT_IN.into_iter().map(|(on, reason, message, after, then)| Check {
            on,
            reason: reason.to_owned(),
            message: message.to_owned(),
            after: HumanDuration(after),
            then,
        });
        Self(first.iter().cloned().chain(built_in).collect())
    }

    /// How long a pod has to wait before its events are looked at.
    pub(super) fn events_after(&self) -> Option<Duration> {
        let of_events = self.0.iter().filter(|check| check.on == Symptom::Event);
        of_events.map(|check| check.after.0 / 2).min()
    }

    /// Notes what is the matter with a pod now, and gives what is to be done with it, or else when
    /// there may be something.
    pub(super) fn look(
        &self,
        hold: &Hold,
        events: &[Happening],
        findings: &mut Findings,
        now: Duration,
    ) -> Result<Verdict, Option<Duration>> {
        let mut since = Vec::new();
        let mut due: Option<Duration> = None;
        for (number, check) in self.0.iter().enumerate() {
            let Some((reason, message)) = found(check, hold, events) else { continue };
            let known = findings.since.iter().find(|(known, _)| *known == number);
            let began = known.map_or(now, |(_, began)| *began);
            since.push((number, began));
            if check.then == Remedy::Wait {
                // Whatever the checks behind this one would say of it.
                break;
            }
            let at = began + check.after.0;
            if now >= at {
                let (reason, message) = sentence(check, reason, message);
                return Ok(Verdict { remedy: check.then, reason, message });
            }
            due = Some(due.map_or(at, |due| due.min(at)));
        }
        findings.since = since;
        Err(due)
    }
}

/// What a check finds: a word and a sentence.
fn found<'a>(check: &Check, hold: &'a Hold, events: &'a [Happening]) -> Option<(&'a str, &'a str)> {
    let any = |patterns: &str, text: &str| patterns.is_empty() || matches(patterns, text);
    let fits = |(reason, message): &(&'a str, &'a str)| {
        any(&check.reason, reason) && any(&check.message, message)
    };
    let texts = |pair: &'a (String, String)| (pair.0.as_str(), pair.1.as_str());
    match check.on {
        Symptom::Unscheduled => hold.unscheduled.as_ref().map(texts).filter(fits),
        Symptom::Waiting => hold.waiting.iter().map(texts).find(fits),
        Symptom::Event => {
            let warnings = events.iter().filter(|event| event.kind == "Warning");
            warnings.map(|event| (event.reason.as_str(), event.message.as_str())).find(fits)
        }
        Symptom::Starting => (!hold.is_initialising)
            .then(|| hold.waiting.first().map(texts).unwrap_or_default())
            .filter(fits),
    }
}

fn sentence(check: &Check, reason: &str, message: &str) -> (String, String) {
    let word = match (reason, check.on) {
        ("", Symptom::Unscheduled) => "Unschedulable",
        ("", _) => "StuckStarting",
        (word, _) => word,
    };
    let after = check.after.0.as_secs();
    let message = if message.is_empty() { "nothing more is known" } else { message };
    (word.to_owned(), format!("it did not come to run within {after} s: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(waiting: &str) -> Hold {
        Hold { waiting: vec![(waiting.to_owned(), "a sentence".to_owned())], ..Hold::default() }
    }

    fn unscheduled(reason: &str) -> Hold {
        let unscheduled = Some((reason.to_owned(), "no room".to_owned()));
        Hold { unscheduled, ..Hold::default() }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What the built-in checks do with a pod that stays as it is, and after how many seconds.
    fn fate(hold: &Hold, events: &[Happening]) -> Option<(u64, Remedy, String)> {
        let checks = Checks::new(&[]);
        let (mut findings, mut now) = (Findings::default(), Duration::ZERO);
        loop {
            match checks.look(hold, events, &mut findings, now) {
                Ok(verdict) => return Some((now.as_secs(), verdict.remedy, verdict.reason)),
                Err(due) => now = due?,
            }
        }
    }

    #[test]
    fn the_built_in_checks_know_what_is_stuck() {
        let mount = [Happening {
            kind: "Warning".to_owned(),
            reason: "FailedMount".to_owned(),
            message: "no such volume".to_owned(),
        }];
        let cases = [
            (hold("InvalidImageName"), &[][..], (0, Remedy::Fail, "InvalidImageName")),
            (hold("ErrImagePull"), &[], (600, Remedy::Retry, "ErrImagePull")),
            (
                hold("CreateContainerConfigError"),
                &[],
                (300, Remedy::Fail, "CreateContainerConfigError"),
            ),
            (unscheduled("Unschedulable"), &[], (30, Remedy::Retry, "Unschedulable")),
            (unscheduled(""), &[], (120, Remedy::Retry, "Unschedulable")),
            (hold("ContainerCreating"), &mount, (300, Remedy::Retry, "FailedMount")),
            (hold("ContainerCreating"), &[], (900, Remedy::Retry, "ContainerCreating")),
            (Hold::default(), &[], (900, Remedy::Retry, "StuckStarting")),
        ];
        for (hold, events, (after, remedy, reason)) in cases {
            let expected = Some((after, remedy, reason.to_owned()));
            assert_eq!(fate(&hold, events), expected, "{hold:?}");
        }
        let initialising = Hold { is_initialising: true, ..Hold::default() };
        assert_eq!(fate(&initialising, &[]), None, "an init container takes as long as it likes");
    }

    #[test]
    fn what_passes_begins_anew_and_what_changes_its_name_does_not() {
        let checks = Checks::new(&[]);
        let mut findings = Findings::default();
        let look = |hold: &Hold, at: u64, findings: &mut Findings| {
            checks.look(hold, &[], findings, seconds(at)).is_ok()
        };
        assert!(!look(&hold("ErrImagePull"), 0, &mut findings));
        assert!(!look(&hold("ImagePullBackOff"), 300, &mut findings));
        assert!(look(&hold("ErrImagePull"), 600, &mut findings));
        let mut findings = Findings::default();
        assert!(!look(&hold("ErrImagePull"), 0, &mut findings));
        assert!(!look(&hold("ContainerCreating"), 300, &mut findings));
        assert!(!look(&hold("ErrImagePull"), 600, &mut findings));
    }

    #[test]
    fn checks_of_the_settings_come_first() {
        let own = |reason: &str, after: u64, then| Check {
            on: Symptom::Waiting,
            reason: reason.to_owned(),
            message: "*sentence*".to_owned(),
            after: HumanDuration(seconds(after)),
            then,
        };
        let checks = Checks::new(&[
            own("ErrImage*", 5, Remedy::Fail),
            own("CreateContainer*", 0, Remedy::Wait),
        ]);
        let mut findings = Findings::default();
        let at = |reason: &str, at: u64, findings: &mut Findings| {
            checks.look(&hold(reason), &[], findings, seconds(at))
        };
        assert_eq!(at("ErrImagePull", 0, &mut findings), Err(Some(seconds(5))));
        assert_eq!(at("ErrImagePull", 5, &mut findings).unwrap().remedy, Remedy::Fail);
        assert_eq!(at("CreateContainerError", 9999, &mut findings), Err(None));
    }
}
