//! An endpoint's response head, and how its body reaches the client.

use std::fmt;
use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime};

use super::header::{Headers, Line, Span, digits, trim};
use super::request::Version;

/// The most header lines of a response.
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

    /// How long the body is that follows this head (RFC 9112 6.3), as an answer to a HEAD or
    /// to another request.
    ///
    /// # Errors
    /// The body's end would be in doubt.
    pub fn body_length(&self, is_head: bool) -> Result<BodyLength, HeadFault> {
        let length = self.content_length()?;
        let coded = self.is_coded()?;
        Ok(if is_head || matches!(self.status, 204 | 304) {
            BodyLength::Bodiless
        } else if coded {
            BodyLength::Unknown
        } else {
            length.map_or(BodyLength::Unknown, BodyLength::Known)
        })
    }

    /// Whether there is a transfer coding; the only one that is accepted is `chunked`.
    pub fn is_coded(&self) -> Result<bool, HeadFault> {
        // RFC 2616 had `identity`, which is none.
        let mut codings = self
            .headers
            .elements("Transfer-Encoding")
            .filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        let Some(first) = codings.next() else {
            return Ok(false);
        };
        // Nothing but chunked was offered (`TE` is never sent): RFC 9112 7.4.
        if codings.next().is_some() || !first.eq_ignore_ascii_case(b"chunked") {
            return Err(HeadFault::Coding);
        }
        // RFC 9112 6.1: its end is in doubt.
        if self.version == Version::Http10 {
            return Err(HeadFault::CodingInHttp10);
        }
        Ok(true)
    }

    /// RFC 9110 8.6: the same number may be repeated.
    fn content_length(&self) -> Result<Option<u64>, HeadFault> {
        let mut length = None;
        for value in self.headers.all("Content-Length") {
            for number in value.split(|byte| *byte == b',').map(trim) {
                let number = digits(number).and_then(|digits| digits.parse().ok());
                let number = number.ok_or(HeadFault::Length)?;
                if length.is_some_and(|length| length != number) {
                    return Err(HeadFault::Lengths);
                }
                length = Some(number);
            }
        }
        Ok(length)
    }

    /// Whether the connection outlives this answer (RFC 9112 9.3).
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        let has = |option: &[u8]| {
            let mut options = self.headers.elements("Connection");
            options.any(|element| element.eq_ignore_ascii_case(option))
        };
        !has(b"close") && (self.version == Version::Http11 || has(b"keep-alive"))
    }

    /// Whether the head has two framings, or one for a body where there is none: what comes
    /// next on the connection may belong to this answer (RFC 9112 6.3, RFC 9110 8.6).
    #[must_use]
    pub fn contradicts_itself(&self) -> bool {
        let is_coded = || self.headers.get("Transfer-Encoding").is_some();
        let length = self.headers.get("Content-Length");
        match (self.status, length) {
            (204, Some(b"0")) => is_coded(),
            (204, length) => length.is_some() || is_coded(),
            (_, length) => length.is_some() && self.is_coded() == Ok(true),
        }
    }

    /// How long the sender asks to be left alone (`Retry-After`, RFC 9110 10.2.3), in whole
    /// seconds: a date is exact to a second, and is not missed. Of several lines the longest time
    /// counts: a proxy in between may have added one. `None`: it does not say so in a form that
    /// is known.
    #[must_use]
    pub fn retry_after(&self, now: SystemTime) -> Option<Duration> {
        let values = self.headers.all("Retry-After");
        values.filter_map(|value| time_left(value, now)).max()
    }

    /// The body is encoded (RFC 9110 8.4): its bytes are not those of its text.
    #[must_use]
    pub fn is_encoded(&self) -> bool {
        let mut codings = self.headers.elements("Content-Encoding");
        codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    }

    /// The body is a stream of events, records or pictures, each of which is wanted at once.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        const STREAMS: [&[u8]; 6] = [
            b"text/event-stream",
            b"application/x-ndjson",
            b"application/jsonl",
            b"application/json-seq",
            b"application/stream+json",
            b"multipart/x-mixed-replace",
        ];
        // And with what is added to it, such as `application/grpc-web+proto`.
        const GRPC: &[u8] = b"application/grpc";
        let kind = self.headers.get("Content-Type").unwrap_or_default();
        let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default();
        let essence = trim(essence);
        let begin = essence.get(..GRPC.len()).unwrap_or_default();
        begin.eq_ignore_ascii_case(GRPC)
            || STREAMS
                .iter()
                .any(|stream| essence.eq_ignore_ascii_case(stream))
    }

    /// The endpoint's reason phrase, byte for byte; may be empty.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.reason.in_text(self.headers.text())
    }
}

/// The time that a value of `Retry-After` says. Beyond the standard, what can only mean one thing is
/// read as well: quotes, fractions of a second, and several numbers, of which the longest counts as
/// with several lines (a proxy in between may have joined them).
fn time_left(value: &[u8], now: SystemTime) -> Option<Duration> {
    let value = std::str::from_utf8(value).ok()?;
    if let Ok(at) = httpdate::parse_http_date(value.trim_matches('"')) {
        let left = at.duration_since(now).unwrap_or_default();
        return Some(Duration::from_secs(whole_seconds(left)));
    }
    let numbers = value.split(',').filter_map(|number| {
        let number = number.trim_matches(['"', ' ', '\t']);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let (whole, fraction) = (digits(whole.as_bytes())?, digits(fraction.as_bytes())?);
        // What is too large for the type is longer than any limit.
        let whole: u64 = whole.parse().unwrap_or(u64::MAX);
        let is_more = fraction.bytes().any(|digit| digit != b'0');
        Some(whole.saturating_add(is_more.into()))
    });
    numbers.max().map(Duration::from_secs)
}

/// A span in whole seconds, rounded up, as `Retry-After` has it.
#[must_use]
pub fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
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

/// Parses the head at the start of `bytes`, which has at most 128 lines; returns it with its
/// length in bytes, the empty line included. `None`: it is not complete yet.
///
/// A blank between a name and its colon is dropped (RFC 9112 5.1).
pub fn parse_head(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, HeadFault> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_LINES];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .allow_spaces_after_header_name_in_responses(true)
        .parse_response_with_uninit_headers(&mut head, bytes, &mut room)
        .map_err(|error| HeadFault::of(error, bytes))?;
    let httparse::Status::Complete(length) = parsed else {
        return Ok(None);
    };
    let parts = || {
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
    };
    // A complete head has all of its parts.
    let head = parts().ok_or(HeadFault::Syntax(httparse::Error::Status))?;
    if head.status < 100 {
        return Err(HeadFault::Syntax(httparse::Error::Status));
    }
    Ok(Some((head, length)))
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// It does not follow the grammar.
    Syntax(httparse::Error),
    /// It does not begin with `HTTP/1.`.
    NotHttp,
    /// It is a record of TLS (RFC 8446 5.1): an alert, most likely.
    Tls,
    /// A `Content-Length` is no number.
    Length,
    /// Two `Content-Length` differ.
    Lengths,
    /// A transfer coding that was not offered.
    Coding,
    /// A transfer coding in an HTTP/1.0 answer.
    CodingInHttp10,
}

impl HeadFault {
    fn of(error: httparse::Error, bytes: &[u8]) -> Self {
        match (error, bytes) {
            (httparse::Error::Version, [0x15 | 0x16, 0x03, ..]) => Self::Tls,
            (httparse::Error::Version, _) if !bytes.starts_with(b"HTTP/1.") => Self::NotHttp,
            _ => Self::Syntax(error),
        }
    }
}

impl fmt::Display for HeadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => write!(f, "no valid HTTP answer: {error}"),
            Self::NotHttp => f.write_str("no HTTP/1 answer"),
            Self::Tls => f.write_str("the endpoint speaks TLS (is it https://?)"),
            Self::Length => f.write_str("no valid HTTP answer: malformed content-length"),
            Self::Lengths => f.write_str("no valid HTTP answer: more than one content-length"),
            Self::Coding => f.write_str("unknown transfer coding"),
            Self::CodingInHttp10 => f.write_str("transfer coding in an HTTP/1.0 answer"),
        }
    }
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

    fn parsed(bytes: &[u8]) -> (ResponseHead, usize) {
        parse_head(bytes).unwrap().unwrap()
    }

    fn lines(head: &ResponseHead) -> Vec<(&[u8], &[u8])> {
        let lines = head.headers.iter();
        lines.map(|line| (line.name, line.value)).collect()
    }

    #[test]
    fn parses_status_reason_and_lines_byte_for_byte() {
        let (head, _) = parsed(
            b"HTTP/1.1 404 Not \xe9 Found \r\nX-A: \xff b\t\r\nset-cookie: 1\r\nSet-Cookie:\r\n\r\nbody",
        );
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
            let (head, _) = parsed(head.as_bytes());
            assert_eq!((head.status, head.version), (200, Version::Http10));
            assert_eq!(head.reason(), b"");
            assert!(head.headers.is_empty());
        }
    }

    #[test]
    fn an_invalid_head_is_an_error_and_an_incomplete_one_is_not() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(129));
        for head in [
            "SSH-2.0-x\r\n",
            "HTTP/1.1 099 X\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\n A: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: c\r\n\r\n",
            &many,
        ] {
            assert!(parse_head(head.as_bytes()).is_err(), "{head:?}");
        }
        for head in [
            "",
            "H",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n",
        ] {
            assert!(parse_head(head.as_bytes()).unwrap().is_none(), "{head:?}");
        }
        let most = many.replacen("A: b\r\n", "", 1);
        let (head, length) = parsed(most.as_bytes());
        assert_eq!((head.headers.len(), length), (128, most.len()));
    }

    #[test]
    fn a_blank_in_front_of_a_colon_is_dropped() {
        let (head, _) = parsed(b"HTTP/1.1 200 OK\r\nX-A : b\r\nX-C\t : d\r\n\r\n");
        assert_eq!(lines(&head), [(&b"X-A"[..], &b"b"[..]), (b"X-C", b"d")]);
    }

    #[test]
    fn the_length_of_a_body_is_what_rfc_9112_makes_of_the_head() {
        use BodyLength::{Bodiless, Known, Unknown};
        let both = "Transfer-Encoding: chunked\r\nContent-Length: 5";
        let table = [
            ("200", "Content-Length: 5", false, Ok(Known(5))),
            ("200", "Content-Length: 0", false, Ok(Known(0))),
            ("200", "Content-Length: 5, 5", false, Ok(Known(5))),
            ("200", "X: y", false, Ok(Unknown)),
            ("200", "Transfer-Encoding: Chunked", false, Ok(Unknown)),
            ("200", both, false, Ok(Unknown)),
            (
                "200",
                "Transfer-Encoding: identity\r\nContent-Length: 5",
                false,
                Ok(Known(5)),
            ),
            ("200", "Content-Length: 5", true, Ok(Bodiless)),
            ("204", "Content-Length: 5", false, Ok(Bodiless)),
            ("304", "Content-Length: 5", false, Ok(Bodiless)),
            ("200", "Content-Length: x", false, Err(HeadFault::Length)),
            ("200", "Content-Length: x", true, Err(HeadFault::Length)),
            ("200", "Content-Length: +5", false, Err(HeadFault::Length)),
            ("200", "Content-Length: 5,", false, Err(HeadFault::Length)),
            ("200", "Content-Length:", false, Err(HeadFault::Length)),
            (
                "200",
                "Content-Length: 18446744073709551616",
                false,
                Err(HeadFault::Length),
            ),
            (
                "200",
                "Content-Length: 5, 6",
                false,
                Err(HeadFault::Lengths),
            ),
            (
                "200",
                "Content-Length: 5\r\nContent-Length: 6",
                false,
                Err(HeadFault::Lengths),
            ),
            (
                "200",
                "Transfer-Encoding: gzip, chunked",
                false,
                Err(HeadFault::Coding),
            ),
        ];
        for (status, headers, is_head, wanted) in table {
            let head = format!("HTTP/1.1 {status} X\r\n{headers}\r\n\r\n");
            let (head, _) = parsed(head.as_bytes());
            assert_eq!(head.body_length(is_head), wanted, "{status} {headers}");
        }
        let (old, _) = parsed(b"HTTP/1.0 200 X\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(old.body_length(false), Err(HeadFault::CodingInHttp10));
    }

    #[test]
    fn a_connection_persists_as_its_version_and_its_options_say() {
        for (version, connection, wanted) in [
            ("1.1", "x", true),
            ("1.1", "x, Close", false),
            ("1.0", "x", false),
            ("1.0", "Keep-Alive", true),
            ("1.0", "keep-alive, close", false),
        ] {
            let head = format!("HTTP/{version} 200 X\r\nConnection: {connection}\r\n\r\n");
            let (head, _) = parsed(head.as_bytes());
            assert_eq!(head.is_persistent(), wanted, "{version} {connection}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_of_any_form_also_quoted_or_listed() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_400);
        for (value, wanted) in [
            ("120", Some(120)),
            ("0", Some(0)),
            (" 007\t", Some(7)),
            ("18446744073709551616", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun Nov  6 08:49:47 1994", Some(10)),
            ("Sun, 06 Nov 1994 08:49:38 GMT", Some(1)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sat, 05 Nov 1994 08:49:37 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1s", None),
            ("1,5,3", Some(5)),
            ("5, 7", Some(7)),
            ("soon, 7", Some(7)),
            ("\"5\"", Some(5)),
            ("\"5\", \"7\"", Some(7)),
            ("\"Sun, 06 Nov 1994 08:49:47 GMT\"", Some(10)),
            ("1.5", Some(2)),
            ("2.000", Some(2)),
            ("18446744073709551615.5", Some(u64::MAX)),
            (".5", None),
            ("5.", None),
            ("-1.5", None),
            ("1.5.5", None),
            ("\"\"", None),
            (",", None),
            ("soon", None),
            ("\u{e9}", None),
            ("5\r\nRetry-After: 30\r\nRetry-After: 7", Some(30)),
            ("soon\r\nRetry-After: 7", Some(7)),
            ("7\r\nRetry-After: Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
        ] {
            let head = format!("HTTP/1.1 503 X\r\nretry-after: {value}\r\n\r\n");
            let (head, _) = parsed(head.as_bytes());
            let wanted = wanted.map(Duration::from_secs);
            assert_eq!(head.retry_after(now), wanted, "{value:?}");
        }
        let (head, _) = parsed(b"HTTP/1.1 503 X\r\n\r\n");
        assert_eq!(head.retry_after(now), None);
    }

    #[test]
    fn streams_are_known_by_their_type() {
        for (kind, wanted) in [
            ("text/event-stream", true),
            ("Text/Event-Stream ; charset=utf-8", true),
            ("application/x-ndjson", true),
            ("application/jsonl", true),
            ("application/json-seq", true),
            ("application/stream+json;x=y", true),
            ("multipart/x-mixed-replace; boundary=b", true),
            ("application/grpc", true),
            ("application/gRPC-web+proto", true),
            ("application/json", false),
            ("application/jso", false),
            ("application/jsonlines-not", false),
            ("text/plain; application/jsonl", false),
            ("", false),
        ] {
            let head = format!("HTTP/1.1 200 X\r\nContent-Type: {kind}\r\n\r\n");
            let (head, _) = parsed(head.as_bytes());
            assert_eq!(head.is_stream(), wanted, "{kind}");
        }
        let (head, _) = parsed(b"HTTP/1.1 200 X\r\n\r\n");
        assert!(!head.is_stream());
    }

    #[test]
    fn two_framings_or_one_without_a_body_contradict() {
        for (status, headers, wanted) in [
            ("200", "Content-Length: 5", false),
            ("200", "Transfer-Encoding: chunked", false),
            (
                "200",
                "Transfer-Encoding: chunked\r\nContent-Length: 5",
                true,
            ),
            (
                "200",
                "Transfer-Encoding: identity\r\nContent-Length: 5",
                false,
            ),
            ("304", "Content-Length: 5", false),
            ("204", "X: y", false),
            ("204", "Content-Length: 0", false),
            ("204", "Content-Length: 5", true),
            ("204", "Transfer-Encoding: chunked", true),
        ] {
            let head = format!("HTTP/1.1 {status} X\r\n{headers}\r\n\r\n");
            let (head, _) = parsed(head.as_bytes());
            assert_eq!(head.contradicts_itself(), wanted, "{status} {headers}");
        }
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
