//! The queue between the threads that log and the thread that writes.
//!
//! - A push never waits for the writer. A line that has no room is dropped and counted.
//! - Cost: a push to a channel, which wakes the writer if that sleeps; at most [`QUEUE_BYTES`]
//!   of lines, twice while they are put together for a write.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::Sender;

/// How many bytes may wait to be written, those of the write under way included: lines
/// carry what clients send, which may be long.
pub(super) const QUEUE_BYTES: usize = 4 << 20;

/// A usual line is shorter than this, in bytes.
const USUAL_LINE: usize = 192;

/// What waits for the writer.
pub(super) enum Item {
    /// With its newline.
    Line(Vec<u8>),
    /// The log file is to be opened anew.
    Reopen,
    /// To be dropped when nothing is left to be written.
    Flush(Sender<()>),
}

/// The loggers' end of the queue. `simplelog` writes to it, one line after the other.
#[derive(Clone)]
pub(super) struct Queue {
    pub(super) items: Sender<Item>,
    /// Bytes that are queued or being written.
    pub(super) bytes: Arc<AtomicUsize>,
    /// Lines since the start that had no room, or were in a write that failed.
    pub(super) dropped: Arc<AtomicUsize>,
    /// What has come of a line.
    pub(super) line: Vec<u8>,
}

impl io::Write for Queue {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.line.is_empty() {
            // `simplelog` writes a line in many pieces.
            self.line.reserve(USUAL_LINE);
        }
        self.line.extend_from_slice(piece);
        if piece.ends_with(b"\n") {
            let line = mem::take(&mut self.line);
            let length = line.len();
            if self.bytes.fetch_add(length, Ordering::SeqCst) + length <= QUEUE_BYTES {
                let _ = self.items.send(Item::Line(line));
            } else {
                self.bytes.fetch_sub(length, Ordering::SeqCst);
                self.dropped.fetch_add(1, Ordering::SeqCst);
            }
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
