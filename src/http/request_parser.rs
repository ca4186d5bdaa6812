//! A client's request head: parsed, checked, accepted or rejected.
//!
//! Two parsers that read one head in two ways are how requests are smuggled, so a head is
//! accepted only where there is one way to read it, and rejected otherwise (RFC 9112 11.2).
//! httparse splits a complete head into lines; it is lenient about line ends and knows
//! neither framing nor hosts, so the rules here are applied to the bytes as they came.
//!
//! [`RequestParser::parse`] may be called whenever more bytes have come. It rejects a head at
//! the first byte (what a target, a framing line or a `Host` says: at its end) after which no
//! continuation could be accepted. The outcome does not depend on how the bytes were split.
//! Each byte of an incomplete head is looked at a constant number of times, whatever the
//! number of calls.
//!
//! An accepted head costs two allocations: its bytes, and the ranges of its header lines.

use std::borrow::Cow;
use std::net::IpAddr;

use super::head_rules::{Rules, header_rejection};
use super::header::{Checked, Headers, Line, LineChecker, Span, is_token_byte, run, trim};
use super::request::{Rejection, RequestHead, RequestLimits, ValidatedRequest, Version};
use super::target::{NO_TARGET, Target, begins_as_target, from, is_target_byte, target};

/// Bytes of empty lines that are ignored in front of a request line (RFC 9112 2.2).
const MAX_EMPTY_LINES: usize = 64;

/// Header lines for which there is room on the stack.
const USUAL_LINES: usize = 32;

/// No head is larger than this, in bytes, whatever the limit is: ranges have 32 bits.
const MAX_HEAD: u64 = 1 << 31;

/// Parses request heads, one after the other, from bytes as they come.
#[derive(Debug)]
pub struct RequestParser {
    state: State,
    /// The offset of the next byte that has not been checked.
    at: usize,
    /// The offset of the request line.
    start: usize,
    /// The offset of the word of the request line, or of the header line, that `at` is in.
    word: usize,
    /// The offset of the first header line.
    section: usize,
    method: Span,
    target: Target,
    version: Version,
    lines: LineChecker,
    number_of_lines: usize,
    rules: Rules,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    EmptyLines,
    EmptyLineLf,
    Method,
    Target,
    Version,
    Headers,
}

/// A complete head without the empty lines in front of it, and its header lines.
type Split<'b> = (&'b [u8], Vec<Line>);

impl Default for RequestParser {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestParser {
    /// In front of a request.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::EmptyLines,
            at: 0,
            start: 0,
            word: 0,
            section: 0,
            method: Span::default(),
            target: Target::Origin(Span::default()),
            version: Version::Http11,
            lines: LineChecker::default(),
            number_of_lines: 0,
            rules: Rules::default(),
        }
    }

    /// Whether a request line has begun, in the bytes seen so far. Empty lines are none.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !matches!(self.state, State::EmptyLines | State::EmptyLineLf)
    }

    /// Parses the head at the start of `bytes`: all that has come of it, at each call the same
    /// bytes and those that have come since.
    ///
    /// Returns the request and the head's length with the empty lines in front of it, and is
    /// ready for the next request then; `None` if more is needed.
    ///
    /// # Errors
    /// Why the request is not served. What follows it must not be served either.
    pub fn parse(
        &mut self,
        bytes: &[u8],
        client: IpAddr,
        limits: &RequestLimits,
    ) -> Result<Option<(ValidatedRequest, usize)>, Rejection> {
        match self.advance(bytes, client, limits) {
            Ok(Some(found)) => {
                *self = Self::new();
                Ok(Some(found))
            }
            Ok(None) => Ok(None),
            Err(rejection) => Err(self.name(rejection, bytes)),
        }
    }

    fn advance(
        &mut self,
        bytes: &[u8],
        client: IpAddr,
        limits: &RequestLimits,
    ) -> Result<Option<(ValidatedRequest, usize)>, Rejection> {
        if !self.has_begun() && !self.empty_lines(bytes)? {
            return Ok(None);
        }
        let limit = usize::try_from(limits.head.min(MAX_HEAD)).unwrap_or(usize::MAX);
        let within = bytes.get(..self.start.saturating_add(limit));
        let bytes = within.unwrap_or(bytes);
        let whole = if self.state == State::Headers || self.request_line(bytes)? {
            self.header_section(bytes)?
        } else {
            None
        };
        match whole {
            Some((text, lines)) => {
                let end = self.start + text.len();
                let request = self.finish(text, lines, client, limits)?;
                Ok(Some((request, end)))
            }
            None if within.is_some() => {
                let reason = format!(
                    "request head larger than {} bytes (-max-header)",
                    limits.head
                );
                Err(Rejection::new(431, reason))
            }
            None => Ok(None),
        }
    }

    /// Skips empty lines; whether a request line begins behind them.
    fn empty_lines(&mut self, bytes: &[u8]) -> Result<bool, Rejection> {
        while let Some(&byte) = bytes.get(self.at) {
            self.state = match (self.state, byte) {
                (_, b'\r' | b'\n') if self.at >= MAX_EMPTY_LINES => {
                    return Err(Rejection::bad("too many empty lines in front of a request"));
                }
                (State::EmptyLineLf, b'\n') => State::EmptyLines,
                (State::EmptyLineLf, _) => {
                    return Err(Rejection::bad("bare CR in front of a request"));
                }
                (_, b'\r') => State::EmptyLineLf,
                (_, b'\n') => State::EmptyLines,
                _ => {
                    self.state = State::Method;
                    self.start = self.at;
                    self.word = self.at;
                    return Ok(true);
                }
            };
            self.at += 1;
        }
        Ok(false)
    }

    /// Checks the request line (RFC 9112 3) as far as it has come; whether it is complete.
    fn request_line(&mut self, bytes: &[u8]) -> Result<bool, Rejection> {
        if self.state == State::Method {
            self.at += run(from(bytes, self.at), is_token_byte);
            let word = self.word_in(bytes);
            match bytes.get(self.at) {
                None => return Ok(false),
                Some(b' ') if !word.is_empty() => {}
                // The first byte of a TLS handshake record (RFC 8446 5.1).
                Some(0x16) if word.is_empty() => {
                    return Err(Rejection::bad("TLS on a port for plain HTTP"));
                }
                Some(_) => return Err(Rejection::bad("malformed method")),
            }
            self.method = self.span_of_word();
            self.next_word(State::Target);
        }
        if self.state == State::Target {
            self.at += run(from(bytes, self.at), is_target_byte);
            let word = self.word_in(bytes);
            let connects = self.method_in(bytes) == b"CONNECT";
            if !connects && !begins_as_target(word) {
                return Err(Rejection::bad(NO_TARGET));
            }
            match bytes.get(self.at) {
                None => return Ok(false),
                Some(b' ') if !word.is_empty() => {}
                Some(_) => return Err(Rejection::bad("malformed request target")),
            }
            if connects {
                self.target = Target::Origin(self.span_of_word());
                return Err(Rejection::new(405, "CONNECT is not supported"));
            }
            self.target = target(word, self.span_of_word())?;
            self.next_word(State::Version);
        }
        self.version(bytes)
    }

    /// Checks the version and the end of the request line.
    fn version(&mut self, bytes: &[u8]) -> Result<bool, Rejection> {
        const MALFORMED: Rejection = Rejection {
            status: 400,
            reason: Cow::Borrowed("malformed HTTP version"),
            is_head: false,
            request_line: None,
        };
        while let Some(&byte) = bytes.get(self.at) {
            let place = self.at - self.word;
            match (place, byte) {
                (0..=4, _) if b"HTTP/".get(place) == Some(&byte) => {}
                (5, b'1') | (6, b'.') | (8, b'\r') => {}
                (5, b'2'..=b'9') => {
                    return Err(Rejection::new(505, "HTTP version not supported"));
                }
                (7, b'0') => self.version = Version::Http10,
                (7, b'1'..=b'9') => self.version = Version::Http11,
                (9, b'\n') => {
                    if self.target_in(bytes) == b"*" && self.method_in(bytes) != b"OPTIONS" {
                        return Err(Rejection::bad(NO_TARGET));
                    }
                    self.next_word(State::Headers);
                    self.section = self.at;
                    return Ok(true);
                }
                (0..=7, _) => return Err(MALFORMED),
                _ => return Err(Rejection::bad("malformed end of the request line")),
            }
            self.at += 1;
        }
        Ok(false)
    }

    /// Checks the header section as far as it has come, and splits it if it is complete.
    fn header_section<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<Split<'b>>, Rejection> {
        if self.at == self.section {
            // Most heads come whole. They are not checked byte by byte.
            if let Some((text, lines)) = self.split(bytes, USUAL_LINES) {
                for line in &lines {
                    let (name, value) = (line.name.in_text(text), line.value.in_text(text));
                    self.rules.apply(name, value, text, self.version)?;
                }
                return Ok(Some((text, lines)));
            }
        }
        if !self.header_lines(bytes)? {
            return Ok(None);
        }
        let bytes = bytes.get(..self.at).unwrap_or_default();
        // The two never disagree. If they did, the head would not be one to forward.
        self.split(bytes, self.number_of_lines)
            .map(Some)
            .ok_or_else(|| Rejection::bad("malformed request head"))
    }

    /// Splits a complete header section into at most that many lines. `None` if it is not
    /// complete, has more lines, or is not sound.
    fn split<'b>(&self, bytes: &'b [u8], most: usize) -> Option<Split<'b>> {
        if most <= USUAL_LINES {
            self.split_into(&mut [httparse::EMPTY_HEADER; USUAL_LINES], bytes)
        } else {
            self.split_into(&mut vec![httparse::EMPTY_HEADER; most], bytes)
        }
    }

    fn split_into<'b>(
        &self,
        room: &mut [httparse::Header<'b>],
        bytes: &'b [u8],
    ) -> Option<Split<'b>> {
        let section = bytes.get(self.section..)?;
        let Ok(httparse::Status::Complete((length, headers))) =
            httparse::parse_headers(section, room)
        else {
            return None;
        };
        let text = bytes.get(self.start..self.section + length)?;
        let mut lines = Vec::with_capacity(headers.len());
        for header in headers {
            let name = Span::of(header.name.as_bytes(), text)?;
            let value = Span::of(header.value, text)?;
            // httparse takes a bare LF for the end of a line.
            if !text.get(..name.start())?.ends_with(b"\r\n") {
                return None;
            }
            lines.push(Line { name, value });
        }
        text.ends_with(b"\r\n\r\n").then_some((text, lines))
    }

    /// Checks the header lines as far as they have come; whether the empty line behind them is
    /// there.
    fn header_lines(&mut self, bytes: &[u8]) -> Result<bool, Rejection> {
        loop {
            let (length, checked) = self.lines.check(from(bytes, self.at));
            self.at += length;
            match checked {
                Ok(Checked::More) => return Ok(false),
                Ok(Checked::End) => return Ok(true),
                Ok(Checked::Line) => {
                    let line = self.word_in(bytes);
                    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
                    let mut parts = line.splitn(2, |byte| *byte == b':');
                    let name = parts.next().unwrap_or_default();
                    let value = trim(parts.next().unwrap_or_default());
                    let text = from(bytes, self.start);
                    self.rules.apply(name, value, text, self.version)?;
                    self.number_of_lines += 1;
                    self.word = self.at;
                }
                Err(fault) => return Err(header_rejection(fault, self.word_in(bytes))),
            }
        }
    }

    fn finish(
        &self,
        text: &[u8],
        lines: Vec<Line>,
        client: IpAddr,
        limits: &RequestLimits,
    ) -> Result<ValidatedRequest, Rejection> {
        let accepted = self.rules.finish(self.version, limits)?;
        let mut headers = Headers::from_parts(text.to_vec(), lines);
        let (target, authority) = match self.target {
            Target::Origin(origin) => (origin, None),
            Target::Absolute { authority, origin } => {
                let path = origin.in_text(text);
                let origin = if path.starts_with(b"/") {
                    Some(origin)
                } else {
                    headers.append(&[b"/", path].concat())
                };
                (origin.unwrap_or_default(), Some(authority))
            }
        };
        Ok(ValidatedRequest {
            head: RequestHead {
                method: self.method,
                target,
                host: authority.or(self.rules.host),
                version: self.version,
                headers,
                client,
            },
            framing: accepted.framing,
            persistence: accepted.persistence,
            expects_continue: accepted.expects_continue,
        })
    }

    fn next_word(&mut self, state: State) {
        self.at += 1;
        self.word = self.at;
        self.state = state;
    }

    fn word_in<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        bytes.get(self.word..self.at).unwrap_or_default()
    }

    fn span_of_word(&self) -> Span {
        Span::new(self.word - self.start, self.at - self.word).unwrap_or_default()
    }

    /// Empty as long as it is not complete.
    fn method_in<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        self.method.in_text(from(bytes, self.start))
    }

    /// The same. Of a target in absolute form the origin form.
    fn target_in<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let (Target::Origin(span) | Target::Absolute { origin: span, .. }) = self.target;
        span.in_text(from(bytes, self.start))
    }

    /// The rejection with what has been understood of the request line. `bytes`: those of
    /// the last call of [`RequestParser::parse`].
    #[must_use]
    pub fn name(&self, rejection: Rejection, bytes: &[u8]) -> Rejection {
        let method = str::from_utf8(self.method_in(bytes)).unwrap_or_default();
        if method.is_empty() {
            return rejection;
        }
        rejection.of_line(method, self.target_in(bytes))
    }
}

#[cfg(test)]
mod tests;
