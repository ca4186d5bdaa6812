//! What is counted while requests are served: numbers, and no words around them.
//!
//! `proxy` and `dispatch` count here, `monitor` reads; a folder of its own, because those two must
//! not import the monitor and the monitor imports them. Everything counts from the start of the
//! process on and is never reset.
//!
//! Cost: an atomic addition, without an order among them, for each number: about ten a request. No
//! lock and no allocation, but for the first request of a method. A reader sees each number by
//! itself: of two that are counted together it may see one a moment before the other.

mod counter;
mod endpoint;
mod histogram;

use std::time::Duration;

pub use counter::{Counter, StatusCounts};
pub use endpoint::{AttemptOutcome, EndpointCounters, REASONS};
pub use histogram::{Distribution, Histogram};

/// Methods that are counted by their names (RFC 9110 9.3); all others are [`OTHER_METHOD`]. So
/// the number of series has a bound.
pub const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE",
];

/// Stands for every method that is not in [`METHODS`].
pub const OTHER_METHOD: &str = "OTHER";

/// The status code under which a request is counted that was not answered since its client went
/// away: nginx's. An endpoint may answer with it, too.
pub const CLIENT_GONE: u16 = 499;

/// Why a request was refused without being put to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The request is malformed or ambiguous, or its body broke off.
    Malformed = 0,
    /// `CONNECT`
    Method,
    /// The head or the body came too slowly.
    Timeout,
    /// The body is too large.
    Body,
    /// An unknown expectation.
    Expectation,
    /// The head is too large.
    Head,
    /// Too many connections.
    Connections,
    /// Too many requests at once.
    Workers,
    /// Not HTTP/1.
    Version,
    /// It has come in a loop.
    Loop,
    /// This process has failed.
    Internal,
}

/// What the members of [`Refusal`] are called, in their order.
pub const REFUSALS: [&str; 11] = [
    "malformed",
    "method",
    "timeout",
    "body_size",
    "expectation",
    "head_size",
    "connections",
    "workers",
    "version",
    "loop",
    "internal",
];

/// What is counted for all endpoints together.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests by method; in each by the status code of the answer.
    requests: [std::sync::OnceLock<Box<StatusCounts>>; METHODS.len() + 1],
    /// From the first byte of a request to the end of its answer.
    pub duration: Histogram,
    /// Requests for which no endpoint had a usable answer.
    pub exhausted: Counter,
    /// Requests whose client went away, or that `-drain` cut off, before it had the whole answer.
    pub clients_gone: Counter,
    /// Those among them of which nothing was answered.
    pub gone_unanswered: Counter,
    refused: [Counter; REFUSALS.len()],
    /// Attempts that were started because another one had failed.
    pub retries: Counter,
    /// Attempts that were started because another one took too long.
    pub hedges: Counter,
    /// Requests that were hedged and answered by an attempt that was no hedge.
    pub originals_won: Counter,
    /// Requests that were answered by a hedge.
    pub hedges_won: Counter,
    /// Hedges that were due and that the budget held back.
    pub hedges_held_back: Counter,
}

impl Metrics {
    /// Counts a request that has ended. `status`: of the answer, or [`CLIENT_GONE`].
    pub fn request(&self, method: &str, status: u16, after: Duration) {
        let known = METHODS.iter().position(|known| *known == method);
        if let Some(counts) = self.requests.get(known.unwrap_or(METHODS.len())) {
            counts.get_or_init(Box::default).add(status);
        }
        self.duration.record(after);
    }

    /// Requests by method and status code, without those of which there were none.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u16, u64)> {
        let methods = METHODS.into_iter().chain([OTHER_METHOD]);
        let counted = methods.zip(&self.requests);
        counted.flat_map(|(method, counts)| {
            let counts = counts.get().into_iter();
            let counts = counts.flat_map(|counts| counts.iter());
            counts.map(move |(status, count)| (method, status, count))
        })
    }

    /// Counts a request that is refused.
    pub fn refuse(&self, refusal: Refusal) {
        if let Some(counter) = self.refused.get(refusal as usize) {
            counter.add();
        }
    }

    /// Requests that were refused, by their reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = self.refused.iter().map(Counter::get);
        REFUSALS.into_iter().zip(counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_method_and_status() {
        let metrics = Metrics::default();
        for (method, status) in [
            ("GET", 200),
            ("POST", 503),
            ("GET", 200),
            ("PROPFIND", 207),
            ("get", 200),
            ("TRACE", 999),
        ] {
            metrics.request(method, status, Duration::from_millis(1));
        }
        let counted: Vec<_> = metrics.requests().collect();
        let wanted = [
            ("GET", 200, 2),
            ("POST", 503, 1),
            ("TRACE", 999, 1),
            (OTHER_METHOD, 200, 1),
            (OTHER_METHOD, 207, 1),
        ];
        assert_eq!(counted, wanted);
        assert_eq!(metrics.duration.read().count(), 6);
    }

    #[test]
    fn each_refusal_has_its_name() {
        let metrics = Metrics::default();
        metrics.refuse(Refusal::Malformed);
        metrics.refuse(Refusal::Internal);
        metrics.refuse(Refusal::Internal);
        metrics.refuse(Refusal::Workers);
        let counted = metrics.refused().filter(|(_, count)| *count > 0);
        let wanted = [("malformed", 1), ("workers", 1), ("internal", 2)];
        assert_eq!(counted.collect::<Vec<_>>(), wanted);
    }
}
