//! Clients that take their time: limits on heads, bodies and answers.

use crate::common::{
    Gate,
    backend::{Act, Backend, send, status, wait},
    proxy::Proxy,
};
use std::{
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_head_that_does_not_end_is_given_up() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-header-timeout", "500ms")
        .start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX-");
    assert_eq!(client.response().status(), 408);
    client.closed();
    proxy.wait_for_log("sent a request head too slowly (-header-timeout): connection cut");
}

#[test]
fn a_head_that_comes_byte_by_byte_is_no_progress() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-header-timeout", "500ms")
        .start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX-A: ");
    let begun = Instant::now();
    while client.try_send("x").is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(8), "not cut");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_second_head_of_a_connection_has_its_time_as_well() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend])
        .flag("-header-timeout", "500ms")
        .start();
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").status(), 200);
    }
    // Right behind the answer: nobody has looked in between.
    client.send("GET / HTT");
    assert_eq!(client.response().status(), 408);
    client.closed();
}

#[test]
fn a_head_behind_a_request_in_flight_has_its_limits_as_well() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("late").after(&gate));
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-header", "8KiB")
        .flag("-header-timeout", "500ms")
        .start();
    let mut flooding = proxy.client();
    flooding.request("GET /", "");
    backend.wait_for_calls(1);
    flooding.send("GET / HTTP/1.1\r\nX-A: ");
    let piece = vec![b'x'; 64 << 10];
    // Were it all taken, this would be a gigabyte.
    assert!((0..16_000).any(|_| flooding.try_send(&piece).is_err()));
    proxy.wait_for_log("sent too large a request head (-max-header): connection cut");
    // Its time begins when it is its turn.
    let mut slow = proxy.client();
    slow.request("GET /", "");
    slow.send("GET / HTT");
    backend.wait_for_calls(2);
    thread::sleep(Duration::from_secs(1));
    gate.open();
    assert_eq!(slow.response().body(), "late");
    assert_eq!(slow.response().status(), 408);
}

#[test]
fn while_others_wait_a_client_that_hardly_moves_does_not_keep_its_worker() {
    let backend = Backend::choosing(|request| {
        if request.target == "/large" {
            status(200)
                .head_only()
                .header("Content-Length", "1000000000")
                .then([Act::Generate(1_000_000_000)])
        } else {
            status(200).body("served")
        }
    });
    let proxy = Proxy::serial(&[&backend]).flag("-workers", "2").start();
    let mut slow_body = proxy.client();
    slow_body.request("POST /", "Content-Length: 50000\r\n");
    slow_body.send("some");
    let mut slow_reader = proxy.client();
    slow_reader.request("GET /large", "");
    slow_reader.head();
    let begun = Instant::now();
    assert_eq!(proxy.get("/").body(), "served");
    // Far less than -client-timeout.
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    proxy.wait_for_log("hardly moved while others were waiting (-workers): connection cut");
}

#[test]
fn a_head_beyond_the_limit_is_too_large() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-header", "8KiB")
        .start();
    let mut client = proxy.client();
    // A line without an end.
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX-A: ");
    client.send("x".repeat(9 << 10));
    assert_eq!(client.response().status(), 431);
    client.closed();
    proxy.wait_for_log("sent too large a request head (-max-header): connection cut");
    // A body is no head, however large.
    assert_eq!(proxy.post("/", vec![b'x'; 1 << 20]).status(), 200);
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-client-timeout", "1s")
        .start();
    let mut client = proxy.client();
    client.request("POST /", "Content-Length: 5000\r\n");
    client.send("some");
    assert_eq!(client.response().status(), 408);
    client.closed();
    proxy.wait_for_log("sent a request body too slowly (-client-timeout): connection cut");
}

#[test]
fn a_few_bytes_now_and_then_are_no_progress_of_a_body() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-client-timeout", "1s")
        .start();
    let mut client = proxy.client();
    client.request("POST /", "Content-Length: 50000\r\n");
    let begun = Instant::now();
    while client.try_send("x").is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(8), "not cut");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_body_that_gets_on_may_take_longer_than_the_time_out() {
    let backend = Backend::replies([status(200)]);
    let proxy = Proxy::serial(&[&backend])
        .flag("-client-timeout", "500ms")
        .start();
    let mut client = proxy.client();
    client.request("POST /", "Content-Length: 20000\r\n");
    for _ in 0..20 {
        client.send([b'x'; 1000]);
        thread::sleep(Duration::from_millis(75));
    }
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_client_that_does_not_take_its_answer_is_cut() {
    let backend = Backend::always(
        status(200)
            .head_only()
            .header("Content-Length", "1000000000")
            .then([Act::Generate(1_000_000_000)]),
    );
    let proxy = Proxy::serial(&[&backend])
        .flag("-client-timeout", "1s")
        .flag("-workers", "1")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    client.head();
    proxy.wait_for_log("took an answer too slowly (-client-timeout): connection cut");
    proxy.wait_for_log("but the client broke off");
}

#[test]
fn a_client_waits_for_a_slow_endpoint_as_long_as_it_takes() {
    let gate = Gate::closed();
    let backend = Backend::replies([status(200).body("late").after(&gate)]);
    let proxy = Proxy::serial(&[&backend])
        .flag("-client-timeout", "200ms")
        .flag("-idle-timeout", "200ms")
        .flag("-header-timeout", "200ms")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    backend.wait_for_calls(1);
    // Many times as long as any of the limits.
    thread::sleep(Duration::from_secs(1));
    gate.open();
    assert_eq!(client.response().body(), "late");
}

#[test]
fn an_event_stream_between_two_events_is_not_cut() {
    let gate = Gate::closed();
    let backend = Backend::replies([status(200).head_only().then([
        send("data: 1\n\n"),
        wait(&gate),
        send("data: 2\n\n"),
    ])]);
    let proxy = Proxy::serial(&[&backend])
        .flag("-client-timeout", "200ms")
        .flag("-idle-timeout", "200ms")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    client.until("data: 1\n\n");
    thread::sleep(Duration::from_secs(1));
    gate.open();
    client.until("data: 2\n\n");
}
