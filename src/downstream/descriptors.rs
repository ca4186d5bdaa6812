//! How many connections there are descriptors for.

use log::warn;
use rustix::process::{Resource, getrlimit, setrlimit};

use super::limits::{Limits, max_open};

/// Descriptors that one connection takes: two of `tiny_http`'s, one of ours.
const PER_CONNECTION: usize = 3;

/// Descriptors of the process that do not depend on the number of connections.
const FD_RESERVE: usize = 16;

/// Raises the limit on descriptors as far as the system allows, and lowers
/// `-max-connections` to what it is enough for, which is logged.
///
/// `per_request`: how many descriptors a request takes beside its client's. `others`: how many are
/// needed for something else.
///
/// # Errors
/// There are not enough for a single connection, in words for the user.
pub fn fit(limits: Limits, per_request: usize, others: usize) -> Result<Limits, String> {
    raise();
    let wanted = limits.max_connections;
    let Some(Shortage {
        needed,
        descriptors,
    }) = shortage(&limits, per_request, others)
    else {
        return Ok(limits);
    };
    let max_connections = connections_for(descriptors.saturating_sub(others), per_request);
    if max_connections == 0 {
        let least = self::needed(1, per_request).saturating_add(others);
        return Err(format!(
            "cannot start: {least} descriptors are the least, and there are {descriptors} (ulimit -n)"
        ));
    }
    warn!(
        "-max-connections {wanted} needs {needed} descriptors, but there are only {descriptors} \
         (ulimit -n): -max-connections {max_connections} is in force"
    );
    Ok(Limits {
        max_connections,
        ..limits
    })
}

/// Raises the limit on descriptors as far as the system allows.
pub fn raise() {
    let mut nofile = getrlimit(Resource::Nofile);
    nofile.current = nofile.maximum;
    // Where it is not allowed, the limit stays as it is.
    let _ = setrlimit(Resource::Nofile, nofile);
}

/// Fewer descriptors than are needed.
#[derive(Clone, Copy, Debug)]
pub struct Shortage {
    /// How many are needed.
    pub needed: usize,
    /// How many there are.
    pub descriptors: usize,
}

/// Whether there are too few descriptors for these limits; the rest as in [`fit`].
#[must_use]
pub fn shortage(limits: &Limits, per_request: usize, others: usize) -> Option<Shortage> {
    let descriptors = getrlimit(Resource::Nofile).current?;
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let needed = needed(limits.max_connections, per_request).saturating_add(others);
    (needed > descriptors).then_some(Shortage {
        needed,
        descriptors,
    })
}

/// How many descriptors a server with these limits takes for its listener and its clients.
#[must_use]
pub fn of_server(limits: &Limits) -> usize {
    needed(limits.max_connections, 0)
}

/// How many descriptors are needed for that many connections, each with a request.
fn needed(connections: usize, per_request: usize) -> usize {
    max_open(connections)
        .saturating_mul(PER_CONNECTION)
        .saturating_add(connections.saturating_mul(per_request))
        .saturating_add(FD_RESERVE)
}

/// The most connections for which this many descriptors are enough.
fn connections_for(descriptors: usize, per_request: usize) -> usize {
    let are_enough = |connections: &usize| needed(*connections, per_request) <= descriptors;
    (1..descriptors).take_while(are_enough).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_enough_for_so_many_connections_and_no_more() {
        for (descriptors, per_request) in [(64, 2), (256, 2), (1024, 4), (20_000, 9)] {
            let fit = connections_for(descriptors, per_request);
            assert!(needed(fit, per_request) <= descriptors);
            assert!(needed(fit + 1, per_request) > descriptors);
        }
        assert_eq!(connections_for(24, 2), 1);
        assert_eq!(connections_for(23, 2), 0);
    }
}
