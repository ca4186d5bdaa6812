//! The endpoints that a request may still be put to, and which one is next.
//!
//! A round goes through the endpoints, then through the backups, then through those endpoints that
//! are passed over if all of them are, and at last through such backups if all endpoints are passed
//! over. The next of these stages begins only when nothing is under way, so a backup is asked only
//! when no other endpoint has a usable answer, and is never a hedge.
//!
//! Always: within a round no endpoint comes twice; over all rounds there are no more than
//! `-max-tries`, and each attempt that sends the request once more makes it one less. Each round
//! has the order of the first one.
//!
//! Time comes in from outside. Cost: no allocation unless an endpoint is passed over.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use super::cooldown::{Cooldown, Permit};
use super::order::{Ranking, Sequence};

/// The endpoints that a request may still be put to.
#[derive(Debug)]
pub(super) struct Queue {
    stage: Stage,
    endpoints: Tier,
    /// Those that are asked when no other endpoint has a usable answer. None: not yet needed.
    backups: Option<Tier>,
    /// One has been asked.
    has_begun: bool,
    closed: bool,
}

/// A part of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Endpoints,
    Backups,
    /// Those that are passed over.
    EndpointsRegardless,
    BackupsRegardless,
}

/// What is known of all endpoints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) ranking: &'a Ranking,
    pub(super) cooldown: &'a Cooldown,
    pub(super) tries: &'a Tries,
}

/// How often a request may still be sent.
#[derive(Debug)]
pub(super) struct Tries {
    left: AtomicU32,
    ended: AtomicBool,
}

impl Tries {
    /// None: there is no limit.
    pub(super) fn new(max_tries: Option<NonZeroU32>) -> Self {
        Self {
            left: AtomicU32::new(max_tries.map_or(u32::MAX, NonZeroU32::get)),
            ended: AtomicBool::new(false),
        }
    }

    /// Takes one, if one is left.
    pub(super) fn take(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        let order = Ordering::Relaxed;
        !self.have_ended() && self.left.fetch_update(order, order, less).is_ok()
    }

    /// So many that were taken have not been used.
    pub(super) fn give_back(&self, number: u32) {
        self.left.fetch_add(number, Ordering::Relaxed);
    }

    /// From now on none is left.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether another attempt has won.
    pub(super) fn have_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn are_used_up(&self) -> bool {
        self.have_ended() || self.left.load(Ordering::Relaxed) == 0
    }
}

/// What is under way when the next endpoint is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    Others,
    /// An attempt that takes too long.
    Slow,
}

impl Queue {
    /// The endpoints in this order.
    pub(super) fn new(sequence: Sequence) -> Self {
        Self {
            stage: Stage::Endpoints,
            endpoints: Tier::new(sequence),
            backups: None,
            has_begun: false,
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

    /// Nothing can follow before what is under way has ended. Where that is not sure, it is false.
    pub(super) fn has_to_wait(&self, beside: Beside) -> bool {
        match beside {
            Beside::Nothing => false,
            Beside::Slow if self.closed || self.stage.is_of_backups() => true,
            Beside::Others | Beside::Slow => {
                self.stage == Stage::Endpoints && self.endpoints.sequence.is_used_up()
            }
        }
    }

    /// Beside an attempt that takes too long another one could start now.
    pub(super) fn has_another(&self, known: Known<'_>, now: Instant) -> bool {
        let mut left = self.endpoints.sequence.clone();
        !self.has_to_wait(Beside::Slow)
            && !known.tries.are_used_up()
            && left.any(|index| known.cooldown.passed_over(index, now).is_none())
    }

    /// All endpoints once more.
    pub(super) fn begin_round(&mut self) {
        self.stage = Stage::Endpoints;
        self.endpoints.restart();
        if let Some(backups) = &mut self.backups {
            backups.restart();
        }
    }

    /// The next endpoint, and where its failures are counted.
    pub(super) fn next(
        &mut self,
        known: Known<'_>,
        now: Instant,
        beside: Beside,
    ) -> Option<(usize, Permit)> {
        if self.closed || self.has_to_wait(beside) || known.tries.are_used_up() {
            return None;
        }
        let next = loop {
            if let Some(next) = self.next_of_stage(known, now) {
                break next;
            }
            if beside != Beside::Nothing {
                return None;
            }
            self.stage = self.stage.next()?;
        };
        let is_left = known.tries.take();
        self.has_begun |= is_left;
        self.closed = known.tries.are_used_up();
        is_left.then_some(next)
    }

    fn next_of_stage(&mut self, known: Known<'_>, now: Instant) -> Option<(usize, Permit)> {
        let endpoints = &mut self.endpoints;
        if self.stage == Stage::Endpoints {
            return endpoints.next(known.cooldown, now);
        }
        let backups = self
            .backups
            .get_or_insert_with(|| Tier::new(known.ranking.backups(now)));
        match self.stage {
            Stage::Endpoints => None,
            Stage::Backups => backups.next(known.cooldown, now),
            Stage::EndpointsRegardless if endpoints.is_any_asked => None,
            Stage::EndpointsRegardless => endpoints.next_regardless(known.cooldown),
            Stage::BackupsRegardless if endpoints.is_any_asked || backups.is_any_asked => None,
            Stage::BackupsRegardless => backups.next_regardless(known.cooldown),
        }
    }
}

impl Stage {
    fn is_of_backups(self) -> bool {
        matches!(self, Self::Backups | Self::BackupsRegardless)
    }

    fn next(self) -> Option<Self> {
        match self {
            Self::Endpoints => Some(Self::Backups),
            Self::Backups => Some(Self::EndpointsRegardless),
            Self::EndpointsRegardless => Some(Self::BackupsRegardless),
            Self::BackupsRegardless => None,
        }
    }
}

/// The backups, or all other endpoints.
#[derive(Debug)]
struct Tier {
    sequence: Sequence,
    /// In this round.
    passed_over: VecDeque<usize>,
    /// One that is not passed over has been asked in this round.
    is_any_asked: bool,
}

impl Tier {
    fn new(sequence: Sequence) -> Self {
        Self {
            sequence,
            passed_over: VecDeque::new(),
            is_any_asked: false,
        }
    }

    fn restart(&mut self) {
        self.sequence.restart();
        self.passed_over.clear();
        self.is_any_asked = false;
    }

    fn next(&mut self, cooldown: &Cooldown, now: Instant) -> Option<(usize, Permit)> {
        for index in self.sequence.by_ref() {
            if let Some(permit) = cooldown.permit(index, now) {
                self.is_any_asked = true;
                return Some((index, permit));
            }
            self.passed_over.push_back(index);
        }
        None
    }

    fn next_regardless(&mut self, cooldown: &Cooldown) -> Option<(usize, Permit)> {
        let index = self.passed_over.pop_front()?;
        Some((index, cooldown.permit_regardless(index)?))
    }
}

#[cfg(test)]
mod tests;
