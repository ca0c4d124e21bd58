//! The directory of a run: `runs/{job}-{attempt}/` while its end is not settled, `ended/…`
//! afterwards.
//!
//! | file | written by | holds |
//! | --- | --- | --- |
//! | `run.json` | executor, before the start | job, attempt, node, shape, times |
//! | `output` | the command | stdout and stderr |
//! | `pid` | keeper | its line of `/proc/PID/stat`: process id and start time |
//! | `exit` | keeper, or executor if it was killed | `CODE` or `signal N`, and a newline |
//! | `stop` | executor | why it is being stopped, and when it is to be killed |
//! | `gone` | executor | the run was given up: a keeper that starts late starts nothing |
//! | `work/` | the command | its scratch directory |

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::UNIX_EPOCH;

use muster_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::runs::RunKey;

const RUNS: &str = "runs";
const ENDED: &str = "ended";

/// The directories of all runs.
#[derive(Debug, Clone)]
pub(super) struct Folders {
    root: PathBuf,
}

/// The directory of a run.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

/// What is to be known of a run after a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) job: String,
    pub(super) attempt: u32,
    pub(super) node: String,
    /// Canonical text.
    pub(super) shape: String,
    /// Milliseconds since the epoch.
    pub(super) started_at_ms: i64,
    pub(super) deadline_ms: Option<u64>,
    pub(super) grace_ms: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Code(i32),
    Signal(i32),
}

/// Why and until when a run is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopping {
    pub(super) why: Why,
    pub(super) kill_at: Timestamp,
}

/// Why a run is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Asked,
    Deadline,
}

/// A process: its id, and when it started so that another one with the same id is not mistaken for
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    start_ticks: u64,
}

impl Folders {
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(root.join(RUNS))?;
        fs::create_dir_all(root.join(ENDED))?;
        // The keeper is told absolute paths: it runs elsewhere.
        Ok(Self { root: root.canonicalize()? })
    }

    /// The directory of a run that is not settled.
    pub(super) fn live(&self, key: RunKey) -> Folder {
        Folder(self.root.join(RUNS).join(name(key)))
    }

    /// The directory of a run, wherever it is.
    pub(super) fn find(&self, key: RunKey) -> Option<Folder> {
        let ended = Folder(self.root.join(ENDED).join(name(key)));
        [self.live(key), ended].into_iter().find(|folder| folder.0.is_dir())
    }

    /// Puts a run aside; one that has no directory never had a process.
    pub(super) fn settle(&self, key: RunKey) -> io::Result<()> {
        match fs::rename(self.live(key).0, self.root.join(ENDED).join(name(key))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// The directories of all runs that are not settled, in the order of names.
    pub(super) fn all_live(&self) -> io::Result<Vec<Folder>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(self.root.join(RUNS))? {
            folders.push(entry?.path());
        }
        folders.sort();
        Ok(folders.into_iter().map(Folder).collect())
    }

    /// Removes directories of settled runs that are older than `oldest`, and the oldest beyond
    /// `max`.
    pub(super) fn clean(&self, oldest: Timestamp, max: usize) -> io::Result<usize> {
        let mut ended = Vec::new();
        for entry in fs::read_dir(self.root.join(ENDED))? {
            let entry = entry?;
            ended.push((modified(&entry.metadata()?), entry.path()));
        }
        ended.sort();
        let surplus = ended.len().saturating_sub(max);
        let old = ended.iter().take_while(|(at, _)| *at < oldest).count();
        let doomed = &ended[..surplus.max(old)];
        for (_, path) in doomed {
            fs::remove_dir_all(path)?;
        }
        Ok(doomed.len())
    }
}

impl Folder {
    /// The directory of a run at that path.
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    pub(super) fn output(&self) -> PathBuf {
        self.0.join("output")
    }

    /// Creates it.
    pub(super) fn create(&self, about: &About) -> io::Result<()> {
        fs::create_dir(&self.0)?;
        fs::create_dir(self.work())?;
        fs::write(self.0.join("run.json"), serde_json::to_vec(about)?)
    }

    pub(super) fn about(&self) -> io::Result<About> {
        Ok(serde_json::from_slice(&fs::read(self.0.join("run.json"))?)?)
    }

    /// How the run ended, and when; `None` as long as nobody has written it down.
    pub(super) fn ended(&self) -> Option<(Ended, Timestamp)> {
        let path = self.0.join("exit");
        let text = fs::read_to_string(&path).ok()?;
        let text = text.strip_suffix('\n')?;
        let ended = match text.strip_prefix("signal ") {
            Some(signal) => Ended::Signal(signal.parse().ok()?),
            None => Ended::Code(text.parse().ok()?),
        };
        Some((ended, modified(&fs::metadata(&path).ok()?)))
    }

    /// Writes down how the command ended.
    pub(super) fn write_ended(&self, status: ExitStatus) -> io::Result<()> {
        match (status.code(), status.signal()) {
            (Some(code), _) => fs::write(self.0.join("exit"), format!("{code}\n")),
            (None, Some(signal)) => self.write_killed(signal),
            (None, None) => Err(io::Error::other("the command neither ended nor was killed")),
        }
    }

    pub(super) fn write_killed(&self, signal: i32) -> io::Result<()> {
        fs::write(self.0.join("exit"), format!("signal {signal}\n"))
    }

    pub(super) fn stopping(&self) -> Option<Stopping> {
        let text = fs::read_to_string(self.0.join("stop")).ok()?;
        let (why, kill_at) = text.strip_suffix('\n')?.split_once(' ')?;
        let why = if why == "deadline" { Why::Deadline } else { Why::Asked };
        Some(Stopping { why, kill_at: Timestamp(kill_at.parse().ok()?) })
    }

    pub(super) fn write_stopping(&self, stopping: Stopping) -> io::Result<()> {
        let why = match stopping.why {
            Why::Asked => "asked",
            Why::Deadline => "deadline",
        };
        fs::write(self.0.join("stop"), format!("{why} {}\n", stopping.kill_at.0))
    }

    /// Gives the run up: whichever keeper reads this starts nothing.
    pub(super) fn write_gone(&self) -> io::Result<()> {
        fs::write(self.0.join("gone"), "")
    }

    /// Whether the run was given up.
    pub(super) fn is_gone(&self) -> bool {
        self.0.join("gone").exists()
    }

    /// Writes this very process down as the keeper.
    pub(super) fn write_process(&self) -> io::Result<()> {
        fs::write(self.0.join("pid"), fs::read("/proc/self/stat")?)
    }

    /// The keeper's process, as it wrote itself down.
    pub(super) fn process(&self) -> Option<Process> {
        let text = fs::read_to_string(self.0.join("pid")).ok()?;
        Process::from_stat(text.strip_suffix('\n')?)
    }

    /// Cuts the output to `max` bytes and a notice. What a command that goes on writing adds behind
    /// the notice is cut off again the next time.
    pub(super) fn cap_output(&self, max: u64) -> io::Result<()> {
        let notice = format!("\n[muster: output beyond {max} bytes is discarded]\n");
        let full = max.saturating_add(notice.len() as u64);
        let size = fs::metadata(self.output())?.len();
        let is_cut = self.0.join("cut").exists();
        if size <= if is_cut { full } else { max } {
            return Ok(());
        }
        let mut file = fs::OpenOptions::new().append(true).open(self.output())?;
        if is_cut {
            return file.set_len(full);
        }
        fs::write(self.0.join("cut"), "")?;
        file.set_len(max)?;
        file.write_all(notice.as_bytes())
    }
}

impl Process {
    /// Whether it still runs; a zombie does not.
    pub(super) fn is_alive(self) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
        Self::from_stat(stat.trim_end()) == Some(self) && !is_zombie(&stat)
    }

    /// From a line of `/proc/PID/stat`: the first field, and the 22nd, counted behind the command's
    /// name in parentheses.
    fn from_stat(stat: &str) -> Option<Self> {
        let (pid, _) = stat.split_once(' ')?;
        let start_ticks = behind_name(stat)?.split(' ').nth(19)?.parse().ok()?;
        Some(Self { pid: pid.parse().ok()?, start_ticks })
    }
}

fn behind_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ").map(|(_, rest)| rest)
}

fn is_zombie(stat: &str) -> bool {
    behind_name(stat).is_some_and(|rest| rest.starts_with(['Z', 'X']))
}

fn name(key: RunKey) -> String {
    format!("{}-{}", key.job, key.attempt)
}

fn modified(metadata: &fs::Metadata) -> Timestamp {
    let since = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Timestamp(since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or_default())
}
