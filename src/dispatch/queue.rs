//! The endpoints that a request may still be put to, and which one is next.
//!
//! Always: within a round no endpoint comes twice, and one that is passed over comes only if all
//! are; over all rounds there are no more than `-max-tries`. Each round goes through the endpoints
//! in the order of the first one.
//!
//! Time comes in from outside. Cost: no allocation unless an endpoint is passed over.

use std::num::NonZeroU32;
use std::time::Instant;

use super::cooldown::{Claim, Cooldown};
use super::order::Sequence;

/// The endpoints that a request may still be put to.
#[derive(Debug)]
pub(super) struct Queue {
    sequence: Sequence,
    /// Those of this round that are passed over. They are asked all the same if no other one was.
    passed_over: Vec<usize>,
    regardless: std::vec::IntoIter<usize>,
    /// One has been asked in this round.
    is_any_asked: bool,
    /// One has been asked.
    has_begun: bool,
    tries_left: u32,
    closed: bool,
}

impl Queue {
    /// The endpoints in this order; no more than `max_tries` over all rounds.
    pub(super) fn new(sequence: Sequence, max_tries: Option<NonZeroU32>) -> Self {
        Self {
            sequence,
            passed_over: Vec::new(),
            regardless: Vec::new().into_iter(),
            is_any_asked: false,
            has_begun: false,
            tries_left: max_tries.map_or(u32::MAX, NonZeroU32::get),
            closed: false,
        }
    }

    /// No further endpoint, in no round.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// There is no further endpoint, in no round.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// An endpoint has been asked.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// All endpoints once more.
    pub(super) fn begin_round(&mut self) {
        self.sequence.restart();
        self.passed_over.clear();
        self.regardless = Vec::new().into_iter();
        self.is_any_asked = false;
    }

    /// The next endpoint, and where its failures are counted.
    pub(super) fn next(&mut self, cooldown: &Cooldown, now: Instant) -> Option<(usize, Claim)> {
        if self.closed {
            return None;
        }
        let next = self.next_of(cooldown, now)?;
        self.is_any_asked = true;
        self.has_begun = true;
        self.tries_left = self.tries_left.saturating_sub(1);
        self.closed = self.tries_left == 0;
        Some(next)
    }

    fn next_of(&mut self, cooldown: &Cooldown, now: Instant) -> Option<(usize, Claim)> {
        for index in self.sequence.by_ref() {
            if let Some(claim) = cooldown.claim(index, now) {
                return Some((index, claim));
            }
            self.passed_over.push(index);
        }
        if !self.is_any_asked {
            self.regardless = std::mem::take(&mut self.passed_over).into_iter();
        }
        let index = self.regardless.next()?;
        Some((index, cooldown.claim_regardless(index)?))
    }
}

#[cfg(test)]
mod tests;
