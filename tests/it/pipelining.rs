//! Requests that a client sends without waiting for the answers.

use crate::common::{
    Gate,
    backend::{Backend, status},
    eventually,
    proxy::Proxy,
    refusing::is_refusal,
};
use std::time::Duration;

fn requests(numbers: std::ops::Range<usize>) -> String {
    let one = |n| format!("POST /{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    numbers.map(one).collect::<Vec<_>>().concat()
}

#[test]
fn one_is_asked_for_after_the_other_and_answered_in_order() {
    let gate = Gate::closed();
    let backend = Backend::choosing({
        let gate = gate.clone();
        move |request| status(200).body(&request.target).after(&gate)
    });
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send(requests(0..20));
    backend.wait_for_calls(1);
    // While the first is under way, others are served, and the second is not begun.
    let mut other = proxy.client();
    other.request("GET /other", "");
    backend.wait_for_calls(2);
    assert_eq!(backend.seen(), ["POST /0", "GET /other"]);
    gate.open();
    for n in 0..20 {
        assert_eq!(client.response().body(), format!("/{n}"));
    }
    assert_eq!(other.response().body(), "/other");
    let posts: Vec<_> = backend
        .seen()
        .into_iter()
        .filter(|seen| seen.starts_with("POST"))
        .collect();
    assert_eq!(
        posts,
        (0..20).map(|n| format!("POST /{n}")).collect::<Vec<_>>()
    );
}

#[test]
fn any_number_is_served_one_after_the_other() {
    const MANY: usize = 500;
    let backend = Backend::choosing(|request| status(200).body(&request.target));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    // All are written before the first answer is read; the proxy must not wait for that.
    client.send(requests(0..MANY));
    for n in 0..MANY {
        assert_eq!(client.response().body(), format!("/{n}"));
    }
    let wanted: Vec<_> = (0..MANY).map(|n| format!("POST /{n}")).collect();
    assert_eq!(backend.seen(), wanted);
    eventually(
        "lines about served requests",
        || proxy.log_with(" served in ").len(),
        |&lines| lines == MANY,
    );
}

#[test]
fn while_the_first_is_in_flight_the_next_ones_are_neither_asked_for_nor_a_sign_of_anything() {
    for mode in [Proxy::serial, Proxy::fanout, Proxy::hedged] {
        let gate = Gate::closed();
        let backend = Backend::always(status(200).body("answer").after(&gate));
        let proxy = mode(&[&backend]).start();
        let mut client = proxy.client();
        client.send(requests(0..1));
        backend.wait_for_calls(1);
        client.send(requests(1..100));
        assert!(client.hears_nothing_for(Duration::from_millis(100)));
        assert_eq!(backend.calls(), 1);
        gate.open();
        for _ in 0..100 {
            assert_eq!(client.response().body(), "answer");
        }
        assert_eq!(proxy.log_with("given up"), [""; 0]);
    }
}

#[test]
fn all_kinds_of_bodies_may_follow_each_other() {
    use std::fmt::Write as _;

    let backend = Backend::choosing(|request| status(200).body(&request.body));
    let proxy = Proxy::serial(&[&backend]).start();
    let bodies = [
        String::new(),
        "x".to_owned(),
        "GET /smuggled HTTP/1.1\r\n\r\n".repeat(3),
        "y".repeat(20_000),
    ];
    let mut client = proxy.client();
    let mut wire = String::new();
    for body in &bodies {
        let length = body.len();
        write!(
            wire,
            "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}\r\n"
        )
        .unwrap();
        wire += "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        if !body.is_empty() {
            write!(wire, "{length:x};ext\r\n{body}\r\n").unwrap();
        }
        wire += "0\r\nX-T: 1\r\n\r\n";
    }
    client.send(wire);
    for body in bodies.iter().flat_map(|body| [body, body]) {
        assert!(client.response().body() == *body, "{}", body.len());
    }
    assert!(backend.seen().iter().all(|seen| seen == "POST /p"));
}

#[test]
fn what_follows_a_bad_one_is_not_served() {
    let backend = Backend::always(status(200).body("good"));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.send(requests(0..2));
    client.send("GET /bad HTTP/1.1\r\n\r\n");
    client.send(requests(3..9));
    for _ in 0..2 {
        assert_eq!(client.response().body(), "good");
    }
    is_refusal(&client.response(), 400, "a bad one among good ones");
    client.closed();
    assert_eq!(backend.seen(), ["POST /0", "POST /1"]);
}

#[test]
fn while_the_losers_of_one_end_the_next_ones_are_served_one_after_the_other() {
    let quick = Backend::choosing(|request| {
        let answer = status(200).body(&request.target);
        if request.target == "/1" {
            answer
        } else {
            answer.delayed(Duration::from_millis(30))
        }
    });
    // Not usable, so that it loses however busy the machine is.
    let loser = Backend::always(status(503).delayed(Duration::from_millis(300)));
    let proxy = Proxy::fanout(&[&quick, &loser]).start();
    for _ in 0..8 {
        let mut client = proxy.client();
        assert_eq!(client.get("/1").body(), "/1");
        // At once: the loser of the first one is still being ended.
        client.send("GET /2 HTTP/1.1\r\nHost: h\r\n\r\nPOST /3 HTTP/1.1\r\nHost: h\r\n");
        client.send("Content-Length: 99999999999999\r\n\r\n");
        assert_eq!(client.response().body(), "/2");
        assert_eq!(client.response().status(), 413);
    }
}
