//! What a client may take: sizes, numbers, times. Pure rules; time comes in as a parameter.

use std::time::{Duration, Instant};

use crate::http::request::RequestLimits;

/// A client that sends a body or takes an answer more slowly than this, in bytes a second,
/// makes no progress: one byte now and then must not hold a thread.
pub(super) const MINIMUM_RATE: u64 = 240;

/// With the table full, the rate of a body or an answer is judged over this span.
pub(super) const JUDGED_OVER: Duration = Duration::from_millis(500);

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub max_connections: usize,
    /// Requests that are worked on at once.
    pub workers: usize,
    /// A request's head, in bytes.
    pub max_header: u64,
    /// A request's body, in bytes.
    pub max_body: u64,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// From the first byte of a head to its end.
    pub header_timeout: Duration,
    /// Without progress in sending a body or in taking an answer.
    pub client_timeout: Duration,
    /// A client that has closed its sending side is still answered.
    pub half_close: bool,
}

/// Descriptors that one connection takes: two of `tiny_http`'s, one of ours.
const PER_CONNECTION: usize = 3;

/// Descriptors of the process that do not depend on the number of connections.
const FD_RESERVE: usize = 16;

impl Limits {
    /// How many connections there may be, with those that are refused or on their way out.
    pub(super) fn max_open(&self) -> usize {
        max_open(self.max_connections)
    }

    /// How many descriptors are needed for that many connections, each with a request that
    /// takes `per_request`.
    #[must_use]
    pub fn descriptors(connections: usize, per_request: usize) -> usize {
        max_open(connections)
            .saturating_mul(PER_CONNECTION)
            .saturating_add(connections.saturating_mul(per_request))
            .saturating_add(FD_RESERVE)
    }

    /// The most connections, but at least one, for which this many descriptors are enough.
    #[must_use]
    pub fn connections_for(descriptors: usize, per_request: usize) -> usize {
        let (mut enough, mut too_many) = (1, descriptors.max(2));
        while too_many - enough > 1 {
            let between = usize::midpoint(enough, too_many);
            if Self::descriptors(between, per_request) <= descriptors {
                enough = between;
            } else {
                too_many = between;
            }
        }
        enough
    }

    /// How large a request may be.
    pub(super) fn sizes(&self) -> RequestLimits {
        RequestLimits {
            head: self.max_header,
            body: self.max_body,
        }
    }
}

fn max_open(connections: usize) -> usize {
    connections.saturating_add((connections / 8).clamp(1, 64))
}

/// How long a client may still keep a thread waiting.
///
/// Waiting uses it up, each byte that moves gives 1/240 s back, and it never exceeds
/// `-client-timeout`: a stall ends after exactly that time, and so, in the long run, does a
/// trickle below the minimum rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    most: Duration,
    left: Duration,
}

impl Patience {
    pub(super) fn new(most: Duration) -> Self {
        Self { most, left: most }
    }

    /// When a wait that begins at `now` has to end.
    pub(super) fn deadline(self, now: Instant) -> Instant {
        // An instant that cannot be represented is one that never comes.
        now.checked_add(self.left)
            .unwrap_or_else(|| now + Duration::from_secs(1 << 30))
    }

    /// Takes in a wait of `waited` after which `bytes` had moved.
    pub(super) fn waited(&mut self, waited: Duration, bytes: u64) {
        let earned = Duration::from_nanos(bytes.saturating_mul(1_000_000_000 / MINIMUM_RATE));
        self.left = self
            .left
            .saturating_sub(waited)
            .saturating_add(earned)
            .min(self.most);
    }

    pub(super) fn is_over(self) -> bool {
        self.left.is_zero()
    }

    /// The whole of it.
    pub(super) fn most(self) -> Duration {
        self.most
    }
}

/// Whether a transfer that has moved `bytes` in `elapsed` is too slow for a full table.
pub(super) fn crawls(elapsed: Duration, bytes: u64) -> bool {
    let wanted = u64::try_from(elapsed.as_millis())
        .unwrap_or(u64::MAX)
        .saturating_mul(MINIMUM_RATE)
        / 1000;
    bytes < wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn descriptors_are_enough_for_so_many_connections_and_no_more() {
        for (descriptors, per_request) in [(64, 2), (256, 2), (1024, 4), (20_000, 9)] {
            let fit = Limits::connections_for(descriptors, per_request);
            assert!(Limits::descriptors(fit, per_request) <= descriptors);
            assert!(Limits::descriptors(fit + 1, per_request) > descriptors);
        }
        assert_eq!(Limits::connections_for(8, 2), 1);
    }

    #[test]
    fn a_stall_ends_after_the_whole_time_whatever_moved_before() {
        let mut patience = Patience::new(SECOND * 30);
        patience.waited(SECOND * 29, 0);
        assert!(!patience.is_over());
        patience.waited(SECOND / 10, 1 << 30);
        let now = Instant::now();
        assert_eq!(patience.deadline(now), now + SECOND * 30);
        patience.waited(SECOND * 30, 0);
        assert!(patience.is_over());
    }

    #[test]
    fn a_trickle_below_the_minimum_rate_ends_and_one_above_does_not() {
        for (rate, ends) in [(1, true), (120, true), (240, false), (10_000, false)] {
            let mut patience = Patience::new(SECOND * 5);
            // The bytes of each second come at its end.
            let over = (0..1000).any(|_| {
                let is_late = patience.left < SECOND;
                patience.waited(SECOND, rate);
                is_late
            });
            assert_eq!(over, ends, "{rate} B/s");
        }
    }

    #[test]
    fn one_byte_a_second_ends_hardly_later_than_none() {
        let mut patience = Patience::new(SECOND * 2);
        patience.waited(SECOND, 1);
        patience.waited(SECOND, 1);
        assert!(patience.left < SECOND / 100);
    }

    #[test]
    fn a_crawl_is_judged_over_half_a_second() {
        assert!(crawls(JUDGED_OVER, 119));
        assert!(!crawls(JUDGED_OVER, 120));
        assert!(crawls(SECOND * 10, 2399));
    }
}
