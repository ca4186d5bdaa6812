//! What is no proper request is refused, and what follows it is never taken for one.

use crate::common::{
    backend::{Backend, status},
    client::Client,
    proxy::Proxy,
};
use socket2::{Domain, Socket, Type};
use std::{
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// Each head gets this status and a cut connection; neither it nor what follows is forwarded.
fn refused(expected: u16, heads: &[&str]) {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut good = 0;
    for head in heads {
        // More than once: what follows is parsed by another thread, at its own pace.
        for follow_up in [SMUGGLED.to_owned(), SMUGGLED.repeat(3), String::new()] {
            let mut client = proxy.client();
            client.send(format!("{head}{follow_up}"));
            if follow_up.is_empty() {
                client.finish_sending();
            }
            match client.try_response_to("POST") {
                Ok(answer) => {
                    assert_eq!(answer.status(), expected, "for {head:?}");
                    client.closed();
                }
                // A body that breaks off needs no answer.
                Err(closed) => assert!(follow_up.is_empty(), "{closed:?} for {head:?}"),
            }

            assert_eq!(proxy.get("/good").body(), "served");
            good += 1;
            assert_eq!(backend.calls(), good, "{head:?}: {:?}", backend.seen());
        }
    }
    assert!(backend.seen().iter().all(|seen| seen == "GET /good"));
}

/// A request with these header lines, `|` standing for a line's end, and a body of five bytes.
fn with(headers: &str) -> String {
    let headers = headers.replace('|', "\r\n");
    format!("POST /bad HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\nhello")
}

fn refused_with(headers: &[&str]) {
    let heads: Vec<_> = headers.iter().map(|headers| with(headers)).collect();
    let heads: Vec<_> = heads.iter().map(String::as_str).collect();
    refused(400, &heads);
}

#[test]
fn a_content_length_that_is_no_number_is_refused() {
    refused_with(&[
        "Content-Length: abc",
        "Content-Length: -5",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: 5.0",
        "Content-Length: 5 5",
        "Content-Length: 5;",
        "Content-Length:",
    ]);
}

#[test]
fn more_than_one_content_length_is_refused() {
    refused_with(&[
        "Content-Length: 5|Content-Length: 6",
        "Content-Length: 6|Content-Length: 5",
        "Content-Length: 5|content-length: 0",
        "Content-Length: 5, 6",
        "Content-Length: 5|Content-Length: abc",
    ]);
}

#[test]
fn a_content_length_beside_a_transfer_encoding_is_refused() {
    refused_with(&[
        "Content-Length: 5|Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked|Content-Length: 5",
        "Content-Length: 0|transfer-encoding: Chunked",
    ]);
}

#[test]
fn a_transfer_encoding_other_than_chunked_is_refused() {
    refused_with(&[
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked|Transfer-Encoding: identity",
        "Transfer-Encoding: identity|Transfer-Encoding: chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: \u{b}chunked",
    ]);
}

#[test]
fn a_transfer_encoding_in_http_1_0_is_refused() {
    refused(
        400,
        &[
            "POST /bad HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ],
    );
}

#[test]
fn control_characters_in_a_value_are_refused() {
    refused_with(&[
        "X-A: a\nX-B: b",
        "X-A: a\rX-B: b",
        "X-A: a\0b",
        "X-A: a\u{1}b",
        "X-A: a\u{1b}[31m",
        "X-A: a\u{7f}b",
        "X-A: a\nContent-Length: 5",
    ]);
}

#[test]
fn a_header_line_that_is_none_is_refused() {
    for line in [
        "X-A : b",
        "X A: b",
        ": b",
        "no colon",
        "X-A: b|  folded",
        "X-A: b|\tfolded",
        "X(A): b",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
    ] {
        let backend = Backend::always(status(200).body("served"));
        let proxy = Proxy::serial(&[&backend]).start();
        let mut client = proxy.client();
        client.send(with(line) + SMUGGLED);
        // tiny_http closes without a word on some of these; what counts is that it closes.
        if let Ok(answer) = client.try_response_to("POST") {
            assert_eq!(answer.status(), 400, "for {line:?}");
            client.closed();
        }
        assert_eq!(proxy.get("/good").body(), "served");
        assert_eq!(backend.seen(), ["GET /good"], "for {line:?}");
    }
}

#[test]
fn there_is_exactly_one_host() {
    refused(
        400,
        &[
            "GET /bad HTTP/1.1\r\n\r\n",
            "GET /bad HTTP/1.1\r\nX-A: b\r\n\r\n",
            "GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET /bad HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            "GET /bad HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET /bad HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET /bad HTTP/1.1\r\nHost: a, b\r\n\r\n",
        ],
    );
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
            "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
            "CONNECT /p HTTP/1.1\r\nHost: h\r\n\r\n",
        ],
    );
}

#[test]
fn a_request_line_that_is_none_reaches_nobody() {
    for line in [
        "GET  /bad HTTP/1.1",
        "GET /bad  HTTP/1.1",
        "GET /b ad HTTP/1.1",
        "GET\t/bad\tHTTP/1.1",
        "GET /bad",
        "/bad HTTP/1.1",
        "GET bad HTTP/1.1",
        "G(T /bad HTTP/1.1",
        "G\u{1}T /bad HTTP/1.1",
        "GET /b\u{1}ad HTTP/1.1",
        "GET /b\u{1b}[31mad HTTP/1.1",
        "GET /b\u{e9}ad HTTP/1.1",
        "GET /bad HTTP/3",
        "GET /bad http/1.1",
        "GET /bad HTTP/1.1\0",
        "\u{16}\u{3}\u{1}\u{2}",
    ] {
        let backend = Backend::always(status(200).body("served"));
        let mut proxy = Proxy::serial(&[&backend]).start();
        let mut client = proxy.client();
        let latin1: Vec<u8> = format!("{line}\r\nHost: h\r\n\r\n")
            .chars()
            .map(|c| u8::try_from(c).unwrap())
            .collect();
        client.send(latin1);
        client.finish_sending();
        let told = client.rest();
        assert!(
            [
                "",
                "HTTP/1.1 4",
                "HTTP/1.0 4",
                "HTTP/1.1 505",
                "HTTP/1.0 505"
            ]
            .iter()
            .any(|start| told.starts_with(start)),
            "for {line:?}: {told:?}"
        );
        assert_eq!(proxy.get("/good").body(), "served");
        assert_eq!(backend.seen(), ["GET /good"], "for {line:?}");
        proxy.wait_for_log("/good");
        assert!(
            !proxy.stop().concat().contains(char::is_control),
            "{line:?}"
        );
    }
}

#[test]
fn a_version_from_the_future_reaches_nobody() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send("GET /bad HTTP/2.0\r\nHost: h\r\n\r\n");
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(proxy.get("/good").body(), "served");
    assert_eq!(backend.seen(), ["GET /good"]);
}

#[test]
fn a_version_from_the_future_costs_its_connection() {
    // tiny_http waits for itself for ever then. It looks like a head that never ends.
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-header-timeout", "300ms")
        .start();
    let mut client = proxy.client();
    client.send("GET /bad HTTP/2.0\r\nHost: h\r\n\r\n");
    assert_eq!(client.response().status(), 408);
    client.closed();
}

#[test]
fn a_line_that_begins_with_a_space_continues_nothing() {
    // tiny_http hides the space. Whoever reads the endpoint's side sees one clean header.
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX-A: a\r\n X-B: b\r\n\r\n");
    if let Ok(answer) = client.try_response_to("GET")
        && answer.status() != 400
    {
        let request = backend.request();
        assert_eq!(request.header("x-a"), Some("a"));
        assert_eq!(request.header("x-b"), Some("b"));
    }
}

#[test]
fn bytes_after_a_refused_upload_are_not_a_request() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).flag("-max-body", "1KiB").start();
    for headers in ["Content-Length: 2000", "Content-Length: 99999999999999"] {
        let mut client = proxy.client();
        client.send(with(headers));
        let _ = client.try_send("x".repeat(1995) + SMUGGLED);
        assert_eq!(client.response().status(), 413);
        client.closed();
        assert_eq!(proxy.get("/good").body(), "served");
    }
    assert_eq!(backend.seen(), ["GET /good", "GET /good"]);
}

#[test]
fn a_good_request_before_a_bad_one_is_answered() {
    let backend = Backend::replies([status(200).body("first")]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    let bad = with("Content-Length: x");
    client.send(format!(
        "GET /good HTTP/1.1\r\nHost: h\r\n\r\n{bad}{SMUGGLED}"
    ));
    assert_eq!(client.response().body(), "first");
    assert_eq!(client.response().status(), 400);
    client.closed();
    assert_eq!(backend.seen(), ["GET /good"]);
}

#[test]
fn a_refusal_names_the_client_s_address_as_it_is_written() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).flag("-address", ":0").start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().status(), 400);
    proxy.wait_for_log("refused a request of 127.0.0.1:");
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
fn a_refusal_never_goes_to_another_client_with_the_same_address() {
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
        // The watch has found both by then.
        thread::sleep(Duration::from_millis(500));
        bad.request("POST /", "Content-Length: 999999999999\r\n");
        // Both are cut, or only the one it is for.
        assert!(!good.rest_within(Duration::from_secs(1)).contains("413"));
        let answer = bad.rest_within(Duration::from_secs(1));
        assert!(answer.is_empty() || answer.contains("413"), "{answer}");
    }
    assert_eq!(proxy.get("/").body(), "good");
}

#[test]
fn refusals_are_quick_and_leave_the_workers_free() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).flag("-workers", "1").start();
    let mut held = Vec::new();
    for _ in 0..50 {
        // The client keeps its side open and would go on for ever.
        let mut client = proxy.client();
        client.request("POST /bad", "Content-Length: x\r\n");
        assert_eq!(client.response().status(), 400);
        held.push(client);
    }
    assert_eq!(proxy.get("/good").body(), "served");
}
