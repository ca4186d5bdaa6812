//! Request bodies: whole to every endpoint that is tried, or to none.

use crate::common::{
    DEADLINE, Pattern,
    backend::{Act, Backend, Refused, chunk_of, script, status},
    client::Closed,
    proxy::Proxy,
    refusing::is_refusal,
};
use std::{io::ErrorKind, time::Instant};

const MIB: usize = 1 << 20;

#[test]
fn bodies_of_every_size_reach_each_endpoint_that_is_tried() {
    let down = Refused::new();
    let sick = Backend::always(status(503));
    let well = Backend::always(status(200));
    let proxy = Proxy::serial(&[&down, &sick, &well]).start();

    // Around 1 MiB a body moves from memory to a file.
    let sizes = [0, 1, 1000, MIB - 1, MIB, MIB + 1, 8 * MIB];
    let mut client = proxy.client();
    for (n, size) in sizes.into_iter().enumerate() {
        let body = Pattern::bytes(size);
        assert_eq!(client.post("/length", &body).status(), 200);
        let pieces: Vec<_> = body.chunks(10_007).collect();
        client.send_chunked("POST", "/chunked", &pieces);
        assert_eq!(client.response().status(), 200);
        for backend in [&sick, &well] {
            for request in &backend.requests()[2 * n..] {
                // `assert_eq` would print them.
                assert!(request.body == body, "{size} {}", request.target);
                let length = request.header("content-length").unwrap();
                assert_eq!(length, size.to_string());
            }
        }
    }
    assert_eq!(sick.calls(), 2 * sizes.len());
}

#[test]
fn a_body_that_a_limit_on_files_stops_is_refused() {
    let backend = Backend::replies([status(200)]);
    let proxy = Proxy::serial(&[&backend])
        .within(&["sh", "-c", "ulimit -f 2000; exec \"$0\" \"$@\""])
        .start();
    let mut client = proxy.client();
    client.send_body("POST", "/", &Pattern::bytes(3 * MIB));
    assert_eq!(client.response().status(), 500);
    proxy.wait_for_log("can't store the request body: file too large");
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn tiny_chunks_and_extensions_are_a_body_like_any_other() {
    let backend = Backend::replies([status(200)]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("POST /", "Transfer-Encoding: chunked\r\n");
    for byte in b"one byte each" {
        client.send(chunk_of(&[*byte]));
    }
    client.send("00A;name=\"va;lue\"\r\n0123456789\r\n0\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(backend.request().body, b"one byte each0123456789");
}

#[test]
fn every_method_passes_with_and_without_a_body() {
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PURGE",
        "M-SEARCH", "get",
    ];
    let backend = Backend::always(status(200).body("answer"));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    for method in methods {
        client.request(&format!("{method} /bare"), "");
        assert_eq!(client.response_to(method).status(), 200, "{method}");
        client.send_body(method, "/full", b"a body");
        assert_eq!(client.response_to(method).status(), 200, "{method}");
        client.send_chunked(method, "/chunked", &[b"a ", b"body"]);
        assert_eq!(client.response_to(method).status(), 200, "{method}");
    }
    let requests = backend.requests();
    assert_eq!(requests.len(), 3 * methods.len());
    for (three, method) in requests.chunks(3).zip(methods) {
        assert!(three.iter().all(|request| request.method == method));
        let bodies: Vec<_> = three
            .iter()
            .map(|request| request.body.as_slice())
            .collect();
        assert_eq!(bodies, [&b""[..], b"a body", b"a body"], "{method}");
    }
}

/// Sends the beginning of a request and breaks off; no endpoint may be called.
fn breaks_off(beginning: &str, sent: u64, reset: bool) {
    let backend = Backend::replies([status(200)]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send(beginning);
    client.send_pattern(sent);
    if reset {
        client.reset();
    } else {
        client.finish_sending();
        let answer = client.response();
        is_refusal(&answer, 400, beginning);
        let words = format!("request body broken off after {sent} bytes");
        assert!(answer.body().contains(&words), "{}", answer.body());
        client.closed();
        let line = proxy.wait_for_refusal(client.local_address());
        assert!(line.contains(&words), "{line}");
    }
    // One later request through the same proxy is the only one.
    assert_eq!(proxy.get("/after").status(), 200);
    assert_eq!(backend.seen(), ["GET /after"]);
    assert_eq!(backend.calls(), 1);
}

const LENGTH: &str = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n";
const SHORT: &str = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n";

#[test]
fn a_body_broken_off_before_its_first_byte_causes_no_call() {
    for head in [LENGTH, SHORT] {
        breaks_off(head, 0, false);
        breaks_off(head, 0, true);
    }
}

#[test]
fn a_body_broken_off_in_its_middle_causes_no_call() {
    for reset in [false, true] {
        breaks_off(SHORT, 10, reset);
        breaks_off(SHORT, 19, reset);
        breaks_off(LENGTH, 1_500_000, reset);
        breaks_off(LENGTH, 1_999_999, reset);
    }
}

#[test]
fn a_body_above_the_limit_is_refused_and_the_connection_cut() {
    let backend = Backend::replies([status(200), status(200), status(200)]);
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-body", "64KiB")
        .start();

    assert_eq!(proxy.post("/just", Pattern::bytes(65536)).status(), 200);
    let mut client = proxy.client();
    client.send_chunked("POST", "/just", &[&Pattern::bytes(65536)]);
    assert_eq!(client.response().status(), 200);

    let mut client = proxy.client();
    client.request("POST /x", "Content-Length: 65537\r\n");
    assert_eq!(client.response().status(), 413);
    client.closed();

    let mut client = proxy.client();
    client.request("POST /x", "Transfer-Encoding: chunked\r\n");
    // It need not read to the end before it says no.
    let _ = client.try_send(chunk_of(&Pattern::bytes(65537)));
    assert_eq!(client.response().status(), 413);
    client.closed();

    assert_eq!(proxy.get("/after").status(), 200);
    assert_eq!(backend.seen(), ["POST /just", "POST /just", "GET /after"]);
}

#[test]
fn a_client_that_goes_on_sending_after_a_refusal_is_cut_off() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).flag("-max-body", "1MiB").start();

    for headers in [
        "Content-Length: 99999999999\r\n",
        "Transfer-Encoding: chunked\r\n",
    ] {
        let mut client = proxy.client();
        client.request("POST /x", headers);
        let piece = chunk_of(&Pattern::bytes(1_000_000));
        // It may be given some time to notice, but not without end.
        let begun = Instant::now();
        let error = loop {
            match client.try_send(&piece) {
                Ok(()) => assert!(begun.elapsed() < DEADLINE, "{headers}"),
                Err(error) => break error.kind(),
            }
        };
        let cut = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        assert!(cut.contains(&error), "{headers}: {error:?}");
    }
}

#[test]
fn an_expected_body_above_the_limit_is_refused_before_it_is_sent() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).flag("-max-body", "1KiB").start();
    let mut client = proxy.client();
    client.request(
        "POST /x",
        "Content-Length: 1025\r\nExpect: 100-continue\r\n",
    );
    let answer = client.response();
    assert_eq!((answer.status(), answer.interim.len()), (413, 0));
}

#[test]
fn an_absurd_length_costs_no_memory_and_no_other_request() {
    let backend = Backend::always(status(200).body("ok"));
    let proxy = Proxy::serial(&[&backend]).start();
    let absurd = [
        "99999999999999",
        "9223372036854775807",
        "18446744073709551615",
    ];
    for length in absurd {
        for reset in [false, true] {
            for sent in ["", "0123456789"] {
                let mut client = proxy.client();
                client.request("POST /x", &format!("Content-Length: {length}\r\n"));
                let _ = client.try_send(sent);
                let answer = client.response();
                is_refusal(&answer, 413, length);
                if reset {
                    client.reset();
                } else {
                    client.closed();
                }
                assert_eq!(proxy.get("/after").body(), "ok");
            }
        }
    }
    assert_eq!(backend.calls(), absurd.len() * 4);
}

#[test]
fn the_default_limit_is_100_mib() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("POST /x", "Content-Length: 104857601\r\n");
    assert_eq!(client.response().status(), 413);
}

#[test]
fn an_early_answer_is_relayed_although_the_body_was_not_wanted() {
    let body = Pattern::bytes(8 * MIB);
    let refusal = || {
        status(413)
            .body("too much")
            .header("Connection", "close")
            .early()
    };
    for end in [Act::Close, Act::Reset] {
        // Once on a fresh connection, and once on a used one.
        let backend = Backend::replies([
            refusal().then([end.clone()]),
            status(200),
            refusal().then([end]),
        ]);
        let proxy = Proxy::serial(&[&backend]).start();
        let mut client = proxy.client();
        let answer = client.post("/", &body);
        assert_eq!((answer.status(), answer.body().as_str()), (413, "too much"));
        assert_eq!(client.get("/").status(), 200);
        let answer = client.post("/", &body);
        assert_eq!((answer.status(), answer.body().as_str()), (413, "too much"));
    }
}

#[test]
fn an_endpoint_that_leaves_during_the_upload_is_a_failed_attempt() {
    let body = Pattern::bytes(8 * MIB);
    let rude = Backend::replies([script([Act::Reset]).early()]);
    let well = Backend::replies([status(200).body("well")]);
    let proxy = Proxy::serial(&[&rude, &well]).start();
    assert_eq!(proxy.post("/", &body).body(), "well");
    assert!(well.request().body == body);
}

#[test]
fn the_bodies_of_one_connection_do_not_run_into_each_other() {
    let backend = Backend::choosing(|request| status(200).body(&request.body));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    // Pipelined: all are sent before the first answer is read.
    client.send_body("POST", "/1", b"first");
    client.send_chunked("POST", "/2", &[b"sec", b"ond"]);
    client.request("GET /3", "");
    client.send_body("POST", "/4", b"GET /smuggled HTTP/1.1\r\n\r\n");
    for expected in ["first", "second", "", "GET /smuggled HTTP/1.1\r\n\r\n"] {
        assert_eq!(client.response().body(), expected);
    }
    client.finish_sending();
    assert_eq!(client.closed(), Closed::Fin);
}
