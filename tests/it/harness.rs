//! The harness checks itself: client against back end, without a proxy between them.

use crate::common::{
    Gate, Pattern,
    backend::{
        Act, Backend, Endpoint, Refused, Unroutable, never, raw, reset, script, send, status, wait,
    },
    client::{Client, Closed, End},
};
use std::{
    net::{SocketAddr, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

fn address(endpoint: &dyn Endpoint) -> SocketAddr {
    endpoint
        .url()
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap()
}

fn client(backend: &Backend) -> Client {
    Client::connect(address(backend))
}

#[test]
fn every_framing_arrives_whole() {
    let backend = Backend::replies([
        status(200).body("by length"),
        status(200).chunked(&[b"in ", b"chunks"]),
        status(204),
        status(200).body("none of this").header("X-A", "1"),
        status(200).until_close("until the end"),
    ]);
    let mut client = client(&backend);
    assert_eq!(client.get("/1").body(), "by length");
    assert_eq!(client.get("/2").body(), "in chunks");
    assert_eq!(client.get("/3").body(), "");
    client.request("HEAD /4", "");
    let head = client.response_to("HEAD");
    assert_eq!(
        (head.header("content-length"), head.length),
        (Some("12"), 0)
    );
    assert_eq!(client.get("/5").body(), "until the end");
    assert_eq!(
        backend.seen(),
        ["GET /1", "GET /2", "GET /3", "HEAD /4", "GET /5"]
    );
    assert_eq!(backend.connections(), 1);
}

#[test]
fn every_kind_of_breaking_off_shows() {
    let table = [
        (status(200).body("0123").cut(2, Act::Close), End::Truncated),
        (status(200).body("0123").cut(2, Act::Reset), End::Reset),
        (
            status(200).chunked(&[b"0123"]).cut(9, Act::Close),
            End::Truncated,
        ),
        (
            status(200).chunked(&[b"0123"]).cut(9, Act::Reset),
            End::Reset,
        ),
        (
            raw("HTTP/1.1 200 OK\r\n\r\n0123").then([Act::Reset]),
            End::Reset,
        ),
        (
            raw("HTTP/1.1 200 OK\r\n\r\n0123").then([Act::Close]),
            End::Complete,
        ),
    ];
    for (step, end) in table {
        let backend = Backend::replies([step]);
        assert_eq!(client(&backend).get("/").end, end);
    }
    let backend = Backend::replies([reset()]);
    let mut client = client(&backend);
    client.request("GET /", "");
    assert_eq!(client.try_response_to("GET").unwrap_err(), Closed::Reset);
}

#[test]
fn request_bodies_are_recorded() {
    let backend = Backend::always(status(200));
    let mut client = client(&backend);
    client.post("/a", "0123");
    client.send_chunked("PUT", "/b", &[b"01", b"23"]);
    client.response();
    client.send_body("POST", "/c", &Pattern::bytes(300_000));
    client.response();
    let requests = backend.requests();
    assert_eq!(requests[0].body, b"0123");
    assert_eq!(requests[1].body, b"0123");
    assert!(requests[2].patterned && !requests[1].patterned);
    assert_eq!(requests[2].length, 300_000);
}

#[test]
fn a_pattern_notices_what_is_lost_or_doubled() {
    let good = Pattern::bytes(200_000);
    let mut swapped = good.clone();
    swapped.drain(65536..131_072);
    for (bytes, whole) in [(&good, true), (&swapped, false)] {
        assert_eq!(Pattern::default().continues_with(bytes), whole);
    }
    let mut pieces = Pattern::default();
    let made = [pieces.next(1000), pieces.next(64000), pieces.next(65000)].concat();
    assert_eq!(made, good[..made.len()]);
}

#[test]
fn unused_steps_and_unexpected_requests_fail_the_test() {
    let unused = Backend::replies([status(200)]);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(unused))).is_err());

    let untouched = Backend::untouched();
    client(&untouched).get("/");
    assert!(catch_unwind(AssertUnwindSafe(|| drop(untouched))).is_err());
}

#[test]
fn a_gate_holds_an_answer() {
    let gate = Gate::closed();
    let backend =
        Backend::replies([script([send("HTTP/1.1 200 OK\r\n\r\none"), wait(&gate)])
            .then([send("two"), Act::Close])]);
    let mut client = client(&backend);
    client.request("GET /", "");
    client.head();
    assert_eq!(client.until("one"), "one");
    gate.open();
    assert_eq!(client.rest(), "two");
}

#[test]
fn leaving_is_noticed() {
    let backend = Backend::replies([never()]);
    let mut client = client(&backend);
    client.request("GET /", "");
    backend.wait_for_calls(1);
    drop(client);
    backend.wait_until_left();
}

#[test]
fn refused_and_unroutable_are_what_they_say() {
    let soon = Duration::from_millis(200);
    let refused = Refused::new();
    let error = TcpStream::connect_timeout(&address(&refused), soon).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let unroutable = Unroutable::new();
    let error = TcpStream::connect_timeout(&address(&unroutable), soon).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}
