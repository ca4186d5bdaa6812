//! Fan-out: every endpoint is asked at once, the first usable answer wins.
//!
//! Exactly one outcome leaves this module. The winner is relayed while the losers
//! end. The scope joins them, so a loser must not take long: the winner's thread
//! cancels them a few milliseconds after the win. Those few milliseconds are for
//! losers that are about to answer: a cancelled HTTP/1.1 call costs its connection.
//!
//! Cost: a thread per attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::{Run, Winner, log_failure};
use crate::control::Control;
use crate::endpoint::{Endpoint, Outcome};
use crate::failure::{Failure, describe};

/// How long losers may go on after the win.
const GRACE: Duration = Duration::from_millis(5);

pub(super) fn dispatch<R>(
    run: &Run<'_>,
    endpoints: &[Endpoint],
    relay: impl FnOnce(Option<Winner<'_>>) -> R,
) -> R {
    let (outcomes, received) = bounded(endpoints.len());
    let (running, ended) = bounded(0);
    let race = Race {
        run,
        controls: endpoints.iter().map(|_| run.control()).collect(),
        won: AtomicBool::new(false),
        ended,
    };
    thread::scope(|scope| {
        for (endpoint, control) in endpoints.iter().zip(&race.controls) {
            let (race, outcomes, running) = (&race, outcomes.clone(), running.clone());
            let spawned = thread::Builder::new()
                .name(format!("attempt-{}", endpoint.index))
                .spawn_scoped(scope, move || {
                    race.attempt(endpoint, control, &outcomes, running);
                });
            if let Err(error) = spawned {
                let reason = format!("cannot start a thread: {}", describe(&error));
                log_failure(endpoint, &Failure::Internal(reason));
            }
        }
        drop((outcomes, running));
        for (endpoint, outcome) in received {
            match outcome {
                Ok(answer) => return relay(Some(Winner { endpoint, answer })),
                Err(failure) => log_failure(endpoint, &failure),
            }
        }
        relay(None)
    })
}

struct Race<'a> {
    run: &'a Run<'a>,
    controls: Vec<Arc<Control>>,
    won: AtomicBool,
    /// Disconnected once all attempts but the winner's have ended.
    ended: Receiver<()>,
}

impl Race<'_> {
    /// One attempt, on its own thread. Only a usable answer is sent as such, and only
    /// the first one; after the win nothing is sent at all.
    fn attempt<'e>(
        &self,
        endpoint: &'e Endpoint,
        control: &Arc<Control>,
        outcomes: &Sender<(&'e Endpoint, Outcome)>,
        running: Sender<()>,
    ) {
        let outcome = endpoint.attempt(self.run.request, control);
        if self.run.is_usable(&outcome) && !self.won.swap(true, Ordering::AcqRel) {
            // Fails where the caller's thread has panicked: then nobody waits for it.
            let _ = outcomes.send((endpoint, outcome));
            drop(running);
            self.end_losers(control);
            return;
        }
        let failure = match &outcome {
            Ok(answer) => Failure::Status(answer.head.status),
            Err(failure) => failure.clone(),
        };
        if !self.won.load(Ordering::Acquire) {
            let _ = outcomes.send((endpoint, Err(failure)));
        }
        if let Ok(answer) = outcome {
            answer.discard(control);
        }
    }

    fn end_losers(&self, winner: &Arc<Control>) {
        if self.ended.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
            for control in &self.controls {
                if !Arc::ptr_eq(control, winner) {
                    control.cancel();
                }
            }
        }
    }
}
