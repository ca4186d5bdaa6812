//! The queue between the threads that log and the thread that writes: bytes of whole lines.
//!
//! - A push never waits for the writer. A line that has no room is dropped and counted.
//! - The writer sleeps without a timeout while there is nothing to write. The first line
//!   wakes it. It then gathers for [`GATHER`]; a push in that time, or during a write, makes
//!   no system call. So a line is written about [`GATHER`] after it has been pushed. A flush
//!   ends the gathering.
//! - Cost: a short lock for each line, at most [`QUEUE_BYTES`] of lines.

use std::mem;
use std::sync::{Condvar, LockResult, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many bytes may wait to be written, those of the write under way included: lines
/// carry what clients send, which may be long.
pub(super) const QUEUE_BYTES: u64 = 4 << 20;

/// How much memory each of the two buffers keeps: the one that is filled, the one that is
/// written.
const KEPT_BYTES: usize = 64 << 10;

/// How long lines are gathered for one write.
pub(super) const GATHER: Duration = Duration::from_millis(5);

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notifies the writer.
    work: Condvar,
    /// Notifies the threads in [`Queue::flush`].
    written: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// What the writer has not taken yet.
    lines: Vec<u8>,
    /// Bytes since the start that were queued, and those that the writer is through with.
    queued: u64,
    finished: u64,
    /// Lines since the start that had no room, or were in a write that failed.
    pub(super) dropped: u64,
    /// The writer sleeps until there is a line.
    idle: bool,
    /// The writer is not to gather.
    urgent: bool,
    /// The writer is to open its file anew.
    reopen: bool,
}

impl Queue {
    /// Queues a line, or drops it. Never waits.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        let length = line.len() as u64;
        if state.queued - state.finished + length > QUEUE_BYTES {
            state.dropped += 1;
            // To report that behind what is queued, also when no further line comes. The
            // writer is awake, unless the queue is empty and the line longer than all of it.
            state.urgent = true;
            return;
        }
        state.lines.extend_from_slice(line);
        state.queued += length;
        if mem::take(&mut state.idle) {
            drop(state);
            self.work.notify_one();
        }
    }

    /// Makes the writer open its file anew, soon.
    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        state.reopen = true;
        state.urgent = true;
        self.work.notify_one();
    }

    /// Waits until the lines queued so far are written, or dropped by a failed write. Returns
    /// `false` if `timeout` has passed first.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let mut state = self.lock();
        let end = state.queued;
        state.urgent = true;
        self.work.notify_one();
        let unwritten = |state: &mut State| state.finished < end;
        let waited = self.written.wait_timeout_while(state, timeout, unwritten);
        !locked(waited).1.timed_out()
    }

    /// Waits for lines, gathers more and swaps them for `batch`, which is empty. Returns
    /// whether the file is to be opened anew before they are written, and how many lines
    /// have been dropped since the start.
    pub(super) fn take(&self, batch: &mut Vec<u8>) -> (bool, u64) {
        let mut state = self.lock();
        let idle = |state: &mut State| {
            state.idle = state.lines.is_empty() && !state.urgent;
            state.idle
        };
        state = locked(self.work.wait_while(state, idle));
        let gathering = |state: &mut State| !state.urgent;
        state = locked(self.work.wait_timeout_while(state, GATHER, gathering)).0;
        state.urgent = false;
        mem::swap(&mut state.lines, batch);
        (mem::take(&mut state.reopen), state.dropped)
    }

    /// Makes room: `batch` is written, except for `failed` lines. Clears it.
    pub(super) fn finish(&self, batch: &mut Vec<u8>, failed: u64) {
        let mut state = self.lock();
        state.finished += batch.len() as u64;
        state.dropped += failed;
        drop(state);
        self.written.notify_all();
        batch.clear();
        batch.shrink_to(KEPT_BYTES);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        locked(self.state.lock())
    }
}

/// A lock that another thread poisoned is still usable.
fn locked<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}
