//! ureq's buffers, with the head of the answer taken out.
//!
//! ureq's header map sorts duplicates together and lower-cases names, which a proxy must not.
//! So the head is parsed here, once, and ureq reads a stand-in of two lines at most: how the
//! body ends, and whether the connection may be used again. It allocates no header map.
//!
//! A chunked body passes through [`Chunks`] before ureq sees it.

use std::io::Write as _;

use ureq::unversioned::transport::Buffers;

use super::buffers::{GrowingBuffers, MAX_INPUT};
use super::call::with_call;
use super::chunked::Chunks;
use super::failure::{ExchangeFault, Failure};
use crate::http::response::{BodyLength, HeadFault, ResponseHead, parse_head};

/// The longest head of an answer, in bytes. The buffer is one byte larger: a head that fills it
/// does not fit, any other one may still be incomplete.
pub const MAX_ANSWER_HEAD: usize = MAX_INPUT - 1;

/// ureq's buffers, in front of which the answer's head is taken out.
pub(super) struct HeadCapture {
    pub(super) inner: GrowingBuffers,
    phase: Phase,
    /// The request is a HEAD.
    is_head: bool,
    /// How far a chunked body has come.
    chunks: Option<Chunks>,
}

/// How far an answer has come.
enum Phase {
    /// The head is not complete. What has come of it is in the input buffer.
    Head,
    /// It has been taken out; ureq has not read its stand-in yet.
    Ready { status: u16, stand_in: StandIn },
    /// What is in the input buffer is the body.
    Body,
}

/// What ureq gets to read instead of a head.
struct StandIn {
    bytes: [u8; StandIn::MOST],
    length: usize,
}

impl StandIn {
    /// The longest one: `Connection` and a `Content-Length` of 20 digits.
    const MOST: usize = 80;

    fn new(length: BodyLength, coded: bool, persistent: bool) -> Self {
        let mut bytes = [0; Self::MOST];
        let mut free = &mut bytes[..];
        let connection = if persistent {
            ""
        } else {
            "Connection: close\r\n"
        };
        // There is room for all of them.
        let _ = match length {
            BodyLength::Bodiless => write!(free, "HTTP/1.1 204 X\r\n{connection}\r\n"),
            BodyLength::Known(length) => write!(
                free,
                "HTTP/1.1 200 X\r\n{connection}Content-Length: {length}\r\n\r\n"
            ),
            BodyLength::Unknown if coded => write!(
                free,
                "HTTP/1.1 200 X\r\n{connection}Transfer-Encoding: chunked\r\n\r\n"
            ),
            BodyLength::Unknown => write!(free, "HTTP/1.1 200 X\r\n{connection}\r\n"),
        };
        let length = Self::MOST - free.len();
        Self { bytes, length }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl HeadCapture {
    pub(super) fn new() -> Self {
        Self {
            inner: GrowingBuffers::default(),
            phase: Phase::Body,
            is_head: false,
            chunks: None,
        }
    }

    /// The next byte is the first one of an answer, to a HEAD or to another request.
    pub(super) fn begin_answer(&mut self, is_head: bool) {
        self.is_head = is_head;
        self.phase = Phase::Head;
        self.chunks = None;
    }

    /// Whether the head of the answer is not complete yet.
    pub(super) fn waits_for_head(&self) -> bool {
        matches!(self.phase, Phase::Head)
    }

    /// Whether the head of the answer is here, and ureq has not seen it yet.
    pub(super) fn holds_a_head(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// Whether ureq has got the head: what comes now is the body.
    pub(super) fn is_body(&self) -> bool {
        matches!(self.phase, Phase::Body)
    }

    /// Appends the first `amount` bytes of the free part. False where ureq gets nothing of
    /// them: it would take that for the end.
    pub(super) fn append(&mut self, amount: usize) -> Result<bool, Failure> {
        if self.waits_for_head() {
            self.inner.input_appended(amount);
            self.take_head()
        } else {
            Ok(self.append_body(amount) || self.holds_a_head())
        }
    }

    /// Appends a piece of the body, or what is left of it when chunk extensions and trailers
    /// have been cut out. False if that is nothing.
    fn append_body(&mut self, amount: usize) -> bool {
        let free = self.inner.input_append_buf();
        let left = match (&mut self.chunks, free.get_mut(..amount)) {
            (Some(chunks), Some(piece)) => chunks.pass(piece),
            _ => amount,
        };
        self.inner.input_appended(left);
        left > 0
    }

    /// Whether the chunks are malformed. All that was right with them has been read before
    /// this is asked.
    pub(super) fn check_chunks(&self) -> Result<(), Failure> {
        if self.holds_a_head() {
            return Ok(());
        }
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

    /// Whether the answer is, or has begun as, a refusal of the request: a final one that is no
    /// success.
    pub(super) fn refuses(&self) -> bool {
        match self.phase {
            Phase::Head => matches!(self.inner.input().get(9), Some(b'3'..=b'9')),
            Phase::Ready { status, .. } => status >= 300,
            Phase::Body => false,
        }
    }

    /// Takes the head out of the input, if it is complete.
    ///
    /// Interim answers (RFC 9110 15.2) are dropped: they were not asked for. A 101 is an
    /// answer to the `Upgrade` that is never sent, and no usable one.
    fn take_head(&mut self) -> Result<bool, Failure> {
        loop {
            // RFC 9112 2.2: empty lines in front are tolerated, in front of any head.
            let is_end = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            let blank = self.inner.input().iter().take_while(is_end).count();
            if blank > 0 {
                self.inner.input_consume(blank);
            }
            let too_large = Failure::Broken(ExchangeFault::HeadTooLarge(MAX_ANSWER_HEAD));
            match parse_head(self.inner.input()).map_err(malformed)? {
                None if self.inner.input_append_buf().is_empty() => return Err(too_large),
                None => return Ok(false),
                Some((_, length)) if length > MAX_ANSWER_HEAD => return Err(too_large),
                Some((head, _)) if head.status == 101 => {
                    let fault = ExchangeFault::UnwantedUpgrade(head.status);
                    return Err(Failure::Broken(fault));
                }
                Some((head, length)) if head.status < 200 => self.inner.input_consume(length),
                Some((head, length)) => {
                    self.inner.input_consume(length);
                    self.begin_body(head)?;
                    return Ok(true);
                }
            }
        }
    }

    fn begin_body(&mut self, head: ResponseHead) -> Result<(), Failure> {
        let length = head.body_length(self.is_head).map_err(malformed)?;
        let coded = length == BodyLength::Unknown && head.is_coded().map_err(malformed)?;
        if coded {
            // What came together with the head goes the way of what follows.
            self.chunks = Some(Chunks::default());
            let rest = self.inner.input().to_vec();
            self.inner.input_consume(rest.len());
            if let Some(free) = self.inner.input_append_buf().get_mut(..rest.len()) {
                free.copy_from_slice(&rest);
                self.append_body(rest.len());
            }
        }
        let persistent = head.is_persistent() && !head.contradicts_itself();
        self.phase = Phase::Ready {
            status: head.status,
            stand_in: StandIn::new(length, coded, persistent),
        };
        with_call(|call| call.trace.head = Some((head, length)));
        Ok(())
    }
}

fn malformed(fault: HeadFault) -> Failure {
    Failure::Broken(ExchangeFault::Head(fault))
}

impl Buffers for HeadCapture {
    fn output(&mut self) -> &mut [u8] {
        self.inner.output()
    }

    fn input(&self) -> &[u8] {
        match &self.phase {
            Phase::Head => &[],
            Phase::Ready { stand_in, .. } => stand_in.bytes(),
            Phase::Body => self.inner.input(),
        }
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.inner.input_append_buf()
    }

    fn input_appended(&mut self, amount: usize) {
        self.inner.input_appended(amount);
    }

    /// ureq takes the stand-in as a whole.
    fn input_consume(&mut self, amount: usize) {
        match self.phase {
            Phase::Head => {}
            Phase::Ready { .. } if amount == 0 => {}
            Phase::Ready { .. } => {
                self.phase = Phase::Body;
                let begun = !self.inner.input().is_empty();
                with_call(|call| call.trace.body_begun = begun);
            }
            Phase::Body => self.inner.input_consume(amount),
        }
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.inner.tmp_and_output()
    }

    fn can_use_input(&self) -> bool {
        match self.phase {
            Phase::Head => false,
            Phase::Ready { .. } => true,
            Phase::Body => self.inner.can_use_input(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffers into which these bytes have come, in pieces that long.
    fn received(bytes: &[u8], piece: usize) -> (HeadCapture, Result<bool, Failure>) {
        let mut capture = HeadCapture::new();
        capture.begin_answer(false);
        let mut result = Ok(false);
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() && result.is_ok() {
                let free = capture.inner.input_append_buf();
                let length = piece.len().min(free.len());
                free[..length].copy_from_slice(&piece[..length]);
                piece = &piece[length..];
                result = capture.append(length);
            }
        }
        (capture, result)
    }

    #[test]
    fn interim_answers_and_empty_lines_are_dropped_wherever_the_pieces_end() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        for before in [
            "",
            "\r\n\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 100 Continue\r\nX: y\r\n\r\n\r\n",
            "HTTP/1.1 102 P\n\nHTTP/1.1 103 P\r\nLink: x\n\r\n",
        ] {
            let bytes = format!("{before}{answer}");
            for piece in [1, 2, 7, bytes.len()] {
                let (mut capture, result) = received(bytes.as_bytes(), piece);
                assert!(result.unwrap(), "{before:?}");
                assert!(capture.holds_a_head());
                assert_eq!(
                    capture.input(),
                    b"HTTP/1.1 200 X\r\nContent-Length: 3\r\n\r\n"
                );
                capture.input_consume(capture.input().len());
                assert_eq!(capture.input(), b"abc", "{before:?}, {piece}");
            }
        }
        let (capture, result) = received(b"HTTP/1.1 103 P\r\nLink: x\r\n\r\nHTTP", 99);
        assert_eq!(result, Ok(false));
        assert!(capture.waits_for_head() && capture.input().is_empty());
        let (_, result) = received(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 99);
        let fault = ExchangeFault::UnwantedUpgrade(101);
        assert_eq!(result, Err(Failure::Broken(fault)));
    }

    #[test]
    fn the_longest_stand_ins_fit() {
        for (length, coded) in [
            (BodyLength::Known(u64::MAX), false),
            (BodyLength::Unknown, true),
            (BodyLength::Unknown, false),
            (BodyLength::Bodiless, false),
        ] {
            let stand_in = StandIn::new(length, coded, false);
            assert!(stand_in.bytes().ends_with(b"\r\n\r\n"), "{length:?}");
        }
    }

    #[test]
    fn a_head_that_does_not_fit_is_an_error() {
        for (length, fits) in [(MAX_ANSWER_HEAD, true), (MAX_ANSWER_HEAD + 1, false)] {
            let frame = "HTTP/1.1 200 X\r\nA: \r\n\r\n".len();
            let head = format!(
                "HTTP/1.1 200 X\r\nA: {}\r\n\r\n",
                "a".repeat(length - frame)
            );
            for piece in [length, length - 1] {
                assert_eq!(received(head.as_bytes(), piece).1.is_ok(), fits);
            }
        }
    }

    #[test]
    fn a_success_or_half_a_status_is_no_refusal() {
        for status in ["100", "200", "299", "413", "503"] {
            let head = format!("HTTP/1.1 {status} X");
            let (begun, _) = received(head.as_bytes(), 99);
            assert_eq!(begun.refuses(), status > "300");
            let (whole, _) = received(format!("{head}\r\n\r\n").as_bytes(), 99);
            assert_eq!(whole.refuses(), status > "300");
        }
        assert!(!received(b"HTTP/1.1 ", 99).0.refuses());
    }
}
