//! Attempts that overlap: the first usable answer wins.
//!
//! Results go down a channel, and the first usable one is taken; exactly one winner leaves this
//! module. The dispatching thread runs an attempt itself, the others get pooled threads. So a
//! hedge that is not needed costs nothing: its time is an alarm of the first attempt's wait.
//! While the dispatching thread is in an attempt, the thread that ends another one takes the
//! results out of the channel in its place, and relays the winner at once.
//!
//! Losers go on beside the relay and for a few milliseconds behind it, in which most of them
//! answer: a cancelled HTTP/1.1 call costs its connection. The thread that has relayed waits
//! for the dispatching thread's attempt, that one for all others; what is left after the grace is
//! cancelled. Only if the relay may take long does a thread of its own see to that.
//! The scope joins all attempts, so one that could not be cancelled would hold the dispatching
//! thread.
//!
//! Cost: one futex wake to start an attempt on a pooled thread, and one each time that a thread
//! has to wait for another one's end; of three attempts that take equally long about two.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::attempt::{Attempt, AttemptId, AttemptResult, Attempts, Event, FinishedAttempt};
use super::driver::run_attempts;
use super::outcome::Dispatched;
use super::progress::Progress;
use super::run::RequestRun;
use crate::http::response::BodyLength;
use crate::upstream::control::AttemptControl;
use crate::upstream::failure::Failure;
use crate::util::io_error::describe;
use crate::util::lock::lock;
use crate::util::thread_pool::{Scope, Spawner};

/// How long losers may go on after the win, at least and at most.
const GRACE: Duration = Duration::from_millis(5);
const MAX_GRACE: Duration = Duration::from_millis(100);

/// Losers have so many times as long as attempts take on the average.
const AVERAGES: u32 = 5;

/// A body in memory that is no longer than this, in bytes, is relayed without waiting: a
/// client's socket has room for it.
const SHORT_BODY: usize = 16 * 1024;

/// Runs the attempts on pooled threads and on the calling one. `relay` is called on one of them.
pub(super) fn dispatch(run: RequestRun, relay: impl FnOnce(Dispatched) + Send + 'static) {
    let scope = run.dispatcher.threads.scope();
    let race = Race::new(run, Box::new(relay), scope.spawner().clone());
    let _ending = Ending(&race);
    if let Some(dispatched) = run_attempts(&race.run, &race.progress, &*race) {
        race.relay(dispatched);
    }
    race.end_losers(&scope);
    // What had failed when another one won has been left there.
    while let Ok(mut ended) = race.received.try_recv() {
        race.run.report(&mut ended);
    }
}

/// Attempts of one request that overlap.
struct Race {
    weak: Weak<Self>,
    run: RequestRun,
    begun: Instant,
    relay: Mutex<Option<Relay>>,
    /// When losers are cancelled.
    grace: OnceLock<Instant>,
    /// Locked before `own` and `losers`.
    progress: Mutex<Progress>,
    spawner: Spawner,
    outcomes: Sender<FinishedAttempt>,
    received: Receiver<FinishedAttempt>,
    /// Changed only while `progress` is locked.
    own: Mutex<OwnAttempt>,
    dispatching: ThreadId,
    won: AtomicBool,
    losers: Mutex<Losers>,
    /// How many attempts are under way that the client's next request does not wait for.
    slow_losers: AtomicUsize,
}

type Relay = Box<dyn FnOnce(Dispatched) + Send>;

/// The attempt on the dispatching thread.
#[allow(clippy::large_enum_variant)] // It is moved once.
enum OwnAttempt {
    Free,
    Next(Attempt),
    Running {
        /// The client's next request waits for it.
        is_prompt: bool,
        /// The thread that has relayed another one's answer, and waits for this one.
        awaited_by: Option<Thread>,
    },
}

/// All that have started, but for the winner.
#[derive(Default)]
struct Losers {
    over: bool,
    controls: Vec<Arc<AttemptControl>>,
}

/// Cancels all attempts in a panic.
struct Ending<'a>(&'a Race);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.cancel_losers();
        }
    }
}

/// Counts an attempt as a slow loser until dropped.
struct SlowLoser(Arc<Race>);

impl Drop for SlowLoser {
    fn drop(&mut self) {
        self.0.slow_losers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Attempts for Race {
    fn start(&self, attempt: Attempt) -> Result<(), Box<FinishedAttempt>> {
        self.enter(&attempt);
        let mut own = lock(&self.own);
        let AttemptId {
            endpoint, started, ..
        } = attempt.id;
        let is_prompt = self.run.list.patience.is_prompt(endpoint, started);
        let may_be_own = thread::current().id() == self.dispatching
            && matches!(*own, OwnAttempt::Free)
            && (is_prompt || !self.run.all_at_once);
        if may_be_own {
            *own = OwnAttempt::Next(attempt);
            return Ok(());
        }
        drop(own);
        self.start_pooled(attempt, is_prompt)
    }

    fn wait(&self) -> Event {
        loop {
            let progress = lock(&self.progress);
            // What has ended is taken first. What ends from now on is taken out of the channel
            // by its own thread, as long as the attempt is running.
            match self.received.try_recv() {
                Ok(ended) => return Event::Finished(ended),
                Err(TryRecvError::Disconnected) => return Event::Nothing,
                Err(TryRecvError::Empty) => {}
            }
            let own = self.begin_own();
            drop(progress);
            match own {
                Some(attempt) => return self.run_own(attempt),
                // The channel's own wait yields the processor several times before it sleeps.
                None => thread::park(),
            }
        }
    }

    fn withdraw(&self) -> Option<Attempt> {
        let mut own = lock(&self.own);
        match mem::replace(&mut *own, OwnAttempt::Free) {
            OwnAttempt::Next(attempt) => Some(attempt),
            other => {
                *own = other;
                None
            }
        }
    }
}

impl Race {
    /// Nothing has been started yet.
    fn new(run: RequestRun, relay: Relay, spawner: Spawner) -> Arc<Self> {
        let (outcomes, received) = bounded(run.endpoints());
        Arc::new_cyclic(|weak| Self {
            weak: Weak::clone(weak),
            begun: Instant::now(),
            progress: Mutex::new(Progress::new(&run)),
            run,
            relay: Mutex::new(Some(relay)),
            grace: OnceLock::new(),
            spawner,
            outcomes,
            received,
            own: Mutex::new(OwnAttempt::Free),
            dispatching: thread::current().id(),
            won: AtomicBool::new(false),
            losers: Mutex::default(),
            slow_losers: AtomicUsize::new(0),
        })
    }

    /// From now on the end of the race is this attempt's end, and it is hedged in time.
    fn enter(&self, attempt: &Attempt) {
        let control = &attempt.control;
        if let Some(after) = self.run.hedge_after {
            let (race, id) = (Weak::clone(&self.weak), attempt.id);
            control.set_alarm(id.started + after, move || {
                if let Some(race) = race.upgrade() {
                    lock(&race.progress).hedge(&race.run, id, &*race);
                }
            });
        }
        let mut losers = lock(&self.losers);
        if losers.over {
            control.cancel();
        }
        losers.controls.push(Arc::clone(control));
    }

    fn start_pooled(&self, attempt: Attempt, is_prompt: bool) -> Result<(), Box<FinishedAttempt>> {
        let reserved = self.spawner.reserve().map_err(|error| describe(&error));
        let (race, reserved) = match (self.weak.upgrade(), reserved) {
            (Some(race), Ok(reserved)) => (race, reserved),
            (_, reserved) => {
                let reason = reserved.err().unwrap_or_default();
                let reason = format!("cannot start a thread: {reason}");
                let result = AttemptResult::failed(Failure::Internal(reason));
                return Err(Box::new(FinishedAttempt::new(attempt, result)));
            }
        };
        let slow_loser = (!is_prompt).then(|| {
            self.slow_losers.fetch_add(1, Ordering::SeqCst);
            SlowLoser(Arc::clone(&race))
        });
        reserved.run(move || {
            race.run_pooled(attempt);
            drop(slow_loser);
        });
        Ok(())
    }

    /// Takes the attempt that is next on the dispatching thread.
    fn begin_own(&self) -> Option<Attempt> {
        let mut own = lock(&self.own);
        if !matches!(*own, OwnAttempt::Next(_)) {
            return None;
        }
        let running = OwnAttempt::Running {
            is_prompt: self.run.all_at_once,
            awaited_by: None,
        };
        match mem::replace(&mut *own, running) {
            OwnAttempt::Next(attempt) => Some(attempt),
            OwnAttempt::Free | OwnAttempt::Running { .. } => None,
        }
    }

    fn run_own(&self, attempt: Attempt) -> Event {
        let mut ended = self.perform(attempt);
        if let Some(ended) = &mut ended
            && let Some(answer) = ended.unwanted(self.run.policy())
        {
            answer.discard(&ended.attempt.control);
        }
        let progress = lock(&self.progress);
        let own = mem::replace(&mut *lock(&self.own), OwnAttempt::Free);
        drop(progress);
        if let OwnAttempt::Running {
            awaited_by: Some(thread),
            ..
        } = own
        {
            thread.unpark();
        }
        ended.map_or(Event::Progress, Event::Finished)
    }

    fn run_pooled(&self, attempt: Attempt) {
        let control = Arc::clone(&attempt.control);
        let Some(mut ended) = self.perform(attempt) else {
            return;
        };
        let unwanted = ended.unwanted(self.run.policy());
        // There is room for one of each endpoint.
        let _ = self.outcomes.send(ended);
        let mut progress = lock(&self.progress);
        let is_busy = matches!(*lock(&self.own), OwnAttempt::Running { .. });
        let won = if is_busy {
            self.take_results(&mut progress)
        } else {
            None
        };
        drop(progress);
        if !is_busy {
            self.spawner.wake_owner();
        }
        if let Some(won) = won {
            self.relay(won);
            self.end_own();
        }
        if let Some(answer) = unwanted {
            answer.discard(&control);
        }
    }

    /// Takes results out of the channel in place of the dispatching thread. Returns the winner,
    /// if there is one.
    fn take_results(&self, progress: &mut Progress) -> Option<Dispatched> {
        while !progress.is_won() {
            let ended = self.received.try_recv().ok()?;
            progress.ended(&self.run, ended, self);
        }
        progress.dispatched(&self.run)
    }

    fn relay(&self, dispatched: Dispatched) {
        let _ending = Ending(self);
        let relaying = self.end_losers_beside(&dispatched);
        let relay = lock(&self.relay).take();
        if let Some(relay) = relay {
            relay(dispatched);
        }
        drop(relaying);
    }

    /// When losers are cancelled. First asked when the winner is known.
    fn grace(&self) -> Instant {
        *self.grace.get_or_init(|| {
            let now = Instant::now();
            let average = self.run.list.patience.average(now);
            let usual = self.begun + average * AVERAGES;
            usual.clamp(now + GRACE, now + MAX_GRACE)
        })
    }

    /// One attempt, on the calling thread. Only the first usable answer comes back as such, and
    /// nothing after it: a loser is seen to here.
    fn perform(&self, mut attempt: Attempt) -> Option<FinishedAttempt> {
        let control = Arc::clone(&attempt.control);
        let result = caught(|| self.run.perform(&mut attempt));
        let mut ended = FinishedAttempt::new(attempt, result);
        self.note_patience(&ended);
        if ended.is_usable() && !self.won.swap(true, Ordering::AcqRel) {
            let mut losers = lock(&self.losers);
            losers
                .controls
                .retain(|other| !Arc::ptr_eq(other, &control));
            return Some(ended);
        }
        if self.won.load(Ordering::Acquire) {
            self.run.report(&mut ended);
            if let Some(answer) = ended.take_answer() {
                answer.discard(&control);
            }
            return None;
        }
        Some(ended)
    }

    fn note_patience(&self, ended: &FinishedAttempt) {
        let patience = &self.run.list.patience;
        let endpoint = ended.attempt.id.endpoint;
        if ended.failure() != Some(&Failure::Cancelled) {
            patience.ended(endpoint, ended.is_usable().then_some(ended.after));
        } else if !self.run.cancellation.is_cancelled() {
            patience.cancelled(endpoint, ended.after);
        }
    }

    /// If the relay may take long, another thread cancels the losers after the grace, unless
    /// what is returned is dropped before.
    fn end_losers_beside(&self, won: &Dispatched) -> Option<Sender<()>> {
        let grace = self.grace();
        let winner = won.answer.as_ref()?;
        let is_short = match winner.answer.in_memory() {
            Some(body) => body.len() <= SHORT_BODY,
            None => winner.answer.length == BodyLength::Bodiless,
        };
        if is_short || !won.attempt_log.has_cancelled() {
            return None;
        }
        let (relaying, relayed) = bounded(0);
        match (self.weak.upgrade(), self.spawner.reserve()) {
            (Some(race), Ok(reserved)) => reserved.run(move || {
                if relayed.recv_deadline(grace) == Err(RecvTimeoutError::Timeout) {
                    race.cancel_losers();
                }
            }),
            _ => self.cancel_losers(),
        }
        Some(relaying)
    }

    /// The answer has been relayed by a pooled thread, this one. Waits for the attempt of the
    /// dispatching thread, which waits for all others then.
    fn end_own(&self) {
        let is_prompt = match &mut *lock(&self.own) {
            OwnAttempt::Running {
                is_prompt,
                awaited_by,
            } => {
                *awaited_by = Some(thread::current());
                *is_prompt
            }
            OwnAttempt::Free | OwnAttempt::Next(_) => return,
        };
        if !is_prompt {
            self.wait_for_next_request();
        }
        while matches!(*lock(&self.own), OwnAttempt::Running { .. }) {
            let left = self.grace().saturating_duration_since(Instant::now());
            if !is_prompt || left.is_zero() {
                return self.cancel_losers();
            }
            thread::park_timeout(left);
        }
    }

    /// The answer has been relayed, or is being relayed by a pooled thread. Losers that are
    /// worth waiting for have the whole grace, the others until the client sends its next
    /// request.
    fn end_losers(&self, scope: &Scope) {
        let slow_losers = || self.slow_losers.load(Ordering::SeqCst);
        scope.wait_until(Some(self.grace()), slow_losers);
        if !scope.is_over() {
            self.wait_for_next_request();
            self.cancel_losers();
        }
    }

    fn wait_for_next_request(&self) {
        let left = self.grace().saturating_duration_since(Instant::now());
        if let Some(client) = self.run.cancellation.client()
            && !left.is_zero()
        {
            let _ = client.wait_for_more(left);
        }
    }

    fn cancel_losers(&self) {
        let mut losers = lock(&self.losers);
        losers.over = true;
        for control in &losers.controls {
            control.cancel();
        }
    }
}

/// A panic is a failure of its attempt only. The hook has logged it.
fn caught(perform: impl FnOnce() -> AttemptResult) -> AttemptResult {
    catch_unwind(AssertUnwindSafe(perform)).unwrap_or_else(|_| {
        AttemptResult::failed(Failure::Internal("the attempt panicked".to_owned()))
    })
}

#[cfg(test)]
mod tests;
