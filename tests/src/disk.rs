//! Small disks that can be filled: file systems in memory, mounted where data is to lie.
//!
//! They are mounted in a mount namespace of the program's own ([`enter_own_namespace`]), so that
//! nothing of them is left, however it ends. Where the system does not allow that, it is said.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Says to a program that it runs in a namespace of its own.
const INSIDE: &str = "MUSTER_TESTS_OWN_NAMESPACE";
/// The file that fills a disk.
const BALLAST: &str = "ballast";
/// Bytes written at once to fill a disk.
const PIECE_BYTES: usize = 4096;

/// A small disk. Unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

/// Starts the running program again in a mount namespace of its own, and does not come back; comes
/// back if it runs in one already.
///
/// # Errors
/// When the system does not allow it: then nothing can be mounted either.
pub fn enter_own_namespace() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe().context("where the running program stands")?;
    // As root, and as a user who may be root of a namespace.
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    for way in ways {
        let mut unshare = Command::new("unshare");
        unshare.args(way).args(["--propagation", "private", "--"]);
        let allowed = unshare.arg("true").output();
        if !allowed.is_ok_and(|output| output.status.success()) {
            continue;
        }
        let mut again = Command::new("unshare");
        again.args(way).args(["--propagation", "private", "--"]).arg(&program);
        let failed = again.args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
        return Err(failed).context("start unshare");
    }
    bail!("the system lets nobody here have a mount namespace (`unshare --mount` fails)")
}

impl Disk {
    /// Mounts one of so many bytes over a directory. Only in a namespace of one's own.
    ///
    /// # Errors
    /// When it is not allowed.
    pub fn mount(path: &Path, bytes: u64) -> Result<Self> {
        ensure!(std::env::var_os(INSIDE).is_some(), "the mount would stay behind this program");
        std::fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(path)
            .output()
            .context("start mount")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mount {}: {}", path.display(), said.trim());
        Ok(Self { path: path.to_owned() })
    }

    /// Leaves no byte free.
    ///
    /// # Errors
    /// When something else is wrong than that it is full.
    pub fn fill(&self) -> Result<()> {
        fill(&self.path)
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When the ballast cannot be removed.
    pub fn free(&self) -> Result<()> {
        free(&self.path)
    }
}

/// Leaves no byte free on the disk that a directory lies on.
///
/// # Errors
/// When something else is wrong than that it is full.
pub fn fill(directory: &Path) -> Result<()> {
    let mut file = File::create(directory.join(BALLAST)).context("create the ballast")?;
    let piece = [0; PIECE_BYTES];
    loop {
        match file.write_all(&piece) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).context("write the ballast"),
        }
    }
}

/// Makes room again after [`fill`].
///
/// # Errors
/// When the ballast cannot be removed.
pub fn free(directory: &Path) -> Result<()> {
    std::fs::remove_file(directory.join(BALLAST)).context("remove the ballast")
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It goes with the namespace at the latest.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}
