//! One attempt's reins: how long it may take, and how it is cancelled.
//!
//! Whoever started an attempt holds a [`Control`] and may cancel from any thread;
//! the attempt's own thread registers with it whatever it is about to wait for.
//! Cancelling shuts the registered sockets down **under the lock** under which they
//! are registered, so a late cancel can never hit a connection that has gone back
//! to the pool and serves another request by now.
//!
//! Cost: one uncontended mutex per wait, no descriptor, no thread.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::failure::{Failure, Timeout, describe};
use crate::resolver::Lookup;

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

/// The reins of one attempt. Shared between the attempt and whoever may cancel it.
#[derive(Debug)]
pub struct Control {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cancelled: bool,
    limit: Limit,
    /// What a cancel shuts down: a connection in use, or all that are being dialled.
    sockets: Vec<Arc<TcpStream>>,
    /// Whom a cancel tells: the attempt waits for a name look-up.
    lookup: Option<Sender<Lookup>>,
}

impl Control {
    /// Reins that let the attempt run until `limit`.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        Self {
            state: Mutex::new(State {
                cancelled: false,
                limit,
                sockets: Vec::new(),
                lookup: None,
            }),
        }
    }

    /// Ends the attempt wherever it is; it returns [`Failure::Cancelled`] at once.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        for socket in state.sockets.drain(..) {
            // Fails where the peer was faster: then there is nothing to end.
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(lookup) = state.lookup.take() {
            let _ = lookup.try_send(Err(Failure::Cancelled));
        }
    }

    /// From now on the attempt's waits end at `limit`.
    pub fn set_limit(&self, limit: Limit) {
        self.lock().limit = limit;
    }

    /// The limit in force.
    #[must_use]
    pub fn limit(&self) -> Limit {
        self.lock().limit
    }

    /// [`Failure::Cancelled`] once [`Control::cancel`] was called.
    pub fn check(&self) -> Result<(), Failure> {
        if self.lock().cancelled {
            Err(Failure::Cancelled)
        } else {
            Ok(())
        }
    }

    /// From now on a cancel shuts `socket` down.
    pub fn register(&self, socket: &Arc<TcpStream>) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.cancelled {
            return Err(Failure::Cancelled);
        }
        state.sockets.push(Arc::clone(socket));
        Ok(())
    }

    /// From now on a cancel leaves `socket` alone.
    pub fn release(&self, socket: &Arc<TcpStream>) {
        self.lock()
            .sockets
            .retain(|registered| !Arc::ptr_eq(registered, socket));
    }

    /// From now on a cancel answers the look-up that the attempt waits for.
    pub fn register_lookup(&self, lookup: Sender<Lookup>) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.cancelled {
            return Err(Failure::Cancelled);
        }
        state.lookup = Some(lookup);
        Ok(())
    }

    /// From now on a cancel leaves the look-up alone.
    pub fn release_lookup(&self) {
        self.lock().lookup = None;
    }

    /// Waits until `socket` is ready for one of `events`, and tells for which.
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
        let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), events)];
        let ready = wait_until(&mut fds, first)?;
        self.check()?;
        if ready {
            Ok(fds[0].revents())
        } else if first < end {
            Ok(PollFlags::empty())
        } else {
            Err(Failure::Timeout(timeout))
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls until something is ready (`true`) or `at` has passed (`false`).
pub fn wait_until(fds: &mut [PollFd<'_>], at: Instant) -> Result<bool, Failure> {
    loop {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(Failure::Internal(describe(&errno.into()))),
        }
    }
}

/// All attempts of one request: cancelled together when its client has gone away.
#[derive(Debug, Default)]
pub struct Attempts {
    state: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    cancelled: bool,
    controls: Vec<Weak<Control>>,
}

impl Attempts {
    /// From now on a cancel of the request cancels this attempt; at once, if it has
    /// been cancelled before.
    pub fn add(&self, control: &Arc<Control>) {
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

    /// Whether [`Attempts::cancel`] was called.
    #[must_use]
    pub fn are_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
