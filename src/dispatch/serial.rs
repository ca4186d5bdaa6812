//! Attempts on the caller's own thread: starting one is waiting for its end.
//!
//! No thread, no channel; so there is never more than one attempt under way, and an endpoint
//! that is not asked costs nothing.

use std::time::Instant;

use super::run::{Attempt, Ended, Run};
use super::{Attempts, Event};

/// Runs attempts one after the other.
pub(super) struct Serial<'r, 'e> {
    run: &'r Run<'e>,
    ended: Option<Ended<'e>>,
}

impl<'r, 'e> Serial<'r, 'e> {
    pub(super) fn new(run: &'r Run<'e>) -> Self {
        Self { run, ended: None }
    }
}

impl<'e> Attempts<'e> for Serial<'_, 'e> {
    fn start(&mut self, mut attempt: Attempt<'e>) {
        let result = self.run.perform(&mut attempt);
        let mut ended = Ended::new(attempt, result);
        if let Some(answer) = ended.unwanted(self.run) {
            answer.discard(&ended.attempt.control);
        }
        self.ended = Some(ended);
    }

    fn wait(&mut self, _: Option<Instant>) -> Event<'e> {
        self.ended.take().map_or(Event::Nothing, Event::Ended)
    }
}
