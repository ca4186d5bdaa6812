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
use std::fmt;
use std::net::IpAddr;

use super::header::{
    Checked, Fault, Headers, Line, LineChecker, Span, elements_of, is, is_in, is_token_byte, run,
    table, trim,
};

/// Bytes of empty lines that are ignored in front of a request line (RFC 9112 2.2).
const MAX_EMPTY_LINES: usize = 64;

/// Header lines for which there is room on the stack.
const USUAL_LINES: usize = 32;

/// No head is larger than this, in bytes, whatever the limit is: ranges have 32 bits.
const MAX_HEAD: u64 = 1 << 31;

/// The most of a header's name that is repeated in a rejection, in bytes.
const MAX_SHOWN_NAME: usize = 64;

/// Minor version of HTTP/1, as far as it makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, and every later HTTP/1 (RFC 9110 2.5).
    Http11,
}

impl Version {
    /// As in `Via` (RFC 9110 7.6.3).
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
        }
    }
}

/// How the end of a request's body is found (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither `Content-Length` nor `Transfer-Encoding`: no body.
    None,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// Whether the client's connection persists after the response (RFC 9112 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1's default: it does, and nothing needs to be said.
    Stays,
    /// It does, and an HTTP/1.0 client has to be told.
    KeepAlive,
    /// It is closed.
    Close,
}

/// A client's request as far as an endpoint gets to see it.
#[derive(Clone, Debug)]
pub struct RequestHead {
    method: Span,
    target: Span,
    host: Option<Span>,
    version: Version,
    /// Their text holds the whole head, so that the ranges above are ranges of it.
    headers: Headers,
    client: IpAddr,
}

impl RequestHead {
    /// A head from its parts: a token, a target in origin form, the host that the client asked for.
    #[must_use]
    pub fn new(
        method: &str,
        target: &[u8],
        version: Version,
        host: Option<&[u8]>,
        mut headers: Headers,
        client: IpAddr,
    ) -> Self {
        Self {
            method: headers.append(method.as_bytes()).unwrap_or_default(),
            target: headers.append(target).unwrap_or_default(),
            host: host.and_then(|host| headers.append(host)),
            version,
            headers,
            client,
        }
    }

    /// A token (RFC 9110 9.1) in its case.
    #[must_use]
    pub fn method(&self) -> &str {
        std::str::from_utf8(self.method.in_text(self.headers.text())).unwrap_or_default()
    }

    /// The target in origin form (RFC 9112 3.2.1), byte for byte as the client wrote it.
    /// It may hold bytes beyond ASCII.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.target.in_text(self.headers.text())
    }

    /// The host that the client asked for: of an absolute-form target, else `Host`.
    #[must_use]
    pub fn host(&self) -> Option<&[u8]> {
        self.host.map(|host| host.in_text(self.headers.text()))
    }

    /// The client's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// All header lines.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The client's address.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// Whether the response has a head only (RFC 9110 9.3.2).
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method() == "HEAD"
    }
}

/// A request whose head is sound.
#[derive(Clone, Debug)]
pub struct ValidatedRequest {
    /// What is forwarded.
    pub head: RequestHead,
    /// How the end of its body is found.
    pub framing: Framing,
    /// Whether the client wants its connection kept.
    pub persistence: Persistence,
    /// The client waits for `100 Continue` before it sends its body. Never without a body
    /// and never for HTTP/1.0 (RFC 9110 10.1.1).
    pub expects_continue: bool,
}

/// How large requests may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// `-max-header`: from the request line to the empty line, both included.
    pub head: u64,
    /// `-max-body`
    pub body: u64,
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The status code for the client.
    pub status: u16,
    /// The reason, for the client and for the log. Without control characters.
    pub reason: Cow<'static, str>,
    /// The method is known to be HEAD: the answer has no body.
    pub is_head: bool,
}

impl Rejection {
    /// A rejection with this status code, of a request that is not known to be a HEAD.
    #[must_use]
    pub fn new(status: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            reason: reason.into(),
            is_head: false,
        }
    }

    /// A 400.
    #[must_use]
    pub fn bad(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, reason)
    }

    /// The rejection of a body beyond the limit, in bytes.
    #[must_use]
    pub fn body_too_large(max_body: u64) -> Self {
        let reason = format!("request body larger than {max_body} bytes (-max-body)");
        Self::new(413, reason)
    }

    /// The rejection of a body that ends after that many bytes, before its end.
    #[must_use]
    pub fn broken_off(after: u64) -> Self {
        Self::bad(format!("request body broken off after {after} bytes"))
    }

    /// The same, where the method is known.
    #[must_use]
    pub fn of(self, head: &RequestHead) -> Self {
        Self {
            is_head: head.is_head(),
            ..self
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.status)
    }
}

impl std::error::Error for Rejection {}

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

/// A sound request target; ranges count from the start of the request line.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// RFC 9112 3.2.1
    Origin(Span),
    /// RFC 9112 3.2.2, with the origin form in it, which may lack its slash.
    Absolute { authority: Span, origin: Span },
    /// RFC 9112 3.2.4
    Asterisk,
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
            target: Target::Asterisk,
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
            Err(rejection) => Err(Rejection {
                is_head: self.method_in(bytes) == b"HEAD",
                ..rejection
            }),
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
            if word == b"CONNECT" {
                return Err(Rejection::new(405, "CONNECT is not supported"));
            }
            self.method = self.span_of_word();
            self.next_word(State::Target);
        }
        if self.state == State::Target {
            self.at += run(from(bytes, self.at), is_target_byte);
            let word = self.word_in(bytes);
            if !begins_as_target(word) {
                return Err(Rejection::bad(NO_TARGET));
            }
            match bytes.get(self.at) {
                None => return Ok(false),
                Some(b' ') if !word.is_empty() => {}
                Some(_) => return Err(Rejection::bad("malformed request target")),
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
                    if matches!(self.target, Target::Asterisk) {
                        let options = self.method_in(bytes) == b"OPTIONS";
                        return Err(Rejection::bad(if options {
                            "OPTIONS * can't be forwarded"
                        } else {
                            NO_TARGET
                        }));
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
            Target::Asterisk => return Err(Rejection::bad(NO_TARGET)),
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
}

const NO_TARGET: &str = "request target is neither a path nor an http URL";

const SCHEMES: [&str; 2] = ["http://", "https://"];

/// What stands behind the first `at` bytes.
fn from(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}

/// Every byte but controls, SP and `#`. More than a URI may have (RFC 3986 2); clients send
/// such targets, and endpoints get them as they are.
fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && byte != b'#'
}

/// Whether this can be the beginning of a target.
fn begins_as_target(text: &[u8]) -> bool {
    let begins = |scheme: &&str| {
        let length = scheme.len().min(text.len());
        let (text, scheme) = (text.get(..length), scheme.as_bytes().get(..length));
        text.zip(scheme)
            .is_some_and(|(text, scheme)| text.eq_ignore_ascii_case(scheme))
    };
    text.starts_with(b"/") || text == b"*" || SCHEMES.iter().any(begins)
}

/// The parts of a whole target, which is `span` of the head.
fn target(text: &[u8], span: Span) -> Result<Target, Rejection> {
    if text.starts_with(b"/") {
        return Ok(Target::Origin(span));
    }
    if text == b"*" {
        return Ok(Target::Asterisk);
    }
    let scheme = SCHEMES.iter().find(|scheme| {
        text.get(..scheme.len())
            .is_some_and(|start| is(start, scheme))
    });
    let Some(scheme) = scheme else {
        return Err(Rejection::bad(NO_TARGET));
    };
    let rest = from(text, scheme.len());
    let length = run(rest, |byte| byte != b'/' && byte != b'?');
    let authority = rest.get(..length).unwrap_or_default();
    if authority.is_empty() || !is_authority(authority) {
        return Err(Rejection::bad("malformed host in the request target"));
    }
    let start = span.start() + scheme.len();
    let origin = start + length;
    Ok(Target::Absolute {
        authority: Span::new(start, length).unwrap_or_default(),
        origin: Span::new(origin, span.end() - origin).unwrap_or_default(),
    })
}

/// `uri-host [":" port]`, without user information (RFC 9110 7.2, 4.2.4). Empty, as in a
/// `Host` of a request for a URI without authority, is well formed.
fn is_authority(text: &[u8]) -> bool {
    /// RFC 3986 3.2.2, without the comma: two lines that were joined look like one.
    const HOST: [bool; 256] = table(b"-._~!$&'()*+;=%", false);
    let is_port = |text: &[u8]| match text {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if let Some(rest) = text.strip_prefix(b"[") {
        let length = run(rest, |byte| is_in(&HOST, byte) || byte == b':');
        return length > 0 && from(rest, length).strip_prefix(b"]").is_some_and(is_port);
    }
    let length = run(text, |byte| is_in(&HOST, byte));
    text.is_empty() || (length > 0 && is_port(from(text, length)))
}

fn header_rejection(fault: Fault, line: &[u8]) -> Rejection {
    Rejection::bad(match fault {
        Fault::Blank => "header line begins with white space",
        Fault::Name => "malformed header name",
        Fault::End => "malformed end of the request head",
        Fault::Value => {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            let name = String::from_utf8_lossy(name.get(..MAX_SHOWN_NAME).unwrap_or(name));
            return Rejection::bad(format!("control character in header {name}"));
        }
    })
}

/// What the header lines say about the message itself.
#[derive(Debug, Default)]
struct Rules {
    host: Option<Span>,
    length: Option<u64>,
    is_chunked: bool,
    close: bool,
    keep_alive: bool,
    expectation: Expectation,
}

/// RFC 9110 10.1.1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expectation {
    #[default]
    None,
    Continue,
    /// One that is not known, beside a known one or not.
    Other,
}

/// What the rules make of all lines together.
struct Accepted {
    framing: Framing,
    persistence: Persistence,
    expects_continue: bool,
}

impl Rules {
    /// Takes the next header line. `text` is the head that the value is a part of.
    fn apply(
        &mut self,
        name: &[u8],
        value: &[u8],
        text: &[u8],
        version: Version,
    ) -> Result<(), Rejection> {
        // Most names differ in length from all that matter.
        match name.len() {
            4 if is(name, "Host") => self.host(value, text),
            6 if is(name, "Expect") => {
                for expectation in elements_of(value) {
                    if !is(expectation, "100-continue") {
                        self.expectation = Expectation::Other;
                    } else if self.expectation == Expectation::None {
                        self.expectation = Expectation::Continue;
                    }
                }
                Ok(())
            }
            10 if is(name, "Connection") => {
                for option in elements_of(value) {
                    self.close |= is(option, "close");
                    self.keep_alive |= is(option, "keep-alive");
                }
                Ok(())
            }
            14 if is(name, "Content-Length") => self.content_length(value),
            17 if is(name, "Transfer-Encoding") => self.transfer_encoding(value, version),
            _ => Ok(()),
        }
    }

    /// RFC 9112 3.2
    fn host(&mut self, value: &[u8], text: &[u8]) -> Result<(), Rejection> {
        if self.host.is_some() {
            return Err(Rejection::bad("more than one Host"));
        }
        if !is_authority(value) {
            return Err(Rejection::bad("malformed Host"));
        }
        self.host = Span::of(value, text);
        Ok(())
    }

    /// RFC 9112 6.2, 6.3
    fn content_length(&mut self, value: &[u8]) -> Result<(), Rejection> {
        if self.is_chunked {
            return Err(Rejection::bad(BOTH));
        }
        if self.length.is_some() {
            return Err(Rejection::bad("more than one Content-Length"));
        }
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Rejection::bad("malformed Content-Length"));
        }
        // Digits alone do not parse if there are too many of them.
        let length = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok());
        if length.is_none() {
            return Err(Rejection::bad("Content-Length is too large a number"));
        }
        self.length = length;
        Ok(())
    }

    /// RFC 9112 6.1
    fn transfer_encoding(&mut self, value: &[u8], version: Version) -> Result<(), Rejection> {
        if self.length.is_some() {
            return Err(Rejection::bad(BOTH));
        }
        // The end of an HTTP/1.0 message with a transfer coding is in doubt.
        if version == Version::Http10 {
            return Err(Rejection::bad("Transfer-Encoding in HTTP/1.0"));
        }
        if self.is_chunked || !is(value, "chunked") {
            return Err(Rejection::bad("Transfer-Encoding other than chunked"));
        }
        self.is_chunked = true;
        Ok(())
    }

    fn finish(&self, version: Version, limits: &RequestLimits) -> Result<Accepted, Rejection> {
        let is_http11 = version == Version::Http11;
        if is_http11 && self.host.is_none() {
            return Err(Rejection::bad("no Host"));
        }
        let framing = match self.length {
            _ if self.is_chunked => Framing::Chunked,
            Some(length) if length > limits.body => {
                return Err(Rejection::body_too_large(limits.body));
            }
            Some(length) => Framing::Length(length),
            None => Framing::None,
        };
        if is_http11 && self.expectation == Expectation::Other {
            return Err(Rejection::new(417, "Expect other than 100-continue"));
        }
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        Ok(Accepted {
            framing,
            persistence: match (self.close, version) {
                (false, Version::Http11) => Persistence::Stays,
                (false, Version::Http10) if self.keep_alive => Persistence::KeepAlive,
                (true, _) | (false, Version::Http10) => Persistence::Close,
            },
            expects_continue: is_http11 && has_body && self.expectation == Expectation::Continue,
        })
    }
}

const BOTH: &str = "Content-Length and Transfer-Encoding";

#[cfg(test)]
mod tests;
