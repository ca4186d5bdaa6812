//! What a client may take its time with: pure rules, time comes from outside.
//!
//! `tiny_http` reads heads and bodies without limits and without time-outs. From
//! outside, the kernel's counters tell how a connection gets on.

use std::time::{Duration, Instant};

use super::socket::Traffic;
use super::{Progress, Stage};

/// A client that sends a body or takes an answer more slowly than this, in bytes a
/// second, makes no progress: one byte now and then must not keep a worker.
const MINIMUM_RATE: u64 = 240;

/// A client that has been that slow for this long crawls: it goes when others wait for
/// its worker.
const CRAWLS_AFTER: Duration = Duration::from_millis(500);

/// A head that has grown by more than this, in bytes, since the last look may be one
/// that does not end.
const GROWS_FAST: u64 = 4 * 1024;

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub max_connections: usize,
    /// A request's head, in bytes.
    pub max_header: u64,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// From the first byte of a head to its end.
    pub header_timeout: Duration,
    /// Without progress in sending a body or in taking an answer.
    pub client_timeout: Duration,
}

/// Which limit a client has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reached {
    /// `-idle-timeout`
    Idle,
    /// `-header-timeout`
    SlowHead,
    /// `-max-header`
    LargeHead,
    /// `-client-timeout`, sending
    SlowBody,
    /// `-client-timeout`, receiving
    SlowReader,
}

/// One connection's clock.
#[derive(Debug)]
pub struct Clock {
    /// The foremost request's stage at the last look, and since when.
    stage: Option<Stage>,
    since: Instant,
    /// Requests until the last look.
    admitted: u64,
    /// The bytes of the requests so far: what has been read beyond them is the head of
    /// the next one.
    consumed: u64,
    /// How much of the next head had been read at the last look.
    head_length: u64,
    grows_fast: bool,
    /// When it was seen to have begun, with no request in flight.
    head_begun: Option<Instant>,
    /// How a body or an answer gets on, by `-client-timeout`.
    pace: Pace,
    /// The same, by [`CRAWLS_AFTER`].
    short_pace: Pace,
    crawls: bool,
}

/// Whether enough moves, in one span after the other.
#[derive(Debug, Default)]
struct Pace {
    /// When the span began, and how many bytes had moved until then.
    begun: Option<(Instant, u64)>,
}

impl Pace {
    /// Takes in how many bytes have moved by now. At the end of a span: whether they were
    /// too few.
    fn is_slow(&mut self, now: Instant, total: u64, span: Duration) -> Option<bool> {
        let Some((since, moved)) = self.begun else {
            self.begun = Some((now, total));
            return None;
        };
        let elapsed = now.saturating_duration_since(since);
        if elapsed < span {
            return None;
        }
        let wanted = MINIMUM_RATE.saturating_mul(elapsed.as_secs().max(1));
        let is_slow = total.saturating_sub(moved) < wanted;
        if !is_slow {
            self.begun = Some((now, total));
        }
        Some(is_slow)
    }
}

impl Clock {
    /// The clock of a connection that was found now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            stage: None,
            since: now,
            admitted: 0,
            consumed: 0,
            head_length: 0,
            grows_fast: false,
            head_begun: None,
            pace: Pace::default(),
            short_pace: Pace::default(),
            crawls: false,
        }
    }

    /// A look at the connection: how far its requests have come, and what has moved.
    /// Tells which limit has been reached.
    pub fn look(
        &mut self,
        now: Instant,
        progress: Progress,
        traffic: Traffic,
        limits: &Limits,
    ) -> Option<Reached> {
        let stage = progress.stage;
        let is_new = (stage, progress.admitted) != (self.stage, self.admitted);
        if is_new {
            (self.stage, self.admitted) = (stage, progress.admitted);
            self.since = now;
            self.head_begun = None;
            self.rests();
        }
        self.consumed = match progress.consumed {
            Some(consumed) => consumed,
            None if is_new => traffic.read(),
            None => self.consumed,
        };
        let head_length = traffic.read().saturating_sub(self.consumed);
        self.grows_fast = head_length > self.head_length + GROWS_FAST;
        self.head_length = head_length;
        let most = match stage {
            // A body is no head, however large. What follows it has not been read yet.
            Some(Stage::Receiving) => u64::MAX,
            // This may be the request's own head.
            Some(Stage::Queued) => 2 * limits.max_header,
            _ => limits.max_header,
        };
        if head_length > most {
            return Some(Reached::LargeHead);
        }
        match stage {
            None => self.between(now, limits),
            Some(Stage::Receiving) => self
                .has_stopped(now, traffic.received, limits)
                .then_some(Reached::SlowBody),
            Some(Stage::Sending) if traffic.pending => self
                .has_stopped(now, traffic.acknowledged, limits)
                .then_some(Reached::SlowReader),
            Some(Stage::Sending | Stage::Queued | Stage::Asking) => {
                self.rests();
                None
            }
        }
    }

    /// Whether nothing has come since the last request ended.
    #[must_use]
    pub fn is_idle(&self, traffic: Traffic) -> bool {
        self.stage.is_none() && self.consumed >= traffic.received
    }

    /// How long a head has been on its way, if one is and no request is in flight.
    #[must_use]
    pub fn head_begun_for(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.head_begun?))
    }

    /// Whether a head has got so much longer since the look before that the next look
    /// should not wait.
    #[must_use]
    pub fn grows_fast(&self) -> bool {
        self.grows_fast
    }

    /// Whether a body or an answer has hardly moved lately.
    #[must_use]
    pub fn crawls(&self) -> bool {
        self.crawls
    }

    /// How long the connection has been in the stage of the last look.
    #[must_use]
    pub fn in_stage_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    fn between(&mut self, now: Instant, limits: &Limits) -> Option<Reached> {
        if self.head_length == 0 {
            self.head_begun = None;
            let idle = now.saturating_duration_since(self.since) >= limits.idle_timeout;
            return idle.then_some(Reached::Idle);
        }
        let begun = *self.head_begun.get_or_insert(now);
        let slow = now.saturating_duration_since(begun) >= limits.header_timeout;
        slow.then_some(Reached::SlowHead)
    }

    fn has_stopped(&mut self, now: Instant, total: u64, limits: &Limits) -> bool {
        let crawls = self.short_pace.is_slow(now, total, CRAWLS_AFTER);
        self.crawls = crawls.unwrap_or(self.crawls);
        self.pace.is_slow(now, total, limits.client_timeout) == Some(true)
    }

    /// Nothing is expected to move.
    fn rests(&mut self) {
        (self.pace, self.short_pace) = (Pace::default(), Pace::default());
        self.crawls = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_connections: 10,
        max_header: 1000,
        idle_timeout: Duration::from_secs(60),
        header_timeout: Duration::from_secs(10),
        client_timeout: Duration::from_secs(30),
    };

    /// Looks at a new connection: (second, stage, received, acknowledged), and what
    /// comes of the last look. None of the looks before it may find anything.
    fn last_look(looks: &[(u64, Option<Stage>, u64, u64)]) -> Option<Reached> {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let mut found = None;
        for (second, stage, received, acknowledged) in looks {
            assert_eq!(found, None, "too early, before {second} s");
            let traffic = Traffic {
                received: *received,
                acknowledged: *acknowledged,
                pending: true,
                ..Traffic::default()
            };
            let now = start + Duration::from_secs(*second);
            found = clock.look(now, progress(*stage, 0, None), traffic, &LIMITS);
        }
        found
    }

    fn progress(stage: Option<Stage>, admitted: u64, consumed: Option<u64>) -> Progress {
        Progress {
            stage,
            first: None,
            admitted,
            consumed,
        }
    }

    #[test]
    fn a_connection_may_be_idle_for_a_while() {
        assert_eq!(last_look(&[(59, None, 0, 0)]), None);
        assert_eq!(last_look(&[(60, None, 0, 0)]), Some(Reached::Idle));
        // Idle time counts from the end of the last request.
        let busy = Some(Stage::Asking);
        assert_eq!(
            last_look(&[(1, busy, 90, 0), (50, None, 90, 0), (109, None, 90, 0)]),
            None
        );
        assert_eq!(
            last_look(&[(1, busy, 90, 0), (50, None, 90, 0), (110, None, 90, 0)]),
            Some(Reached::Idle)
        );
    }

    #[test]
    fn a_head_has_to_come_to_its_end() {
        assert_eq!(last_look(&[(20, None, 1, 0), (29, None, 9, 0)]), None);
        assert_eq!(
            last_look(&[(20, None, 1, 0), (25, None, 2, 0), (30, None, 3, 0)]),
            Some(Reached::SlowHead)
        );
    }

    #[test]
    fn a_head_must_not_be_too_large() {
        assert_eq!(last_look(&[(1, None, 1000, 0)]), None);
        assert_eq!(last_look(&[(1, None, 1001, 0)]), Some(Reached::LargeHead));
        // The head before and its body do not count.
        let busy = Some(Stage::Receiving);
        assert_eq!(
            last_look(&[(1, busy, 5000, 0), (2, None, 9000, 0), (3, None, 10_000, 0)]),
            None
        );
    }

    #[test]
    fn a_request_between_two_looks_is_no_head() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        for admitted in 0..5 {
            let traffic = Traffic {
                received: 1_000_000 * admitted,
                ..Traffic::default()
            };
            let now = start + Duration::from_secs(50 * admitted);
            let progress = progress(None, admitted, None);
            assert_eq!(clock.look(now, progress, traffic, &LIMITS), None);
        }
    }

    /// Looks at a connection of whose one request 100 bytes are known to be: (second,
    /// stage, read, unread).
    fn last_look_behind(looks: &[(u64, Option<Stage>, u64, u64)]) -> Option<Reached> {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let mut found = None;
        for (second, stage, read, unread) in looks {
            assert_eq!(found, None, "too early, before {second} s");
            let traffic = Traffic {
                received: read + unread,
                unread: *unread,
                ..Traffic::default()
            };
            let now = start + Duration::from_secs(*second);
            found = clock.look(now, progress(*stage, 1, Some(100)), traffic, &LIMITS);
        }
        found
    }

    #[test]
    fn a_head_behind_a_request_must_not_be_too_large() {
        for stage in [Stage::Asking, Stage::Sending] {
            assert_eq!(last_look_behind(&[(0, Some(stage), 1100, 0)]), None);
            assert_eq!(
                last_look_behind(&[(0, Some(stage), 1101, 0)]),
                Some(Reached::LargeHead)
            );
            // What nobody has read takes no memory of ours.
            assert_eq!(last_look_behind(&[(0, Some(stage), 100, 9000)]), None);
        }
    }

    #[test]
    fn a_head_that_has_begun_before_the_answer_was_sent_has_its_time_from_then_on() {
        assert_eq!(
            last_look_behind(&[
                (0, Some(Stage::Asking), 105, 0),
                (20, Some(Stage::Sending), 105, 0),
                (21, None, 105, 0),
                (30, None, 105, 0),
                (31, None, 106, 0),
            ]),
            Some(Reached::SlowHead)
        );
    }

    #[test]
    fn a_body_has_to_get_on() {
        let stage = Some(Stage::Receiving);
        let enough = 30 * MINIMUM_RATE;
        assert_eq!(last_look(&[(0, stage, 5, 0), (29, stage, 5, 0)]), None);
        assert_eq!(
            last_look(&[(0, stage, 5, 0), (30, stage, 5 + enough - 1, 0)]),
            Some(Reached::SlowBody)
        );
        assert_eq!(
            last_look(&[(0, stage, 5, 0), (30, stage, 5 + enough, 0)]),
            None
        );
        assert_eq!(
            last_look(&[
                (0, stage, 5, 0),
                (30, stage, 5 + enough, 0),
                (60, stage, 5 + enough, 0)
            ]),
            Some(Reached::SlowBody)
        );
    }

    #[test]
    fn an_answer_has_to_be_taken() {
        let stage = Some(Stage::Sending);
        let enough = 30 * MINIMUM_RATE;
        assert_eq!(
            last_look(&[(0, stage, 5, 7), (30, stage, 5, 7)]),
            Some(Reached::SlowReader)
        );
        assert_eq!(
            last_look(&[(0, stage, 5, 7), (30, stage, 5, 7 + enough)]),
            None
        );
    }

    #[test]
    fn who_hardly_moves_crawls_until_he_moves() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let table = [
            (0, 1, false),
            (499, 1, false),
            (500, 1, true),
            (900, 200, true),
            (950, 2000, false),
            (1449, 2000, false),
            (1450, 2239, true),
        ];
        for (millis, acknowledged, crawls) in table {
            let traffic = Traffic {
                acknowledged,
                pending: true,
                ..Traffic::default()
            };
            let now = start + Duration::from_millis(millis);
            let progress = progress(Some(Stage::Sending), 1, Some(0));
            assert_eq!(clock.look(now, progress, traffic, &LIMITS), None);
            assert_eq!(clock.crawls(), crawls, "at {millis} ms");
        }
        // It has its whole answer now, and the endpoint is slow.
        let progress = progress(Some(Stage::Sending), 1, Some(0));
        let now = start + Duration::from_secs(9);
        assert_eq!(clock.look(now, progress, Traffic::default(), &LIMITS), None);
        assert!(!clock.crawls());
    }

    #[test]
    fn the_endpoint_s_time_is_not_the_client_s() {
        let table = [Stage::Queued, Stage::Asking];
        for stage in table {
            assert_eq!(
                last_look(&[(0, Some(stage), 5, 0), (1000, Some(stage), 5, 0)]),
                None
            );
        }
        // Sending, with nothing to be sent: an event stream between two events.
        let mut clock = Clock::new(Instant::now());
        let quiet = Traffic::default();
        for second in [0, 1000] {
            let now = Instant::now() + Duration::from_secs(second);
            assert_eq!(
                clock.look(now, progress(Some(Stage::Sending), 0, None), quiet, &LIMITS),
                None
            );
        }
    }
}
