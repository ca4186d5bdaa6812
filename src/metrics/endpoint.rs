//! What is counted for one endpoint: attempts, once they have ended (`dispatch/attempt.rs`), wins
//! (`dispatch/progress.rs`), ejections (`dispatch/run.rs`), answers that break off in the relay
//! (`proxy/handler.rs`).

use std::time::Duration;

use super::counter::{Counter, StatusCounts};
use super::histogram::Histogram;

/// Why attempts fail, in the words of RFC 9209 2.3.
pub const REASONS: [&str; 32] = [
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
];

/// How an attempt has ended. Each is counted as one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// With a head of this status, after so long.
    Head(u16, Duration),
    /// Without one, though a part of the request was sent.
    NoHead,
    /// It was cancelled when a part of the request had been sent.
    Cancelled,
    /// Nothing of the request was sent, for whatever reason.
    Unsent,
}

/// What is counted for one endpoint: 16 KiB.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    /// Attempts that were answered, by the status code.
    pub statuses: StatusCounts,
    /// Attempts of which a part was sent and that got no head.
    pub no_head: Counter,
    /// Attempts of which a part was sent and that were cancelled before there was a head.
    pub cancelled: Counter,
    /// Attempts of which nothing was sent.
    pub unsent: Counter,
    /// How often attempts have sent the request once more, on another connection.
    pub resent: Counter,
    /// From the start of an attempt to the head of its answer.
    pub head: Histogram,
    failures: [Counter; REASONS.len()],
    /// Answers that were relayed as usable ones.
    pub wins: Counter,
    /// How often it has been passed over for a while.
    pub ejections: Counter,
}

impl EndpointCounters {
    /// Counts an attempt that has ended.
    pub fn attempt(&self, outcome: AttemptOutcome) {
        match outcome {
            AttemptOutcome::Head(status, after) => {
                self.statuses.add(status);
                self.head.record(after);
            }
            AttemptOutcome::NoHead => self.no_head.add(),
            AttemptOutcome::Cancelled => self.cancelled.add(),
            AttemptOutcome::Unsent => self.unsent.add(),
        }
    }

    /// Counts an attempt without a usable answer, or whose answer has broken off while it was
    /// relayed. `reason`: one of [`REASONS`]; any other word is
    /// counted as `proxy_internal_error`.
    pub fn failure(&self, reason: &str) {
        let place = |word| REASONS.iter().position(|known| *known == word);
        let place = place(reason).or_else(|| place("proxy_internal_error"));
        if let Some(counter) = place.and_then(|place| self.failures.get(place)) {
            counter.add();
        }
    }

    /// Why attempts have failed, without the reasons that have not occurred.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = self.failures.iter().map(Counter::get);
        let counted = REASONS.into_iter().zip(counters);
        counted.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_is_counted_once() {
        let counters = EndpointCounters::default();
        let milli = Duration::from_millis(1);
        for outcome in [
            AttemptOutcome::Head(200, milli),
            AttemptOutcome::Head(503, milli),
            AttemptOutcome::NoHead,
            AttemptOutcome::Cancelled,
            AttemptOutcome::Unsent,
        ] {
            counters.attempt(outcome);
        }
        let statuses: Vec<_> = counters.statuses.iter().collect();
        assert_eq!(statuses, [(200, 1), (503, 1)]);
        let others = [&counters.no_head, &counters.cancelled, &counters.unsent];
        assert_eq!(others.map(Counter::get), [1; 3]);
        assert_eq!(counters.head.read().count(), 2);
    }

    #[test]
    fn a_word_that_is_not_known_is_an_internal_error() {
        let counters = EndpointCounters::default();
        for reason in ["connection_refused", "no such word", "connection_refused"] {
            counters.failure(reason);
        }
        let failures: Vec<_> = counters.failures().collect();
        let wanted = [("connection_refused", 2), ("proxy_internal_error", 1)];
        assert_eq!(failures, wanted);
    }
}
