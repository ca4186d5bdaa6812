//! Deadline and cancellation of one attempt.
//!
//! The starter of an attempt holds a [`AttemptControl`] and may cancel from any thread;
//! the attempt's own thread registers with it whatever it is about to wait for.
//! Cancelling shuts the registered sockets down **under the lock** under which they
//! are registered, so a late cancel can never hit a connection that has gone back
//! to the pool and serves another request by now.
//!
//! Cost: an uncontended mutex, locked twice a wait; no descriptor, no thread.

use std::fmt;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::failure::{Failure, Timeout};
use crate::util::client_watch::ClientWatch;
use crate::util::io_error::describe;
use crate::util::lock::lock;
use crate::util::poll::poll_until;

/// When waiting ends.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// At this instant, whatever was received until then.
    Until(Instant, Timeout),
    /// After this long without a byte.
    Each(Duration),
}

impl Limit {
    /// The earlier one of the two.
    #[must_use]
    pub fn or_before(self, at: Instant, timeout: Timeout) -> Self {
        match self {
            Self::Until(mine, _) if mine <= at => self,
            _ => Self::Until(at, timeout),
        }
    }

    /// The instant at which a wait that begins now ends, and what has timed out then.
    #[must_use]
    pub fn instant(self) -> (Instant, Timeout) {
        match self {
            Self::Until(at, timeout) => (at, timeout),
            Self::Each(duration) => (Instant::now() + duration, Timeout::Read(duration)),
        }
    }
}

/// Deadline and cancellation of one attempt, shared between the attempt and what cancels it.
#[derive(Debug)]
pub struct AttemptControl {
    /// All attempts of the request.
    request: Arc<RequestCancellation>,
    /// Set while `state` is locked.
    cancelled: AtomicBool,
    state: Mutex<State>,
    sendings: AtomicU32,
}

/// Called once, under the lock.
struct Waker(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

#[derive(Debug)]
struct State {
    limit: Limit,
    /// What a cancel shuts down: a connection in use, or all that are being dialled.
    sockets: Vec<Arc<TcpStream>>,
    /// What a cancel calls: the attempt waits for something that is no socket.
    waker: Option<Waker>,
    alarm: Option<Alarm>,
}

/// Something to be done while the attempt waits.
struct Alarm {
    at: Instant,
    ring: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alarm").field(&self.at).finish()
    }
}

impl AttemptControl {
    /// For an attempt of `request` that may run until `limit`.
    #[must_use]
    pub fn new(request: &Arc<RequestCancellation>, limit: Limit) -> Arc<Self> {
        let control = Arc::new(Self {
            request: Arc::clone(request),
            cancelled: AtomicBool::new(false),
            state: Mutex::new(State {
                limit,
                sockets: Vec::new(),
                waker: None,
                alarm: None,
            }),
            sendings: AtomicU32::new(0),
        });
        request.add(&control);
        control
    }

    /// Ends the attempt wherever it is; it returns [`Failure::Cancelled`] at once.
    pub fn cancel(&self) {
        let mut state = self.lock();
        self.cancelled.store(true, Ordering::SeqCst);
        for socket in state.sockets.drain(..) {
            // Fails where the peer was faster: then there is nothing to end.
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(Waker(wake)) = state.waker.take() {
            wake();
        }
    }

    /// The first part of the request is being sent, on a connection that is another one each time.
    pub(super) fn note_sending(&self) {
        self.sendings.fetch_add(1, Ordering::Relaxed);
    }

    /// On how many connections at least a part of the request was sent.
    #[must_use]
    pub fn sendings(&self) -> u32 {
        self.sendings.load(Ordering::Relaxed)
    }

    /// From now on the attempt's waits end at `limit`.
    pub fn set_limit(&self, limit: Limit) {
        self.lock().limit = limit;
    }

    /// If the attempt still waits for something at `at`, its thread calls `ring` then, once,
    /// and goes on waiting.
    pub fn set_alarm(&self, at: Instant, ring: impl FnOnce() + Send + 'static) {
        let ring = Box::new(ring);
        self.lock().alarm = Some(Alarm { at, ring });
    }

    /// When a wait until `at` has to be interrupted for [`AttemptControl::ring_if_due`].
    #[must_use]
    pub fn wake_time(&self, at: Instant) -> Instant {
        let state = self.lock();
        state.alarm.as_ref().map_or(at, |alarm| alarm.at.min(at))
    }

    /// Does what the alarm asks for, if its time has come.
    pub fn ring_if_due(&self) {
        let now = Instant::now();
        let due = self.lock().alarm.take_if(|alarm| alarm.at <= now);
        // Not under the lock: it may cancel this attempt.
        if let Some(alarm) = due {
            (alarm.ring)();
        }
    }

    /// The limit in force.
    #[must_use]
    pub fn limit(&self) -> Limit {
        self.lock().limit
    }

    /// [`Failure::Cancelled`] once [`AttemptControl::cancel`] was called.
    pub fn check(&self) -> Result<(), Failure> {
        if self.cancelled.load(Ordering::SeqCst) {
            Err(Failure::Cancelled)
        } else {
            Ok(())
        }
    }

    /// What a wait would have noticed, for an attempt that has something to read at any time.
    ///
    /// # Errors
    /// It was cancelled, its limit has passed, or the client has gone.
    pub fn check_in_passing(&self) -> Result<(), Failure> {
        self.ring_if_due();
        self.request.check_client();
        self.check()?;
        match self.limit() {
            Limit::Until(at, timeout) if at <= Instant::now() => Err(Failure::Timeout(timeout)),
            Limit::Until(..) | Limit::Each(_) => Ok(()),
        }
    }

    /// From now on a cancel shuts `socket` down.
    pub fn register(&self, socket: &Arc<TcpStream>) -> Result<(), Failure> {
        let mut state = self.lock();
        self.check()?;
        state.sockets.push(Arc::clone(socket));
        Ok(())
    }

    /// From now on a cancel leaves `socket` alone.
    pub fn release(&self, socket: &Arc<TcpStream>) {
        self.lock()
            .sockets
            .retain(|registered| !Arc::ptr_eq(registered, socket));
    }

    /// From now on a cancel calls `wake`, which must not wait.
    pub fn register_waker(&self, wake: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
        let mut state = self.lock();
        self.check()?;
        state.waker = Some(Waker(Box::new(wake)));
        Ok(())
    }

    /// From now on a cancel wakes nothing.
    pub fn release_waker(&self) {
        self.lock().waker = None;
    }

    /// Waits until `socket` is ready for one of `events`, and returns for which.
    pub fn wait(&self, socket: &TcpStream, events: PollFlags) -> Result<PollFlags, Failure> {
        self.wait_until(socket, events, None)
    }

    /// The same, but not longer than until `at`; then it is ready for nothing.
    pub fn wait_until(
        &self,
        socket: &TcpStream,
        events: PollFlags,
        at: Option<Instant>,
    ) -> Result<PollFlags, Failure> {
        let (end, timeout) = self.limit().instant();
        let first = at.map_or(end, |at| at.min(end));
        let socket = PollFd::from_borrowed_fd(socket.as_fd(), events);
        let ready = if let Some(client) = self.request.client() {
            let mut fds = [socket, client.poll_fd()];
            self.poll(&mut fds, first)?.then(|| fds[0].revents())
        } else {
            let mut fds = [socket];
            self.poll(&mut fds, first)?.then(|| fds[0].revents())
        };
        self.check()?;
        match ready {
            Some(ready) => Ok(ready),
            None if first < end => Ok(PollFlags::empty()),
            None => Err(Failure::Timeout(timeout)),
        }
    }

    /// Polls until something is ready (`true`) or `at` has passed (`false`). The last one of
    /// `fds` is the client's, if it is watched: if it goes away, its request is cancelled.
    pub fn poll(&self, fds: &mut [PollFd<'_>], at: Instant) -> Result<bool, Failure> {
        let ready = loop {
            let first = self.wake_time(at);
            if poll_until(fds, first).map_err(|error| Failure::Internal(describe(&error)))? {
                break true;
            }
            if first == at {
                break false;
            }
            self.ring_if_due();
        };
        if ready
            && let Some(client) = self.request.client()
            && let Some(fd) = fds.last()
            && client.is_gone(fd.revents())
        {
            self.request.cancel();
        }
        Ok(ready)
    }

    /// The request that this is an attempt of.
    #[must_use]
    pub fn request(&self) -> &RequestCancellation {
        &self.request
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Cancels all attempts of one request together, once its client has gone away.
#[derive(Debug, Default)]
pub struct RequestCancellation {
    client: Option<ClientWatch>,
    state: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    cancelled: bool,
    controls: Vec<Weak<AttemptControl>>,
}

impl RequestCancellation {
    /// That of a request of this client, which whatever waits for an endpoint watches.
    #[must_use]
    pub fn new(client: ClientWatch) -> Arc<Self> {
        Arc::new(Self {
            client: Some(client),
            state: Mutex::default(),
        })
    }

    /// The client, if it is watched.
    #[must_use]
    pub fn client(&self) -> Option<&ClientWatch> {
        self.client.as_ref()
    }

    /// From now on a cancel of the request cancels this attempt; at once, if it has
    /// been cancelled before.
    fn add(&self, control: &Arc<AttemptControl>) {
        let mut running = self.lock();
        if running.cancelled {
            control.cancel();
        }
        running.controls.push(Arc::downgrade(control));
    }

    /// Cancels all attempts, those to come included.
    pub fn cancel(&self) {
        let mut running = self.lock();
        running.cancelled = true;
        for control in running.controls.drain(..) {
            if let Some(control) = control.upgrade() {
                control.cancel();
            }
        }
    }

    /// Looks once whether the client has gone away, and cancels the request then.
    pub fn check_client(&self) -> bool {
        if self.client.as_ref().is_some_and(ClientWatch::has_gone) {
            self.cancel();
        }
        self.is_cancelled()
    }

    /// Waits until `end`, while no attempt is under way. Once the client has gone away, the
    /// request is cancelled and the wait over. Whether it has been cancelled.
    #[must_use]
    pub fn pause_until(&self, end: Instant) -> bool {
        match &self.client {
            Some(client) if client.wait_until_gone(end) => self.cancel(),
            Some(_) => {}
            None => {
                let _ = poll_until(&mut [], end);
            }
        }
        self.is_cancelled()
    }

    /// Whether the request has been cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        lock(&self.state)
    }
}
