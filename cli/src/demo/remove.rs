//! Removes a directory with very many small files. Some file systems take long for each removal but
//! do many of them at once, so several threads share the work.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const THREADS: usize = 16;

/// Removes what is below `root`, but not `root` itself.
pub(super) fn empty(root: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    // Directories by how deep they lie.
    let mut levels = vec![vec![root.to_owned()]];
    while let Some(level) = levels.last().filter(|level| !level.is_empty()) {
        let mut below = Vec::new();
        for directory in level {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                let list = if entry.file_type()?.is_dir() { &mut below } else { &mut files };
                list.push(entry.path());
            }
        }
        levels.push(below);
    }
    each(&files, |path| fs::remove_file(path))?;
    levels.iter().skip(1).rev().try_for_each(|level| each(level, |path| fs::remove_dir(path)))
}

/// Does it to each path, on several threads; gives one of the errors, if there are any.
fn each(paths: &[PathBuf], act: fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let part = paths.len().div_ceil(THREADS).max(1);
    std::thread::scope(|scope| {
        let work = |paths: &'_ [PathBuf]| paths.iter().try_for_each(|path| act(path));
        let parts: Vec<_> =
            paths.chunks(part).map(|paths| scope.spawn(move || work(paths))).collect();
        parts.into_iter().try_for_each(|part| part.join().expect("removing a file does not panic"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_removed_but_the_root() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a/b/c", "a/d", "e"] {
            fs::create_dir_all(root.path().join(path)).unwrap();
            (0..20)
                .for_each(|n| fs::write(root.path().join(path).join(n.to_string()), "x").unwrap());
        }
        std::os::unix::fs::symlink("/nowhere", root.path().join("link")).unwrap();
        empty(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        empty(root.path()).unwrap();
    }
}
