//! Attempts on the caller's own thread: waiting for the end of one is running it.
//!
//! No thread, no channel; so there is never more than one attempt under way, and an endpoint
//! that is not asked costs nothing.

use std::cell::Cell;

use super::attempt::{Attempt, Attempts, Event, FinishedAttempt};
use super::run::RequestRun;

/// Runs attempts one after the other.
pub(super) struct Serial<'r> {
    run: &'r RequestRun,
    next: Cell<Option<Attempt>>,
}

impl<'r> Serial<'r> {
    pub(super) fn new(run: &'r RequestRun) -> Self {
        Self {
            run,
            next: Cell::new(None),
        }
    }
}

impl Attempts for Serial<'_> {
    fn start(&self, attempt: Attempt) -> Result<(), Box<FinishedAttempt>> {
        self.next.set(Some(attempt));
        Ok(())
    }

    fn wait(&self) -> Event {
        let Some(mut attempt) = self.next.take() else {
            return Event::Nothing;
        };
        let result = self.run.perform(&mut attempt);
        let mut ended = FinishedAttempt::new(attempt, result);
        if let Some(answer) = ended.unwanted(self.run.policy()) {
            answer.discard(&ended.attempt.control);
        }
        Event::Finished(ended)
    }
}
