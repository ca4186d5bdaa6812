//! The target of a request (RFC 9112 3.2) and the authority in it or in `Host`.

use super::header::{Span, is, is_in, run, table};
use super::request::Rejection;

/// A sound request target; ranges count from the start of the request line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// RFC 9112 3.2.1; also the asterisk form (RFC 9112 3.2.4).
    Origin(Span),
    /// RFC 9112 3.2.2, with the origin form in it, which may lack its slash.
    Absolute { authority: Span, origin: Span },
}

pub(super) const NO_TARGET: &str = "request target is neither a path nor an http URL";

const SCHEMES: [&str; 2] = ["http://", "https://"];

/// What stands behind the first `at` bytes.
pub(super) fn from(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}

/// Every byte but controls, SP and `#`. More than a URI may have (RFC 3986 2); clients send
/// such targets, and endpoints get them as they are.
pub(super) fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && byte != b'#'
}

/// Whether this can be the beginning of a target.
pub(super) fn begins_as_target(text: &[u8]) -> bool {
    let begins = |scheme: &&str| {
        let length = scheme.len().min(text.len());
        let (text, scheme) = (text.get(..length), scheme.as_bytes().get(..length));
        text.zip(scheme)
            .is_some_and(|(text, scheme)| text.eq_ignore_ascii_case(scheme))
    };
    text.starts_with(b"/") || text == b"*" || SCHEMES.iter().any(begins)
}

/// The parts of a whole target, which is `span` of the head.
pub(super) fn target(text: &[u8], span: Span) -> Result<Target, Rejection> {
    if text.starts_with(b"/") || text == b"*" {
        return Ok(Target::Origin(span));
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
pub(super) fn is_authority(text: &[u8]) -> bool {
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
