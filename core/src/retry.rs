//! Retry policies: what becomes of a job whose run did not end well.

use std::time::Duration;

use crate::job::Exit;
use crate::quantity::Quantity;

/// How a run came to its end, if not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Failed,
    /// It never started: the node refused it.
    Returned,
    /// Nobody knows how.
    Lost,
    /// It made room for others.
    Preempted,
}

/// Why a run did not end well. The names are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It ran longer than it may.
    DeadlineExceeded,
    /// Its container ended with an error, and nothing more is known.
    Error,
    /// Its node needed what it used.
    Evicted,
    /// Its image could not be fetched.
    Image,
    /// Its cluster was not heard of for too long.
    LeaseExpired,
    /// Its cluster does not know how it ended.
    Lost,
    /// Its node is gone.
    NodeLost,
    /// It used more memory than it may.
    OomKilled,
    /// It made room for others.
    Preempted,
    /// It never started: its node refused it.
    Refused,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::DeadlineExceeded,
        Self::Error,
        Self::Evicted,
        Self::Image,
        Self::LeaseExpired,
        Self::Lost,
        Self::NodeLost,
        Self::OomKilled,
        Self::Preempted,
        Self::Refused,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Error => "Error",
            Self::Evicted => "Evicted",
            Self::Image => "Image",
            Self::LeaseExpired => "LeaseExpired",
            Self::Lost => "Lost",
            Self::NodeLost => "NodeLost",
            Self::OomKilled => "OOMKilled",
            Self::Preempted => "Preempted",
            Self::Refused => "Refused",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// The reason of a run that ended so. Words that executors use and that are not known here are
    /// those of the ending.
    #[must_use]
    pub fn of(ending: Ending, exit: &Exit) -> Self {
        let said = match exit.reason.as_deref() {
            Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName") => Some(Self::Image),
            Some("NodeShutdown" | "Terminated") => Some(Self::NodeLost),
            Some(word) => Self::from_name(word),
            None => None,
        };
        let by_ending = match ending {
            Ending::Failed => Self::Error,
            Ending::Returned => Self::Refused,
            Ending::Lost => Self::Lost,
            Ending::Preempted => Self::Preempted,
        };
        said.filter(|_| ending != Ending::Preempted).unwrap_or(by_ending)
    }

    /// Whether it says more of the node than of the job: another node may do better.
    #[must_use]
    fn is_of_node(self) -> bool {
        match self {
            Self::Evicted | Self::Image | Self::NodeLost | Self::Refused => true,
            Self::DeadlineExceeded
            | Self::Error
            | Self::LeaseExpired
            | Self::Lost
            | Self::OomKilled
            | Self::Preempted => false,
        }
    }
}

/// Whether that a run ended so is its node's fault, as far as can be told. That a node had no room
/// any more, or that the cluster stopped the run early, is not.
#[must_use]
pub fn blames_node(ending: Ending, exit: &Exit) -> bool {
    let is_of_node = Reason::of(ending, exit).is_of_node();
    is_of_node && !matches!(exit.reason.as_deref(), Some("DoesNotFit" | "Stopped"))
}

/// Whether its node may be at fault that a run ended so. Of one run that says little; where jobs of
/// several queues end so on one node, and none does well, it says much.
#[must_use]
pub fn may_be_of_node(ending: Ending, exit: &Exit) -> bool {
    match Reason::of(ending, exit) {
        Reason::Error => true,
        Reason::Evicted | Reason::Image | Reason::NodeLost | Reason::Refused => {
            blames_node(ending, exit)
        }
        Reason::DeadlineExceeded
        | Reason::LeaseExpired
        | Reason::Lost
        | Reason::OomKilled
        | Reason::Preempted => false,
    }
}

/// What becomes of jobs whose runs do not end well: the first rule that fits says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rules, in order.
    pub rules: Vec<Rule>,
}

/// What becomes of a job whose run ended in some way. Of what a rule names, all has to be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Exit codes, from and to; any if none are named.
    pub exit_codes: Vec<(i32, i32)>,
    /// Signals; any if none are named.
    pub signals: Vec<i32>,
    /// Reasons; if none are named, any of a run that ended by itself.
    pub reasons: Vec<Reason>,
    /// What is done.
    pub action: Action,
}

/// What is done with a job whose run did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It has failed.
    Fail,
    /// It is tried again.
    Retry(Retry),
}

/// How a job is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// How often a job is tried again at most, under whatever rule.
    pub limit: u32,
    /// How long it waits before.
    pub backoff: Option<Backoff>,
    /// Whether it keeps away from the node on which it failed.
    pub other_node: bool,
    /// How much more memory it gets.
    pub memory: Option<Growth>,
}

/// How long a job waits before it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Milliseconds before the first retry.
    pub base_ms: u64,
    /// How many times as long with each further one, in thousandths.
    pub factor_millis: u32,
    /// Milliseconds at most.
    pub max_ms: u64,
}

/// How much more memory a job gets when it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// How many times as much, in thousandths.
    pub factor_millis: u32,
    /// How much at most.
    pub max: Quantity,
}

/// What becomes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<'a> {
    /// It has failed.
    Fails,
    /// It has failed, for it was tried again as often as it may be.
    UsedUp(u32),
    /// It waits again, and no retry is used up.
    WaitsAgain,
    /// It is tried again.
    Retried(&'a Retry),
}

/// What becomes of a job whose run ended so, after so many retries. Without a policy, or where none
/// of its rules fits, a run that never started or that was lost is made good, and one that ended by
/// itself is the end of its job. A job that may run once only is not tried again, whatever its
/// policy says, once a run of it may have started.
#[must_use]
pub fn fate<'a>(
    policy: Option<&'a Policy>,
    ending: Ending,
    exit: &Exit,
    retries: u32,
    at_most_once: bool,
) -> Fate<'a> {
    let may_have_started = ending != Ending::Returned;
    if at_most_once && may_have_started {
        return Fate::Fails;
    }
    let fits = |rule: &&Rule| rule.fits(ending, exit);
    match policy.and_then(|policy| policy.rules.iter().find(fits)).map(|rule| &rule.action) {
        Some(Action::Fail) => Fate::Fails,
        Some(Action::Retry(_)) if ending == Ending::Preempted => Fate::WaitsAgain,
        Some(Action::Retry(retry)) if retries >= retry.limit => Fate::UsedUp(retry.limit),
        Some(Action::Retry(retry)) => Fate::Retried(retry),
        None if ending == Ending::Failed => Fate::Fails,
        None => Fate::WaitsAgain,
    }
}

/// So many runs of a job may end without having started, one after the other, before it rests.
const UNSTARTED_AT_ONCE: u32 = 3;
/// How long it rests then.
const REST: Backoff = Backoff { base_ms: 1_000, factor_millis: 2_000, max_ms: 60_000 };

/// How long a job rests of which so many runs, the last one among them, never started, one after
/// the other. That another node takes it is tried at once; who finds none does not try for ever at
/// full speed.
#[must_use]
pub fn rest(unstarted: u32) -> Option<Duration> {
    let beyond = unstarted.checked_sub(UNSTARTED_AT_ONCE + 1)?;
    Some(REST.after(beyond))
}

impl Rule {
    fn fits(&self, ending: Ending, exit: &Exit) -> bool {
        let is_one =
            |code: i32| self.exit_codes.iter().any(|(from, to)| (*from..=*to).contains(&code));
        let code = self.exit_codes.is_empty() || exit.code.is_some_and(is_one);
        let signal = self.signals.is_empty()
            || exit.signal.is_some_and(|signal| self.signals.contains(&signal));
        let reason = match self.reasons.as_slice() {
            [] => ending == Ending::Failed,
            reasons => reasons.contains(&Reason::of(ending, exit)),
        };
        code && signal && reason
    }
}

impl Backoff {
    /// How long a job waits that was tried again so many times before.
    #[must_use]
    pub fn after(&self, retries: u32) -> Duration {
        let mut wait = self.base_ms.min(self.max_ms);
        for _ in 0..retries {
            if wait >= self.max_ms || self.factor_millis <= 1000 {
                break;
            }
            wait = times(wait.into(), self.factor_millis).min(self.max_ms.into()) as u64;
        }
        Duration::from_millis(wait)
    }
}

impl Growth {
    /// The memory of the next attempt: no less than that of the one before.
    #[must_use]
    pub fn of(&self, memory: Quantity) -> Quantity {
        let nanos = u128::try_from(memory.nanos()).unwrap_or_default();
        // Whole bytes.
        let grown = times(nanos, self.factor_millis).div_ceil(NANOS) * NANOS;
        let grown = i128::try_from(grown).ok().and_then(Quantity::from_nanos).unwrap_or(self.max);
        grown.min(self.max).max(memory)
    }
}

const NANOS: u128 = 1_000_000_000;

fn times(value: u128, factor_millis: u32) -> u128 {
    value.saturating_mul(factor_millis.into()).div_ceil(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exit(code: Option<i32>, signal: Option<i32>, reason: &str) -> Exit {
        Exit { code, signal, reason: Some(reason.into()), ..Exit::default() }
    }

    fn rule(action: Action) -> Rule {
        Rule { exit_codes: Vec::new(), signals: Vec::new(), reasons: Vec::new(), action }
    }

    fn retry(limit: u32) -> Action {
        Action::Retry(Retry { limit, backoff: None, other_node: false, memory: None })
    }

    #[test]
    fn without_a_policy_a_failure_is_the_end_and_what_was_lost_is_made_good() {
        let of = |ending, once| fate(None, ending, &exit(Some(1), None, "Error"), 99, once);
        assert_eq!(of(Ending::Failed, false), Fate::Fails);
        for ending in [Ending::Returned, Ending::Lost, Ending::Preempted] {
            assert_eq!(of(ending, false), Fate::WaitsAgain);
        }
        assert_eq!(of(Ending::Lost, true), Fate::Fails);
        assert_eq!(of(Ending::Returned, true), Fate::WaitsAgain);
    }

    #[test]
    fn the_first_rule_that_fits_says_what_is_done_until_its_limit_is_used_up() {
        let policy = Policy {
            rules: vec![
                Rule { exit_codes: vec![(1, 1), (64, 78)], ..rule(Action::Fail) },
                Rule { signals: vec![9], reasons: vec![Reason::OomKilled], ..rule(retry(2)) },
                Rule { reasons: vec![Reason::Lost], ..rule(Action::Fail) },
                rule(retry(1)),
            ],
        };
        let of = |ending, exit: &Exit, retries| match fate(
            Some(&policy),
            ending,
            exit,
            retries,
            false,
        ) {
            Fate::Fails => "fails".to_owned(),
            Fate::UsedUp(limit) => format!("used up {limit}"),
            Fate::WaitsAgain => "waits again".to_owned(),
            Fate::Retried(retry) => format!("retried {}", retry.limit),
        };
        let failed = Ending::Failed;
        assert_eq!(of(failed, &exit(Some(70), None, "Error"), 0), "fails");
        assert_eq!(of(failed, &exit(None, Some(9), "OOMKilled"), 1), "retried 2");
        assert_eq!(of(failed, &exit(None, Some(9), "OOMKilled"), 2), "used up 2");
        assert_eq!(of(failed, &exit(None, Some(9), "Error"), 0), "retried 1");
        assert_eq!(of(failed, &exit(Some(2), None, "Error"), 1), "used up 1");
        assert_eq!(of(Ending::Lost, &exit(None, None, "Lost"), 0), "fails");
        // A rule that names no reason is about runs that ended by themselves.
        assert_eq!(of(Ending::Returned, &exit(None, None, "NoRoom"), 5), "waits again");
        assert_eq!(of(Ending::Preempted, &exit(None, None, "Preempted"), 5), "waits again");
    }

    #[test]
    fn a_node_may_be_at_fault_for_errors_of_jobs_and_not_for_what_the_jobs_did() {
        let of = |ending, reason| may_be_of_node(ending, &exit(None, None, reason));
        assert!(of(Ending::Failed, ""));
        assert!(of(Ending::Failed, "Evicted") && of(Ending::Returned, "ErrImagePull"));
        assert!(!of(Ending::Failed, "OOMKilled") && !of(Ending::Failed, "DeadlineExceeded"));
        assert!(!of(Ending::Returned, "DoesNotFit") && !of(Ending::Returned, "Stopped"));
        assert!(!of(Ending::Preempted, "") && !of(Ending::Lost, ""));
    }

    #[test]
    fn a_node_is_blamed_for_what_it_did_and_not_for_what_it_has_no_room_for() {
        let of = |ending, reason| blames_node(ending, &exit(None, None, reason));
        assert!(of(Ending::Returned, "StartError") && of(Ending::Lost, "NodeLost"));
        assert!(of(Ending::Failed, "ImagePullBackOff") && of(Ending::Failed, "Evicted"));
        assert!(!of(Ending::Returned, "DoesNotFit") && !of(Ending::Returned, "Stopped"));
        assert!(!of(Ending::Failed, "Error") && !of(Ending::Lost, "LeaseExpired"));
        assert!(!of(Ending::Preempted, "Evicted"));
    }

    #[test]
    fn a_job_whose_runs_never_start_rests_longer_each_time_and_a_minute_at_most() {
        let seconds: Vec<u64> =
            (0..13).map(|unstarted| rest(unstarted).map_or(0, |rest| rest.as_secs())).collect();
        assert_eq!(seconds, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(rest(u32::MAX), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_job_that_may_run_once_only_is_tried_again_by_no_policy() {
        let policy = Policy { rules: vec![rule(retry(5))] };
        let failed = exit(Some(1), None, "Error");
        assert_eq!(fate(Some(&policy), Ending::Failed, &failed, 0, true), Fate::Fails);
    }

    proptest! {
        #[test]
        fn waits_and_memory_grow_and_keep_to_their_bounds(
            base_ms in 0..1u64 << 40,
            factor_millis in 0..20_000u32,
            max_ms in 0..1u64 << 40,
            memory in 0..1i64 << 40,
            max in 0..1i64 << 40,
        ) {
            let backoff = Backoff { base_ms, factor_millis, max_ms };
            let waits: Vec<Duration> = (0..100).map(|retries| backoff.after(retries)).collect();
            prop_assert!(waits.is_sorted());
            prop_assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(max_ms)));
            let (memory, max) = (Quantity::from_units(memory), Quantity::from_units(max));
            let grown = Growth { factor_millis, max }.of(memory);
            prop_assert!(grown >= memory && grown <= max.max(memory));
        }
    }
}
