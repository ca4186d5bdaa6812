//! The request line: method, target, version, and what stands in front of it.

use super::*;

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
        reason("CONNECT h:1 "),
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
        ("OPTIONS *x", neither),
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
