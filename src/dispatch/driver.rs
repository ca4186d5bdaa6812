//! The loop of all modes: start the next attempt, or wait for one to end; and the pause between two
//! rounds.

use std::sync::Mutex;
use std::time::Instant;

use super::attempt::{Attempts, Event};
use super::outcome::Dispatched;
use super::progress::{Next, Progress};
use super::run::RequestRun;
use crate::util::lock::lock;

/// The loop of all modes: starts what is due, and waits for something to happen. None if
/// another thread has taken what the request has come to.
pub(super) fn run_attempts(
    run: &RequestRun,
    progress: &Mutex<Progress>,
    attempts: &impl Attempts,
) -> Option<Dispatched> {
    lock(progress).begin(run, attempts);
    loop {
        let next = lock(progress).next(run);
        match next {
            Next::Wait => match attempts.wait() {
                Event::Finished(ended) => lock(progress).ended(run, ended, attempts),
                Event::Progress => {}
                Event::Nothing => break,
            },
            // No attempt is under way, so no other thread is held, and none changes the progress.
            Next::Pause(end) => {
                complete_best(run, progress, end);
                if run.cancellation.pause_until(end) {
                    break;
                }
                lock(progress).begin_round(run, attempts);
            }
            Next::Over => break,
        }
    }
    lock(progress).dispatched(run)
}

/// A pause until `end` begins. It is time to read what is left of the best answer so far. One that is
/// longer than `-commit-after`, or does not end in time, is given up: its endpoint need not wait, and
/// a later round will bring it again.
fn complete_best(run: &RequestRun, progress: &Mutex<Progress>, end: Instant) {
    let best = lock(progress).best().take();
    if let Some(mut best) = best
        // Not under the lock: the alarm of its attempt may ring, which takes it.
        && best.complete(run.policy().commit_after, end)
    {
        *lock(progress).best() = Some(best);
    }
}
