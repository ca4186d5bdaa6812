//! What the client gets when no answer is usable (`-on-exhausted`).

use crate::common::{
    Gate, Pattern,
    backend::{
        Act, Backend, Endpoint, Refused, Step, Unroutable, hangup, never, script, send, status,
    },
    client::End,
    eventually,
    proxy::Proxy,
    scrape::Scrape,
    settled,
};

/// What these endpoints come to, and the log's last line.
fn exhausted(on_exhausted: &str, endpoints: &[&dyn Endpoint]) -> (u16, String) {
    let proxy = Proxy::serial(endpoints)
        .flag("-on-exhausted", on_exhausted)
        .flag("-connect-timeout", "150ms")
        .flag("-per-try-timeout", "150ms")
        .flag("-workers", "4")
        .start();
    let answer = proxy.get("/");
    assert_eq!(answer.end, End::Complete);
    let line = proxy.wait_for_log("endpoints failed to return a valid answer, returning ");
    (answer.status(), line)
}

#[test]
fn a_gateway_tells_an_unreachable_endpoint_from_a_slow_one_and_from_a_bad_one() {
    let (refused, unroutable) = (Refused::new(), Unroutable::new());
    let unknown = format!("http://{}.invalid:80", "x".repeat(64));
    let sick = || Backend::always(status(503));
    let silent = || Backend::always(never());
    let broken = || Backend::always(hangup());
    let table: [(&[&dyn Endpoint], u16); 6] = [
        (&[&refused, &unroutable, &unknown], 503),
        (&[&refused, &sick()], 502),
        (&[&sick(), &broken()], 502),
        (&[&sick(), &silent()], 504),
        (&[&silent(), &sick()], 502),
        (&[&sick(), &unroutable], 504),
    ];
    for (endpoints, wanted) in table {
        for on_exhausted in ["gateway", "500"] {
            let (status, line) = exhausted(on_exhausted, endpoints);
            let wanted = if on_exhausted == "500" { 500 } else { wanted };
            assert_eq!(status, wanted);
            let start =
                format!("endpoints failed to return a valid answer, returning {wanted} (GET / of ");
            assert!(line.starts_with(&start), "{line}");
        }
    }
}

#[test]
fn the_best_answer_that_there_was_is_relayed_as_it_is() {
    type Row<'a> = (&'a [&'a dyn Endpoint], u16, &'a str, usize);
    let busy = Backend::always(status(503).body("busy"));
    let missing = Backend::always(status(404).header("X-Who", "1").body("missing"));
    let gone = Backend::always(status(410).header("X-Who", "1").body("gone"));
    let moved = Backend::always(status(301).header("X-Who", "1").body("moved"));
    let refused = Refused::new();
    let table: [Row<'_>; 4] = [
        (&[&busy, &refused, &missing, &gone], 404, "missing", 2),
        (&[&gone, &missing, &busy], 410, "gone", 0),
        (&[&missing, &moved, &refused], 301, "moved", 1),
        (&[&refused, &busy], 503, "busy", 1),
    ];
    for (endpoints, code, body, endpoint) in table {
        let proxy = Proxy::serial(endpoints)
            .flag("-terminal-responses", "200")
            .flag("-on-exhausted", "best")
            .flag("-workers", "4")
            .start();
        let answer = proxy.get("/");
        assert_eq!((answer.status(), answer.body().as_str()), (code, body));
        assert_eq!(answer.header("x-who").is_some(), code != 503);
        let line = proxy.wait_for_log("endpoints failed");
        let end = format!("returning {code} of endpoint {endpoint} (GET / of ");
        assert!(line.contains(&end), "{line}");
    }
}

#[test]
fn in_a_fan_out_the_best_is_the_best_whatever_came_first() {
    for first in [0, 1] {
        let gates = [Gate::closed(), Gate::closed()];
        let busy = Backend::always(status(503).body("busy").after(&gates[0]));
        let missing = Backend::always(status(404).body("missing").after(&gates[1]));
        let proxy = Proxy::fanout(&[&busy, &missing])
            .flag("-terminal-responses", "200")
            .flag("-on-exhausted", "best")
            .flag("-workers", "4")
            .start();
        let mut client = proxy.client();
        client.request("GET /", "");
        gates[first].open();
        proxy.wait_for_log(&format!("endpoint {first}: "));
        gates[1 - first].open();
        assert_eq!(client.response().body(), "missing");
    }
}

#[test]
fn without_any_answer_the_best_is_the_gateway_s() {
    assert_eq!(exhausted("best", &[&Refused::new()]).0, 503);
    assert_eq!(exhausted("best", &[&Backend::always(hangup())]).0, 502);
    assert_eq!(exhausted("best", &[&Backend::always(never())]).0, 504);
}

#[test]
fn a_usable_answer_is_better_than_the_best() {
    let sick = Backend::always(status(404).body("missing"));
    let well = Backend::always(status(500).body("the one"));
    let proxy = Proxy::serial(&[&sick, &well])
        .flag("-terminal-responses", "500")
        .flag("-on-exhausted", "best")
        .start();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.body().as_str()), (500, "the one"));
}

#[test]
fn a_bad_answer_that_breaks_off_is_not_the_best() {
    let half = Backend::always(status(404).body("0123456789").cut(5, Act::Close));
    let busy = Backend::always(status(503).body("busy"));
    let proxy = Proxy::serial(&[&half, &busy])
        .flag("-terminal-responses", "200")
        .flag("-on-exhausted", "best")
        .start();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.body().as_str()), (503, "busy"));
}

#[test]
fn a_bad_answer_whose_body_does_not_come_does_not_hold_up_the_next_attempt() {
    let stalled = Backend::always(script([
        send("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nstal"),
        Act::Hang,
    ]));
    let busy = Backend::always(status(503).body("busy"));
    for builder in [Proxy::serial, Proxy::fanout] {
        let proxy = builder(&[&stalled, &busy])
            .flag("-terminal-responses", "200")
            .flag("-on-exhausted", "best")
            .flag("-per-try-timeout", "1h")
            .flag("-request-timeout", "1h")
            .start();
        let answer = proxy.get("/");
        assert_eq!((answer.status(), answer.body().as_str()), (503, "busy"));
        proxy.wait_for_log(&format!("endpoint 0: {}: status 404", stalled.url()));
    }
}

/// An answer that is too long to be read before its time.
fn long(code: u16) -> Step {
    status(code)
        .head_only()
        .header("Content-Length", "3000000")
        .then([Act::Generate(3_000_000)])
}

#[test]
fn a_long_answer_waits_at_its_endpoint_and_is_relayed_whole() {
    let gate = Gate::closed();
    let first = Backend::always(long(404));
    let second = Backend::always(status(503).after(&gate));
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-terminal-responses", "200")
        .flag("-on-exhausted", "best")
        .start();
    let mut client = proxy.client();
    client.request("GET /", "");
    second.wait_for_calls(1);
    gate.open();
    let answer = client.response();
    assert_eq!((answer.status(), answer.end), (404, End::Complete));
    assert!(answer.bytes == Pattern::bytes(3_000_000));
}

#[test]
fn what_is_kept_until_then_is_one_answer_and_nothing_is_left_behind() {
    let backends: Vec<_> = (0..4).map(|_| Backend::always(long(503))).collect();
    let better = Backend::always(long(404));
    let well = Backend::choosing(|request| {
        if request.target == "/well" {
            status(200).body("well")
        } else {
            hangup()
        }
    });
    for builder in [Proxy::serial, Proxy::fanout] {
        let mut endpoints: Vec<&dyn Endpoint> = backends.iter().map(|b| b as _).collect();
        endpoints.extend([&better as &dyn Endpoint, &well]);
        let proxy = builder(&endpoints)
            .flag("-terminal-responses", "200")
            .flag("-on-exhausted", "best")
            .flag("-workers", "4")
            .start();
        let mut client = proxy.client();
        assert_eq!(client.get("/").status(), 404);
        let descriptors = settled(|| proxy.descriptors());
        for _ in 0..10 {
            assert_eq!(client.get("/").length, 3_000_000);
            assert_eq!(client.get("/well").body(), "well");
        }
        eventually(
            "descriptors",
            || proxy.descriptors(),
            |&now| now <= descriptors + 2,
        );
    }
}

#[test]
fn a_best_answer_that_breaks_off_in_the_client_s_hands_is_cut() {
    let first = Backend::always(script([
        send("HTTP/1.1 404 Not Found\r\nContent-Length: 3000000\r\n\r\n"),
        Act::Generate(1_000_000),
        Act::Close,
    ]));
    let proxy = Proxy::serial(&[&first])
        .flag("-terminal-responses", "200")
        .flag("-on-exhausted", "best")
        .start();
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 404);
    assert_ne!(answer.end, End::Complete);
    proxy.wait_for_log("returning 404 of endpoint 0, but the answer broke off: ");
}

#[test]
fn an_exhausted_head_has_no_body() {
    let backend = Backend::always(status(404).body("missing"));
    let proxy = Proxy::serial(&[&backend])
        .flag("-terminal-responses", "200")
        .flag("-on-exhausted", "best")
        .start();
    let mut client = proxy.client();
    client.request("HEAD /", "");
    let answer = client.response_to("HEAD");
    assert_eq!(
        (answer.status(), answer.header("content-length")),
        (404, Some("7"))
    );
    assert_eq!(client.get("/").body(), "missing");
}

#[test]
fn an_endpoint_that_the_time_was_over_for_has_not_failed() {
    let (silent, unroutable) = (Backend::always(never()), Unroutable::new());
    let second = Backend::untouched();
    let table: [(&dyn Endpoint, u16); 2] = [(&silent, 504), (&unroutable, 503)];
    for (first, wanted) in table {
        let proxy = Proxy::serial(&[first, &second])
            .flag("-on-exhausted", "gateway")
            .flag("-request-timeout", "200ms")
            .flag("-monitor", ":0")
            .start();
        assert_eq!(proxy.get("/").status(), wanted);
        let scrape = Scrape::with(&proxy, &[("brp_requests_exhausted_total", 1.0)]);
        let failed = |number| {
            let endpoint = format!("endpoint=\"{number}\"");
            scrape.sum("brp_upstream_failures_total", &endpoint)
        };
        assert_eq!((failed(0), failed(1)), (1.0, 0.0));
        assert_eq!(second.connections(), 0);
    }
}
