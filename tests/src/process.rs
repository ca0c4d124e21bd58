//! Programs as child processes: their output kept in a file, signals by process id, killed at the
//! end.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::eventually;

/// How many lines of a process's output an error quotes.
const LOG_LINES_QUOTED: usize = 30;

/// How long a single look at a health endpoint may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A program to be started, with arguments and environment.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
}

impl Program {
    /// A binary of this project, as built beside the running test or program:
    /// `Program::built("muster")`.
    ///
    /// # Errors
    /// When it is not built.
    pub fn built(name: &str) -> Result<Self> {
        let running = std::env::current_exe().context("where the running program stands")?;
        // A test stands in `target/debug/deps`, the binaries one level up.
        let directory = running
            .parent()
            .map(|directory| match directory.file_name() {
                Some(last) if last == "deps" => directory.parent().unwrap_or(directory),
                _ => directory,
            })
            .with_context(|| format!("{} stands in no build directory", running.display()))?;
        let path = directory.join(name);
        ensure!(
            path.is_file(),
            "{} is not built: run `make test`, or `cargo build --workspace --bins`",
            path.display()
        );
        Ok(Self::at(path))
    }

    /// Any program, by path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), env: BTreeMap::new() }
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment; the rest is inherited.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Sets variables of the environment.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        variables.into_iter().fold(self, |program, (name, value)| program.env(name, value))
    }

    /// Starts it under a name of its own. What it writes goes to `{name}.out` and `{name}.log`
    /// (standard error) in `log_dir`; a name used again goes on in the same files.
    ///
    /// # Errors
    /// When it does not start, or the files cannot be opened.
    pub fn spawn(&self, name: &str, log_dir: &Path) -> Result<Process> {
        let out = log_dir.join(format!("{name}.out"));
        let log = log_dir.join(format!("{name}.log"));
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(appended(&out)?)
            .stderr(appended(&log)?)
            .spawn()
            .with_context(|| format!("start {}", self.path.display()))?;
        Ok(Process { name: name.to_owned(), child, out, log })
    }

    /// Runs it to its end and returns what it wrote.
    ///
    /// # Errors
    /// When it does not start.
    pub fn output(&self) -> Result<std::process::Output> {
        self.command()
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {}", self.path.display()))
    }

    /// It as a command of the standard library, for whoever has its own plans with its streams.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).envs(&self.env);
        command
    }
}

fn appended(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// A running child process. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn out(&self) -> Result<String> {
        std::fs::read_to_string(&self.out).with_context(|| format!("read {}", self.out.display()))
    }

    /// What it wrote to standard error so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    /// Whether it runs (or is stopped, but has not ended).
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// SIGKILL, and waits until it is gone. Nothing happens if it has ended already.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// SIGTERM: asks it to drain and end.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// SIGINT: what Ctrl-C sends.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn interrupt(&mut self) -> Result<()> {
        self.signal(Signal::SIGINT)
    }

    /// SIGSTOP: it does nothing more until [`Process::resume`].
    ///
    /// # Errors
    /// When it has ended already.
    pub fn suspend(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT: it goes on after [`Process::suspend`].
    ///
    /// # Errors
    /// When it has ended already.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        // A child that was waited for has given its id back: it may name another process by now.
        ensure!(self.is_running()?, "{} has ended, {signal} is too late", self.name);
        let id = i32::try_from(self.child.id()).context("a process id is a positive i32")?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `within`.
    pub async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        let ended = eventually(within, &what, async || {
            self.child.try_wait()?.ok_or_else(|| anyhow!("it runs"))
        })
        .await;
        ended.with_context(|| self.quoted_log())
    }

    /// Waits until `GET {url}` is answered with 2xx, for example
    /// `http://127.0.0.1:8080/health/ready`.
    ///
    /// # Errors
    /// When it ends instead, or is not ready after `within`: with the end of its log.
    pub async fn until_ready(&mut self, url: &str, within: Duration) -> Result<()> {
        let client = reqwest::Client::builder().timeout(PROBE_TIMEOUT).build()?;
        self.until(&format!("{url} answers"), within, async || {
            client.get(url).send().await?.error_for_status()?;
            Ok(())
        })
        .await
    }

    /// Waits until `text` stands in what it wrote to standard output or standard error.
    ///
    /// # Errors
    /// When it ends instead, or `text` does not come within `within`: with the end of its log.
    pub async fn until_logged(&mut self, text: &str, within: Duration) -> Result<()> {
        let (out, log) = (self.out.clone(), self.log.clone());
        self.until(&format!("it writes `{text}`"), within, async || {
            for path in [&out, &log] {
                if std::fs::read_to_string(path)?.contains(text) {
                    return Ok(());
                }
            }
            bail!("it did not")
        })
        .await
    }

    /// Waits for what a probe of the caller looks at.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        within: Duration,
        mut probe: impl AsyncFnMut() -> Result<()>,
    ) -> Result<()> {
        let child = &mut self.child;
        let what = format!("{}: {what}", self.name);
        let outcome = eventually(within, &what, async || {
            if let Some(status) = child.try_wait()? {
                return Ok(Err(anyhow!("it has ended: {status}")));
            }
            probe().await.map(Ok)
        })
        .await;
        outcome.and_then(|ended| ended).with_context(|| self.quoted_log())
    }

    fn quoted_log(&self) -> String {
        let log = self.log().unwrap_or_else(|error| format!("{error:#}"));
        let lines = log.lines().collect::<Vec<_>>();
        let from = lines.len().saturating_sub(LOG_LINES_QUOTED);
        format!("the end of the log of {}:\n{}", self.name, lines[from..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only where it has ended already, which is what is wanted.
        let _ = self.kill9();
    }
}

/// The lowest port that is handed out here.
const PORT_MIN: u16 = 10_000;
/// Where the ports begin that Linux gives to whoever connects, if it does not say.
const EPHEMERAL_MIN: u16 = 32_768;

/// A port on loopback that is free, for a process that must be told its port. It is none of those
/// that the system gives to whoever connects or asks for any: such a one may be taken between this
/// and the start of that process. Nobody in this process gets it again, and others begin elsewhere.
///
/// # Errors
/// When none is free.
pub fn free_port() -> Result<u16> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range.ok().and_then(|range| range.split_whitespace().next()?.parse().ok());
    let end = u32::from(first.filter(|first: &u16| *first > PORT_MIN).unwrap_or(EPHEMERAL_MIN));
    let ports = end - u32::from(PORT_MIN);
    for _ in 0..ports {
        let place = TAKEN.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(997).wrapping_add(place);
        let port = u16::try_from(place % ports)? + PORT_MIN;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {PORT_MIN} to {end} is free")
}
