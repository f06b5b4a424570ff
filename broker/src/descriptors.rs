//! How many connections the process has file descriptors for.
//!
//! A process usually starts with 1,024 descriptors, and may raise that itself as far as the hard
//! limit goes. What is opened beside connections (files, and the other parts of a site in one
//! process) has a reserve.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors that are no connections.
const RESERVE: u64 = 128;

/// Raises the limit on open files as far as it goes. Returns how many connections there may be: at
/// most `wanted`, and no more than leave room for the rest of the process.
pub(crate) fn raise_for(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = if current == maximum || setrlimit(Resource::Nofile, raised).is_err() {
        current
    } else {
        maximum
    };
    let connections = connections(limit, wanted);
    if connections < wanted {
        let needed = (wanted as u64).saturating_add(RESERVE);
        warn!(
            open_files = limit,
            needed,
            max_connections = wanted,
            connections,
            "the limit on open files allows fewer connections: raise it (`ulimit -Hn`, LimitNOFILE of systemd, `ulimits: nofile` of a container) or lower broker.limits.max_connections"
        );
    }
    connections
}

/// How many of `wanted` connections fit below a limit on open files; `None` is no limit.
fn connections(limit: Option<u64>, wanted: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    // Under a very low limit connections get half of it.
    let room = limit - RESERVE.min(limit / 2);
    usize::try_from(room).map_or(wanted, |room| room.clamp(1, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_other_files() {
        let check = |limit: Option<u64>, wanted: usize, expected: usize| {
            assert_eq!(connections(limit, wanted), expected, "{limit:?} {wanted}");
        };
        check(None, 20_000, 20_000);
        check(Some(1 << 30), 20_000, 20_000);
        check(Some(20_128), 20_000, 20_000);
        check(Some(20_127), 20_000, 19_999);
        check(Some(1_024), 20_000, 896);
        check(Some(1_024), 100, 100);
        check(Some(100), 20_000, 50);
        check(Some(0), 20_000, 1);
    }
}
