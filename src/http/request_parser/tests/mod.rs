//! Tables for every rule of a request head. Each row is parsed in one piece, in two pieces
//! at every place, and byte by byte: the outcome is the same.

mod header_lines;
mod request_line;

use super::*;
use crate::http::request::{Framing, Persistence};

const LIMITS: RequestLimits = RequestLimits {
    head: 64 * 1024,
    body: 1 << 40,
};

fn client() -> IpAddr {
    "10.0.0.1".parse().unwrap()
}

type Parsed = Result<Option<(ValidatedRequest, usize)>, Rejection>;

/// The outcome when the bytes come in pieces that end there.
fn parse_pieces(bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Parsed {
    let mut parser = RequestParser::new();
    for end in ends {
        let parsed = parser.parse(&bytes[..end], client(), &LIMITS);
        if !matches!(parsed, Ok(None)) {
            return parsed;
        }
    }
    Ok(None)
}

/// What can be compared of an outcome.
fn summary(parsed: &Parsed) -> String {
    match parsed {
        Ok(None) => "more".to_owned(),
        Ok(Some((request, length))) => format!("{length} {request:?}"),
        Err(rejection) => format!("{rejection} {}", rejection.is_head),
    }
}

/// The outcome, which is the same wherever the bytes are split.
fn parse(bytes: impl AsRef<[u8]>) -> Parsed {
    let bytes = bytes.as_ref();
    let whole = parse_pieces(bytes, [bytes.len()]);
    let wanted = summary(&whole);
    let text = String::from_utf8_lossy(bytes);
    let singly = parse_pieces(bytes, 0..=bytes.len());
    assert_eq!(summary(&singly), wanted, "byte by byte: {text:?}");
    for at in 0..bytes.len() {
        let halves = parse_pieces(bytes, [at, bytes.len()]);
        assert_eq!(summary(&halves), wanted, "split at {at}: {text:?}");
    }
    whole
}

fn accepted(bytes: impl AsRef<[u8]>) -> ValidatedRequest {
    let bytes = bytes.as_ref();
    match parse(bytes) {
        Ok(Some((request, length))) => {
            assert_eq!(length, bytes.len());
            request
        }
        other => panic!("{}: {}", String::from_utf8_lossy(bytes), summary(&other)),
    }
}

fn rejected(bytes: impl AsRef<[u8]>) -> Rejection {
    let bytes = bytes.as_ref();
    match parse(bytes) {
        Err(rejection) => rejection,
        other => panic!("{}: {}", String::from_utf8_lossy(bytes), summary(&other)),
    }
}

#[test]
fn a_head_is_kept_byte_for_byte() {
    let request = accepted(
        b"GET /a//b/../c?d=%2F&\xe9 HTTP/1.1\r\nhOsT: h:80\r\nX-b:1\r\nX-B:\t \xff2 \t\r\nX-b: \r\n\r\n",
    );
    let head = &request.head;
    assert_eq!(head.method(), "GET");
    assert_eq!(head.target(), b"/a//b/../c?d=%2F&\xe9");
    assert_eq!(head.version(), Version::Http11);
    assert_eq!(head.host(), Some(&b"h:80"[..]));
    assert_eq!(head.client(), client());
    let lines: Vec<_> = head
        .headers()
        .iter()
        .map(|line| (line.name, line.value))
        .collect();
    assert_eq!(
        lines,
        [
            (&b"hOsT"[..], &b"h:80"[..]),
            (b"X-b", b"1"),
            (b"X-B", b"\xff2"),
            (b"X-b", b"")
        ]
    );
    assert_eq!(request.framing, Framing::None);
    assert_eq!(request.persistence, Persistence::Stays);
    assert!(!request.expects_continue);
}

/// The reason why a request is rejected, and the status code.
fn reason(bytes: impl AsRef<[u8]>) -> (u16, String) {
    let rejection = rejected(bytes);
    assert!(!rejection.reason.contains(char::is_control));
    (rejection.status, rejection.reason.into_owned())
}

fn bad(reason: &str) -> (u16, String) {
    (400, reason.to_owned())
}

/// A request with these header lines, `|` standing for CRLF.
fn with(lines: &str) -> String {
    let lines = lines.replace('|', "\r\n");
    format!("POST /p HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n")
}

#[test]
fn bytes_behind_the_head_are_left_alone() {
    let head = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for rest in ["GET / HTTP/1.1\r\n", "\r\n", "\n", "\0", "\x16\x03"] {
        let parsed = parse_pieces(
            format!("{head}{rest}").as_bytes(),
            [head.len() + rest.len()],
        );
        assert_eq!(parsed.unwrap().unwrap().1, head.len());
    }
}

#[test]
fn one_parser_parses_one_request_after_the_other() {
    let mut parser = RequestParser::new();
    let second = "\r\nPOST /2 HTTP/1.0\r\nContent-Length: 1\r\nConnection: close\r\n\r\n";
    for (head, target) in [
        (
            "GET /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            "/1",
        ),
        (second, "/2"),
        ("PUT /3 HTTP/1.1\r\nHost: i\r\n\r\n", "/3"),
    ] {
        let (head, bytes) = (head.as_bytes(), [head.as_bytes(), b"rest"].concat());
        assert!(matches!(
            parser.parse(&bytes[..1], client(), &LIMITS),
            Ok(None)
        ));
        let (request, length) = parser.parse(&bytes, client(), &LIMITS).unwrap().unwrap();
        assert_eq!(length, head.len());
        assert_eq!(request.head.target(), target.as_bytes());
        assert!(!parser.has_begun());
    }
}

#[test]
fn an_incomplete_head_needs_more_wherever_it_ends() {
    let head = b"\r\nHEAD http://h/p HTTP/1.1\r\nHost: h\r\nX: \xff\r\nY:\r\n\r\n";
    for end in 0..head.len() {
        assert_eq!(summary(&parse(&head[..end])), "more", "{end}");
    }
    assert!(accepted(head).head.is_head());
}

#[test]
fn a_bad_byte_is_rejected_when_it_comes() {
    for (start, byte) in [
        ("G", b'('),
        ("GET /a", b'\r'),
        ("GET / HTTP/1.1", b' '),
        ("GET / HTTP/1.1\r", b'x'),
        ("GET / HTTP/1.1\r\n", b' '),
        ("GET / HTTP/1.1\r\n", b'\t'),
        ("GET / HTTP/1.1\r\n", b'\n'),
        ("GET / HTTP/1.1\r\n", b':'),
        ("GET / HTTP/1.1\r\n\r", b'G'),
        ("GET / HTTP/1.1\r\nHost", b' '),
        ("GET / HTTP/1.1\r\nX", b'\r'),
        ("GET / HTTP/1.1\r\nX: a", b'\n'),
        ("GET / HTTP/1.1\r\nX: a", 0),
        ("GET / HTTP/1.1\r\nX: a\r", b'\r'),
        ("GET / HTTP/1.1\r\nX:", 0x0b),
        ("GET / HTTP/1.1\r\nX: a\r\n", b' '),
        ("GET / HTTP/1.1\r\nX: a\r\n", b'\n'),
    ] {
        assert_eq!(summary(&parse(start)), "more", "{start:?}");
        let mut bytes = start.as_bytes().to_vec();
        bytes.push(byte);
        assert_eq!(reason(bytes).0, 400, "{start:?} {byte}");
    }
}

#[test]
fn a_rejected_head_request_is_known_as_such() {
    for (head, wanted) in [
        ("HEAD /\0", true),
        ("HEAD / HTTP/1.1\r\n\r\n", true),
        (
            "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
            true,
        ),
        ("\r\nHEAD / HTTP/1.1\r\nX: \0", true),
        ("GET / HTTP/1.1\r\n\r\n", false),
        ("head / HTTP/1.1\r\n\r\n", false),
        ("HEAD\0", false),
        ("HEADER / HTTP/1.1\r\n\r\n", false),
    ] {
        assert_eq!(rejected(head).is_head, wanted, "{head:?}");
    }
    let request = accepted("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(Rejection::body_too_large(1).of(&request.head).is_head);
    assert_eq!(
        Rejection::broken_off(3).to_string(),
        "request body broken off after 3 bytes (400)"
    );
}

#[test]
fn a_head_beyond_the_limit_is_rejected_when_it_is_reached() {
    let head = b"\r\nGET / HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n";
    let too_large = |limit| format!("request head larger than {limit} bytes (-max-header) (431)");
    // The empty line in front does not count.
    for limit in 0..head.len() + 3 {
        let limits = RequestLimits {
            head: limit as u64,
            ..LIMITS
        };
        let outcome = |ends: &mut dyn Iterator<Item = usize>| {
            let mut parser = RequestParser::new();
            for end in ends {
                match parser.parse(&head[..end], client(), &limits) {
                    Ok(None) => {}
                    Ok(Some((_, length))) => return (end, length.to_string()),
                    Err(rejection) => return (end, rejection.to_string()),
                }
            }
            panic!("more")
        };
        let at_once = outcome(&mut std::iter::once(head.len()));
        let singly = outcome(&mut (0..=head.len()));
        if limit < head.len() - 2 {
            assert_eq!(at_once, (head.len(), too_large(limit)));
            // With nothing allowed, the first byte is too much.
            assert_eq!(singly, (2 + limit.max(1), too_large(limit)));
        } else {
            assert_eq!(at_once, (head.len(), head.len().to_string()));
            assert_eq!(singly, at_once);
        }
    }
}

#[test]
fn what_comes_first_is_the_reason() {
    let limits = RequestLimits { head: 40, ..LIMITS };
    for (place, wanted) in [(20, 400), (39, 400), (40, 431), (60, 431)] {
        let mut head = b"GET / HTTP/1.1\r\nX: ".to_vec();
        head.resize(place, b'a');
        head.push(0);
        head.resize(100, b'a');
        let whole = RequestParser::new().parse(&head, client(), &limits);
        assert_eq!(whole.unwrap_err().status, wanted, "{place}");
        let mut parser = RequestParser::new();
        let singly =
            (0..head.len()).find_map(|end| parser.parse(&head[..end], client(), &limits).err());
        assert_eq!(singly.unwrap().status, wanted, "{place}");
    }
}

#[test]
fn the_number_of_lines_is_not_limited() {
    for number in [62, 63, 64, 65, 128, 1000] {
        let mut head = b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec();
        for line in 0..number {
            head.extend_from_slice(format!("X-{line}: {line}\r\n").as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        let request = if number < 100 {
            accepted(&head)
        } else {
            parse_pieces(&head, [head.len()]).unwrap().unwrap().0
        };
        let headers = request.head.headers();
        assert_eq!(headers.len(), number + 1);
        for (line, header) in headers.iter().skip(1).enumerate() {
            assert_eq!(header.name, format!("X-{line}").as_bytes());
            assert_eq!(header.value, line.to_string().as_bytes());
        }
    }
}

#[test]
fn a_million_lines_are_accepted_byte_by_byte_in_linear_time() {
    let limits = RequestLimits {
        head: 1 << 30,
        ..LIMITS
    };
    let mut head = b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec();
    head.extend_from_slice(&b"a:\r\n".repeat(1_000_000));
    head.extend_from_slice(b"\r\n");
    let mut parser = RequestParser::new();
    // Each call takes less than a microsecond; were it the square, this would take hours.
    for end in (0..head.len()).step_by(64) {
        assert!(matches!(
            parser.parse(&head[..end], client(), &limits),
            Ok(None)
        ));
    }
    let (request, length) = parser.parse(&head, client(), &limits).unwrap().unwrap();
    assert_eq!(length, head.len());
    assert_eq!(request.head.headers().len(), 1_000_001);

    // The same for one line.
    let mut head = b"GET / HTTP/1.1\r\nHost: h\r\nX: ".to_vec();
    head.resize(1 << 18, b'x');
    let mut parser = RequestParser::new();
    for end in 0..head.len() {
        assert!(matches!(
            parser.parse(&head[..end], client(), &limits),
            Ok(None)
        ));
    }
}

#[test]
fn a_head_from_parts_keeps_them() {
    let mut headers = Headers::new();
    headers.push(b"X-A", b"b");
    let head = RequestHead::new(
        "HEAD",
        b"/\xff",
        Version::Http10,
        Some(b"h"),
        headers,
        client(),
    );
    assert_eq!(head.method(), "HEAD");
    assert!(head.is_head());
    assert_eq!(head.target(), b"/\xff");
    assert_eq!(head.host(), Some(&b"h"[..]));
    assert_eq!(head.version(), Version::Http10);
    assert_eq!(head.headers().get("x-a"), Some(&b"b"[..]));
    assert_eq!(head.headers().len(), 1);
}
