//! What a client may take its time with: pure rules, time comes from outside.
//!
//! `tiny_http` reads heads and bodies without limits and without time-outs. From
//! outside, the kernel's counters tell how a connection gets on.

use std::time::{Duration, Instant};

use super::Stage;
use super::socket::Traffic;

/// A client that sends a body or takes an answer more slowly than this, in bytes a
/// second, makes no progress: one byte now and then must not keep a worker.
const MINIMUM_RATE: u64 = 240;

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
    phase: Phase,
    /// Requests until the last look.
    admitted: u64,
}

#[derive(Debug)]
enum Phase {
    /// No request is in flight.
    Between {
        since: Instant,
        /// Bytes received until then.
        received: u64,
        /// When a head was seen to have begun.
        head: Option<Instant>,
    },
    /// A body is being received, or an answer sent.
    Moving {
        stage: Stage,
        /// Since then this many bytes have to have moved.
        since: Instant,
        moved: u64,
    },
    /// It is our turn.
    Ours,
}

impl Clock {
    /// The clock of a connection that was found now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Between {
                since: now,
                received: 0,
                head: None,
            },
            admitted: 0,
        }
    }

    /// A look at the connection: the stage of its foremost request, if there is one,
    /// how many there have been, and what has moved. Tells which limit has been reached.
    pub fn look(
        &mut self,
        now: Instant,
        stage: Option<Stage>,
        admitted: u64,
        traffic: Traffic,
        limits: &Limits,
    ) -> Option<Reached> {
        if std::mem::replace(&mut self.admitted, admitted) != admitted {
            // A request may have come and gone since the last look.
            self.phase = Phase::Ours;
        }
        match stage {
            None => self.between(now, traffic, limits),
            Some(Stage::Receiving) => {
                let moved = traffic.received;
                self.moving(now, Stage::Receiving, moved, limits)
                    .then_some(Reached::SlowBody)
            }
            Some(Stage::Sending) if traffic.pending => {
                let moved = traffic.acknowledged;
                self.moving(now, Stage::Sending, moved, limits)
                    .then_some(Reached::SlowReader)
            }
            Some(Stage::Sending | Stage::Queued | Stage::Asking) => {
                self.phase = Phase::Ours;
                None
            }
        }
    }

    /// Whether nothing has come since the last request ended.
    #[must_use]
    pub fn is_idle(&self, traffic: Traffic) -> bool {
        matches!(self.phase, Phase::Between { received, .. } if received == traffic.received)
    }

    /// Whether a head has begun and has not come to its end.
    #[must_use]
    pub fn has_begun_a_head(&self) -> bool {
        matches!(self.phase, Phase::Between { head: Some(_), .. })
    }

    fn between(&mut self, now: Instant, traffic: Traffic, limits: &Limits) -> Option<Reached> {
        let Phase::Between {
            since,
            received,
            head,
        } = &mut self.phase
        else {
            self.phase = Phase::Between {
                since: now,
                received: traffic.received,
                head: None,
            };
            return None;
        };
        let head_length = traffic.received.saturating_sub(*received);
        if head_length == 0 {
            let idle = now.saturating_duration_since(*since) >= limits.idle_timeout;
            return idle.then_some(Reached::Idle);
        }
        if head_length > limits.max_header {
            return Some(Reached::LargeHead);
        }
        let head = *head.get_or_insert(now);
        let slow = now.saturating_duration_since(head) >= limits.header_timeout;
        slow.then_some(Reached::SlowHead)
    }

    fn moving(&mut self, now: Instant, in_stage: Stage, total: u64, limits: &Limits) -> bool {
        if let Phase::Moving {
            stage,
            since,
            moved,
        } = self.phase
            && stage == in_stage
        {
            let elapsed = now.saturating_duration_since(since);
            if elapsed < limits.client_timeout {
                return false;
            }
            let wanted = MINIMUM_RATE.saturating_mul(elapsed.as_secs().max(1));
            if total.saturating_sub(moved) < wanted {
                return true;
            }
        }
        self.phase = Phase::Moving {
            stage: in_stage,
            since: now,
            moved: total,
        };
        false
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
                finished: false,
                received: *received,
                acknowledged: *acknowledged,
                pending: true,
            };
            let now = start + Duration::from_secs(*second);
            found = clock.look(now, *stage, 0, traffic, &LIMITS);
        }
        found
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
            assert_eq!(clock.look(now, None, admitted, traffic, &LIMITS), None);
        }
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
                clock.look(now, Some(Stage::Sending), 0, quiet, &LIMITS),
                None
            );
        }
    }
}
