//! The header lines, and what they say about the message.

use super::*;

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
