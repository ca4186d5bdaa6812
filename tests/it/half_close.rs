//! `-half-close`: clients that have closed their sending side get their answers all the same.

use crate::common::{
    Gate,
    backend::{Act, Backend, Endpoint, never, send, status, wait},
    client::Closed,
    is_soon,
    proxy::{Builder, Proxy},
};
use std::time::{Duration, Instant};

type Mode = fn(&[&dyn Endpoint]) -> Builder;
const MODES: [Mode; 3] = [Proxy::serial, Proxy::fanout, Proxy::hedged];

#[test]
fn every_kind_of_request_is_answered_behind_a_fin() {
    let requests = [
        ("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n", 1),
        ("GET /1 HTTP/1.0\r\n\r\n", 1),
        (
            "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
            1,
        ),
        (
            "POST /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            1,
        ),
        (
            "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\r\n\
             GET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n",
            3,
        ),
        // What follows is no request, and the end is no reason for an answer to it.
        ("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HT", 1),
    ];
    for mode in MODES {
        let backend = Backend::choosing(|request| {
            status(200)
                .body(&request.target)
                .delayed(Duration::from_millis(20))
        });
        let proxy = mode(&[&backend, &backend])
            .flag("-half-close", "true")
            .start();
        for (request, answers) in requests {
            let mut client = proxy.client();
            client.send(request);
            client.finish_sending();
            for number in 1..=answers {
                assert_eq!(
                    client.response().body(),
                    format!("/{number}"),
                    "{request:?}"
                );
            }
            // And then the connection is closed.
            assert_eq!(client.closed(), Closed::Fin, "{request:?}");
        }
        assert_eq!(proxy.log_with("given up"), [""; 0]);
    }
}

#[test]
fn a_long_wait_and_a_long_answer_go_on_behind_a_fin() {
    let (gate, next) = (Gate::closed(), Gate::closed());
    let backend = Backend::always(status(200).after(&gate).head_only().then([
        send("one"),
        wait(&next),
        send("two"),
        Act::Close,
    ]));
    let proxy = Proxy::serial(&[&backend])
        .flag("-half-close", "true")
        .flag("-client-timeout", "300ms")
        .flag("-idle-timeout", "300ms")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    backend.wait_for_calls(1);
    client.finish_sending();
    assert!(client.hears_nothing_for(Duration::from_millis(700)));
    gate.open();
    client.until("one");
    assert!(client.hears_nothing_for(Duration::from_millis(300)));
    next.open();
    assert!(client.rest().contains("two"));
}

#[test]
fn a_reset_still_counts_as_going_away() {
    for mode in MODES {
        let backend = Backend::always(never());
        let proxy = mode(&[&backend]).flag("-half-close", "true").start();
        let mut calls = 0;
        is_soon("a reset", Duration::from_millis(50), || {
            calls += 1;
            let mut client = proxy.client();
            client.request(&format!("GET /{calls}"), "");
            backend.wait_for_calls(calls);
            // Also where a FIN has come before.
            client.finish_sending();
            assert!(client.hears_nothing_for(Duration::from_millis(60)));
            let begun = Instant::now();
            client.reset();
            let left = backend.left_at();
            let line = proxy.wait_for_log(&format!("request /{calls} given up after "));
            assert!(line.contains(": the client went away"), "{line}");
            left.saturating_duration_since(begun)
        });
    }
}

#[test]
fn a_client_that_has_closed_both_sides_is_noticed_when_it_is_written_to() {
    let backend = Backend::always(status(200).head_only().then([
        send("begun"),
        Act::Trickle(b"more", Duration::from_millis(5)),
    ]));
    let proxy = Proxy::serial(&[&backend])
        .flag("-half-close", "true")
        .start();
    let mut client = proxy.client();
    client.request("GET /p", "");
    client.until("begun");
    drop(client);
    backend.wait_until_left();
    let line = proxy.wait_for_log("but the client went away");
    assert!(line.starts_with("request /p served in "), "{line}");
}

#[test]
fn bodies_and_heads_broken_off_stay_what_they_are() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-half-close", "true")
        .start();
    let mut client = proxy.client();
    client.request("POST /", "Content-Length: 10\r\n");
    client.send("abc");
    client.finish_sending();
    crate::common::refusing::is_refusal(&client.response(), 400, "a body broken off");
    client.closed();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHo");
    client.finish_sending();
    assert_eq!(client.closed(), Closed::Fin);
}

#[test]
fn without_the_flag_and_with_it_off_a_fin_is_the_end() {
    for flag in [None, Some("false")] {
        let backend = Backend::always(never());
        let mut builder = Proxy::serial(&[&backend]);
        if let Some(value) = flag {
            builder = builder.flag("-half-close", value);
        }
        let proxy = builder.start();
        let mut client = proxy.client();
        client.request("GET /p", "");
        backend.wait_for_calls(1);
        client.finish_sending();
        assert_eq!(client.closed(), Closed::Fin);
        let line = proxy.wait_for_log("request /p given up after ");
        assert!(line.contains("(see -half-close)"), "{line}");
    }
}
