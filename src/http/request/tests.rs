//! Tables for every rule of a request head. Each row is parsed in one piece, in two pieces
//! at every place, and byte by byte: the outcome is the same.

use super::*;

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
fn a_request_begins_with_its_request_line() {
    let mut parser = RequestParser::new();
    for (bytes, has_begun) in [
        ("", false),
        ("\r", false),
        ("\r\n\n", false),
        ("\r\n\nG", true),
    ] {
        assert!(matches!(
            parser.parse(bytes.as_bytes(), client(), &LIMITS),
            Ok(None)
        ));
        assert_eq!(parser.has_begun(), has_begun, "{bytes:?}");
    }
}

#[test]
fn empty_lines_in_front_are_ignored_up_to_64_bytes() {
    let head = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let crlf = |number| "\r\n".repeat(number);
    for empty in ["\r\n", "\n", "\r\n\n\r\n", &crlf(32), &"\n".repeat(64)] {
        accepted(format!("{empty}{head}"));
    }
    let many = bad("too many empty lines in front of a request");
    assert_eq!(reason("\n".repeat(65)), many);
    assert_eq!(reason(crlf(33)), many);
    assert_eq!(reason(format!("\n{}{head}", crlf(32))), many);
    for input in ["\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", "\r\r\n", "\r\n\r\0"] {
        assert_eq!(reason(input), bad("bare CR in front of a request"));
    }
    // Not ignored: they are no empty lines.
    for input in [" \r\n", "\t\r\n", "\u{b}\r\n", "\0"] {
        assert_eq!(reason(input), bad("malformed method"), "{input:?}");
    }
}

#[test]
fn any_token_is_a_method_and_keeps_its_case() {
    for method in [
        "GET",
        "get",
        "M-SEARCH",
        "!#$%&'*+-.^_`|~09azAZ",
        "connect",
        "Head",
    ] {
        let request = accepted(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(request.head.method(), method);
        assert!(!request.head.is_head());
    }
    for method in [
        "", "G(T", "G\u{1}T", "GET\t", "\"", "G\u{e9}T", "G\r", "G\n", "/bad", "G:",
    ] {
        let found = reason(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(found, bad("malformed method"), "{method:?}");
    }
    assert_eq!(
        reason("CONNECT "),
        (405, "CONNECT is not supported".to_owned())
    );
}

#[test]
fn every_form_of_a_target_becomes_the_origin_form() {
    for (target, origin, host) in [
        ("/a//b/../c?d=%2F", "/a//b/../c?d=%2F", "host"),
        ("/\"<>`{}|\\^", "/\"<>`{}|\\^", "host"),
        ("//x", "//x", "host"),
        ("/?", "/?", "host"),
        ("http://h/p?q", "/p?q", "h"),
        ("HTTPS://h:8/p", "/p", "h:8"),
        ("hTTp://[::1]:8/p", "/p", "[::1]:8"),
        ("http://h", "/", "h"),
        ("http://h?q", "/?q", "h"),
        ("http://h:", "/", "h:"),
    ] {
        let request = accepted(format!(
            "GET {target} HTTP/1.1\r\nHost: host\r\nX: y\r\n\r\n"
        ));
        assert_eq!(request.head.target(), origin.as_bytes(), "{target}");
        assert_eq!(request.head.host(), Some(host.as_bytes()), "{target}");
        assert_eq!(request.head.headers().get("X"), Some(&b"y"[..]));
        assert_eq!(request.head.headers().len(), 2);
    }
}

#[test]
fn a_target_may_have_every_byte_but_controls_blanks_and_number_signs() {
    for byte in 0..=u8::MAX {
        let mut head = b"GET /x".to_vec();
        head.push(byte);
        head.extend_from_slice(b"y HTTP/1.1\r\nHost: h\r\n\r\n");
        if byte == b' ' {
            assert_eq!(reason(head), bad("malformed HTTP version"));
        } else if byte.is_ascii_control() || byte == b'#' {
            assert_eq!(reason(head), bad("malformed request target"), "{byte}");
        } else {
            assert_eq!(accepted(head).head.target(), [b'/', b'x', byte, b'y']);
        }
    }
}

#[test]
fn a_target_that_can_not_be_forwarded_is_rejected() {
    let neither = "request target is neither a path nor an http URL";
    let host = "malformed host in the request target";
    for (start, wanted) in [
        ("GET  ", "malformed request target"),
        ("GET b", neither),
        ("GET *x", neither),
        ("GET f", neither),
        ("GET httpx", neither),
        ("GET http:/x", neither),
        ("GET http:/ ", neither),
        ("GET ?", neither),
        ("GET h ", neither),
        ("GET http:///p ", host),
        ("GET http://u@h/ ", host),
        ("GET http://:80/ ", host),
        ("GET http://h:x/ ", host),
        ("GET http://h:80:80 ", host),
        ("GET http://[] ", host),
        ("GET http://[::1 ", host),
        ("GET http://[::1]x ", host),
        ("GET http://a,b ", host),
        ("GET http://\u{e9}/ ", host),
        ("GET http://a\\b/ ", host),
        ("GET * HTTP/1.1\r\n", neither),
        ("OPTIONS * HTTP/1.1\r\n", "OPTIONS * can't be forwarded"),
        ("PRI * HTTP/1.1\r\n", neither),
    ] {
        assert_eq!(reason(start), bad(wanted), "{start:?}");
        // Not before the last byte.
        assert_eq!(
            summary(&parse(&start.as_bytes()[..start.len() - 1])),
            "more"
        );
    }
}

#[test]
fn every_http_1_is_served_and_no_other_version() {
    let head = |version: &str| format!("GET / {version}\r\nHost: h\r\n\r\n");
    for (version, wanted) in [
        ("HTTP/1.0", Version::Http10),
        ("HTTP/1.1", Version::Http11),
        ("HTTP/1.2", Version::Http11),
        ("HTTP/1.9", Version::Http11),
    ] {
        assert_eq!(accepted(head(version)).head.version(), wanted);
    }
    for version in ["HTTP/2", "HTTP/2.0", "HTTP/3", "HTTP/9.9"] {
        let unsupported = (505, "HTTP version not supported".to_owned());
        assert_eq!(reason(head(version)), unsupported, "{version}");
    }
    for version in [
        "",
        "HTTP/0.9",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/1.x",
        "HTTP/1,1",
        "HTTP/x.1",
        "http/1.1",
        "Http/1.1",
        " HTTP/1.1",
        "HTTP /1.1",
        "HTTPS/1.1",
        "x",
        "HTTP/+1.1",
        "\tHTTP/1.1",
    ] {
        assert_eq!(
            reason(head(version)),
            bad("malformed HTTP version"),
            "{version:?}"
        );
    }
    for version in [
        "HTTP/1.10",
        "HTTP/1.1 ",
        "HTTP/1.1 x",
        "HTTP/1.1\t",
        "HTTP/1.1\0",
        "HTTP/1.1\r",
    ] {
        let wanted = bad("malformed end of the request line");
        assert_eq!(reason(head(version)), wanted, "{version:?}");
    }
    for end in ["\n", "\r", "\r\r\n", "\n\r\n"] {
        let head = format!("GET / HTTP/1.1{end}Host: h\r\n\r\n");
        assert_eq!(
            reason(head),
            bad("malformed end of the request line"),
            "{end:?}"
        );
    }
    for head in ["GET /\r\n", "GET /\n", "GET /\r\n\r\n"] {
        assert_eq!(reason(head), bad("malformed request target"), "{head:?}");
    }
}

#[test]
fn other_protocols_are_rejected_at_their_first_bytes() {
    assert_eq!(reason(b"\x16"), bad("TLS on a port for plain HTTP"));
    assert_eq!(
        reason(b"\x16\x03\x01\x02\0"),
        bad("TLS on a port for plain HTTP")
    );
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(reason(preface).0, 505);
    assert_eq!(reason(&preface[.."PRI * HTTP/2".len()]).0, 505);
    assert_eq!(reason("SSH-2.0-OpenSSH_9\r\n"), bad("malformed method"));
    assert_eq!(reason(b"\x80\x2e\x01"), bad("malformed method"));
    assert_eq!(reason(b"\x05\x01\0"), bad("malformed method"));
    assert_eq!(
        reason("EHLO x\r\n"),
        bad("request target is neither a path nor an http URL")
    );
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
fn a_line_that_can_not_become_sound_is_rejected_when_it_ends() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\n";
    for line in [
        "Host: h\r\n",
        "Content-Length: x\r\n",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let bytes = format!("{head}{line}");
        assert_eq!(reason(&bytes).0, 400, "{line:?}");
        assert_eq!(summary(&parse(&bytes[..bytes.len() - 1])), "more");
    }
}

#[test]
fn a_header_name_is_a_token_directly_before_its_colon() {
    let name = bad("malformed header name");
    for line in [
        "X-A : b",
        "X A: b",
        ": b",
        "no colon",
        "X(A): b",
        "X\t: b",
        "\u{e9}: b",
        "X\0: b",
    ] {
        assert_eq!(reason(with(line)), name, "{line:?}");
    }
    let blank = bad("header line begins with white space");
    for line in [
        "X-A: b|  folded",
        "X-A: b|\tfolded",
        "X-A:| b",
        "X-A: b| ",
        " X-A: b",
        "\tX: b",
    ] {
        assert_eq!(reason(with(line)), blank, "{line:?}");
    }
    assert_eq!(reason("GET / HTTP/1.1\r\n Host: h\r\n\r\n"), blank);
    let token = "!#$%&'*+-.^_`|~09azAZ";
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{token}: a:b\r\n\r\n");
    assert_eq!(accepted(head).head.headers().get(token), Some(&b"a:b"[..]));
}

#[test]
fn a_value_may_have_every_byte_but_controls() {
    for byte in 0..=u8::MAX {
        for (before, behind) in [("", ""), (" ", ""), ("a", "b"), ("a", "")] {
            let mut head = b"GET / HTTP/1.1\r\nHost: h\r\nX-A:".to_vec();
            for bytes in [before.as_bytes(), &[byte], behind.as_bytes(), b"\r\n\r\n"] {
                head.extend_from_slice(bytes);
            }
            if byte == b'\r' && behind.is_empty() {
                // A bare CR: what follows is CR again.
                assert_eq!(reason(head), bad("control character in header X-A"));
            } else if byte.is_ascii_control() && byte != b'\t' {
                assert_eq!(
                    reason(head),
                    bad("control character in header X-A"),
                    "{byte}"
                );
            } else {
                let wanted = [before.as_bytes(), &[byte], behind.as_bytes()].concat();
                let request = accepted(head);
                assert_eq!(request.head.headers().get("x-a"), Some(trim(&wanted)));
            }
        }
    }
}

#[test]
fn a_name_is_shown_in_part_if_it_is_long() {
    let name = "x".repeat(100);
    let (_, found) = reason(with(&format!("{name}: \0")));
    assert_eq!(
        found,
        format!("control character in header {}", "x".repeat(64))
    );
}

#[test]
fn a_bare_lf_ends_nothing() {
    for head in [
        "GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: y\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX:\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "GET / HTTP/1.1\r\n\n",
        "GET / HTTP/1.1\r\nHost: h\n\n",
    ] {
        assert_eq!(reason(head).0, 400, "{head:?}");
    }
}

#[test]
fn there_is_exactly_one_host() {
    let head = |version: &str, hosts: &[&str]| {
        let lines: Vec<_> = hosts
            .iter()
            .map(|host| format!("Host: {host}\r\n"))
            .collect();
        format!("GET / HTTP/{version}\r\n{}\r\n", lines.concat())
    };
    for host in [
        "a:80",
        "[::1]:80",
        "",
        "a:",
        "[fe80::1%25e]",
        "a_b",
        "~",
        "127.0.0.1",
    ] {
        let request = accepted(head("1.1", &[host]));
        assert_eq!(request.head.host(), Some(host.as_bytes()));
    }
    assert_eq!(accepted(head("1.0", &[])).head.host(), None);
    assert_eq!(accepted(head("1.0", &["h"])).head.host(), Some(&b"h"[..]));
    assert_eq!(reason(head("1.1", &[])), bad("no Host"));
    for version in ["1.0", "1.1"] {
        assert_eq!(
            reason(head(version, &["a", "a"])),
            bad("more than one Host")
        );
        assert_eq!(reason(head(version, &["", ""])), bad("more than one Host"));
        for host in [
            "a b", "a/b", "a, b", "u@h", "a:b", "a:80:80", ":80", "[", "[]", "[::1", "::1", "h#",
            "h?", "\u{e9}", "a\\b", "a\tb", "\"a\"",
        ] {
            assert_eq!(
                reason(head(version, &[host])),
                bad("malformed Host"),
                "{host}"
            );
        }
    }
    // The authority of an absolute target counts more, but `Host` has to be sound.
    let absolute = |host: &str| format!("GET http://t/ HTTP/1.1\r\n{host}\r\n");
    assert_eq!(
        accepted(absolute("Host: h\r\n")).head.host(),
        Some(&b"t"[..])
    );
    assert_eq!(reason(absolute("")), bad("no Host"));
    assert_eq!(reason(absolute("Host: a b\r\n")), bad("malformed Host"));
}

#[test]
fn framing_is_plain_or_rejected() {
    let both = "Content-Length and Transfer-Encoding";
    let other = "Transfer-Encoding other than chunked";
    let malformed = "malformed Content-Length";
    let table: [(&str, Result<Framing, &str>); 38] = [
        ("X: y", Ok(Framing::None)),
        ("Content-Length: 0", Ok(Framing::Length(0))),
        ("content-length:12", Ok(Framing::Length(12))),
        ("Content-Length: \t012 ", Ok(Framing::Length(12))),
        ("Transfer-Encoding: chunked", Ok(Framing::Chunked)),
        ("transfer-encoding:\tChunKed ", Ok(Framing::Chunked)),
        (
            "Content-Length: 18446744073709551616",
            Err("Content-Length is too large a number"),
        ),
        ("Content-Length: ", Err(malformed)),
        ("Content-Length: abc", Err(malformed)),
        ("Content-Length: +5", Err(malformed)),
        ("Content-Length: -5", Err(malformed)),
        ("Content-Length: 0x5", Err(malformed)),
        ("Content-Length: 5.0", Err(malformed)),
        ("Content-Length: 5 5", Err(malformed)),
        ("Content-Length: 5, 5", Err(malformed)),
        ("Content-Length: 5;", Err(malformed)),
        ("Content-Length: 5_0", Err(malformed)),
        ("Content-Length: \u{665}", Err(malformed)),
        (
            "Content-Length: 5|Content-Length: 5",
            Err("more than one Content-Length"),
        ),
        (
            "Content-Length: 5|content-length: 6",
            Err("more than one Content-Length"),
        ),
        (
            "Content-Length: 5|Content-Length: abc",
            Err("more than one Content-Length"),
        ),
        (
            "Content-Length: 5|X: y|Content-Length:",
            Err("more than one Content-Length"),
        ),
        ("Content-Length: 5|Transfer-Encoding: chunked", Err(both)),
        ("Transfer-Encoding: chunked|Content-Length: 5", Err(both)),
        ("Content-Length: 0|transfer-encoding: gzip", Err(both)),
        ("Transfer-Encoding: ", Err(other)),
        ("Transfer-Encoding: gzip", Err(other)),
        ("Transfer-Encoding: identity", Err(other)),
        ("Transfer-Encoding: gzip, chunked", Err(other)),
        ("Transfer-Encoding: chunked, identity", Err(other)),
        ("Transfer-Encoding: chunked, chunked", Err(other)),
        ("Transfer-Encoding: chunked,", Err(other)),
        ("Transfer-Encoding: xchunked", Err(other)),
        ("Transfer-Encoding: chunked;q=1", Err(other)),
        ("Transfer-Encoding: \"chunked\"", Err(other)),
        (
            "Transfer-Encoding: chunked|Transfer-Encoding: chunked",
            Err(other),
        ),
        (
            "Transfer-Encoding: chunked|Transfer-Encoding: identity",
            Err(other),
        ),
        (
            "Transfer-Encoding: \u{b}chunked",
            Err("control character in header Transfer-Encoding"),
        ),
    ];
    for (lines, wanted) in table {
        match wanted {
            Ok(framing) => assert_eq!(accepted(with(lines)).framing, framing, "{lines}"),
            Err(text) => assert_eq!(reason(with(lines)), bad(text), "{lines}"),
        }
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(reason(old), bad("Transfer-Encoding in HTTP/1.0"));
}

#[test]
fn a_body_beyond_the_limit_is_rejected_with_its_head() {
    let limits = RequestLimits { body: 10, ..LIMITS };
    for (length, wanted) in [(10, None), (11, Some(413)), (u64::MAX, Some(413))] {
        let head = with(&format!("Content-Length: {length}|Expect: 100-continue"));
        let parsed = RequestParser::new().parse(head.as_bytes(), client(), &limits);
        assert_eq!(parsed.err().map(|rejection| rejection.status), wanted);
    }
    let (status, text) = reason(with(&format!("Content-Length: {}", u64::MAX)));
    assert_eq!(status, 413);
    assert_eq!(
        text,
        "request body larger than 1099511627776 bytes (-max-body)"
    );
}

#[test]
fn an_expectation_is_one_of_100_continue_with_a_body_to_come() {
    for (lines, wanted) in [
        ("Content-Length: 5", false),
        ("Content-Length: 5|Expect: 100-continue", true),
        ("Content-Length: 5|expect: 100-Continue , ", true),
        (
            "Content-Length: 5|Expect: 100-continue|Expect: 100-continue",
            true,
        ),
        ("Content-Length: 5|Expect:", false),
        ("Transfer-Encoding: chunked|Expect: 100-continue", true),
        ("Content-Length: 0|Expect: 100-continue", false),
        ("Expect: 100-continue", false),
    ] {
        assert_eq!(accepted(with(lines)).expects_continue, wanted, "{lines}");
    }
    for lines in [
        "Expect: x",
        "Expect: 100-continue=y",
        "Expect: 100-continue, x",
        "Expect: x, 100-continue",
        "Expect: x|Content-Length: 5|Expect: 100-continue",
        "Expect: 100 continue",
    ] {
        let wanted = (417, "Expect other than 100-continue".to_owned());
        assert_eq!(reason(with(lines)), wanted, "{lines}");
        // HTTP/1.0 knows no expectations.
        let old = with(lines).replace("HTTP/1.1", "HTTP/1.0");
        assert!(!accepted(old).expects_continue);
    }
    let old = with("Content-Length: 5|Expect: 100-continue").replace("HTTP/1.1", "HTTP/1.0");
    assert!(!accepted(old).expects_continue);
}

#[test]
fn a_connection_persists_if_both_sides_think_so() {
    for (version, connection, wanted) in [
        ("1.1", "X: y", Persistence::Stays),
        ("1.1", "Connection: keep-alive", Persistence::Stays),
        ("1.1", "Connection: X, CLOSE", Persistence::Close),
        (
            "1.1",
            "Connection: keep-alive|connection: ,close,",
            Persistence::Close,
        ),
        (
            "1.1",
            "Connection: enclosed, close-x, x close",
            Persistence::Stays,
        ),
        (
            "1.1",
            "Connection: Upgrade, HTTP2-Settings|Upgrade: h2c",
            Persistence::Stays,
        ),
        ("1.2", "X: y", Persistence::Stays),
        ("1.0", "X: y", Persistence::Close),
        ("1.0", "Connection: Keep-Alive", Persistence::KeepAlive),
        (
            "1.0",
            "Connection: x|Connection: keep-alive",
            Persistence::KeepAlive,
        ),
        ("1.0", "Connection: not-keep-alive", Persistence::Close),
        ("1.0", "Connection: keep-alive, close", Persistence::Close),
    ] {
        let head = with(connection).replace("HTTP/1.1", &format!("HTTP/{version}"));
        assert_eq!(accepted(head).persistence, wanted, "{version} {connection}");
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
