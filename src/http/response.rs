//! An endpoint's response head, and how its body reaches the client.

use super::header::{Headers, Line, Span};
use super::request::Version;

/// The most header lines of a response: ureq takes no more.
const MAX_LINES: usize = 128;

/// An endpoint's response head.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// The endpoint's version.
    pub version: Version,
    /// All header lines. Their text holds the reason phrase, too.
    pub headers: Headers,
    /// Lines of this proxy's own, sent behind them.
    pub added: Headers,
    reason: Span,
}

impl ResponseHead {
    /// A head from its parts.
    #[must_use]
    pub fn new(status: u16, reason: &[u8], version: Version, mut headers: Headers) -> Self {
        Self {
            status,
            version,
            reason: headers.append(reason).unwrap_or_default(),
            headers,
            added: Headers::new(),
        }
    }

    /// The endpoint's reason phrase, byte for byte; may be empty.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.reason.in_text(self.headers.text())
    }
}

/// How long a response's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body, whatever the headers say (RFC 9110 6.4.1).
    Bodiless,
    /// In bytes.
    Known(u64),
    /// Until its end.
    Unknown,
}

/// How the end of a response's body is marked for the client (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body: HEAD, 204, 304. A `Content-Length` says what a GET would get.
    Bodiless,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
    /// The end of the connection: all that an HTTP/1.0 client understands.
    Close,
}

impl BodyFraming {
    /// The framing for a client of this version.
    #[must_use]
    pub fn of(length: BodyLength, client: Version) -> Self {
        match (length, client) {
            (BodyLength::Bodiless, _) => Self::Bodiless,
            (BodyLength::Known(length), _) => Self::Length(length),
            (BodyLength::Unknown, Version::Http11) => Self::Chunked,
            (BodyLength::Unknown, Version::Http10) => Self::Close,
        }
    }
}

/// A complete head with at most 128 lines, as httparse and thus ureq understands it; `None` if
/// it is something else.
#[must_use]
pub fn parse_head(bytes: &[u8]) -> Option<ResponseHead> {
    let mut room = [httparse::EMPTY_HEADER; MAX_LINES];
    let mut head = httparse::Response::new(&mut room);
    let Ok(httparse::Status::Complete(length)) = head.parse(bytes) else {
        return None;
    };
    let text = bytes.get(..length)?;
    let lines = head.headers.iter().map(|line| {
        Some(Line {
            name: Span::of(line.name.as_bytes(), text)?,
            value: Span::of(line.value, text)?,
        })
    });
    Some(ResponseHead {
        status: head.code?,
        version: match head.version? {
            0 => Version::Http10,
            _ => Version::Http11,
        },
        reason: Span::of(reason(text), text)?,
        headers: Headers::from_parts(text.to_vec(), lines.collect::<Option<_>>()?),
        added: Headers::new(),
    })
}

/// The reason phrase, byte for byte: httparse returns it only where it is ASCII.
fn reason(head: &[u8]) -> &[u8] {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii_end);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let mut words = line.splitn(3, |byte| *byte == b' ');
    // An empty range of `head` and not just any empty slice.
    words.nth(2).unwrap_or(line.get(..0).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(head: &ResponseHead) -> Vec<(&[u8], &[u8])> {
        let lines = head.headers.iter();
        lines.map(|line| (line.name, line.value)).collect()
    }

    #[test]
    fn parses_status_reason_and_lines_byte_for_byte() {
        let head = parse_head(
            b"HTTP/1.1 404 Not \xe9 Found \r\nX-A: \xff b\t\r\nset-cookie: 1\r\nSet-Cookie:\r\n\r\nbody",
        )
        .unwrap();
        assert_eq!((head.status, head.version), (404, Version::Http11));
        assert_eq!(head.reason(), b"Not \xe9 Found");
        assert_eq!(
            lines(&head),
            [
                (&b"X-A"[..], &b"\xff b"[..]),
                (b"set-cookie", b"1"),
                (b"Set-Cookie", b"")
            ]
        );
        assert!(head.added.is_empty());
    }

    #[test]
    fn a_reason_may_be_empty_or_missing() {
        for head in [
            "HTTP/1.0 200 \r\n\r\n",
            "HTTP/1.0 200\r\n\r\n",
            "\r\nHTTP/1.0 200\n\n",
        ] {
            let head = parse_head(head.as_bytes()).unwrap();
            assert_eq!((head.status, head.version), (200, Version::Http10));
            assert_eq!(head.reason(), b"");
            assert!(head.headers.is_empty());
        }
    }

    #[test]
    fn what_is_no_complete_head_is_none() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(129));
        for head in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0-x\r\n\r\n", &many] {
            assert!(parse_head(head.as_bytes()).is_none(), "{head:?}");
        }
        let most = many.replacen("A: b\r\n", "", 1);
        assert_eq!(parse_head(most.as_bytes()).unwrap().headers.len(), 128);
    }

    #[test]
    fn a_head_from_parts_keeps_them() {
        let mut headers = Headers::new();
        headers.push(b"X-A", b"b");
        let head = ResponseHead::new(200, b"Fine", Version::Http11, headers);
        assert_eq!(head.reason(), b"Fine");
        assert_eq!(lines(&head), [(&b"X-A"[..], &b"b"[..])]);
    }

    #[test]
    fn an_unknown_length_is_chunked_for_http_1_1_and_ends_the_connection_for_http_1_0() {
        use BodyLength::{Bodiless, Known, Unknown};
        let table = [
            (Bodiless, Version::Http11, BodyFraming::Bodiless),
            (Known(3), Version::Http10, BodyFraming::Length(3)),
            (Unknown, Version::Http11, BodyFraming::Chunked),
            (Unknown, Version::Http10, BodyFraming::Close),
        ];
        for (length, version, wanted) in table {
            assert_eq!(BodyFraming::of(length, version), wanted);
        }
    }
}
