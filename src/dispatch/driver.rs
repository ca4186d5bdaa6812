//! The loop of all modes: start the next attempt, or wait for one to end.

use std::sync::Mutex;

use super::attempt::{Attempts, Event};
use super::outcome::Dispatched;
use super::progress::Progress;
use super::run::Run;
use crate::util::lock::lock;

/// The loop of all modes: starts what is due, and waits for something to happen. None if
/// another thread has taken what the request has come to.
pub(super) fn run_attempts(
    run: &Run,
    progress: &Mutex<Progress>,
    attempts: &impl Attempts,
) -> Option<Dispatched> {
    lock(progress).begin(run, attempts);
    while !lock(progress).is_over() {
        match attempts.wait() {
            Event::Ended(ended) => lock(progress).ended(run, ended, attempts),
            Event::Progress => {}
            Event::Nothing => break,
        }
    }
    lock(progress).dispatched(run)
}
