//! One client request on its way: the checked head, and why one is refused.
//!
//! `tiny_http` is lenient; a proxy must not be: what two parsers read in two ways is
//! how requests are smuggled. So every head is checked before anything is forwarded,
//! and what is doubtful is refused (RFC 9112 section 11.2).

use std::fmt;
use std::net::SocketAddr;

use tiny_http::{HTTPVersion, Request};

use crate::body::{Body, body_too_large};
use crate::forward::{Header, Persistence, RequestHead, Version, elements, is};
use crate::leniency::Leniency;

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code that tells the client.
    pub status: u16,
    /// Why, for the client and for the log.
    pub reason: String,
}

impl Refusal {
    /// A refusal with this status code.
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    pub(crate) fn bad(reason: impl Into<String>) -> Self {
        Self::new(400, reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.status)
    }
}

/// How the end of the request's body is found (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither `Content-Length` nor `Transfer-Encoding`.
    None,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A client's request whose head is sound.
#[derive(Debug)]
pub struct Checked {
    /// What is forwarded.
    pub head: RequestHead,
    /// What the client is told of its connection.
    pub persistence: Persistence,
    /// `tiny_http` closes the connection after this request without being told.
    pub closes_by_itself: bool,
    /// How the end of its body is found.
    pub framing: Framing,
    /// The head's length in bytes, as clients usually write it.
    pub usual_length: u64,
    /// `tiny_http` hands over the bare connection instead of a body.
    pub bare: bool,
}

impl Checked {
    /// The request's length in bytes with its body, as clients usually write it; `None`
    /// where there is no usual way.
    #[must_use]
    pub fn usual_length_with(&self, body: &Body) -> Option<u64> {
        match self.framing {
            Framing::None | Framing::Length(_) => {
                Some(self.usual_length + body.length().unwrap_or(0))
            }
            Framing::Chunked => None,
        }
    }
}

/// How large requests may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// `-max-header`
    pub head: u64,
    /// `-max-body`
    pub body: u64,
}

/// Checks a request's head.
pub fn check(request: &Request, client: SocketAddr, sizes: Sizes) -> Result<Checked, Refusal> {
    let version = match *request.http_version() {
        HTTPVersion(1, 0) => Version::Http10,
        HTTPVersion(1, 1) => Version::Http11,
        _ => return Err(Refusal::new(505, "HTTP version not supported")),
    };
    let method = request.method().as_str();
    if !is_token(method) {
        return Err(Refusal::bad("malformed method"));
    }
    if method == "CONNECT" {
        return Err(Refusal::new(405, "CONNECT is not supported"));
    }
    let headers: Vec<Header> = request
        .headers()
        .iter()
        .map(|header| {
            (
                header.field.as_str().to_string(),
                header.value.as_bytes().to_vec(),
            )
        })
        .collect();
    for (name, value) in &headers {
        if !is_token(name) {
            return Err(Refusal::bad("malformed header name"));
        }
        if value
            .iter()
            .any(|byte| byte.is_ascii_control() && *byte != b'\t')
        {
            return Err(Refusal::bad(format!("control character in header {name}")));
        }
    }
    let framing = framing(&headers, version)?;
    if matches!(framing, Framing::Length(length) if length > sizes.body) {
        return Err(body_too_large(sizes.body));
    }
    let lines = headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + ": \r\n".len());
    let usual_length =
        method.len() + request.url().len() + "  HTTP/1.1\r\n\r\n".len() + lines.sum::<usize>();
    if usual_length as u64 > sizes.head {
        let reason = format!(
            "request head larger than {} bytes (-max-header)",
            sizes.head
        );
        return Err(Refusal::new(431, reason));
    }
    let host = host(&headers, version)?;
    let (target, authority) = origin_form(request.url(), method)?;
    let leniency = Leniency::of(request);
    Ok(Checked {
        persistence: persistence(&headers, version, leniency),
        head: RequestHead {
            method: method.to_owned(),
            target,
            version,
            host: authority.or(host),
            headers,
            client: client.ip().to_canonical(),
        },
        closes_by_itself: leniency.close,
        framing,
        usual_length: usual_length as u64,
        bare: leniency.upgrade,
    })
}

fn framing(headers: &[Header], version: Version) -> Result<Framing, Refusal> {
    let mut lengths = headers
        .iter()
        .filter(|(name, _)| is(name, "Content-Length"));
    let mut codings = headers
        .iter()
        .filter(|(name, _)| is(name, "Transfer-Encoding"));
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Framing::None),
        (Some(_), Some(_)) => Err(Refusal::bad("Content-Length and Transfer-Encoding")),
        (Some((_, value)), None) => {
            if lengths.next().is_some() {
                return Err(Refusal::bad("more than one Content-Length"));
            }
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            if !digits {
                return Err(Refusal::bad("malformed Content-Length"));
            }
            // Digits alone do not parse where there are too many of them.
            let length = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| Refusal::bad("Content-Length is too large a number"))?;
            Ok(Framing::Length(length))
        }
        (None, Some((_, value))) => {
            // An HTTP/1.0 message with a transfer coding has a doubtful end: RFC 9112 6.1.
            if version == Version::Http10 {
                return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
            }
            if codings.next().is_some() || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::bad("Transfer-Encoding other than chunked"));
            }
            Ok(Framing::Chunked)
        }
    }
}

/// RFC 9112 3.2: exactly one `Host` in HTTP/1.1, at most one before.
fn host(headers: &[Header], version: Version) -> Result<Option<String>, Refusal> {
    let mut hosts = headers.iter().filter(|(name, _)| is(name, "Host"));
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::Http11 => Err(Refusal::bad("no Host")),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Refusal::bad("more than one Host")),
        (Some((_, value)), None) => match std::str::from_utf8(value) {
            Ok(host) if is_authority(host) => Ok(Some(host.to_owned())),
            _ => Err(Refusal::bad("malformed Host")),
        },
    }
}

/// The request target in origin form, and the authority of an absolute form, which
/// counts more than `Host` (RFC 9112 3.2).
fn origin_form(target: &str, method: &str) -> Result<(String, Option<String>), Refusal> {
    let sound = target
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !sound {
        return Err(Refusal::bad("malformed request target"));
    }
    if target.starts_with('/') {
        return Ok((target.to_owned(), None));
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (head, rest) = target.split_at_checked(scheme.len())?;
        is(head, scheme).then_some(rest)
    });
    let Some(rest) = rest else {
        let reason = if target == "*" && method == "OPTIONS" {
            "OPTIONS * can't be forwarded"
        } else {
            "request target is neither a path nor an http URL"
        };
        return Err(Refusal::bad(reason));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if authority.is_empty() || !is_authority(authority) {
        return Err(Refusal::bad("malformed host in the request target"));
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((format!("{slash}{path}"), Some(authority.to_owned())))
}

/// `uri-host [":" port]`, without user information (RFC 9110 7.2, 4.2.4).
fn is_authority(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:[]%".contains(&byte))
}

/// RFC 9110 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// RFC 9112 9.3, and never more than `tiny_http` will do.
fn persistence(headers: &[Header], version: Version, leniency: Leniency) -> Persistence {
    let says = |word: &str| {
        elements(headers, "Connection").any(|element| element.eq_ignore_ascii_case(word.as_bytes()))
    };
    if leniency.close || says("close") {
        Persistence::Close
    } else if version == Version::Http11 {
        Persistence::Stays
    } else if says("keep-alive") {
        Persistence::KeepAlive
    } else {
        Persistence::Close
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Vec<Header> {
        lines
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn framing_is_plain_or_refused() {
        type Row<'a> = (&'a [(&'a str, &'a str)], Option<Framing>);
        let length = "Content-Length";
        let coding = "Transfer-Encoding";
        let table: [Row<'_>; 15] = [
            (&[], Some(Framing::None)),
            (&[(length, "0")], Some(Framing::Length(0))),
            (&[("content-length", "12")], Some(Framing::Length(12))),
            (
                &[(length, "18446744073709551615")],
                Some(Framing::Length(u64::MAX)),
            ),
            (&[(length, "18446744073709551616")], None),
            (&[(length, "+5")], None),
            (&[(length, "-5")], None),
            (&[(length, "5, 5")], None),
            (&[(length, "0x5")], None),
            (&[(length, "")], None),
            (&[(length, "5"), (length, "5")], None),
            (&[(coding, "Chunked")], Some(Framing::Chunked)),
            (&[(coding, "gzip, chunked")], None),
            (&[(coding, "chunked"), (coding, "chunked")], None),
            (&[(coding, "chunked"), (length, "5")], None),
        ];
        for (lines, wanted) in table {
            let found = framing(&headers(lines), Version::Http11);
            assert_eq!(found.ok(), wanted, "{lines:?}");
        }
        assert!(framing(&headers(&[(coding, "chunked")]), Version::Http10).is_err());
    }

    #[test]
    fn hosts_are_counted_and_checked() {
        type Row<'a> = (&'a [&'a str], Version, Option<Option<&'a str>>);
        let table: [Row<'_>; 8] = [
            (&["a:80"], Version::Http11, Some(Some("a:80"))),
            (&["[::1]:80"], Version::Http11, Some(Some("[::1]:80"))),
            (&[""], Version::Http11, Some(Some(""))),
            (&[], Version::Http11, None),
            (&[], Version::Http10, Some(None)),
            (&["a", "a"], Version::Http11, None),
            (&["a b"], Version::Http11, None),
            (&["a/b"], Version::Http11, None),
        ];
        for (values, version, wanted) in table {
            let lines: Vec<_> = values.iter().map(|value| ("Host", *value)).collect();
            let found = host(&headers(&lines), version);
            let wanted = wanted.map(|host| host.map(str::to_owned));
            assert_eq!(found.ok(), wanted, "{values:?}");
        }
    }

    #[test]
    fn every_form_of_a_target_becomes_the_origin_form() {
        let table = [
            ("/a//b/../c?d=%2F", Some(("/a//b/../c?d=%2F", None))),
            ("/\"<>`{}|\\^", Some(("/\"<>`{}|\\^", None))),
            ("http://h/p?q", Some(("/p?q", Some("h")))),
            ("HTTPS://h:8/p", Some(("/p", Some("h:8")))),
            ("http://h", Some(("/", Some("h")))),
            ("http://h?q", Some(("/?q", Some("h")))),
            ("http:///p", None),
            ("http://u@h/", None),
            ("ftp://h/", None),
            ("*", None),
            ("a", None),
            ("/a#b", None),
            ("/a\u{7f}", None),
            ("", None),
        ];
        for (target, wanted) in table {
            let wanted = wanted.map(|(target, authority): (&str, Option<&str>)| {
                (target.to_owned(), authority.map(str::to_owned))
            });
            assert_eq!(origin_form(target, "GET").ok(), wanted, "{target:?}");
        }
    }

    #[test]
    fn a_connection_stays_only_if_both_sides_think_so() {
        let table = [
            (Version::Http11, "", Persistence::Stays),
            (Version::Http11, "keep-alive", Persistence::Stays),
            (Version::Http11, "X, CLOSE", Persistence::Close),
            (
                Version::Http11,
                "Upgrade, HTTP2-Settings",
                Persistence::Close,
            ),
            // That is what tiny_http makes of it.
            (Version::Http11, "enclosed", Persistence::Close),
            (Version::Http10, "", Persistence::Close),
            (Version::Http10, "Keep-Alive", Persistence::KeepAlive),
            (Version::Http10, "not-keep-alive", Persistence::Close),
        ];
        for (version, connection, wanted) in table {
            let minor = u8::from(version == Version::Http11);
            let mut request = tiny_http::TestRequest::new();
            if !connection.is_empty() {
                let line = format!("Connection: {connection}");
                request = request.with_header(line.parse().unwrap());
            }
            let request = request.with_http_version(HTTPVersion(1, minor)).into();
            let leniency = Leniency::of(&request);
            let headers = headers(&[("Connection", connection)]);
            assert_eq!(
                persistence(&headers, version, leniency),
                wanted,
                "{version:?} {connection}"
            );
        }
    }
}
