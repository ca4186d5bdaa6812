//! All connections of one listener: which there are, room for a newcomer, and the stop.
//!
//! Which connection makes room is decided in `room`. What waits here for the table to change
//! waits on one condition variable, which each such change notifies, and a request that waits
//! for `-workers` on another. Nothing runs while nothing happens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use log::warn;

use super::connection::{ClientConnection, Cookie, Phase};
use super::limits::{self, Limits, RATE_SPAN};
use super::room::{Room, make_room};
use crate::util::lock::{lock, wait_timeout, wait_timeout_while};

/// How soon another connection is looked for where one has got a request just now.
const RETRY: Duration = Duration::from_millis(1);

/// How long a request waits for another one's end before it is refused (`-workers`): a client
/// that has its answer may send its next request before this process has counted the last
/// one out.
const WORK_WAIT: Duration = Duration::from_millis(50);

/// How often closed connections are reported, at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Table {
    limits: Limits,
    state: Mutex<State>,
    /// Notified of every change of `state`.
    changed: Condvar,
    stopping: AtomicBool,
    /// A newcomer waits for room: the next answer closes its connection.
    wants_room: AtomicBool,
    /// Requests that are worked on.
    working: AtomicUsize,
    /// How many wait to be worked on, whether any do, and what they wait for.
    waiting_for_work: Mutex<usize>,
    work_is_wanted: AtomicBool,
    work_ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Cookie, Entry>,
    /// How many of them count towards `-max-connections`.
    counted: usize,
    /// Handed to `tiny_http`, whose thread has not come for it yet.
    handed_out: Option<Cookie>,
    /// Since when a newcomer has waited for room.
    full_since: Option<Instant>,
    /// Threads that wait for a change. Without one, a change costs no system call.
    waiting: usize,
    report: Report,
}

#[derive(Debug)]
struct Entry {
    connection: Arc<ClientConnection>,
    /// Neither refused nor being closed.
    counts: bool,
}

/// Connections that were closed to make room, and when that was last reported.
#[derive(Debug, Default)]
struct Report {
    closed: usize,
    last: Option<Instant>,
}

/// What to do with a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// There is room, or the proxy stops and takes what is there.
    Admit,
    /// There is none, and none can be made.
    Refuse,
    /// Too many are being refused already.
    Drop,
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            wants_room: AtomicBool::new(false),
            working: AtomicUsize::new(0),
            waiting_for_work: Mutex::default(),
            work_is_wanted: AtomicBool::new(false),
            work_ended: Condvar::new(),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many connections there are, those that are being closed included.
    pub(super) fn open(&self) -> usize {
        lock(&self.state).entries.len()
    }

    /// How many requests are worked on.
    pub(super) fn working(&self) -> usize {
        self.working.load(Ordering::Relaxed)
    }

    /// Takes a connection in that is about to be handed to `tiny_http`.
    pub(super) fn insert(&self, connection: Arc<ClientConnection>) {
        let counts = connection.is_admitted();
        let mut state = lock(&self.state);
        if counts {
            state.counted += 1;
            state.full_since = None;
        }
        state.handed_out = Some(connection.cookie());
        let entry = Entry { connection, counts };
        state.entries.insert(entry.connection.cookie(), entry);
    }

    /// Its thread has come for the connection.
    pub(super) fn pick_up(&self, cookie: Cookie) -> Option<Arc<ClientConnection>> {
        let mut state = lock(&self.state);
        let connection = Arc::clone(&state.entries.get(&cookie)?.connection);
        if state.handed_out == Some(cookie) {
            state.handed_out = None;
            self.notify(state);
        }
        Some(connection)
    }

    pub(super) fn get(&self, cookie: Cookie) -> Option<Arc<ClientConnection>> {
        let state = lock(&self.state);
        Some(Arc::clone(&state.entries.get(&cookie)?.connection))
    }

    pub(super) fn remove(&self, cookie: Cookie) {
        let mut state = lock(&self.state);
        let Some(entry) = state.entries.remove(&cookie) else {
            return;
        };
        state.counted -= usize::from(entry.counts);
        if state.handed_out == Some(cookie) {
            state.handed_out = None;
        }
        self.notify(state);
    }

    fn notify(&self, state: MutexGuard<'_, State>) {
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.changed.notify_all();
        }
    }

    /// Waits for a change, at most so long. Whether the time has passed.
    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        at_most: Duration,
    ) -> (MutexGuard<'a, State>, bool) {
        state.waiting += 1;
        let (mut state, timed_out) = wait_timeout(&self.changed, state, at_most);
        state.waiting -= 1;
        (state, timed_out)
    }

    /// The accept thread has ended: its last connection will not be picked up.
    pub(super) fn forget_handed_out(&self) {
        let handed_out = lock(&self.state).handed_out;
        if let Some(cookie) = handed_out {
            self.remove(cookie);
        }
    }

    /// Waits until the connection that was handed out last has its thread.
    ///
    /// `tiny_http` counts a thread as idle that has been given a connection and has not begun.
    /// Without this wait it would start none for the next connection.
    pub(super) fn wait_for_pickup(&self) {
        let mut state = lock(&self.state);
        while state.handed_out.is_some() {
            // The time is a backstop only: a thread that panics before it reads never comes.
            let (guard, timed_out) = self.wait(state, Duration::from_secs(5));
            state = guard;
            if timed_out {
                state.handed_out = None;
            }
        }
    }

    /// Whether a newcomer would find room now.
    pub(super) fn has_room(&self) -> bool {
        lock(&self.state).has_room(&self.limits)
    }

    /// No newcomer waits: the next one waits from its own arrival on.
    pub(super) fn end_wait(&self) {
        lock(&self.state).full_since = None;
    }

    /// Makes room for a newcomer, waits for it, or reports that there is none.
    pub(super) fn admit(&self) -> Admission {
        let admission = self.find_room();
        self.wants_room.store(false, Ordering::Relaxed);
        admission
    }

    fn find_room(&self) -> Admission {
        let mut state = lock(&self.state);
        loop {
            if self.is_stopping() || state.has_room(&self.limits) {
                return Admission::Admit;
            }
            let now = Instant::now();
            let full_for = now.duration_since(*state.full_since.get_or_insert(now));
            let wait = if state.counted < self.limits.max_connections {
                // Those that leave are on their way.
                RATE_SPAN
            } else {
                match state.make_room(now, full_for) {
                    Room::Shed(cookie) if state.shed(cookie, now, &self.limits) => continue,
                    Room::Shed(_) => RETRY,
                    Room::Wait(wait) => wait,
                    Room::None if state.entries.len() < self.limits.max_open() => {
                        return Admission::Refuse;
                    }
                    Room::None => return Admission::Drop,
                }
            };
            self.wants_room.store(true, Ordering::Relaxed);
            state = self.wait(state, wait).0;
        }
    }

    /// Closes a connection for a newcomer that has waited for so long: threads or descriptors are
    /// short.
    pub(super) fn shed_one(&self, waited: Duration) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        if let Room::Shed(cookie) = state.make_room(now, waited) {
            state.shed(cookie, now, &self.limits);
        }
    }

    /// Waits for a change of the table, at most this long.
    pub(super) fn wait_for_change(&self, at_most: Duration) {
        let state = lock(&self.state);
        if !self.is_stopping() {
            drop(self.wait(state, at_most));
        }
    }

    /// Whether the answer that is about to begin should close its connection.
    pub(super) fn takes_room(&self) -> bool {
        self.wants_room.load(Ordering::Relaxed) && self.wants_room.swap(false, Ordering::Relaxed)
    }

    /// Counts a request in that is to be worked on, if `-workers` allows.
    pub(super) fn begin_work(self: &Arc<Self>) -> Option<Work> {
        if self.take_work() {
            return Some(Work(Arc::clone(self)));
        }
        let mut waiting = lock(&self.waiting_for_work);
        *waiting += 1;
        self.work_is_wanted.store(true, Ordering::SeqCst);
        let (mut waiting, timed_out) =
            wait_timeout_while(&self.work_ended, waiting, WORK_WAIT, |_| !self.take_work());
        *waiting -= 1;
        self.work_is_wanted.store(*waiting > 0, Ordering::SeqCst);
        drop(waiting);
        (!timed_out).then(|| Work(Arc::clone(self)))
    }

    fn take_work(&self) -> bool {
        let most = self.limits.workers;
        let one_more = |working| (working < most).then_some(working + 1);
        self.working
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more)
            .is_ok()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// From now on connections end with the request that they have in hand. True: some are so new
    /// that this has to be called again after [`NEW_GRACE`](super::connection::NEW_GRACE).
    pub(super) fn stop(&self) -> bool {
        self.stopping.store(true, Ordering::SeqCst);
        let state = lock(&self.state);
        let entries = state.entries.values();
        let connections: Vec<_> = entries.map(|entry| Arc::clone(&entry.connection)).collect();
        self.notify(state);
        // Without the lock: what wakes up has to close at once, before more arrives.
        let woken = connections.iter().filter(|connection| connection.wake());
        woken.count() > 0
    }

    /// Cuts off the requests that are being served. Returns how many.
    pub(super) fn cut_off(&self) -> usize {
        let state = lock(&self.state);
        let entries = state.entries.values();
        entries.filter(|entry| entry.connection.cut_off()).count()
    }

    /// Waits until all connections have ended; false if they have not by `deadline`.
    pub(super) fn wait_until_empty(&self, deadline: Instant) -> bool {
        let mut state = lock(&self.state);
        while !state.entries.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.wait(state, left).0;
        }
        true
    }
}

/// A request that counts towards `-workers` until this is dropped.
#[derive(Debug)]
pub(super) struct Work(Arc<Table>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::SeqCst);
        if self.0.work_is_wanted.load(Ordering::SeqCst) {
            drop(lock(&self.0.waiting_for_work));
            self.0.work_ended.notify_one();
        }
    }
}

impl State {
    fn has_room(&self, limits: &Limits) -> bool {
        self.counted < limits.max_connections && self.entries.len() < limits.max_open()
    }

    fn make_room(&self, now: Instant, full_for: Duration) -> Room {
        let waiting = self.candidates().filter_map(|connection| {
            let (phase, waited) = connection.phase(now);
            matches!(phase, Phase::Idle | Phase::Head | Phase::Lingering)
                .then(|| (connection.cookie(), waited))
        });
        let longest = waiting.max_by_key(|(_, waited)| *waited);
        make_room(longest, || self.crawler(now), full_for)
    }

    /// A connection whose transfer crawls; without one, when the next can be judged.
    fn crawler(&self, now: Instant) -> (Option<Cookie>, Option<Duration>) {
        let mut next: Option<Duration> = None;
        for connection in self.candidates() {
            let Some(elapsed) = connection.watched_for(now) else {
                continue;
            };
            if elapsed < RATE_SPAN {
                let left = RATE_SPAN.saturating_sub(elapsed);
                next = Some(next.map_or(left, |next| next.min(left)));
            } else if limits::crawls(elapsed, connection.moved_since_watched(now)) {
                return (Some(connection.cookie()), None);
            } else {
                connection.restart_pace(now);
            }
        }
        (None, next)
    }

    fn candidates(&self) -> impl Iterator<Item = &Arc<ClientConnection>> {
        let counting = self.entries.values().filter(|entry| entry.counts);
        counting.map(|entry| &entry.connection)
    }

    /// Closes a connection to make room. It may have got a request meanwhile: then it stays.
    fn shed(&mut self, cookie: Cookie, now: Instant, limits: &Limits) -> bool {
        let Some(entry) = self.entries.get_mut(&cookie) else {
            return false;
        };
        if !entry.counts || !entry.connection.leave() {
            return false;
        }
        entry.counts = false;
        self.counted -= 1;
        self.report.closed += 1;
        let due = |last| now.duration_since(last) >= REPORT_INTERVAL;
        if !limits.quiet && self.report.last.is_none_or(due) {
            let closed = std::mem::take(&mut self.report.closed);
            self.report.last = Some(now);
            warn!("closed {closed} slow or idle connections to make room (-max-connections)");
        }
        true
    }
}
