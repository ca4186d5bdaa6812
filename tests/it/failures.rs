//! What can go wrong on the way to an endpoint: the next one is tried, the log says why, and
//! the proxy goes on.

use crate::common::{
    backend::{
        Act, Backend, Endpoint, Refused, Step, Unroutable, hangup, never, raw, reset, script, send,
        status,
    },
    client::End,
    proxy::Proxy,
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// A first endpoint that fails this way is followed by the second; the reason is in the log.
fn fails(first: &dyn Endpoint, reason: &str) {
    // The second one has to answer within this time, too: on a busy machine, say.
    let time_out = if reason == "timed out" {
        "700ms"
    } else {
        "30s"
    };
    let well = Backend::replies([status(200).body("well")]);
    let proxy = Proxy::serial(&[first, &well])
        .flag("-per-try-timeout", time_out)
        .flag("-connect-timeout", time_out)
        .start();
    let answer = proxy.get("/p");
    assert_eq!((answer.status(), answer.body().as_str()), (200, "well"));
    proxy.wait_for_log("request /p served in ");
    let line = proxy.wait_for_log("endpoint 0: http");
    let start = format!("endpoint 0: {}: ", first.url());
    let why = line.strip_prefix(&start);
    assert!(
        why.is_some_and(|why| why.contains(reason)),
        "{line}, not {reason}"
    );
}

fn fails_with(step: Step, reason: &str) {
    fails(&Backend::replies([step]), reason);
}

#[test]
fn a_refused_connection() {
    fails(&Refused::new(), "connection refused");
}

#[test]
fn a_connection_that_never_comes_about() {
    fails(&Unroutable::new(), "timed out");
}

#[test]
fn a_reset() {
    fails_with(reset(), "connection reset");
}

#[test]
fn a_hangup() {
    fails_with(hangup(), "");
}

#[test]
fn a_status_that_is_not_terminal() {
    fails_with(status(503), "status 503");
    fails_with(status(500).body("x".repeat(100_000)), "status 500");
}

#[test]
fn an_endpoint_that_never_answers() {
    fails_with(never(), "timed out");
}

#[test]
fn a_head_that_breaks_off() {
    let heads = [
        "H",
        "HTTP/1.1",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nX-A: b\r\n",
    ];
    thread::scope(|scope| {
        for head in heads {
            scope.spawn(move || fails_with(script([send(head), Act::Hang]), "timed out"));
            fails_with(script([send(head), Act::Close]), "");
            fails_with(script([send(head), Act::Reset]), "");
        }
    });
}

#[test]
fn a_head_that_only_ever_grows() {
    // Each read is in time, but the head as a whole is not.
    fails_with(
        raw("HTTP/1.1 200 OK\r\nX-A: ").then([Act::Trickle(b"a", Duration::from_millis(50))]),
        "timed out",
    );
    fails_with(
        raw("HTTP/1.1 200 OK\r\n").then([Act::Trickle(b"X-A: b\r\n", Duration::from_millis(50))]),
        "timed out",
    );
}

#[test]
fn a_flood_in_front_of_a_head() {
    // There is always something to read, so the attempt never waits.
    for piece in ["HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "\r\n"] {
        let flood = piece.repeat(5000).leak().as_bytes();
        let flood = script([Act::Trickle(flood, Duration::ZERO)]);
        fails_with(flood, "timed out");
    }
}

#[test]
fn garbage() {
    let garbage = [
        "garbage\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "\u{1b}[31mred\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "\r\n\r\n\r\n\r\n",
    ];
    for bytes in garbage {
        fails_with(script([send(bytes), Act::Close]), "");
    }
}

#[test]
fn a_switch_of_protocols_that_was_not_asked_for() {
    fails_with(
        raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            .then([Act::Hang]),
        "",
    );
}

#[test]
fn a_head_without_end() {
    let endless = raw("HTTP/1.1 200 OK\r\nX-A: ").then([Act::Generate(100 << 20)]);
    fails_with(endless, "");
    let endless = raw("HTTP/1.1 200 OK\r\n").then([send("X-A: b\r\n".repeat(1_000_000))]);
    fails_with(endless, "");
}

#[test]
fn a_transport_failure_is_never_usable() {
    // Go's proxy makes a 502 of it, which these sets would take for an answer.
    for set in ["500", "100,200,300,400,500", "502-504"] {
        let failures: [(Box<dyn Endpoint>, &str); 5] = [
            (Box::new(Refused::new()), "refused"),
            (Box::new(Backend::replies([reset()])), "reset"),
            (Box::new(Backend::replies([hangup()])), "hangup"),
            (
                Box::new(Backend::replies(
                    [raw("garbage\r\n\r\n").then([Act::Close])],
                )),
                "garbage",
            ),
            (Box::new(Backend::replies([never()])), "never"),
        ];
        for (failing, what) in failures {
            let well = Backend::replies([status(502).body("the second")]);
            // The second one has to answer within this time, too.
            let time_out = if what == "never" { "700ms" } else { "30s" };
            let proxy = Proxy::serial(&[&*failing, &well])
                .flag("-terminal-responses", set)
                .flag("-per-try-timeout", time_out)
                .start();
            let answer = proxy.get("/");
            assert_eq!(answer.status(), 502, "{what}, -t {set}");
            assert_eq!(answer.body(), "the second", "{what}, -t {set}");
        }
    }
}

#[test]
fn when_all_endpoints_are_down_the_answer_is_500_and_the_proxy_goes_on() {
    let (a, b) = (Refused::new(), Refused::new());
    for fanout in [false, true] {
        let builder = if fanout { Proxy::fanout } else { Proxy::serial };
        let proxy = builder(&[&a, &b]).start();
        let mut client = proxy.client();
        for n in 0..20 {
            let answer = client.get(&format!("/{n}"));
            assert_eq!((answer.status(), answer.end), (500, End::Complete));
        }
        client.request("HEAD /head", "");
        assert_eq!(client.response_to("HEAD").status(), 500);
        assert_eq!(client.post("/post", "body").status(), 500);

        proxy.wait_for_log(&format!("endpoint 0: {}: connection refused", a.url()));
        proxy.wait_for_log(&format!("endpoint 1: {}: connection refused", b.url()));
        let line = proxy.wait_for_log("endpoints failed");
        assert!(
            line.starts_with("endpoints failed to return a valid answer, returning 500 (GET /"),
            "{line}"
        );
    }
}

#[test]
fn an_endpoint_that_comes_back_is_used_again() {
    let first = Backend::replies([status(503), hangup(), status(200).body("back")]);
    let proxy = Proxy::serial(&[&first]).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/").status(), 500);
    proxy.wait_for_log("returning 500");
    // A used connection that hangs up is given one more try, which finds the endpoint well.
    let answer = client.get("/");
    assert_eq!((answer.status(), answer.body().as_str()), (200, "back"));
}

#[test]
fn none_of_a_refused_answer_gets_to_the_client() {
    let sick = Backend::replies([status(503).header("X-Sick", "1").body("sick body")]);
    let proxy = Proxy::serial(&[&sick]).start();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.header("x-sick")), (500, None));
    assert!(!answer.body().contains("sick body"));
}

#[test]
fn all_attempts_together_have_a_time_limit() {
    let (a, b, c) = (never(), never(), never());
    let (a, b, c) = (Backend::always(a), Backend::always(b), Backend::always(c));
    for fanout in [false, true] {
        let builder = if fanout { Proxy::fanout } else { Proxy::serial };
        let proxy = builder(&[&a, &b, &c])
            .flag("-per-try-timeout", "30s")
            .flag("-request-timeout", "300ms")
            .start();
        let begun = Instant::now();
        let answer = proxy.get("/");
        let took = begun.elapsed();
        // The exhausted answer, and no 504.
        assert_eq!(answer.status(), 500);
        assert!(took >= Duration::from_millis(300), "{took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        proxy.wait_for_log("endpoints failed to return a valid answer, returning 500");
        proxy.wait_for_log("timed out");
    }
}

#[test]
fn each_attempt_has_its_own_time_limit() {
    let silent = [Backend::always(never()), Backend::always(never())];
    let well = Backend::replies([status(200).body("well")]);
    let proxy = Proxy::serial(&[&silent[0], &silent[1], &well])
        .flag("-per-try-timeout", "500ms")
        .start();
    let begun = Instant::now();
    assert_eq!(proxy.get("/").body(), "well");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    // What it gave up, it has also left.
    silent[0].wait_until_left();
    silent[1].wait_until_left();
}

#[test]
fn a_body_may_take_longer_than_any_time_limit_as_long_as_it_goes_on() {
    let mut acts = vec![send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")];
    for _ in 0..8 {
        acts.extend([Act::Pause(Duration::from_millis(250)), send("x")]);
    }
    let by_length = Backend::replies([script(acts)]);
    // A short answer that is read whole first would have to come in time.
    let proxy = Proxy::serial(&[&by_length])
        .flag("-per-try-timeout", "1s")
        .flag("-request-timeout", "1s")
        .flag("-commit-after", "0")
        .start();
    assert_eq!(proxy.get("/").body(), "xxxxxxxx");
}

#[test]
fn a_body_that_stops_coming_is_cut() {
    let stalled = Backend::replies([
        raw("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\nsome").then([Act::Hang]),
    ]);
    let untouched = Backend::untouched();
    let proxy = Proxy::serial(&[&stalled, &untouched])
        .flag("-per-try-timeout", "300ms")
        .start();
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 200);
    assert_ne!(answer.end, End::Complete);
    proxy.wait_for_log("request / served in ");
    stalled.wait_until_left();
}

#[test]
fn a_name_that_cannot_be_resolved() {
    // Too long a label for the DNS, so that no resolver is asked.
    let url = format!("http://{}.invalid:80", "x".repeat(64));
    let well = Backend::replies([status(200).body("well")]);
    let proxy = Proxy::serial(&[&url, &well]).start();
    assert_eq!(proxy.get("/").body(), "well");
    proxy.wait_for_log(&format!("endpoint 0: {url}: "));
}

#[test]
fn every_address_of_a_name_is_tried() {
    // The back end listens on 127.0.0.1 only; localhost may be ::1 first.
    let well = Backend::replies([status(200).body("well")]).called("localhost");
    let proxy = Proxy::serial(&[&well]).start();
    assert_eq!(proxy.get("/").body(), "well");
    let host = well.request().header("host").unwrap().to_owned();
    assert!(host.starts_with("localhost:"), "{host}");
}

#[test]
fn the_environment_s_proxies_are_ignored() {
    let trap = Backend::untouched();
    let well = Backend::replies([status(200).body("well")]);
    let mut builder = Proxy::serial(&[&well]);
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ] {
        builder = builder.env(name, &trap.url());
    }
    let proxy = builder.start();
    assert_eq!(proxy.get("/").body(), "well");
    assert_eq!(trap.connections(), 0);
}

#[test]
fn an_old_answer_with_a_transfer_coding_is_garbage() {
    let odd = Backend::replies([raw(
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    )]);
    let well = Backend::replies([status(200).body("well")]);
    let proxy = Proxy::serial(&[&odd, &well]).start();
    assert_eq!(proxy.get("/").body(), "well");
    proxy.wait_for_log("transfer coding in an HTTP/1.0 answer");
}
