//! What a request has come to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt_log::AttemptLog;
use crate::upstream::control::AttemptControl;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::response::Response;

/// What a request has come to.
pub struct Dispatched {
    /// The winner; if there is none, perhaps the best of the answers that are not usable.
    pub answer: Option<Winner>,
    /// What became of the other attempts.
    pub attempt_log: AttemptLog,
    /// There is no answer and all endpoints are passed over, at least one because it asks for
    /// it: how long it is until the first of them may be asked again.
    pub retry_after: Option<Duration>,
}

/// The answer that is relayed, and its endpoint.
pub struct Winner {
    /// The endpoint that gave it.
    pub endpoint: Arc<Endpoint>,
    /// The answer.
    pub answer: Response,
    /// The attempt was a hedge.
    pub hedged: bool,
    /// It is usable.
    pub usable: bool,
    /// It is not, and is the last choice among those of its status class.
    pub is_last_choice: bool,
    /// For how long its endpoint asks to be left alone with it; zero: it does not.
    pub retry_after: Duration,
    /// The attempt's.
    pub(super) control: Arc<AttemptControl>,
}

impl Winner {
    /// Reads the rest of the body, if it comes until `end` and is no longer than `most` bytes. False:
    /// a part of it is still at the endpoint.
    pub(super) fn complete(&mut self, most: u64, end: Instant) -> bool {
        self.answer.complete(most, end, &self.control)
    }

    /// Of two answers that are not usable: the one of the lower status class; of the same class,
    /// the one that is no last choice; else the one whose endpoint may be asked again first.
    pub(super) fn is_better_than(&self, other: &Self) -> bool {
        let rank = |winner: &Self| {
            let class = winner.answer.head.status / 100;
            (class, winner.is_last_choice, winner.retry_after)
        };
        rank(self) < rank(other)
    }
}
