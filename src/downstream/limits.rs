//! What a client may take: sizes, numbers, times (idle, head, body, answer). Pure rules; time comes
//! in as a parameter. `session` waits for heads, also for the first byte (idle), `body` for bodies,
//! `connection` for the client in the middle of a body or an answer. The defaults are in
//! `config/flags/clients.rs`.

use std::time::{Duration, Instant};

use crate::http::request::RequestLimits;

/// A client that sends a body or takes an answer more slowly than this, in bytes a second,
/// makes no progress: one byte now and then must not hold a thread.
const MINIMUM_RATE: u64 = 240;

/// With the table full, the rate of a body or an answer is judged over this span.
pub(super) const RATE_SPAN: Duration = Duration::from_millis(500);

/// Why a connection is refused beyond `-max-connections`.
pub const TOO_MANY: &str = "too many connections (-max-connections)";

/// Why a connection is refused where no thread can be had for it.
pub const TOO_FEW_THREADS: &str = "too few threads (limits of the user or the container)";

/// What clients may take.
#[derive(Clone, Copy, Debug, Default)]
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
    /// It is not logged that connections are closed to make room.
    pub quiet: bool,
    /// No proxy: what is refused has no `Proxy-Status`.
    pub is_origin: bool,
}

impl Limits {
    /// How many connections there may be, with those that are refused or on their way out.
    pub(super) fn max_open(&self) -> usize {
        max_open(self.max_connections)
    }

    /// How large a request may be.
    pub(super) fn sizes(&self) -> RequestLimits {
        RequestLimits {
            head: self.max_header,
            body: self.max_body,
        }
    }
}

/// See [`Limits::max_open`].
pub(super) fn max_open(connections: usize) -> usize {
    connections.saturating_add((connections / 8).clamp(1, 64))
}

/// How long a client may keep a thread waiting in the middle of a body or an answer.
///
/// Two things end it: nothing has moved for `-client-timeout`, or, in a span of that length
/// that was spent waiting, less than the minimum rate has.
#[derive(Clone, Copy, Debug)]
pub(super) struct StallTimer {
    most: Duration,
    /// Waited since something has moved.
    stalled: Duration,
    /// Waited in the current span, and what has moved in it, in bytes.
    waited: Duration,
    moved: u64,
    is_over: bool,
}

impl StallTimer {
    pub(super) fn new(most: Duration) -> Self {
        Self {
            most,
            stalled: Duration::ZERO,
            waited: Duration::ZERO,
            moved: 0,
            is_over: false,
        }
    }

    /// When a wait that begins at `now` has to end.
    pub(super) fn deadline(self, now: Instant) -> Instant {
        let left = self.most.saturating_sub(self.stalled.max(self.waited));
        // An instant that cannot be represented is one that never comes.
        now.checked_add(left)
            .unwrap_or_else(|| now + Duration::from_secs(1 << 30))
    }

    /// Takes in a wait of `waited` at whose end something can be moved, however late that was seen.
    /// What is moved is added next, and decides.
    pub(super) fn add_ready(&mut self, waited: Duration) {
        self.stalled = self.stalled.saturating_add(waited);
        self.waited = self.waited.saturating_add(waited);
    }

    /// Takes in a wait of `waited` after which `bytes` had moved.
    pub(super) fn add(&mut self, waited: Duration, bytes: u64) {
        self.add_ready(waited);
        if bytes > 0 {
            self.stalled = Duration::ZERO;
        }
        self.moved = self.moved.saturating_add(bytes);
        self.is_over |= self.stalled >= self.most;
        if self.waited >= self.most {
            self.is_over |= crawls(self.waited, self.moved);
            self.waited = Duration::ZERO;
            self.moved = 0;
        }
    }

    pub(super) fn is_over(self) -> bool {
        self.is_over
    }

    /// `-client-timeout`
    pub(super) fn most(self) -> Duration {
        self.most
    }
}

/// Whether a transfer that has moved `bytes` in `elapsed` is below the minimum rate.
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
    fn a_stall_ends_after_the_whole_time_whatever_moved_before() {
        let mut timer = StallTimer::new(SECOND * 30);
        timer.add(SECOND * 10, 0);
        timer.add(Duration::ZERO, 1 << 30);
        timer.add(SECOND * 19, 0);
        timer.add(SECOND, 0);
        assert!(!timer.is_over());
        let now = Instant::now();
        assert_eq!(timer.deadline(now), now + SECOND * 10);
        timer.add(SECOND * 10, 0);
        assert!(timer.is_over());
    }

    #[test]
    fn a_wait_that_ends_late_with_something_to_move_is_no_stall() {
        let mut timer = StallTimer::new(SECOND * 30);
        timer.add_ready(SECOND * 31);
        timer.add(Duration::ZERO, 1 << 20);
        assert!(!timer.is_over());
        let now = Instant::now();
        assert_eq!(timer.deadline(now), now + SECOND * 30);
        for bytes in [0, 1] {
            let mut timer = timer;
            timer.add_ready(SECOND * 30);
            timer.add(Duration::ZERO, bytes);
            assert!(timer.is_over(), "nothing, or too little");
        }
    }

    #[test]
    fn a_trickle_below_the_minimum_rate_ends_with_its_span_and_one_above_does_not() {
        for (rate, ends) in [(1, true), (239, true), (240, false), (10_000, false)] {
            let mut timer = StallTimer::new(SECOND * 5);
            for second in 1..100 {
                timer.add(SECOND, rate);
                assert_eq!(timer.is_over(), ends && second >= 5, "{rate} B/s");
            }
        }
    }

    #[test]
    fn a_crawl_is_judged_over_half_a_second() {
        assert!(crawls(RATE_SPAN, 119));
        assert!(!crawls(RATE_SPAN, 120));
        assert!(crawls(SECOND * 10, 2399));
    }
}
