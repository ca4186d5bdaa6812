//! Refusals: our own answer for every status, at once, received by the client, and logged.

use crate::common::{
    Gate,
    backend::{Backend, status},
    client::Closed,
    eventually,
    proxy::Proxy,
    refusing::{AT_ONCE, Refusing, SMUGGLED, is_refusal},
    settled,
};
use std::time::{Duration, Instant};

#[test]
fn every_status_has_the_same_shape_and_head_gets_no_body() {
    let mut front = Refusing::with(|builder| {
        builder
            .flag("-max-body", "1KiB")
            .flag("-max-header", "8KiB")
    });
    let long = format!("X-A: {}\r\n", "v".repeat(9000));
    let table = [
        (400, "/ HTTP/1.1", "X-A : b\r\n"),
        (400, "/ HTTP/1.1", "X-A: a\r\n b\r\n"),
        (400, "/ HTTP/1.1", "Content-Length: x\r\n"),
        (400, "/ HTTP/1.1 x", ""),
        (413, "/ HTTP/1.1", "Content-Length: 1025\r\n"),
        (417, "/ HTTP/1.1", "Expect: something-else\r\n"),
        (431, "/ HTTP/1.1", long.as_str()),
        (505, "/ HTTP/2.0", ""),
    ];
    for (status, rest, headers) in table {
        let mut lengths = Vec::new();
        for method in ["GET", "HEAD", "POST"] {
            let request = format!("{method} {rest}\r\nHost: h\r\n{headers}\r\n");
            let answer = front.refuses_once(status, request.as_bytes());
            let length: u64 = answer.header("content-length").unwrap().parse().unwrap();
            if method == "HEAD" {
                assert_eq!(answer.length, 0, "{status}");
            } else {
                assert_eq!(answer.length, length, "{status}");
                assert!(answer.body().ends_with('\n'), "{:?}", answer.body());
            }
            lengths.push(length);
        }
        // A HEAD is told the length that the others get.
        lengths.dedup();
        assert_eq!(lengths.len(), 1, "{status}: {lengths:?}");
    }
    for request in [
        "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
        "CONNECT h:1 HTTP/1.0\r\n\r\n",
    ] {
        front.refuses_once(405, request.as_bytes());
    }
    front.finish();
}

#[test]
fn log_line_says_what_the_client_is_told() {
    let mut front = Refusing::new();
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nfoo\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: h\r\n\r\n",
        "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "FOO\r\n\r\n",
    ] {
        let mut client = front.proxy.client();
        client.send(request);
        let answer = client.response();
        client.closed();
        let line = front.proxy.wait_for_refusal(client.local_address());
        let reason = answer.body();
        let reason = reason.trim_end();
        assert!(
            !reason.is_empty() && line.contains(reason),
            "{line:?} {reason:?}"
        );
        assert!(line.contains(&format!("({})", answer.status())), "{line}");
    }
    assert_eq!(front.endpoint().calls(), 0);
    front.proxy.stop();
}

/// Beginnings of heads that nothing can make sound any more.
const HOPELESS: [(u16, &[u8]); 44] = [
    // TLS: a whole first record, and its first bytes.
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    (400, b"\x16\x03\x01"),
    (400, b"\x16\x03"),
    (400, b"\x80\x2e\x01\x03\x01"),
    (
        505,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0",
    ),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\n"),
    (505, b"GET / HTTP/9.1\r\nHost: h\r\n"),
    (400, b"\0"),
    (400, b"\x04\x01\x00\x50"),
    (400, b"\x05\x01\x00"),
    (400, b"\xff\xfb\x01"),
    (400, b"{\"json\": 1}"),
    (400, b"<xml/>"),
    (400, b" GET / HTTP/1.1\r\n"),
    (400, b"\rGET"),
    (400, b"GE\x01"),
    (400, b"GE(T"),
    (400, b"GET\t/"),
    (400, b"GET\r\n"),
    (400, b"GET\n"),
    (400, b"GET  "),
    (400, b"GET /a#"),
    (400, b"GET /a\x01"),
    (400, b"GET /a\x7f"),
    (400, b"GET /a\n"),
    (400, b"GET /a\r\n"),
    (400, b"GET /a HTTP/1.1\n"),
    (400, b"GET /a HTTP/1.1 "),
    (400, b"GET /a HTTP/1.1x"),
    (400, b"GET /a HTTP/1.1\rX"),
    (400, b"GET /a HTTP/0.9\r\n"),
    (400, b"GET /a FTP/1.1"),
    (400, b"GET /a http/1.1"),
    (400, b"GET /a HTTP/1.1\r\n "),
    (400, b"GET /a HTTP/1.1\r\n\tX"),
    (400, b"GET /a HTTP/1.1\r\n:"),
    (400, b"GET /a HTTP/1.1\r\nHost: h\r\nX-A "),
    (400, b"GET /a HTTP/1.1\r\nHost: h\r\nX(A"),
    (400, b"GET /a HTTP/1.1\r\nHost: h\r\nX-A\r\n"),
    (400, b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: \x01"),
    (400, b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: b\n"),
    (400, b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: b\rc"),
    (400, b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: b\r\n c"),
];

#[test]
fn what_cannot_become_a_request_is_refused_before_its_head_is_whole() {
    // The client keeps its side open: only the bytes can be the reason.
    let mut front = Refusing::new();
    for (status, beginning) in HOPELESS {
        front.refuses_once(status, beginning);
    }
    front.finish();
}

#[test]
fn the_same_behind_empty_lines_and_behind_a_request() {
    let mut front = Refusing::new();
    for (status, beginning) in HOPELESS {
        if beginning.starts_with(b"PRI") {
            continue;
        }
        front.refuses_once(status, &[b"\r\n\n\r\n", beginning].concat());
        let mut client = front.proxy.client();
        client.send([b"GET /good HTTP/1.1\r\nHost: h\r\n\r\n", beginning].concat());
        assert_eq!(client.response().body(), "served");
        let begun = Instant::now();
        is_refusal(&client.response(), status, &crate::common::text(beginning));
        assert!(begun.elapsed() < AT_ONCE, "{beginning:?}");
        client.closed();
    }
    front.proxy.stop();
}

#[test]
fn beginnings_that_may_become_sound_are_waited_for() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend]).start();
    let request = "\r\n\nP-A /a?\u{e9} HTTP/1.1\r\nHost:h\r\nX-A:\t b \tc \r\nX-B:\r\n\r\n";
    let bytes = crate::common::latin1(request);
    // Each beginning on a connection of its own, and none is refused.
    let mut clients: Vec<_> = (1..bytes.len()).map(|_| proxy.client()).collect();
    for (client, at) in clients.iter_mut().zip(1..) {
        client.send(&bytes[..at]);
    }
    crate::common::client::Client::wait_until_all_read(&clients);
    for (client, at) in clients.iter_mut().zip(1..) {
        client.send(&bytes[at..]);
        assert_eq!(client.response().body(), "served", "split at {at}");
    }
    for request in backend.requests() {
        assert_eq!(request.request_line(), b"P-A /a?\xe9 HTTP/1.1");
        assert_eq!(request.header("x-a"), Some("b \tc"));
        assert_eq!(request.header("x-b"), Some(""));
    }
}

#[test]
fn refusal_is_heard_although_more_had_been_sent_than_was_read() {
    // Bytes that nothing reads make the kernel reset the connection, and a reset destroys
    // what the client has not read yet: the proxy has to read on for a while.
    let mut front = Refusing::with(|builder| builder.flag("-max-body", "1KiB"));
    let more = vec![b'x'; 32 << 10];
    for (status, beginning) in [
        (
            413,
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 32768\r\n\r\n",
        ),
        (
            413,
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n",
        ),
        (
            400,
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
        ),
        (
            400,
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        ),
        (400, "\x16\x03\x01"),
    ] {
        for _ in 0..10 {
            front.refuses_once(status, &[beginning.as_bytes(), &more].concat());
        }
    }
    front.finish();
}

#[test]
fn client_that_keeps_its_side_open_is_closed_for_good_soon() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-header-timeout", "1h")
        .flag("-client-timeout", "1h")
        .flag("-idle-timeout", "1h")
        .start();
    let before = settled(|| proxy.descriptors());
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\n\r\n");
        is_refusal(&client.response(), 400, "no Host");
        assert_eq!(client.closed(), Closed::Fin);
        clients.push(client);
    }
    // Far sooner than any time-out for what the client does.
    eventually(
        "descriptors",
        || proxy.descriptors(),
        |&open| open <= before,
    );
    // It still holds its ends.
    assert_eq!(clients.len(), 20);
}

#[test]
fn refusals_behind_a_request_in_flight_wait_for_its_answer() {
    let gate = Gate::closed();
    let backend = Backend::replies([status(200).body("late").after(&gate)]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    backend.wait_for_calls(1);
    client.send([b"\x16\x03\x01", SMUGGLED].concat());
    assert!(client.hears_nothing_for(Duration::from_millis(100)));
    gate.open();
    assert_eq!(client.response().body(), "late");
    is_refusal(&client.response(), 400, "the second one");
    assert_eq!(client.closed(), Closed::Fin);
}

#[test]
fn head_broken_off_by_the_client_is_closed_without_an_answer() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend]).start();
    for beginning in [
        "",
        "G",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n",
        "\r\n",
    ] {
        let mut client = proxy.client();
        client.send(beginning);
        client.finish_sending();
        assert_eq!(client.closed(), Closed::Fin, "{beginning:?}");
    }
}
