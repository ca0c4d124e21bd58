//! What becomes due with time: checks of pods that do not run, pods that do not go, pods that have
//! been kept long enough, requests that are to be made again.

use std::time::Duration;

use muster_api::bus::RunStatus;

use super::{Asking, Body, Pod, Removal, Table, Task, Told, Why};
use crate::backend::kubernetes::checks::Verdict;
use crate::backend::kubernetes::object::Happening;
use crate::backend::kubernetes::state::Stage;
use crate::config::Remedy;
use crate::runs::{Now, RunKey};

impl Table {
    /// When something is due next.
    pub(in crate::backend::kubernetes) fn due(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub(in crate::backend::kubernetes) fn on_time(&mut self, now: Now) {
        while let Some(&(at, key)) = self.timers.first() {
            if at > now.monotonic {
                return;
            }
            self.timers.pop_first();
            if let Some(pod) = self.pods.get_mut(&key) {
                pod.wake = None;
            }
            self.tend(key, now);
        }
    }

    /// Does what is due for a pod, and notes when something is next.
    pub(super) fn tend(&mut self, key: RunKey, now: Now) {
        if !self.is_adopted {
            return;
        }
        let Some(pod) = self.pods.get_mut(&key) else { return };
        let wake = match &pod.body {
            Body::Wanted(wanted) => match wanted.asking {
                Asking::Resting(at) if at <= now.monotonic => {
                    self.ask(key);
                    None
                }
                Asking::Resting(at) => Some(at),
                Asking::Queued | Asking::InFlight => None,
            },
            Body::There(_) if pod.removal.is_some() => self.tend_removal(key, now),
            Body::There(there) => match (&there.stage, there.ended) {
                (Stage::Waiting(_), _) => self.check(key, now),
                (Stage::Ended(_), Some(ended)) if pod.is_settled => {
                    self.tend_ended(key, ended, now)
                }
                (Stage::Running { .. } | Stage::Ended(_), _) => None,
            },
            Body::Gone => None,
        };
        let wake = [wake, self.tend_access(key, now)].into_iter().flatten().min();
        self.wake(key, wake);
    }

    fn wake(&mut self, key: RunKey, at: Option<Duration>) {
        let Some(pod) = self.pods.get_mut(&key) else { return };
        if pod.wake == at {
            return;
        }
        if let Some(before) = std::mem::replace(&mut pod.wake, at) {
            self.timers.remove(&(before, key));
        }
        self.timers.extend(at.map(|at| (at, key)));
    }

    /// A pod that ended and is settled goes when it has been kept for long enough.
    fn tend_ended(&mut self, key: RunKey, ended: Duration, now: Now) -> Option<Duration> {
        let pod = self.pods.get(&key)?;
        let Body::There(there) = &pod.body else { return None };
        let Stage::Ended(end) = &there.stage else { return None };
        let kept = match end.status {
            RunStatus::Succeeded => self.config.retention.0,
            RunStatus::Failed
            | RunStatus::Returned
            | RunStatus::Lost
            | RunStatus::Pending
            | RunStatus::Running => self.config.failed_retention.0,
        };
        let at = ended + kept;
        if now.monotonic < at {
            return Some(at);
        }
        self.remove(key, Why::Cleanup, None, now);
        self.pods.get(&key).and_then(|pod| pod.wake)
    }

    /// Lets a pod end.
    pub(super) fn remove(&mut self, key: RunKey, why: Why, most: Option<Duration>, now: Now) {
        let Some(pod) = self.pods.get_mut(&key) else { return };
        let Body::There(there) = &pod.body else { return };
        if let Some(ended) = there.ended {
            self.kept.remove(&(ended, key));
        }
        match &mut pod.removal {
            // What it is told first counts, unless it is to go for another reason now: somebody
            // else's removal is not under way for us.
            Some(known) if known.why != Why::Others => return,
            Some(_) | None => {
                pod.removal = Some(Removal::new(why, most, there.grace, now));
            }
        }
        self.tend(key, now);
    }

    fn tend_removal(&mut self, key: RunKey, now: Now) -> Option<Duration> {
        let pod = self.pods.get_mut(&key)?;
        let removal = pod.removal.as_mut()?;
        let force_at = removal.since + removal.grace + self.config.kill_timeout.0;
        if removal.is_taken && !removal.is_forced && now.monotonic >= force_at {
            removal.is_forced = true;
            (removal.is_taken, removal.is_asked) = (false, false);
            self.forced += 1;
            tracing::warn!(job = %key.job, attempt = key.attempt, node = %pod.node, "a pod does not end within its grace period and is removed by force");
        }
        let removal = pod.removal.as_mut()?;
        if !removal.is_taken && !std::mem::replace(&mut removal.is_asked, true) {
            if removal.why == Why::Cleanup && !removal.is_forced {
                self.cleanups.push_back(key);
            } else {
                self.urgent.push_back(Task::Remove(key));
            }
        }
        (removal.is_taken && !removal.is_forced).then_some(force_at)
    }

    /// The API server has answered to the removal of a pod: it has taken it, there is no such pod,
    /// or it is to be asked again.
    pub(in crate::backend::kubernetes) fn removed(
        &mut self,
        key: RunKey,
        result: Result<Removed, String>,
        now: Now,
    ) {
        let Some(pod) = self.pods.get_mut(&key) else { return };
        if !matches!(pod.body, Body::There(_)) {
            return;
        }
        let Some(removal) = pod.removal.as_mut() else { return };
        match result {
            Ok(Removed::Taken) => {
                removal.is_taken = true;
                self.tend(key, now);
            }
            // The watch says so too, unless that was lost.
            Ok(Removed::NotThere) => self.urgent.push_back(Task::Look(key)),
            Err(_) => {
                removal.is_asked = false;
                // A moment of its own: the pace is kept elsewhere.
                self.wake(key, Some(now.monotonic + Duration::from_secs(1)));
            }
        }
    }

    /// The API server has answered to the binding of a pod.
    pub(in crate::backend::kubernetes) fn bound(
        &mut self,
        key: RunKey,
        result: Result<(), Refusal>,
        now: Now,
    ) {
        let Some(pod) = self.pods.get_mut(&key) else { return };
        let Body::There(there) = &mut pod.body else { return };
        match result {
            Ok(()) => there.is_bound = true,
            Err(Refusal { message, is_final: true }) => {
                let (status, reason) = (RunStatus::Returned, "NotBound".to_owned());
                self.remove(key, Why::Stuck { status, reason, message }, None, now);
            }
            Err(Refusal { is_final: false, .. }) => self.urgent.push_back(Task::Bind(key)),
        }
    }

    /// What has happened to a pod that does not run.
    pub(in crate::backend::kubernetes) fn happened(
        &mut self,
        key: RunKey,
        happenings: Vec<Happening>,
        now: Now,
    ) {
        if let Some(pod) = self.pods.get_mut(&key) {
            pod.happenings = happenings;
            self.tend(key, now);
        }
    }

    fn check(&mut self, key: RunKey, now: Now) -> Option<Duration> {
        let pod = self.pods.get_mut(&key)?;
        let Pod { body: Body::There(there), findings, happenings, told, .. } = pod else {
            return None;
        };
        let Stage::Waiting(hold) = &there.stage else { return None };
        if *told == Told::End {
            return None;
        }
        let mut hold = hold.clone();
        if there.is_bound {
            hold.unscheduled = None;
        }
        match self.checks.look(&hold, happenings, findings, now.monotonic) {
            Ok(Verdict { remedy, reason, message }) => {
                let status =
                    if remedy == Remedy::Fail { RunStatus::Failed } else { RunStatus::Returned };
                self.remove(key, Why::Stuck { status, reason, message }, None, now);
                self.pods.get(&key).and_then(|pod| pod.wake)
            }
            Err(due) => {
                let events_at = self.checks.events_after().map(|after| {
                    let from = there.happenings_at.unwrap_or(there.since);
                    from + after
                });
                if events_at.is_some_and(|at| at <= now.monotonic) {
                    there.happenings_at = Some(now.monotonic);
                    self.urgent.push_back(Task::Happenings(key));
                }
                let next = self
                    .checks
                    .events_after()
                    .map(|after| there.happenings_at.unwrap_or(there.since) + after);
                [due, next].into_iter().flatten().min()
            }
        }
    }
}

/// What became of a request to remove a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::kubernetes) enum Removed {
    /// The pod is on its way.
    Taken,
    /// There is no such pod.
    NotThere,
}

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backend::kubernetes) struct Refusal {
    pub(in crate::backend::kubernetes) message: String,
    /// Whether it would be refused again.
    pub(in crate::backend::kubernetes) is_final: bool,
}
