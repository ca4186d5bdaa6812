//! What the header lines of a request say about the message (host, framing, persistence,
//! expectation), and which ones have it rejected: a head that can be read in two ways (RFC 9112
//! 11.2).

use super::header::{Fault, Span, digits, elements_of, is};
use super::request::{Framing, Persistence, Rejection, RequestLimits, Version};
use super::target::is_authority;

/// The most of a header's name that is repeated in a rejection, in bytes.
const MAX_SHOWN_NAME: usize = 64;

/// What the header lines say about the message itself.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) host: Option<Span>,
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
pub(super) struct Accepted {
    pub(super) framing: Framing,
    pub(super) persistence: Persistence,
    pub(super) expects_continue: bool,
}

impl Rules {
    /// Takes the next header line. `text` is the head that the value is a part of.
    pub(super) fn apply(
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
        let Some(digits) = digits(value) else {
            return Err(Rejection::bad("malformed Content-Length"));
        };
        let length = digits.parse().ok();
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

    pub(super) fn finish(
        &self,
        version: Version,
        limits: &RequestLimits,
    ) -> Result<Accepted, Rejection> {
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

/// Why a header line is rejected.
pub(super) fn header_rejection(fault: Fault, line: &[u8]) -> Rejection {
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

const BOTH: &str = "Content-Length and Transfer-Encoding";
