//! What is no proper request is refused, and what follows it is never taken for one.
//!
//! Tables of heads; [`Refusing`] checks for each of them the answer, the log line, and that
//! no endpoint is called.

use crate::common::{
    backend::{Backend, status},
    client::Client,
    proxy::Proxy,
    refusing::{AT_ONCE, Refusing, SMUGGLED, is_refusal},
    text,
};
use socket2::{Domain, Socket, Type};
use std::{
    net::{SocketAddr, TcpStream},
    time::Instant,
};

/// A request with these header lines, `|` standing for a line's end, and a body of five bytes.
fn with(headers: &[u8]) -> Vec<u8> {
    let mut request = b"POST /bad HTTP/1.1\r\nHost: h\r\n".to_vec();
    for &byte in headers {
        match byte {
            b'|' => request.extend_from_slice(b"\r\n"),
            byte => request.push(byte),
        }
    }
    request.extend_from_slice(b"\r\n\r\nhello");
    request
}

/// Each of these header lines makes a request malformed, with its body and before it comes.
fn refused_with(headers: &[&[u8]]) {
    let mut front = Refusing::new();
    for lines in headers {
        let whole = with(lines);
        front.refuses(400, &whole);
        front.refuses_once(400, &whole[..whole.len() - b"hello".len()]);
    }
    front.finish();
}

/// Each of these requests is refused with this status.
fn refused(expected: u16, requests: &[&[u8]]) {
    let mut front = Refusing::new();
    for request in requests {
        front.refuses(expected, request);
    }
    front.finish();
}

/// The same for request lines, each with a sound rest of the head.
fn lines_refused(expected: u16, lines: &[&[u8]]) {
    let requests: Vec<_> = lines
        .iter()
        .map(|line| [line, &b"\r\nHost: h\r\n\r\n"[..]].concat())
        .collect();
    refused(
        expected,
        &requests.iter().map(Vec::as_slice).collect::<Vec<_>>(),
    );
}

#[test]
fn content_length_that_is_no_number_is_refused() {
    refused_with(&[
        b"Content-Length: abc",
        b"Content-Length: -5",
        b"Content-Length: +5",
        b"Content-Length: 0x5",
        b"Content-Length: 5.0",
        b"Content-Length: 5e0",
        b"Content-Length: 5_0",
        b"Content-Length: 5 5",
        b"Content-Length: 5;",
        b"Content-Length: 5,",
        b"Content-Length: \"5\"",
        b"Content-Length:",
        b"Content-Length: \t ",
        b"Content-Length: \xc2\xb2",
        b"Content-Length: \xd9\xa5",
        b"Content-Length: 5\xa0",
        b"Content-Length: 18446744073709551616",
        b"Content-Length: 99999999999999999999999999",
    ]);
}

#[test]
fn control_characters_around_a_content_length_are_refused() {
    refused_with(&[
        b"Content-Length: \x0b5",
        b"Content-Length: 5\x0b",
        b"Content-Length: \x0c5",
        b"Content-Length: 5\x0c",
        b"Content-Length: \x005",
        b"Content-Length: 5\x00",
        b"Content-Length: 5\r",
        b"Content-Length:\n5",
        b"Content-Length\x0b: 5",
        b"\x0bContent-Length: 5",
        b"Content-Length: \x7f5",
        b"Content-Length: \x1f5",
    ]);
}

#[test]
fn more_than_one_content_length_is_refused() {
    refused_with(&[
        b"Content-Length: 5|Content-Length: 6",
        b"Content-Length: 6|Content-Length: 5",
        b"Content-Length: 5|content-length: 0",
        b"Content-Length: 5|Content-Length: 5",
        b"Content-Length: 5|X-A: b|CONTENT-LENGTH: 5",
        b"Content-Length: 5, 6",
        b"Content-Length: 5, 5",
        b"Content-Length: 5,5",
        b"Content-Length: 5|Content-Length: abc",
        b"Content-Length: 5|Content-Length:",
    ]);
}

#[test]
fn content_length_beside_a_transfer_encoding_is_refused() {
    refused_with(&[
        b"Content-Length: 5|Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked|Content-Length: 5",
        b"Content-Length: 0|transfer-encoding: Chunked",
        b"Content-Length: 5|Transfer-Encoding: identity",
        b"Content-Length: 5|Transfer-Encoding:",
    ]);
}

#[test]
fn transfer_encoding_other_than_chunked_is_refused() {
    refused_with(&[
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunkedx",
        b"Transfer-Encoding: chunked;q=1",
        b"Transfer-Encoding: \"chunked\"",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked|Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked|Transfer-Encoding: identity",
        b"Transfer-Encoding: identity|Transfer-Encoding: chunked",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding: chunked\x0b",
        b"Transfer-Encoding: \x0cchunked",
        b"Transfer-Encoding: chunked\x00",
        b"Transfer-Encoding: \xa0chunked",
        b"Transfer-Encoding:\n chunked",
        b"Transfer-Encoding:\rchunked",
    ]);
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    refused(
        400,
        &[
            b"POST /bad HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"POST /bad HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n",
        ],
    );
}

#[test]
fn framing_with_blanks_around_the_value_and_in_any_case_is_served() {
    let mut front = Refusing::new();
    for headers in [
        &b"Content-Length:5"[..],
        b"Content-Length: \t 5 \t",
        b"content-length:5\t",
        b"CONTENT-LENGTH: 05",
    ] {
        front.serves(with(headers));
        assert_eq!(front.endpoint().requests().pop().unwrap().body, b"hello");
    }
    for coding in ["chunked", "Chunked", "CHUNKED", "\t chunked \t"] {
        front.serves(format!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:{coding}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ));
        assert_eq!(front.endpoint().requests().pop().unwrap().body, b"hello");
    }
    front.finish();
}

#[test]
fn control_characters_in_a_value_are_refused() {
    refused_with(&[
        b"X-A: a\nX-B: b",
        b"X-A: a\rX-B: b",
        b"X-A: a\0b",
        b"X-A: a\x01b",
        b"X-A: a\x1b[31m",
        b"X-A: a\x7fb",
        b"X-A: a\nContent-Length: 5",
        b"X-A: a\rContent-Length: 5",
        b"X-A: a\r",
        b"X-A: \r",
        b"X-A:\r b",
    ]);
}

#[test]
fn every_control_character_is_refused_wherever_it_stands() {
    let mut front = Refusing::new();
    for byte in (0..=0x1f_u8).chain([0x7f]) {
        let control: &[u8] = &[byte];
        if byte != b'\t' {
            // At the edges of a value as well: they are no blanks to be trimmed.
            for (before, behind) in [("", "b"), ("b", ""), ("b", "c"), ("", "")] {
                let line = [b"X-A: ", before.as_bytes(), control, behind.as_bytes()].concat();
                front.refuses_once(400, &with(&line));
            }
        }
        for (before, behind) in [("", "X-A: b"), ("X", "-A: b"), ("X-A", ": b")] {
            let line = [before.as_bytes(), control, behind.as_bytes()].concat();
            front.refuses_once(400, &with(&line));
        }
        for (before, behind) in [
            ("G", "ET /bad HTTP/1.1"),
            ("GET", " /bad HTTP/1.1"),
            ("GET ", "/bad HTTP/1.1"),
            ("GET /b", "ad HTTP/1.1"),
            ("GET /bad", " HTTP/1.1"),
            ("GET /bad ", "HTTP/1.1"),
            ("GET /bad HTTP", "/1.1"),
            ("GET /bad HTTP/1.1", ""),
        ] {
            let line = [before.as_bytes(), control, behind.as_bytes()].concat();
            let request = [&line[..], b"\r\nHost: h\r\n\r\n"].concat();
            front.refuses_once(400, &request);
        }
    }
    front.finish();
}

#[test]
fn header_line_that_is_none_is_refused() {
    refused_with(&[
        b"X-A : b",
        b"X-A\t: b",
        b"X A: b",
        b": b",
        b":",
        b"no colon",
        b"foo",
        b"X(A): b",
        b"X\"A: b",
        b"X/A: b",
        b"X@A: b",
        b"X[A]: b",
        b"X{A}: b",
        b"X\xe9: b",
        b"X\xc3\xa9: b",
        b"\xef\xbb\xbfX-A: b",
        b"\xa0X-A: b",
        b"Content-Length : 5",
        b"Content-Length\t: 5",
        b"Transfer-Encoding : chunked",
        b"Host : i",
    ]);
}

#[test]
fn folded_line_is_refused() {
    refused_with(&[
        b"X-A: b|  folded",
        b"X-A: b|\tfolded",
        b"X-A: b| folded: c",
        b"X-A: form-data;|  filename:b",
        b"X-A: a| Content-Length: 5",
        b"X-A: a|\tTransfer-Encoding: chunked",
        b"X-A: a| X-User: admin",
        b"X-A: a| ",
        b"X-A: a|\t",
        b"X-A: a|  |X-B: b",
        b"X-A:| b",
        b"Content-Length:| 5",
        b"Content-Length: 5| 0",
        b"Transfer-Encoding:|\tchunked",
    ]);
}

#[test]
fn blank_in_front_of_the_first_header_line_is_refused() {
    refused(
        400,
        &[
            b"GET /bad HTTP/1.1\r\n Host: h\r\n\r\n",
            b"GET /bad HTTP/1.1\r\n\tHost: h\r\n\r\n",
            b"GET /bad HTTP/1.1\r\n \r\nHost: h\r\n\r\n",
            b"GET /bad HTTP/1.1\r\n\t\r\nHost: h\r\n\r\n",
            b"GET /bad HTTP/1.1\r\n  X-A: b\r\nHost: h\r\n\r\n",
            b"GET /bad HTTP/1.0\r\n Host: h\r\n\r\n",
        ],
    );
}

#[test]
fn line_ends_other_than_crlf_are_refused() {
    refused(
        400,
        &[
            b"GET /bad HTTP/1.1\nHost: h\n\n",
            b"GET /bad HTTP/1.1\nHost: h\r\n\r\n",
            b"GET /bad HTTP/1.1\r\nHost: h\n\r\n",
            b"GET /bad HTTP/1.1\r\nHost: h\r\n\n",
            b"GET /bad HTTP/1.1\r\nHost: h\n\n",
            b"GET /bad HTTP/1.1\r\n\nHost: h\r\n\r\n",
            b"GET /bad HTTP/1.1\r\n\rHost: h\r\n\r\n",
            b"GET /bad HTTP/1.1\rHost: h\r\r",
            b"GET /bad HTTP/1.1\rHost: h\r\n\r\n",
            b"GET /bad HTTP/1.1\r\nHost: h\r\r\n\r\n",
            b"GET /bad HTTP/1.1\r\r\nHost: h\r\n\r\n",
            b"GET /bad HTTP/1.1\r\nHost: h\r\n\r\r\n",
            b"GET /bad HTTP/1.1\n\rHost: h\r\n\r\n",
            b"GET /bad\r\n HTTP/1.1\r\nHost: h\r\n\r\n",
        ],
    );
}

#[test]
fn there_is_exactly_one_host() {
    refused(
        400,
        &[
            b"GET /bad HTTP/1.1\r\n\r\n",
            b"GET /bad HTTP/1.1\r\nX-A: b\r\n\r\n",
            b"GET /bad HTTP/1.1\r\nX-Host: b\r\n\r\n",
            b"GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET /bad HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            b"GET /bad HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET http://a/bad HTTP/1.1\r\n\r\n",
            b"GET http://a/bad HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            b"GET /bad HTTP/1.5\r\n\r\n",
        ],
    );
}

#[test]
fn malformed_host_is_refused() {
    let mut front = Refusing::new();
    for host in [
        &b"a b"[..],
        b"a/b",
        b"a, b",
        b"a@b",
        b"http://a",
        b"a?b",
        b"a#b",
        b"a\\b",
        b"a\"b",
        b"<a>",
        b"a\tb",
    ] {
        for version in ["1.1", "1.0", "1.3"] {
            let start = format!("GET /bad HTTP/{version}\r\nHost: ");
            let request = [start.as_bytes(), host, b"\r\n\r\n"].concat();
            front.refuses(400, request);
        }
    }
    for target in ["http://a@b/", "http:///bad", "https://?q", "http://a\\b/"] {
        front.refuses(400, format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    }
    front.finish();
}

#[test]
fn http_1_0_needs_no_host() {
    let backend = Backend::replies([status(200).body("old")]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send("GET /p HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().body(), "old");
    let request = backend.request();
    assert_eq!(request.header("host"), Some(backend.authority().as_str()));
    assert_eq!(request.header("x-forwarded-host"), None);
}

#[test]
fn connect_is_not_allowed() {
    refused(
        405,
        &[
            b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
            b"CONNECT /p HTTP/1.1\r\nHost: h\r\n\r\n",
            b"CONNECT h:443 HTTP/1.0\r\n\r\n",
        ],
    );
}

#[test]
fn methods_keep_their_case_and_any_token_is_one() {
    let mut front = Refusing::new();
    for method in [
        "GET",
        "get",
        "Get",
        "connect",
        "PROPFIND",
        "M-SEARCH",
        "X",
        "!#$%&'*+-.^_`|~09",
    ] {
        let mut client = front.proxy.client();
        client.request(&format!("{method} /m"), "");
        assert_eq!(client.response().status(), 200, "{method}");
        client.finish_sending();
        client.closed();
    }
    front.proxy.stop();
    let mut front = Refusing::new();
    for separator in [
        "(", ")", "\"", "/", ":", ",", ";", "@", "[", "]", "{", "}", "=", "?", "<", ">", "\\",
    ] {
        for method in [
            format!("G{separator}T"),
            format!("{separator}GET"),
            format!("GET{separator}"),
        ] {
            front.refuses_once(
                400,
                format!("{method} /bad HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes(),
            );
        }
    }
    front.finish();
}

#[test]
fn request_line_that_is_none_is_refused() {
    lines_refused(
        400,
        &[
            b"GET  /bad HTTP/1.1",
            b"GET /bad  HTTP/1.1",
            b" GET /bad HTTP/1.1",
            b"\tGET /bad HTTP/1.1",
            b"GET /b ad HTTP/1.1",
            b"GET\t/bad\tHTTP/1.1",
            b"GET /bad\tHTTP/1.1",
            b"GET /bad",
            b"GET /bad ",
            b"GET",
            b"FOO",
            b"GET  HTTP/1.1",
            b"/bad HTTP/1.1",
            b"GET bad HTTP/1.1",
            b"GET ?bad HTTP/1.1",
            b"GET * HTTP/1.1",
            b"OPTIONS * HTTP/1.1",
            b"GET h:80 HTTP/1.1",
            b"GET ftp://h/bad HTTP/1.1",
            b"GET http:/bad HTTP/1.1",
            b"GET /bad#fragment HTTP/1.1",
            b"GET /# HTTP/1.1",
            b"GET http://h/bad#fragment HTTP/1.1",
            b"G\xe9T /bad HTTP/1.1",
            b"\xc3\xa9 /bad HTTP/1.1",
            b"\xff",
        ],
    );
}

#[test]
fn words_behind_the_version_are_refused() {
    lines_refused(
        400,
        &[
            b"GET /bad HTTP/1.1 ",
            b"GET /bad HTTP/1.1\t",
            b"GET /bad HTTP/1.1 x",
            b"GET /bad HTTP/1.1 HTTP/1.1",
            b"GET /bad HTTP/1.1 b HTTP/1.1",
            b"DELETE /all HTTP/1.1 /keep.txt HTTP/1.1",
            b"DELETE /all HTTP/1.1/keep.txt HTTP/1.1",
            b"GET /bad HTTP/1.1x",
            b"GET /bad HTTP/1.1;",
            b"GET /bad HTTP/1.0 HTTP/1.1",
        ],
    );
}

#[test]
fn version_that_does_not_exist_is_refused() {
    lines_refused(
        400,
        &[
            b"GET /bad HTTP/0.9",
            b"GET /bad HTTP/0.1",
            b"GET /bad HTTP/1",
            b"GET /bad HTTP/1.",
            b"GET /bad HTTP/.1",
            b"GET /bad HTTP/1.10",
            b"GET /bad HTTP/1.1.1",
            b"GET /bad HTTP/01.1",
            b"GET /bad HTTP/+1.1",
            b"GET /bad HTTP/1,1",
            b"GET /bad HTTP/1-1",
            b"GET /bad HTTP /1.1",
            b"GET /bad http/1.1",
            b"GET /bad Http/1.1",
            b"GET /bad HTTPS/1.1",
            b"GET /bad XHTTP/1.1",
            b"GET /bad HTTP/1.x",
            b"GET /bad HTTP/1.\xb1",
            b"GET /bad ICY/1.1",
        ],
    );
}

#[test]
fn version_from_the_future_is_not_supported() {
    lines_refused(
        505,
        &[
            b"GET /bad HTTP/2.0",
            b"GET /bad HTTP/2.1",
            b"GET /bad HTTP/3.0",
            b"GET /bad HTTP/9.9",
            b"POST /bad HTTP/2.0",
            b"HEAD /bad HTTP/2.0",
        ],
    );
    refused(505, &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]);
}

#[test]
fn later_minor_versions_are_served_as_1_1() {
    let backend = Backend::always(status(200).chunked(&[b"ser", b"ved"]));
    let proxy = Proxy::serial(&[&backend]).start();
    for minor in 1..=9 {
        let mut client = proxy.client();
        // The connection stays, a body may be chunked, the answer too.
        for _ in 0..2 {
            client.send(format!(
                "POST /p HTTP/1.{minor}\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n0\r\n\r\n"
            ));
            let answer = client.response();
            assert_eq!(answer.head.version, "HTTP/1.1", "{minor}");
            assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
            assert_eq!(answer.header("connection"), None, "{minor}");
            assert_eq!(answer.body(), "served", "{minor}");
        }
    }
    for request in backend.requests() {
        assert_eq!(
            (request.version.as_str(), &request.body[..]),
            ("HTTP/1.1", &b"abc"[..])
        );
    }
}

#[test]
fn empty_lines_in_front_of_a_request_line_are_ignored() {
    let mut front = Refusing::new();
    for empty in [
        "\r\n".to_owned(),
        "\n".to_owned(),
        "\r\n\r\n".to_owned(),
        "\n\n\r\n\n".to_owned(),
        "\r\n".repeat(32),
        "\n".repeat(64),
    ] {
        front.serves(format!("{empty}GET /a HTTP/1.1\r\nHost: h\r\n\r\n"));
        front.serves(format!(
            "{empty}POST /a HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc"
        ));
    }
    for too_much in ["\r\n".repeat(33), "\n".repeat(65), "\r\n".repeat(1000)] {
        front.refuses(
            400,
            format!("{too_much}GET /bad HTTP/1.1\r\nHost: h\r\n\r\n"),
        );
        // The first byte too many is enough.
        front.refuses_once(400, too_much.as_bytes());
    }
    for none in [
        "\r", "\r\r\n", "\r\n\r", "\n\r", " \r\n", "\t\n", "\0\r\n", "\r \n",
    ] {
        front.refuses(400, format!("{none}GET /bad HTTP/1.1\r\nHost: h\r\n\r\n"));
    }
    front.finish();
}

#[test]
fn each_byte_may_be_read_on_its_own() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend])
        // A look at whether a byte has been read takes long on a busy machine.
        .flag("-header-timeout", "1h")
        .flag("-client-timeout", "1h")
        .start();
    let mut client = proxy.client();
    let post = "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                3\r\nabc\r\n0\r\nT: 1\r\n\r\n";
    for empty in ["\r\n", "\n\n\r\n"] {
        for byte in format!("{empty}{post}").bytes() {
            client.send([byte]);
            client.wait_until_read();
        }
        assert_eq!(client.response().body(), "served", "behind {empty:?}");
    }
    let bodies: Vec<_> = backend
        .requests()
        .iter()
        .map(|request| text(&request.body))
        .collect();
    assert_eq!(bodies, ["abc"; 2]);
}

#[test]
fn empty_lines_behind_a_body_are_ignored() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    let bodies = [
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "\r\n",
    ];
    for body in bodies {
        for empty in ["\r\n", "\n", "\r\n\r\n"] {
            for splits in [true, false] {
                let mut client = proxy.client();
                let post = format!("POST /b HTTP/1.1\r\nHost: h\r\n{body}{empty}");
                let get = "GET /c HTTP/1.1\r\nHost: h\r\n\r\n";
                if splits {
                    client.send(post);
                    assert_eq!(client.response().body(), "served");
                    client.send(get);
                } else {
                    client.send(post + get);
                    assert_eq!(client.response().body(), "served");
                }
                assert_eq!(client.response().body(), "served");
            }
        }
    }
    let expected = bodies.len() * 3 * 2;
    let seen = backend.seen();
    for request in ["POST /b", "GET /c"] {
        let number = seen.iter().filter(|seen| *seen == request).count();
        assert_eq!(number, expected, "{request}");
    }
}

#[test]
fn head_of_the_largest_size_is_served_and_one_byte_more_is_not() {
    let mut front = Refusing::with(|builder| builder.flag("-max-header", "8KiB"));
    let frame = "GET /h HTTP/1.1\r\nHost: h\r\nX-A: \r\n\r\n".len();
    for (length, served) in [(8191, true), (8192, true), (8193, false), (9000, false)] {
        let value = "v".repeat(length - frame);
        let head = format!("GET /h HTTP/1.1\r\nHost: h\r\nX-A: {value}\r\n\r\n");
        assert_eq!(head.len(), length);
        if served {
            front.serves(head);
        } else {
            front.refuses(431, head);
        }
    }
    // As soon as so much has come without an end, wherever the head is long.
    let long = "v".repeat(8193);
    for head in [
        long.clone(),
        format!("GET /{long}"),
        format!("GET / HTTP/1.1\r\n{long}"),
        format!("GET / HTTP/1.1\r\nHost: h\r\nX-A: {long}"),
        format!("GET / HTTP/1.1\r\nHost: h\r\n{}", "X-A: b\r\n".repeat(1100)),
    ] {
        front.refuses_once(431, head.as_bytes());
    }
    front.finish();
}

#[test]
fn number_of_header_lines_is_bounded_by_the_size_alone() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-header", "1MiB")
        .start();
    for lines in [200, 5_000, 20_000] {
        let mut client = proxy.client();
        let head = "A:1\r\n".repeat(lines);
        client.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{head}\r\n"));
        assert_eq!(client.response().body(), "served", "{lines} lines");
        let request = backend.requests().pop().unwrap();
        assert_eq!(request.all("a").len(), lines);
    }
}

#[test]
fn bytes_after_a_refused_upload_are_not_a_request() {
    let mut front = Refusing::with(|builder| builder.flag("-max-body", "1KiB"));
    for length in ["2000", "99999999999999", "18446744073709551615"] {
        let mut request = with(format!("Content-Length: {length}").as_bytes());
        front.refuses(413, &request);
        request.extend_from_slice(&[b'x'; 1995]);
        front.refuses(413, request);
    }
    front.finish();
}

#[test]
fn good_request_before_a_bad_one_is_answered() {
    let backend = Backend::replies([status(200).body("first")]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send("GET /good HTTP/1.1\r\nHost: h\r\n\r\n");
    client.send([&with(b"Content-Length: x")[..], SMUGGLED].concat());
    assert_eq!(client.response().body(), "first");
    is_refusal(&client.response(), 400, "the second one");
    client.closed();
    assert_eq!(backend.seen(), ["GET /good"]);
}

#[test]
fn refusal_names_the_client_s_address_as_it_is_written() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).flag("-address", ":0").start();
    for from in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(from.parse().unwrap(), proxy.address.port());
        let mut client = Client::connect(address);
        client.send("GET / HTTP/1.1\r\n\r\n");
        is_refusal(&client.response(), 400, from);
        proxy.wait_for_refusal(client.local_address());
    }
}

/// Connects from this address to the proxy, at this address of it.
fn connect_from(from: SocketAddr, to: [u8; 4], proxy: &Proxy) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&from.into()).unwrap();
    let to = SocketAddr::from((to, proxy.address.port()));
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
fn two_clients_with_the_same_address_and_port_are_two_clients() {
    let backend = Backend::always(status(200).body("good"));
    let proxy = Proxy::serial(&[&backend]).flag("-address", ":0").start();
    for swapped in [false, true] {
        let first = connect_from(([127, 0, 0, 9], 0).into(), [127, 0, 0, 1], &proxy);
        let from = first.local_addr().unwrap();
        let second = connect_from(from, [127, 0, 0, 2], &proxy);
        let (good, bad) = if swapped {
            (second, first)
        } else {
            (first, second)
        };
        let (mut good, mut bad) = (Client::over(good), Client::over(bad));
        assert_eq!(good.get("/").body(), "good");
        bad.request("POST /", "Content-Length: 999999999999\r\n");
        is_refusal(&bad.response(), 413, "the bad one");
        bad.closed();
        assert_eq!(good.get("/").body(), "good");
    }
}

#[test]
fn refusals_are_quick_and_leave_the_workers_free() {
    let mut front = Refusing::with(|builder| builder.flag("-workers", "1"));
    let mut held = Vec::new();
    for _ in 0..50 {
        // The client keeps its side open and would go on without end.
        let mut client = front.proxy.client();
        client.request("POST /bad", "Content-Length: x\r\n");
        let begun = Instant::now();
        is_refusal(&client.response(), 400, "one of many");
        assert!(begun.elapsed() < AT_ONCE);
        held.push(client);
    }
    front.serves("GET /good HTTP/1.1\r\nHost: h\r\n\r\n");
}
