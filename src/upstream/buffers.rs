//! ureq's buffers of a connection: small, until an answer or a body needs more.
//!
//! A connection that waits in the pool holds 12 KiB. With ureq's own buffers it was 96 KiB,
//! of which a usual request touches a few hundred bytes.

use ureq::unversioned::transport::Buffers;

/// What a connection begins with, in bytes.
const FIRST_INPUT: usize = 8 * 1024;
const FIRST_OUTPUT: usize = 4 * 1024;

/// The most that is held of an answer, in bytes.
pub(super) const MAX_INPUT: usize = 64 * 1024;

/// The most that is read of a request's body at once, in bytes.
const MAX_OUTPUT: usize = 32 * 1024;

/// Buffers that grow with what passes through them.
#[derive(Default)]
pub(super) struct GrowingBuffers {
    output: Vec<u8>,
    input: Vec<u8>,
    /// What is in `input`: received up to `filled`, used up to `consumed`.
    filled: usize,
    consumed: usize,
    /// The last read has filled all the room that there was.
    was_filled: bool,
    /// Something has come since the last call to consume, or that call has made progress.
    progress: bool,
}

impl GrowingBuffers {
    /// Makes room in the output for pieces of a body of this length.
    pub(super) fn expect_body(&mut self, length: u64) {
        let length = usize::try_from(length)
            .unwrap_or(MAX_OUTPUT)
            .min(MAX_OUTPUT);
        if length > self.output.len() {
            self.output.resize(length, 0);
        }
    }

    /// Frees what the last exchange has needed beyond the usual.
    pub(super) fn shrink(&mut self) {
        if self.output.len() > FIRST_OUTPUT {
            self.output = Vec::new();
        }
        if self.input.len() > FIRST_INPUT && self.filled == self.consumed {
            self.input = Vec::new();
            self.filled = 0;
            self.consumed = 0;
        }
        self.was_filled = false;
    }

    fn make_room(&mut self) {
        if self.consumed > 0 {
            self.input.copy_within(self.consumed..self.filled, 0);
            self.filled -= self.consumed;
            self.consumed = 0;
        }
        let length = self.input.len();
        if self.was_filled || self.filled == length {
            let more = (2 * length).clamp(FIRST_INPUT, MAX_INPUT);
            if more > length {
                self.input.resize(more, 0);
            }
            self.was_filled = false;
        }
    }
}

impl Buffers for GrowingBuffers {
    fn output(&mut self) -> &mut [u8] {
        if self.output.is_empty() {
            self.output.resize(FIRST_OUTPUT, 0);
        }
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        self.input
            .get(self.consumed..self.filled)
            .unwrap_or_default()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.make_room();
        self.input.get_mut(self.filled..).unwrap_or_default()
    }

    fn input_appended(&mut self, amount: usize) {
        self.filled += amount;
        // ureq has to look at it, whatever it has made of what was there before.
        self.progress |= amount > 0;
        self.was_filled = amount > 0 && self.filled >= self.input.len();
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.consumed = (self.consumed + amount).min(self.filled);
    }

    /// ureq sends no body itself: it knows of none.
    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.make_room();
        let tmp = self.input.get_mut(self.filled..).unwrap_or_default();
        (tmp, &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        self.consumed < self.filled && self.progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends what there is room for, at most `amount` bytes.
    fn append(buffers: &mut GrowingBuffers, amount: usize, byte: u8) -> usize {
        let free = buffers.input_append_buf();
        let amount = amount.min(free.len());
        free[..amount].fill(byte);
        buffers.input_appended(amount);
        amount
    }

    #[test]
    fn input_grows_while_it_is_filled_and_shrinks_when_it_is_empty() {
        let mut buffers = GrowingBuffers::default();
        assert_eq!(append(&mut buffers, usize::MAX, 1), FIRST_INPUT);
        assert_eq!(append(&mut buffers, usize::MAX, 2), FIRST_INPUT);
        assert_eq!(buffers.input().len(), 2 * FIRST_INPUT);
        buffers.shrink();
        assert_eq!(buffers.input().len(), 2 * FIRST_INPUT);
        buffers.input_consume(FIRST_INPUT);
        assert!(buffers.input().iter().all(|byte| *byte == 2));
        buffers.input_consume(FIRST_INPUT);
        buffers.shrink();
        assert_eq!(append(&mut buffers, usize::MAX, 3), FIRST_INPUT);
    }

    #[test]
    fn a_stream_that_is_read_piece_by_piece_gets_the_largest_buffer() {
        let mut buffers = GrowingBuffers::default();
        for _ in 0..8 {
            let amount = append(&mut buffers, usize::MAX, 0);
            buffers.input_consume(amount);
        }
        assert_eq!(append(&mut buffers, usize::MAX, 0), MAX_INPUT);
        // There is no more room, and that is not the end.
        assert_eq!(append(&mut buffers, usize::MAX, 0), 0);
        assert_eq!(buffers.input().len(), MAX_INPUT);
    }

    #[test]
    fn small_answers_keep_the_buffer_small() {
        let mut buffers = GrowingBuffers::default();
        for byte in 0..100 {
            assert_eq!(append(&mut buffers, 300, byte), 300);
            assert_eq!(buffers.input(), [byte; 300]);
            buffers.input_consume(300);
        }
        assert_eq!(buffers.input.len(), FIRST_INPUT);
    }

    #[test]
    fn output_is_as_large_as_the_body_up_to_a_limit() {
        let mut buffers = GrowingBuffers::default();
        assert_eq!(buffers.output().len(), FIRST_OUTPUT);
        buffers.expect_body(10_000);
        assert_eq!(buffers.output().len(), 10_000);
        buffers.expect_body(u64::MAX);
        assert_eq!(buffers.output().len(), MAX_OUTPUT);
        buffers.shrink();
        assert_eq!(buffers.output().len(), FIRST_OUTPUT);
    }
}
