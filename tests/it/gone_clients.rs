//! Clients that go away while their request is under way.

use crate::common::{
    Gate,
    backend::{Act, Backend, never, send, status},
    proxy::Proxy,
};
use std::time::{Duration, Instant};

#[test]
fn a_reset_cancels_the_attempt_and_frees_the_worker() {
    let first = Backend::choosing(|request| {
        if request.target == "/slow" {
            never()
        } else {
            status(200).body("next")
        }
    });
    let second = Backend::untouched();
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-workers", "1")
        .start();
    let mut client = proxy.client();
    client.request("GET /slow", "");
    first.wait_for_calls(1);
    let mut waiting = proxy.client();
    waiting.request("GET /next", "");
    let begun = Instant::now();
    client.reset();
    assert_eq!(waiting.response().body(), "next");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let line = proxy.wait_for_log("request /slow given up after");
    assert!(line.ends_with(": the client went away"), "{line}");
}

#[test]
fn a_reset_cancels_all_attempts_of_a_fan_out() {
    let (a, b) = (Backend::always(never()), Backend::always(never()));
    let proxy = Proxy::fanout(&[&a, &b]).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    a.wait_for_calls(1);
    b.wait_for_calls(1);
    client.reset();
    a.wait_until_left();
    b.wait_until_left();
    proxy.wait_for_log("given up after");
}

#[test]
fn a_reset_in_the_middle_of_an_answer_ends_its_endpoint_s_work() {
    let backend = Backend::always(status(200).head_only().then([send("begun"), Act::Hang]));
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    client.until("begun");
    client.reset();
    backend.wait_until_left();
    proxy.wait_for_log("but the client went away");
}

#[test]
fn who_only_closes_his_own_side_gets_his_answer() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("answer").after(&gate));
    for builder in [Proxy::serial(&[&backend]), Proxy::fanout(&[&backend])] {
        let proxy = builder.start();
        let mut client = proxy.client();
        let calls = backend.calls();
        client.request("GET /", "");
        client.finish_sending();
        backend.wait_for_calls(calls + 1);
        gate.open();
        assert_eq!(client.response().body(), "answer");
    }
}
