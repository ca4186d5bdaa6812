//! ureq's buffers, with the head of the answer kept as it came.
//!
//! ureq's header map sorts duplicates together and lower-cases names. A proxy must not, so
//! the head is copied when ureq takes it out. A chunked body passes through [`Chunks`]
//! before ureq sees it.

use ureq::unversioned::transport::{Buffers, LazyBuffers};

use super::chunked::Chunks;
use super::failure::{ExchangeFault, Failure};
use super::transport::with_call;

/// The longest head of an answer. ureq's buffer is one byte larger, so that a head
/// that does not fit is told from one that is not complete yet.
pub const MAX_ANSWER_HEAD: usize = INPUT_BUFFER - 1;

const INPUT_BUFFER: usize = 64 * 1024;
const OUTPUT_BUFFER: usize = 32 * 1024;

/// ureq's buffers, and a look at the answer's head as ureq takes it out.
pub(super) struct HeadCapture {
    pub(super) inner: LazyBuffers,
    pub(super) waiting_for_head: bool,
    /// How far a chunked body has come.
    pub(super) chunks: Option<Chunks>,
}

impl HeadCapture {
    pub(super) fn new() -> Self {
        Self {
            inner: LazyBuffers::new(INPUT_BUFFER, OUTPUT_BUFFER),
            waiting_for_head: false,
            chunks: None,
        }
    }

    /// Appends the first `amount` bytes of the free part, or what is left of them when
    /// chunk extensions and trailers have been cut out. False if that is nothing: ureq
    /// would take it for the end.
    pub(super) fn append(&mut self, amount: usize) -> bool {
        let free = self.inner.input_append_buf();
        let left = match (&mut self.chunks, free.get_mut(..amount)) {
            (Some(chunks), Some(piece)) => chunks.pass(piece),
            _ => amount,
        };
        self.inner.input_appended(left);
        left > 0
    }

    /// All that was right with the chunks has been taken out before this is asked.
    pub(super) fn check_chunks(&self) -> Result<(), Failure> {
        match self.chunks.as_ref().and_then(Chunks::fault) {
            Some(fault) => Err(Failure::Broken(ExchangeFault::Chunks(fault))),
            None => Ok(()),
        }
    }

    /// The endpoint has closed: a chunked body must have ended.
    pub(super) fn check_end(&self) -> Result<(), Failure> {
        if self.chunks.as_ref().is_none_or(Chunks::have_ended) {
            return Ok(());
        }
        self.check_chunks()?;
        Err(Failure::Broken(ExchangeFault::BodyCut))
    }

    /// Whether the head of the answer is here, and ureq has not taken it yet.
    pub(super) fn holds_a_head(&self) -> bool {
        self.waiting_for_head && head_end(self.inner.input()).is_some()
    }

    /// Whether the answer has begun as a refusal of the request.
    pub(super) fn refuses(&self) -> bool {
        refuses(self.inner.input())
    }

    /// Drops complete interim answers (RFC 9110 15.2), which nobody asked for. ureq
    /// would do it too, but fails on a `100 Continue` with headers. A 101 stays: it
    /// is an answer to the `Upgrade` that is never sent, and no usable one.
    pub(super) fn skip_interim(&mut self) {
        loop {
            let input = self.inner.input();
            // RFC 9112 2.2: empty lines in front are tolerated, in front of any head.
            let blank = input.iter().take_while(|byte| b"\r\n".contains(byte));
            match (blank.count(), interim_head(input)) {
                (0, None) => return,
                (0, Some(length)) | (length, _) => self.inner.input_consume(length),
            }
        }
    }
}

/// The length of the head at the start of `input`, if it is complete. As in ureq's
/// parser, a bare LF ends a line, too (RFC 9112 2.2).
fn head_end(input: &[u8]) -> Option<usize> {
    let mut line_ends = (1..).zip(input).filter(|(_, byte)| **byte == b'\n');
    line_ends.find_map(|(end, _)| match input.get(end..) {
        Some([b'\n', ..]) => Some(end + 1),
        Some([b'\r', b'\n', ..]) => Some(end + 2),
        _ => None,
    })
}

/// A final answer that is no success: the endpoint does not want the body.
fn refuses(input: &[u8]) -> bool {
    matches!(input.get(9), Some(b'3'..=b'9'))
}

/// The length of the complete interim head at the start of `input`.
fn interim_head(input: &[u8]) -> Option<usize> {
    let is_interim = input.starts_with(b"HTTP/1.")
        && input.get(8..10) == Some(b" 1")
        && input.get(10..12) != Some(b"01");
    if !is_interim {
        return None;
    }
    head_end(input)
}

impl Buffers for HeadCapture {
    fn output(&mut self) -> &mut [u8] {
        self.inner.output()
    }

    fn input(&self) -> &[u8] {
        self.inner.input()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.inner.input_append_buf()
    }

    fn input_appended(&mut self, amount: usize) {
        self.inner.input_appended(amount);
    }

    /// The first bytes that ureq takes are the head of the final answer, whole.
    fn input_consume(&mut self, amount: usize) {
        if !self.waiting_for_head || amount == 0 {
            return self.inner.input_consume(amount);
        }
        self.waiting_for_head = false;
        let input = self.inner.input();
        let (head, rest) = input.split_at_checked(amount).unwrap_or_default();
        let has_chunks = with_call(|call| {
            call.trace.head = Some(head.to_vec());
            call.trace.body_begun = !rest.is_empty();
            (call.has_chunks)(head)
        });
        if has_chunks != Some(true) {
            return self.inner.input_consume(amount);
        }
        // What came together with the head goes the way of what follows.
        self.chunks = Some(Chunks::new());
        let rest = rest.to_vec();
        self.inner.input_consume(amount + rest.len());
        let free = self.inner.input_append_buf();
        if let Some(free) = free.get_mut(..rest.len()) {
            free.copy_from_slice(&rest);
            self.append(rest.len());
        }
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.inner.tmp_and_output()
    }

    fn can_use_input(&self) -> bool {
        self.inner.can_use_input()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interim_head_is_told_from_an_answer() {
        let table: [(&[u8], Option<usize>); 10] = [
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", Some(25)),
            (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", Some(37)),
            (b"HTTP/1.1 102 P\n\nHTTP/1.1 200 OK\r\n\r\n", Some(16)),
            (b"HTTP/1.1 103 P\nLink: x\r\n\nHTTP", Some(25)),
            (b"HTTP/1.1 103 P\r\nLink: x\n\r\nHTTP", Some(26)),
            (b"HTTP/1.1 100 Continue\r\n", None),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", None),
            (b"HTTP/1.1 200 OK\r\n\r\n", None),
            (b"HTTP/1.1", None),
            (b"garbage 1\r\n\r\n", None),
        ];
        for (input, wanted) in table {
            assert_eq!(interim_head(input), wanted);
        }
    }

    #[test]
    fn a_success_or_half_a_status_is_no_refusal() {
        for status in ["100", "200", "299", "413", "503"] {
            let head = format!("HTTP/1.1 {status} X");
            assert_eq!(refuses(head.as_bytes()), status > "300");
        }
        assert!(!refuses(b"HTTP/1.1 "));
    }
}
