//! What must not be carried out twice is put to one endpoint (`-idempotent-only`).

use crate::common::{
    Gate, Pattern,
    backend::{
        Act, Backend, Endpoint, Refused, Step, Unroutable, hangup, never, reset, script, send,
        status,
    },
    certificates::Authority,
    client::Client,
    proxy::Proxy,
    settled,
};
use std::{thread, time::Duration};

/// Sends a request with this method and a body where there is to be one.
fn ask(client: &mut Client, method: &str, body: &[u8]) -> u16 {
    client.send_body(method, "/", body);
    client.response().status()
}

/// Everything an endpoint may do to a request that it has got.
fn failures() -> Vec<(&'static str, Step)> {
    vec![
        ("503", status(503).body("sick")),
        ("hangup", hangup()),
        ("reset", reset()),
        ("silence", never()),
        ("garbage", script([send("garbage\r\n\r\n"), Act::Close])),
        ("half a head", script([send("HTTP/1.1 2"), Act::Close])),
        (
            "half a body",
            status(200).body("0123456789").cut(5, Act::Close),
        ),
        ("early reset", script([Act::Reset]).early()),
        ("early refusal", status(503).early().then([Act::Close])),
    ]
}

#[test]
fn a_post_is_never_seen_twice_whatever_fails() {
    let modes: [&[(&str, &str)]; 3] = [
        &[],
        &[("-fanout", "true")],
        &[("-hedge-after", "20ms"), ("-hedge-budget", "100")],
    ];
    for flags in modes {
        thread::scope(|scope| {
            for (what, step) in failures() {
                scope.spawn(move || a_post_is_seen_once(flags, what, step));
            }
        });
    }
}

fn a_post_is_seen_once(flags: &[(&str, &str)], what: &str, step: Step) {
    let first = Backend::always(step);
    let second = Backend::untouched();
    let time_out = if what == "silence" { "500ms" } else { "30s" };
    let mut builder = Proxy::serial(&[&first, &second])
        .flag("-idempotent-only", "true")
        .flag("-per-try-timeout", time_out)
        .flag("-workers", "4");
    for (name, value) in flags {
        builder = builder.flag(name, value);
    }
    let proxy = builder.start();
    for (number, body) in [&b"body"[..], b"", &Pattern::bytes(300_000)]
        .iter()
        .enumerate()
    {
        assert_eq!(ask(&mut proxy.client(), "POST", body), 500, "{what}");
        // Of an early step it may take note after the client has been answered.
        first.wait_for_calls(number + 1);
        assert_eq!(first.calls(), number + 1, "{what} {flags:?}");
        assert_eq!(second.connections(), 0, "{what} {flags:?}");
        // One that closes behind its answer has done so: else the next request may
        // be sent to a connection that is being closed, and be lost.
        settled(|| first.open_connections());
    }
}

#[test]
fn a_post_on_a_connection_that_was_used_before_is_not_sent_again_either() {
    for step in [hangup(), reset()] {
        let first = Backend::replies([status(200).body("warm"), step]);
        let second = Backend::untouched();
        let proxy = Proxy::serial(&[&first, &second])
            .flag("-idempotent-only", "true")
            .start();
        assert_eq!(proxy.get_and_settle("/warm").body(), "warm");
        assert_eq!(proxy.post("/", "body").status(), 500);
        // It did come on the connection that was kept: that is the hard case.
        let connections: Vec<_> = first.requests().iter().map(|r| r.connection).collect();
        assert_eq!(connections, [0, 0]);
    }
}

#[test]
fn what_has_sent_nothing_may_be_tried_elsewhere() {
    let unknown = format!("http://{}.invalid:80", "x".repeat(64));
    let stranger = Authority::new("stranger").issue(&["127.0.0.1"]);
    let failing: [Box<dyn Endpoint>; 4] = [
        Box::new(Refused::new()),
        Box::new(Unroutable::new()),
        Box::new(unknown),
        Box::new(Backend::tls(&stranger, [])),
    ];
    for first in failing {
        let second = Backend::always(status(200).body("second"));
        for fanout in ["false", "true"] {
            let proxy = Proxy::serial(&[&*first, &second])
                .flag("-idempotent-only", "true")
                .flag("-fanout", fanout)
                .flag("-connect-timeout", "150ms")
                .flag("-workers", "4")
                .start();
            assert_eq!(proxy.post("/", "body").body(), "second");
            proxy.wait_for_log("by endpoint 1 (0: ");
        }
    }
}

#[test]
fn idempotent_methods_go_on_as_before_and_unknown_ones_do_not() {
    let table = [
        ("GET", 2),
        ("HEAD", 2),
        ("OPTIONS", 2),
        ("TRACE", 2),
        ("PUT", 2),
        ("DELETE", 2),
        ("POST", 1),
        ("PATCH", 1),
        ("PROPFIND", 1),
        ("get", 1),
    ];
    for (method, calls) in table {
        for fanout in ["false", "true"] {
            let gate = Gate::closed();
            let sick = || Backend::always(status(503).after(&gate));
            let backends = [sick(), sick()];
            let proxy = Proxy::serial(&[&backends[0], &backends[1]])
                .flag("-idempotent-only", "true")
                .flag("-fanout", fanout)
                .flag("-workers", "4")
                .start();
            let mut client = proxy.client();
            client.request(&format!("{method} /"), "");
            if fanout == "true" && calls == 2 {
                backends[1].wait_for_calls(1);
            }
            backends[0].wait_for_calls(1);
            gate.open();
            assert_eq!(client.response_to(method).status(), 500);
            let seen = backends[0].calls() + backends[1].calls();
            assert_eq!(seen, calls, "{method} -fanout={fanout}");
        }
    }
}

#[test]
fn without_the_flag_a_post_goes_on_to_the_next_endpoint() {
    let first = Backend::replies([status(503)]);
    let second = Backend::replies([status(200).body("second")]);
    let proxy = Proxy::serial(&[&first, &second]).start();
    assert_eq!(proxy.post("/", "body").body(), "second");
}

#[test]
fn a_post_is_not_hedged() {
    let slow = Backend::always(status(200).body("slow").delayed(Duration::from_millis(150)));
    let second = Backend::untouched();
    let proxy = Proxy::serial(&[&slow, &second])
        .flag("-idempotent-only", "true")
        .flag("-hedge-after", "10ms")
        .start();
    assert_eq!(proxy.post("/", "body").body(), "slow");
    assert_eq!(second.connections(), 0);
}

#[test]
fn order_and_cool_down_choose_the_endpoint_of_a_post_too() {
    let sick = Backend::always(status(503));
    let well = Backend::always(status(200).body("well"));
    let proxy = Proxy::serial(&[&sick, &well])
        .flag("-idempotent-only", "true")
        .flag("-max-fails", "1")
        .flag("-cooldown", "1h")
        .start();
    let mut client = proxy.client();
    assert_eq!(client.post("/", "body").status(), 500);
    assert_eq!(client.post("/", "body").body(), "well");
    let proxy = Proxy::serial(&[&sick, &well])
        .flag("-idempotent-only", "true")
        .flag("-order", "rotate")
        .start();
    let mut client = proxy.client();
    assert_eq!(client.post("/", "body").status(), 500);
    assert_eq!(client.post("/", "body").body(), "well");
}
