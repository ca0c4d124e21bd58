//! The supervisor: every task of a process has a name, and a policy for its failure and its end.
//!
//! This is the only place that spawns. A panic counts as a failure. The first failure that asks for
//! it stops the whole tree and is what [`Supervisor::shutdown`] returns. Failures are logged here.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::FutureExt;
use tokio::sync::watch;
use tokio_util::{
    sync::CancellationToken, task::TaskTracker, task::task_tracker::TaskTrackerToken,
};

use crate::{random::Random, retry};

mod gate;

pub use gate::Gate;

/// How long tasks that were dropped at the deadline get to disappear.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// What a task may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What happens when a task fails or panics.
#[derive(Debug, Clone, PartialEq)]
pub enum OnError {
    /// The failure is recorded and the supervisor's tasks are cancelled.
    Shutdown,
    /// The task starts again after a delay; when the policy gives up, as `Shutdown`. A run that
    /// lasted longer than the longest delay starts the series anew.
    Restart(retry::Policy),
    /// The failure is logged, and that is all.
    Log,
}

/// What happens to a task when it is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    /// It sees its token and ends by itself; it is dropped only at the shutdown deadline.
    Drain,
    /// It is dropped where it waits.
    Abort,
}

/// The policy of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What happens when it fails.
    pub on_error: OnError,
    /// What happens when it is cancelled.
    pub on_cancel: OnCancel,
}

impl Policy {
    /// A task that the process cannot do without, and that ends tidily.
    pub const VITAL: Self = Self { on_error: OnError::Shutdown, on_cancel: OnCancel::Drain };
    /// A task whose failure concerns nobody else, and that can be dropped at any time.
    pub const DETACHED: Self = Self { on_error: OnError::Log, on_cancel: OnCancel::Abort };

    /// A loop that starts again after a failure and can be dropped at any time.
    #[must_use]
    pub fn restarting() -> Self {
        let on_error = OnError::Restart(retry::Policy::default());
        Self { on_error, on_cancel: OnCancel::Abort }
    }
}

/// Why a task, and with it perhaps the process, came to an end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The task returned an error.
    #[error("task `{task}` failed: {reason}")]
    Error {
        /// Name of the task.
        task: Arc<str>,
        /// The error with its causes.
        reason: String,
    },
    /// The task panicked.
    #[error("task `{task}` panicked: {reason}")]
    Panic {
        /// Name of the task.
        task: Arc<str>,
        /// What it said.
        reason: String,
    },
    /// Tasks had not ended at the shutdown deadline and were dropped.
    #[error("tasks {tasks:?} had not ended after {deadline:?}")]
    Deadline {
        /// Names of the tasks.
        tasks: Vec<Arc<str>>,
        /// The time they were given.
        deadline: Duration,
    },
}

/// Starts tasks and ends them. Clones are the same supervisor.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    random: Random,
    parent: Option<Supervisor>,
    /// What all tasks pass through at each turn.
    gate: Option<Gate>,
    /// Asks the tasks to end.
    cancel: CancellationToken,
    /// Drops the tasks.
    abort: CancellationToken,
    tracker: TaskTracker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    running: BTreeMap<u64, Arc<str>>,
    failure: Option<Failure>,
}

/// One task. Dropping the handle leaves the task alone.
#[derive(Debug, Clone)]
pub struct Task {
    name: Arc<str>,
    cancel: CancellationToken,
    outcome: watch::Receiver<Option<Result<(), Failure>>>,
}

impl Supervisor {
    /// A supervisor without tasks; `random` spreads restarts.
    #[must_use]
    pub fn new(random: Random) -> Self {
        let (cancel, abort) = (CancellationToken::new(), CancellationToken::new());
        Self::with_tokens(random, None, None, cancel, abort)
    }

    /// A supervisor whose tasks, and those of its children, get their turns through `gate`: one
    /// process of a simulation.
    #[must_use]
    pub fn behind(gate: Gate, random: Random) -> Self {
        let (cancel, abort) = (CancellationToken::new(), CancellationToken::new());
        Self::with_tokens(random, None, Some(gate), cancel, abort)
    }

    /// A supervisor that ends with this one but can be shut down alone. A failure that asks for a
    /// shutdown stops the child's tasks only; whoever owns the child asks [`Supervisor::failure`].
    #[must_use]
    pub fn child(&self) -> Self {
        let (cancel, abort) = (self.shared.cancel.child_token(), self.shared.abort.child_token());
        let (random, gate) = (self.shared.random.clone(), self.shared.gate.clone());
        Self::with_tokens(random, Some(self.clone()), gate, cancel, abort)
    }

    /// A supervisor whose tasks are neither cancelled nor waited for by this one: for what has to
    /// outlive the shutdown (the listener for a second signal). They end with the process.
    #[must_use]
    pub(crate) fn detached(&self) -> Self {
        Self::new(self.shared.random.clone())
    }

    fn with_tokens(
        random: Random,
        parent: Option<Supervisor>,
        gate: Option<Gate>,
        cancel: CancellationToken,
        abort: CancellationToken,
    ) -> Self {
        let (tracker, state) = (TaskTracker::new(), Mutex::default());
        Self { shared: Arc::new(Shared { random, parent, gate, cancel, abort, tracker, state }) }
    }

    /// A token that is cancelled with this supervisor. Cancelling it does not cancel the latter.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.shared.cancel.child_token()
    }

    /// Asks all tasks to end. [`Supervisor::shutdown`] also waits for them.
    pub fn cancel(&self) {
        self.shared.cancel.cancel();
    }

    /// Waits until the tasks are asked to end, by a failure or by [`Supervisor::cancel`].
    pub async fn cancelled(&self) {
        self.shared.cancel.cancelled().await;
    }

    /// The first failure that asked for a shutdown.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.shared.lock().failure.clone()
    }

    /// Names of the tasks that have not ended, in the order they were started.
    #[must_use]
    pub fn running(&self) -> Vec<Arc<str>> {
        self.shared.lock().running.values().cloned().collect()
    }

    /// Starts a task. `start` gets the token that asks it to end, and is called again for each
    /// restart that the policy grants.
    pub fn spawn<S, F, E>(&self, name: impl Into<Arc<str>>, policy: Policy, start: S) -> Task
    where
        S: FnMut(CancellationToken) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        let name: Arc<str> = name.into();
        let cancel = self.token();
        let (sender, outcome) = watch::channel(None);
        let task = Task { name: Arc::clone(&name), cancel: cancel.clone(), outcome };
        let registration = Registration::new(self, &name);
        let supervisor = self.clone();
        let work = async move {
            let result = supervisor.run(&name, &policy, cancel, start).await;
            // Off the list before anybody learns of the end.
            drop(registration);
            sender.send_replace(Some(result));
        };
        #[expect(clippy::disallowed_methods, reason = "this is where tasks are spawned")]
        match self.shared.gate.clone() {
            None => drop(tokio::spawn(work)),
            Some(gate) => drop(tokio::spawn(gate.pass(work))),
        }
        task
    }

    /// Starts a task that cannot be restarted: with [`OnError::Restart`] its failure is treated as
    /// with [`OnError::Shutdown`].
    pub fn spawn_once<S, F, E>(
        &self,
        name: impl Into<Arc<str>>,
        mut policy: Policy,
        start: S,
    ) -> Task
    where
        S: FnOnce(CancellationToken) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        if matches!(policy.on_error, OnError::Restart(_)) {
            policy.on_error = OnError::Shutdown;
        }
        let mut start = Some(start);
        self.spawn(name, policy, move |token| {
            let start = start.take().expect("a policy without restarts starts once");
            start(token)
        })
    }

    /// Asks all tasks to end, waits for them up to `deadline`, then drops those that remain.
    /// Returns the first failure that asked for a shutdown, or else which tasks came too late.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), Failure> {
        self.cancel();
        self.shared.tracker.close();
        let is_drained = tokio::time::timeout(deadline, self.shared.tracker.wait()).await.is_ok();
        let late = if is_drained { Vec::new() } else { self.running() };
        if !is_drained {
            self.shared.abort.cancel();
            if tokio::time::timeout(ABORT_GRACE, self.shared.tracker.wait()).await.is_err() {
                tracing::error!(tasks = ?self.running(), "tasks block a thread and are left behind");
            }
        }
        match self.failure() {
            Some(failure) => Err(failure),
            None if late.is_empty() => Ok(()),
            None => Err(Failure::Deadline { tasks: late, deadline }),
        }
    }

    async fn run<S, F, E>(
        &self,
        name: &Arc<str>,
        policy: &Policy,
        cancel: CancellationToken,
        mut start: S,
    ) -> Result<(), Failure>
    where
        S: FnMut(CancellationToken) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        let mut delays = None;
        loop {
            let began = tokio::time::Instant::now();
            let Err(failure) = self.run_once(name, policy.on_cancel, &cancel, &mut start).await
            else {
                return Ok(());
            };
            let retry = match &policy.on_error {
                OnError::Restart(retry) if !cancel.is_cancelled() => retry,
                OnError::Restart(_) | OnError::Log => {
                    tracing::warn!(task = %name, %failure, "task failed");
                    return Err(failure);
                }
                OnError::Shutdown => return Err(self.fail(failure)),
            };
            if began.elapsed() > retry.delay_max.0 {
                delays = None;
            }
            let delays = delays.get_or_insert_with(|| retry.delays(self.shared.random.clone()));
            let Some(delay) = delays.next() else { return Err(self.fail(failure)) };
            tracing::warn!(task = %name, %failure, ?delay, "task failed and is started again");
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    async fn run_once<S, F, E>(
        &self,
        name: &Arc<str>,
        on_cancel: OnCancel,
        cancel: &CancellationToken,
        start: &mut S,
    ) -> Result<(), Failure>
    where
        S: FnMut(CancellationToken) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        let dropped = async {
            match on_cancel {
                OnCancel::Drain => self.shared.abort.cancelled().await,
                OnCancel::Abort => cancel.cancelled().await,
            }
        };
        let work = AssertUnwindSafe(async { start(cancel.clone()).await }).catch_unwind();
        let result = tokio::select! {
            biased;
            () = dropped => return Ok(()),
            result = work => result,
        };
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(Failure::Error { task: Arc::clone(name), reason: chain(&*error.into()) })
            }
            Err(panic) => {
                Err(Failure::Panic { task: Arc::clone(name), reason: panic_text(&*panic) })
            }
        }
    }

    /// Records the failure, if it is the first, and cancels everything.
    fn fail(&self, failure: Failure) -> Failure {
        tracing::error!(%failure, "task failed, shutting down");
        self.shared.lock().failure.get_or_insert_with(|| failure.clone());
        self.cancel();
        failure
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("running", &self.running()).finish_non_exhaustive()
    }
}

impl Task {
    /// The name it was started with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks this task alone to end.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// Waits for its end. A task that was cancelled ended well.
    pub async fn finished(&mut self) -> Result<(), Failure> {
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
            // The runtime itself was shut down under the task.
            Err(_) => Ok(()),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

/// Keeps a task on the lists of its supervisor and of all those above.
struct Registration {
    entries: Vec<(Supervisor, u64, TaskTrackerToken)>,
}

impl Registration {
    fn new(supervisor: &Supervisor, name: &Arc<str>) -> Self {
        let mut entries = Vec::new();
        let mut above = Some(supervisor);
        while let Some(supervisor) = above {
            let mut state = supervisor.shared.lock();
            state.next_id += 1;
            let id = state.next_id;
            state.running.insert(id, Arc::clone(name));
            drop(state);
            entries.push((supervisor.clone(), id, supervisor.shared.tracker.token()));
            above = supervisor.shared.parent.as_ref();
        }
        Self { entries }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        for (supervisor, id, _) in &self.entries {
            supervisor.shared.lock().running.remove(id);
        }
    }
}

/// The error and its causes, as one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}

#[cfg(test)]
mod tests;
