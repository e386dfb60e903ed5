//! File descriptors: as many as the system grants, and how many of them callers may take.
//!
//! A process that has run out of them takes no connection on any listener, reaches no upstream and saves no snapshot. The
//! usual soft limit of 1024 is that low for programs that use `select`; a single machine could use it up.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Fewest connections that a listener takes, however few descriptors there are.
const FEWEST: usize = 16;

/// Raises the soft limit of the process to the hard one; returns the limit from now on, `None` for no limit.
pub(crate) fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, limit = limit.current, "the limit of open files could not be raised");
            limit.current
        }
    }
}

/// Returns how many connections each of the gateway's listeners may take, at most `wanted`.
///
/// All of them together get half of the descriptors: the calls on them may need as many for upstreams.
pub(crate) fn connections(limit: Option<u64>, listeners: usize, wanted: usize) -> usize {
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let granted = (limit / 2 / listeners.max(1)).max(FEWEST).min(wanted);
    if granted < wanted {
        tracing::info!(
            limit,
            connections = granted,
            "each listener takes fewer connections, as the limit of open files asks for"
        );
    }
    granted
}

/// Returns how many descriptors are in use, and how many there may be; `None` where the system does not tell.
pub(crate) fn usage() -> Option<(u64, u64)> {
    // One of them is the directory itself, while it is read.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Some((u64::try_from(open).ok()?, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_together_leave_half_of_the_descriptors() {
        for (limit, listeners, connections_each) in [
            (Some(1_024), 4, 128),
            (Some(20_000), 4, 2_500),
            (Some(524_288), 4, 10_000),
            (None, 4, 10_000),
            (Some(64), 4, 16),
            (Some(1_024), 0, 512),
        ] {
            assert_eq!(connections(limit, listeners, 10_000), connections_each, "{limit:?}");
        }
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = raise();
        assert_eq!(
            (limit, limit),
            (getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum)
        );
    }
}
