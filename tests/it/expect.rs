//! `Expect: 100-continue` is the proxy's to answer (RFC 9110 10.1.1).

use crate::common::{
    backend::{Backend, Endpoint, status},
    proxy::{Builder, Proxy},
    refusing::Refusing,
    text,
};
use std::time::Duration;

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

type Mode = fn(&[&dyn Endpoint]) -> Builder;
const MODES: [Mode; 3] = [Proxy::serial, Proxy::fanout, Proxy::hedged];

fn framings() -> [(String, String); 4] {
    let large = "a".repeat(5000);
    [
        ("Content-Length: 3".into(), "abc".into()),
        ("Content-Length: 5000".into(), large.clone()),
        (
            "Transfer-Encoding: chunked".into(),
            "3\r\nabc\r\n0\r\n\r\n".into(),
        ),
        (
            "Transfer-Encoding: chunked".into(),
            format!("1388\r\n{large}\r\n0\r\nX-T: 1\r\n\r\n"),
        ),
    ]
}

#[test]
fn continue_is_a_status_line_and_nothing_else() {
    for mode in MODES {
        let backend = Backend::always(status(200).body("fine"));
        let proxy = mode(&[&backend, &backend]).start();
        // All on one connection: each request gets its own.
        let mut client = proxy.client();
        let mut number = 0;
        for (framing, body) in framings() {
            for expectation in [
                "100-continue",
                "100-Continue",
                "100-CONTINUE",
                "\t100-continue ",
            ] {
                number += 1;
                let line = format!("POST /{number}");
                client.request(&line, &format!("{framing}\r\nExpect:{expectation}\r\n"));
                assert_eq!(
                    text(&client.head().raw),
                    CONTINUE,
                    "{framing} {expectation}"
                );
                // No endpoint has been asked before the body has come.
                assert!(!backend.seen().contains(&line), "{framing} {expectation}");
                client.send(&body);
                let answer = client.response();
                assert_eq!((answer.body().as_str(), answer.interim.len()), ("fine", 0));
            }
        }
        for request in backend.requests() {
            assert_eq!(request.header("expect"), None);
            assert!(request.length >= 3, "{}", request.length);
        }
    }
}

#[test]
fn continue_is_not_sent_for_a_body_that_has_begun_to_come() {
    let backend = Backend::always(status(200).body("fine"));
    let proxy = Proxy::serial(&[&backend]).start();
    for (framing, body) in framings() {
        let head =
            format!("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{framing}\r\n\r\n");
        for begun in [1, body.len()] {
            let mut client = proxy.client();
            // In one write, so that they arrive together.
            client.send(format!("{head}{}", &body[..begun]));
            client.send(&body[begun..]);
            let answer = client.response();
            assert_eq!(
                (answer.body().as_str(), answer.interim.len()),
                ("fine", 0),
                "{framing}"
            );
        }
    }
}

#[test]
fn http_1_0_clients_are_sent_no_interim_answer() {
    let backend = Backend::always(status(200).body("fine"));
    let proxy = Proxy::serial(&[&backend]).start();
    for connection in ["", "Connection: keep-alive\r\n"] {
        let mut client = proxy.client();
        client.send(format!(
            "POST / HTTP/1.0\r\nExpect: 100-continue\r\n{connection}Content-Length: 3\r\n\r\n"
        ));
        assert!(client.hears_nothing_for(Duration::from_millis(200)));
        client.send("abc");
        let answer = client.response();
        assert_eq!((answer.body().as_str(), answer.interim.len()), ("fine", 0));
    }
    // Nor does any other expectation mean anything in HTTP/1.0.
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nExpect: something-else\r\n\r\n");
    assert_eq!(client.response().body(), "fine");
}

#[test]
fn other_expectations_fail() {
    let mut front = Refusing::new();
    for expectation in [
        "something-else",
        "100-continued",
        "100",
        "200-ok",
        "100-continue, something-else",
        "something-else, 100-continue",
        "100-continue\r\nExpect: something-else",
    ] {
        for framing in [
            "",
            "Content-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\n",
        ] {
            let head =
                format!("POST /bad HTTP/1.1\r\nHost: h\r\n{framing}Expect: {expectation}\r\n\r\n");
            front.refuses_once(417, head.as_bytes());
        }
        // What would have been its body is no request.
        front.refuses(
            417,
            format!(
                "POST /bad HTTP/1.1\r\nHost: h\r\nExpect: {expectation}\r\nContent-Length: 3\r\n\r\nabc"
            ),
        );
    }
    front.finish();
}

#[test]
fn refused_requests_are_not_told_to_go_on() {
    let mut front = Refusing::with(|builder| builder.flag("-max-body", "1KiB"));
    for (status, framing) in [
        (413, "Content-Length: 1025"),
        (413, "Content-Length: 18446744073709551615"),
        (400, "Content-Length: x"),
        (400, "Content-Length: 3\r\nTransfer-Encoding: chunked"),
        (400, "Transfer-Encoding: gzip"),
        (400, "Content-Length: 3\r\nX-A: a\r\n b"),
    ] {
        let head =
            format!("POST /bad HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{framing}\r\n\r\n");
        // `is_refusal` wants no interim answer.
        front.refuses_once(status, head.as_bytes());
    }
    front.finish();
}
