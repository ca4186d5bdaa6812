//! Attempts on threads of their own: several may be under way, and the first usable answer
//! wins.
//!
//! Exactly one winner leaves this module. It is relayed while the losers end. The scope
//! joins them, so a loser must not take long: the winner's thread cancels them a few
//! milliseconds after the win. Those few milliseconds are for losers that are about to
//! answer: a cancelled HTTP/1.1 call costs its connection.
//!
//! Cost: a thread per attempt.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::run::{Attempt, Ended, Performed, Run};
use super::{Attempts, Dispatched, Event, pursue};
use crate::upstream::control::Control;
use crate::upstream::failure::Failure;
use crate::util::io_error::describe;

/// How long losers may go on after the win.
const GRACE: Duration = Duration::from_millis(5);

pub(super) fn dispatch<'e, R>(run: &Run<'e>, relay: impl FnOnce(Dispatched<'e>) -> R) -> R {
    let (outcomes, received) = bounded(run.endpoints());
    let (running, ended) = bounded(0);
    let race = Race {
        run,
        field: Mutex::default(),
        won: AtomicBool::new(false),
        ended,
    };
    thread::scope(|scope| {
        let mut threads = Threads {
            scope,
            race: &race,
            outcomes,
            received,
            running,
        };
        let dispatched = pursue(run, &mut threads);
        // What is left of `running` now belongs to losers.
        drop(threads);
        let relayed = relay(dispatched);
        race.end_with_the_next_request();
        relayed
    })
}

/// Starts attempts on threads of a scope, and hears of their ends.
struct Threads<'scope, 'env, 'e> {
    scope: &'scope Scope<'scope, 'env>,
    race: &'scope Race<'scope, 'e>,
    outcomes: Sender<Ended<'e>>,
    received: Receiver<Ended<'e>>,
    running: Sender<()>,
}

impl<'scope, 'e: 'scope> Attempts<'e> for Threads<'scope, '_, 'e> {
    fn start(&mut self, attempt: Attempt<'e>) {
        let (race, outcomes, running) = (self.race, self.outcomes.clone(), self.running.clone());
        race.enter(&attempt.control);
        let name = format!("attempt-{}", attempt.mark.endpoint);
        // What a thread that could not be started was to take along.
        let place = Arc::new(Mutex::new(Some(attempt)));
        let taken = Arc::clone(&place);
        let take = |place: &Mutex<Option<Attempt<'e>>>| {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            place.take()
        };
        let spawned = thread::Builder::new()
            .name(name)
            .spawn_scoped(self.scope, move || {
                if let Some(attempt) = take(&taken) {
                    race.attempt(attempt, &outcomes, running);
                }
            });
        if let Err(error) = spawned
            && let Some(attempt) = take(&place)
        {
            let reason = format!("cannot start a thread: {}", describe(&error));
            let result = Performed::failed(Failure::Internal(reason));
            // There is room for one of each endpoint.
            let _ = self.outcomes.send(Ended::new(attempt, result));
        }
    }

    fn wait(&mut self, until: Option<Instant>) -> Event<'e> {
        // What has ended is heard of first, even where the time is up.
        let ended = match until {
            Some(until) => self.received.recv_deadline(until),
            None => self.received.recv().map_err(RecvTimeoutError::from),
        };
        match ended {
            Ok(ended) => Event::Ended(ended),
            Err(RecvTimeoutError::Timeout) => Event::TimeIsUp,
            Err(RecvTimeoutError::Disconnected) => Event::Nothing,
        }
    }
}

struct Race<'r, 'e> {
    run: &'r Run<'e>,
    field: Mutex<Field>,
    won: AtomicBool,
    /// Disconnected once all attempts but the winner's have ended.
    ended: Receiver<()>,
}

/// All that have started.
#[derive(Default)]
struct Field {
    over: bool,
    controls: Vec<Arc<Control>>,
}

impl<'e> Race<'_, 'e> {
    /// From now on the end of the race is this attempt's end, too.
    fn enter(&self, control: &Arc<Control>) {
        let mut field = self.field.lock().unwrap_or_else(PoisonError::into_inner);
        if field.over {
            control.cancel();
        }
        field.controls.push(Arc::clone(control));
    }

    /// One attempt, on its own thread. Only a usable answer is sent as such, and only
    /// the first one; after the win nothing is sent at all.
    fn attempt(&self, mut attempt: Attempt<'e>, outcomes: &Sender<Ended<'e>>, running: Sender<()>) {
        let performed = catch_unwind(AssertUnwindSafe(|| self.run.perform(&mut attempt)));
        let performed = performed.unwrap_or_else(|_| {
            // The hook has written it down. Without a word the caller would wait for ever.
            Performed::failed(Failure::Internal("the attempt panicked".to_owned()))
        });
        let mut ended = Ended::new(attempt, performed);
        let control = Arc::clone(&ended.attempt.control);
        if ended.is_usable() && !self.won.swap(true, Ordering::AcqRel) {
            // Fails where the caller's thread has panicked: then nobody waits for it.
            let _ = outcomes.send(ended);
            drop(running);
            self.end_losers(&control);
            return;
        }
        if self.won.load(Ordering::Acquire) {
            self.run.report(&mut ended);
            if let Some(answer) = ended.take_answer() {
                answer.discard(&control);
            }
            return;
        }
        let unwanted = ended.unwanted(self.run);
        let _ = outcomes.send(ended);
        if let Some(answer) = unwanted {
            answer.discard(&control);
        }
    }

    fn end_losers(&self, winner: &Arc<Control>) {
        if self.ended.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
            self.cancel_all_but(Some(winner));
        }
    }

    fn cancel_all_but(&self, winner: Option<&Arc<Control>>) {
        let mut field = self.field.lock().unwrap_or_else(PoisonError::into_inner);
        field.over = true;
        for control in &field.controls {
            if !winner.is_some_and(|winner| Arc::ptr_eq(control, winner)) {
                control.cancel();
            }
        }
    }

    /// The answer has been relayed. A client that sends its next request at once does not
    /// wait for the losers of this one.
    fn end_with_the_next_request(&self) {
        let ended = self.ended.try_recv() != Err(TryRecvError::Empty);
        let client = self.run.cancellation.client();
        if !ended && client.is_some_and(|client| client.wait_for_more(GRACE)) {
            self.cancel_all_but(None);
        }
    }
}
