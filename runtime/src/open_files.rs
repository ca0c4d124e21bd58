//! How many files and connections this process may have open: as many as the system lets it have,
//! which is more than it begins with.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that are left for everything but connections of clients: the log, the bus, the store.
const OTHERS: u64 = 256;

/// Of so many connections, as many as there can be; the limit is raised as far as it goes first.
/// Fewer than wished are a warning: where a process can open nothing more, its bus and store are
/// what fails.
#[must_use]
pub fn fitting(connections_max: usize) -> usize {
    let limit = match raised() {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be read or raised");
            return connections_max;
        }
    };
    let fitting = fitting_in(limit, connections_max);
    if fitting < connections_max {
        tracing::warn!(limit, fitting, "so many connections at most: open files are limited");
    }
    fitting
}

fn raised() -> nix::Result<u64> {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if now < most {
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    }
    Ok(most)
}

fn fitting_in(limit: u64, connections_max: usize) -> usize {
    let room = limit.saturating_sub(OTHERS).max(limit / 2).max(1);
    usize::try_from(room).unwrap_or(usize::MAX).min(connections_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest_and_there_is_always_one() {
        assert_eq!(fitting_in(u64::MAX, 4096), 4096);
        assert_eq!(fitting_in(4096, 4096), 3840);
        assert_eq!(fitting_in(64, 4096), 32);
        assert_eq!(fitting_in(0, 4096), 1);
    }

    #[test]
    fn the_limit_is_raised_to_the_most_that_there_is() {
        let most = raised().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (most, most));
    }
}
