//! One attempt: a request put to one endpoint, what came of it, and where attempts run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cooldown::Permit;
use super::policy::Policy;
use crate::metrics::AttemptOutcome;
use crate::upstream::control::AttemptControl;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::failure::Failure;
use crate::upstream::response::Response;

/// What identifies an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttemptId {
    /// The endpoint's number.
    pub(super) endpoint: usize,
    /// It was started though another one had not ended.
    pub(super) hedged: bool,
    pub(super) started: Instant,
}

/// One request put to one endpoint.
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) control: Arc<AttemptControl>,
    /// Where failures are counted; `None`: they have been.
    pub(super) permit: Option<Permit>,
}

/// What came of an attempt.
pub(super) struct AttemptResult {
    /// The answer, usable or not. Of one that is not, only where it may still be wanted.
    pub(super) answer: Option<Response>,
    /// Why the answer is not usable.
    pub(super) failure: Option<Failure>,
    /// For how long the endpoint has asked to be left alone, with an answer that is not usable;
    /// zero: it has not.
    pub(super) retry_after: Duration,
    /// The status of an answer, usable or not, and how long its head has taken.
    pub(super) head: Option<(u16, Duration)>,
}

impl AttemptResult {
    pub(super) fn failed(failure: Failure) -> Self {
        Self {
            answer: None,
            failure: Some(failure),
            retry_after: Duration::ZERO,
            head: None,
        }
    }
}

#[cfg(test)]
impl AttemptResult {
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }
}

/// An attempt that has ended.
pub(super) struct FinishedAttempt {
    pub(super) attempt: Attempt,
    pub(super) result: AttemptResult,
    /// How long it has taken.
    pub(super) after: Duration,
}

impl FinishedAttempt {
    /// Counts it: each attempt that was begun comes here once.
    pub(super) fn new(attempt: Attempt, result: AttemptResult) -> Self {
        let counters = &attempt.endpoint.counters;
        let sendings = attempt.control.sendings();
        for _ in 1..sendings {
            counters.resent.add();
        }
        counters.attempt(match (result.head, &result.failure) {
            (Some((status, after)), _) => AttemptOutcome::Head(status, after),
            (None, _) if sendings == 0 => AttemptOutcome::Unsent,
            (None, Some(Failure::Cancelled)) => AttemptOutcome::Cancelled,
            (None, _) => AttemptOutcome::NoHead,
        });
        // A cancel is not the endpoint's failure.
        if let Some(failure) = &result.failure
            && *failure != Failure::Cancelled
        {
            counters.failure(failure.error_type());
        }
        Self {
            after: attempt.id.started.elapsed(),
            attempt,
            result,
        }
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        self.result.failure.as_ref()
    }

    pub(super) fn is_usable(&self) -> bool {
        self.result.answer.is_some() && self.failure().is_none()
    }

    pub(super) fn take_answer(&mut self) -> Option<Response> {
        self.result.answer.take()
    }

    /// The answer, if it is not usable and not wanted for `-on-exhausted best` either.
    pub(super) fn unwanted(&mut self, policy: &Policy) -> Option<Response> {
        if self.failure().is_some() && !policy.keeps_best() {
            self.take_answer()
        } else {
            None
        }
    }
}

/// Where attempts run. Called with the progress locked, but for `wait`.
pub(super) trait Attempts {
    /// Starts an attempt; one that cannot be started has ended.
    fn start(&self, attempt: Attempt) -> Result<(), Box<FinishedAttempt>>;
    /// Waits for an attempt to end. Called on the thread that dispatches.
    fn wait(&self) -> Event;
    /// One that has been started and has not begun, which it does not any more.
    fn withdraw(&self) -> Option<Attempt> {
        None
    }
}

/// What has happened.
#[allow(clippy::large_enum_variant)] // It is moved once.
pub(super) enum Event {
    Finished(FinishedAttempt),
    /// The progress has changed meanwhile.
    Progress,
    /// And nothing will: no attempt is under way.
    Nothing,
}
