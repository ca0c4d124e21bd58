//! One run as a process group: started through its keeper, watched until it ends, stopped on
//! request or at its deadline.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_api::bus::{Exit, RunStatus};
use muster_core::time::Timestamp;
use muster_runtime::Clock;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::folder::{Ended, Folder, Process, Stopping, Why};
use super::keeper::KEEP_RUN;
use super::plan::Plan;

/// How often a process that is no child of ours is looked at.
const ADOPTED_POLL: Duration = Duration::from_millis(200);
/// How often the size of the output is looked at.
const OUTPUT_POLL: Duration = Duration::from_secs(1);
/// How long a keeper that was just started is given to get to its command before it is told to stop
/// …
const KEEPER_SETTLE: Duration = Duration::from_millis(50);
/// … counted from when it has written itself down, for which it has so long.
const KEEPER_START_MAX: Duration = Duration::from_secs(2);

/// A run's process group.
pub(super) struct Running {
    pub(super) folder: Folder,
    pub(super) child: Handle,
    pub(super) started_at: Timestamp,
    pub(super) deadline: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) output_bytes_max: u64,
    pub(super) clock: Clock,
}

/// How the keeper is watched.
pub(super) enum Handle {
    /// It is our child.
    Child(Box<Child>),
    /// It was started by an earlier process.
    Adopted(Process),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) status: RunStatus,
    pub(super) at: Timestamp,
    pub(super) exit: Exit,
}

/// Starts the keeper and its command.
pub(super) fn spawn(keeper: &Path, folder: &Folder, plan: &Plan) -> io::Result<Child> {
    let work = folder.work();
    let folder_of_command = match &plan.working_dir {
        Some(named) => work.join(named),
        None => work,
    };
    let output = std::fs::OpenOptions::new().append(true).create(true).open(folder.output())?;
    let program = find_program(&plan.command[0], &plan.env, &folder_of_command)?;
    Command::new(keeper)
        .arg(KEEP_RUN)
        .arg(folder.path())
        .arg(program)
        .args(&plan.command[1..])
        .env_clear()
        .envs(&plan.env)
        .current_dir(folder_of_command)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
}

impl Running {
    /// Waits for the end. `stop` holds the longest grace once it is to be stopped.
    pub(super) async fn end(mut self, mut stop: watch::Receiver<Option<Duration>>) -> Outcome {
        let mut stopping = self.folder.stopping();
        let deadline = self.deadline.map(|deadline| self.started_at.plus(deadline));
        let mut is_killed = false;
        let status = loop {
            let now = self.clock.now();
            let until = |at: Option<Timestamp>| at.map(|at| at.since(now));
            let kill_in = until(stopping.filter(|_| !is_killed).map(|stopping| stopping.kill_at));
            let deadline_in = until(deadline.filter(|_| stopping.is_none()));
            tokio::select! {
                status = self.child.ended(&self.clock) => break status,
                Ok(()) = stop.changed(), if stopping.is_none() => {
                    let grace = stop.borrow().map_or(self.grace, |most| self.grace.min(most));
                    stopping = Some(self.terminate(Why::Asked, grace).await);
                }
                () = sleep(&self.clock, deadline_in) => {
                    stopping = Some(self.terminate(Why::Deadline, self.grace).await);
                }
                () = sleep(&self.clock, kill_in) => {
                    is_killed = true;
                    self.signal(Signal::SIGKILL);
                }
                () = self.clock.sleep(OUTPUT_POLL) => self.cap_output(),
            }
        };
        self.cap_output();
        self.outcome(status, stopping)
    }

    /// Tells the group to end.
    async fn terminate(&self, why: Why, grace: Duration) -> Stopping {
        let stopping = Stopping { why, kill_at: self.clock.now().plus(grace) };
        if let Err(error) = self.folder.write_stopping(stopping) {
            let run = self.folder.path().display();
            tracing::warn!(%run, %error, "stop of a run is not written down");
        }
        // A keeper that has not come to its command yet would take the signal for itself.
        let tries = KEEPER_START_MAX.as_millis() / KEEPER_SETTLE.as_millis();
        for _ in 0..tries {
            let is_started = self.folder.process().is_some();
            self.clock.sleep(KEEPER_SETTLE).await;
            if is_started {
                break;
            }
        }
        self.signal(Signal::SIGTERM);
        stopping
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self.child.pid() else { return };
        // A group that has just ended needs no signal.
        let _ = killpg(Pid::from_raw(pid), signal);
    }

    fn cap_output(&self) {
        if let Err(error) = self.folder.cap_output(self.output_bytes_max) {
            tracing::warn!(run = %self.folder.path().display(), %error, "output cannot be cut");
        }
    }

    fn outcome(&self, status: Option<i32>, stopping: Option<Stopping>) -> Outcome {
        if self.folder.ended().is_none()
            && let Some(signal) = status.or(stopping.map(|_| Signal::SIGKILL as i32))
        {
            // The keeper died before it could write: nobody but us knows, and its group may live
            // on.
            if let Handle::Child(_) = self.child {
                let pid = self.folder.process().map(|process| process.pid);
                let _ = pid.map(|pid| killpg(Pid::from_raw(pid), Signal::SIGKILL));
            }
            if let Err(error) = self.folder.write_killed(signal) {
                let run = self.folder.path().display();
                tracing::warn!(%run, %error, "end of a run is not written down");
                return killed(signal, stopping, self.clock.now());
            }
        }
        outcome(&self.folder, self.deadline).unwrap_or_else(|| lost(self.clock.now()))
    }
}

impl Handle {
    /// Waits for the keeper's end; gives the signal that ended it, if that is known.
    async fn ended(&mut self, clock: &Clock) -> Option<i32> {
        match self {
            Self::Child(child) => match child.wait().await {
                Ok(status) => status.signal(),
                Err(error) => {
                    tracing::error!(%error, "a child cannot be waited for");
                    None
                }
            },
            Self::Adopted(process) => {
                while process.is_alive() {
                    clock.sleep(ADOPTED_POLL).await;
                }
                None
            }
        }
    }

    fn pid(&self) -> Option<i32> {
        match self {
            Self::Child(child) => child.id().and_then(|pid| i32::try_from(pid).ok()),
            Self::Adopted(process) => process.is_alive().then_some(process.pid),
        }
    }
}

/// How the run of a directory ended, as far as it is written there.
pub(super) fn outcome(folder: &Folder, deadline: Option<Duration>) -> Option<Outcome> {
    let (ended, at) = folder.ended()?;
    let (code, signal) = match ended {
        Ended::Code(code) => (Some(code), None),
        Ended::Signal(signal) => (None, Some(signal)),
    };
    let (status, reason, message) = match (folder.stopping().map(|s| s.why), code) {
        (Some(Why::Deadline), _) => {
            let limit = deadline.unwrap_or_default();
            let message = format!("it ran longer than its `activeDeadlineSeconds` of {limit:?}");
            (RunStatus::Failed, "DeadlineExceeded", Some(message))
        }
        (Some(Why::Asked), _) => (RunStatus::Failed, "Stopped", None),
        (None, Some(0)) => (RunStatus::Succeeded, "Completed", None),
        (None, _) => (RunStatus::Failed, "Error", None),
    };
    let reason = Some(reason.to_owned());
    let exit = Exit { code, signal, reason, message, ..Exit::default() };
    Some(Outcome { status, at, exit })
}

/// Nobody knows how the run ended.
pub(super) fn lost(now: Timestamp) -> Outcome {
    let message = "its process ended while nobody watched, and left no exit code".to_owned();
    let exit = Exit { reason: Some("Lost".to_owned()), message: Some(message), ..Exit::default() };
    Outcome { status: RunStatus::Lost, at: now, exit }
}

fn killed(signal: i32, stopping: Option<Stopping>, now: Timestamp) -> Outcome {
    let reason = match stopping.map(|stopping| stopping.why) {
        Some(Why::Asked) => "Stopped",
        Some(Why::Deadline) => "DeadlineExceeded",
        None => "Error",
    };
    let exit = Exit { signal: Some(signal), reason: Some(reason.to_owned()), ..Exit::default() };
    Outcome { status: RunStatus::Failed, at: now, exit }
}

async fn sleep(clock: &Clock, duration: Option<Duration>) {
    match duration {
        Some(duration) => clock.sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// The program behind a name.
fn find_program(name: &str, env: &BTreeMap<String, String>, folder: &Path) -> io::Result<PathBuf> {
    let is_program = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let missing = |text: String| io::Error::new(io::ErrorKind::NotFound, text);
    if name.contains('/') {
        let path = folder.join(name);
        return match is_program(&path) {
            true => Ok(path),
            false => Err(missing(format!("`{name}` is no program"))),
        };
    }
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    let mut places = path.split(':').map(|place| folder.join(place).join(name));
    let found = places.find(|place| is_program(place));
    found.ok_or_else(|| missing(format!("there is no program `{name}` in PATH")))
}
