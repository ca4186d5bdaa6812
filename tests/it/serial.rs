//! Serial mode: one endpoint after the other, and no call after a usable answer.

use crate::common::{
    Gate,
    backend::{Act, Backend, Refused, status},
    client::End,
    proxy::Proxy,
};

#[test]
fn serial_moves_on_after_a_503() {
    let sick = Backend::replies([status(503)]);
    let well = Backend::replies([status(200).body("ok")]);
    let proxy = Proxy::serial(&[&sick, &well]).start();

    assert_eq!(proxy.get("/").body(), "ok");
    assert_eq!(sick.seen(), ["GET /"]);
    assert_eq!(well.seen(), ["GET /"]);
}

#[test]
fn a_healthy_first_endpoint_is_the_only_one_that_is_called() {
    let first = Backend::always(status(200).body("first"));
    let (second, third) = (Backend::untouched(), Backend::untouched());
    let proxy = Proxy::serial(&[&first, &second, &third]).start();

    let mut client = proxy.client();
    for _ in 0..200 {
        assert_eq!(client.get("/").body(), "first");
    }
    assert_eq!(first.calls(), 200);
    assert_eq!((second.calls(), third.calls()), (0, 0));
    assert_eq!((second.connections(), third.connections()), (0, 0));
}

#[test]
fn down_then_503_then_healthy_is_answered_by_endpoint_2() {
    let down = Refused::new();
    let sick = Backend::always(status(503).body("sick"));
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&down, &sick, &well]).start();

    let mut client = proxy.client();
    for n in 1..=50 {
        let answer = client.get("/p");
        assert_eq!((answer.status(), answer.body().as_str()), (200, "well"));
        assert_eq!((sick.calls(), well.calls()), (n, n));
    }
    proxy.wait_for_log("by endpoint 2");
    assert!(
        !proxy
            .log()
            .iter()
            .any(|line| line.contains("by endpoint 0") || line.contains("by endpoint 1"))
    );
}

#[test]
fn the_second_endpoint_is_not_called_before_the_first_has_failed() {
    let gate = Gate::closed();
    let first = Backend::replies([status(503).after(&gate)]);
    let seen_by_second = Gate::closed();
    let second = Backend::choosing({
        let (gate, seen) = (gate.clone(), seen_by_second.clone());
        move |_| {
            seen.open();
            status(200).body(if gate.is_open() {
                "in order"
            } else {
                "too early"
            })
        }
    });
    let proxy = Proxy::serial(&[&first, &second]).start();

    let mut client = proxy.client();
    client.request("GET /", "");
    first.wait_for_calls(1);
    assert_eq!(second.connections(), 0);
    gate.open();
    assert_eq!(client.response().body(), "in order");
    assert!(seen_by_second.is_open());
}

#[test]
fn a_404_is_an_answer_by_default() {
    let first = Backend::replies([status(404).body("no such thing")]);
    let second = Backend::untouched();
    let proxy = Proxy::serial(&[&first, &second]).start();

    let answer = proxy.get("/");
    assert_eq!(
        (answer.status(), answer.body().as_str()),
        (404, "no such thing")
    );
}

#[test]
fn the_terminal_set_decides_what_is_usable() {
    // What is set, what the first endpoint answers, and whether that is the end of it.
    let table = [
        ("200", 200, true),
        ("200", 299, true),
        ("200", 301, false),
        ("200", 404, false),
        ("200,500", 503, true),
        ("500", 200, false),
        ("500", 500, true),
        ("404-404", 404, true),
        ("404-404", 403, false),
        ("404-404", 405, false),
        ("200-299", 204, true),
        ("200-299", 304, false),
        ("200,404-404", 404, true),
        ("100,200,300,400", 500, false),
        ("100,200,300,400", 599, false),
        ("100,200,300,400", 499, true),
    ];
    for (set, code, usable) in table {
        let first = Backend::replies([status(code)]);
        // One of these is usable, whatever the set; the header tells them from the first.
        let second = Backend::always(status(200).header("X-Second", "yes"));
        let third = Backend::always(status(404).header("X-Second", "yes"));
        let fourth = Backend::always(status(500).header("X-Second", "yes"));
        let proxy = Proxy::serial(&[&first, &second, &third, &fourth])
            .flag("-terminal-responses", set)
            .start();

        let answer = proxy.get("/");
        let stopped = answer.header("X-Second").is_none();
        assert_eq!(stopped, usable, "-t {set} with {code}");
        if usable {
            assert_eq!(answer.status(), code, "-t {set} with {code}");
            assert_eq!(second.calls() + third.calls() + fourth.calls(), 0);
        }
    }
}

#[test]
fn an_answer_that_breaks_off_in_the_client_s_hands_costs_no_further_call() {
    let body = vec![b'x'; 1 << 20];
    let first = Backend::replies([status(200).body(&body).cut(900_000, Act::Close)]);
    let second = Backend::untouched();
    let proxy = Proxy::serial(&[&first, &second]).start();

    let answer = proxy.get("/");
    assert_eq!(answer.status(), 200);
    assert_ne!(answer.end, End::Complete);
    assert!(answer.length < 1 << 20);
}

#[test]
fn each_request_begins_with_endpoint_0_again() {
    let first = Backend::replies([status(503), status(200).body("back")]);
    let second = Backend::replies([status(200).body("second")]);
    let proxy = Proxy::serial(&[&first, &second]).start();

    assert_eq!(proxy.get("/1").body(), "second");
    assert_eq!(proxy.get("/2").body(), "back");
}
