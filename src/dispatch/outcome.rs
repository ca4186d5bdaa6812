//! What a request has come to.

use std::sync::Arc;

use super::trail::Trail;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::response::Response;

/// What a request has come to.
pub struct Dispatched {
    /// The winner; if there is none, perhaps the best of the answers that are not usable.
    pub answer: Option<Winner>,
    /// What became of the other attempts.
    pub trail: Trail,
}

/// The answer that is relayed, and its endpoint.
pub struct Winner {
    /// The endpoint that gave it.
    pub endpoint: Arc<Endpoint>,
    /// The answer.
    pub answer: Response,
    /// The attempt was a hedge.
    pub hedged: bool,
    /// Its status is terminal.
    pub usable: bool,
}

impl Winner {
    /// Of two answers that are not usable: the one of the lower status class.
    pub(super) fn is_better_than(&self, other: &Self) -> bool {
        self.answer.head.status / 100 < other.answer.head.status / 100
    }
}
