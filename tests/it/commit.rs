//! Short answers are read whole before the client gets any of them: an endpoint that breaks
//! off is a failed attempt then, and the next one has its chance (`-commit-after`).

use crate::common::{
    Gate, Pattern,
    backend::{Act, Backend, Step, raw, script, send, status, wait},
    client::End,
    proxy::Proxy,
};
use std::time::{Duration, Instant};

/// A head with this length, and half of the body.
fn half(length: usize, end: Act) -> Step {
    script([
        send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
        )),
        Act::Send(Pattern::bytes(length / 2)),
        end,
    ])
}

#[test]
fn a_short_answer_that_breaks_off_is_a_failed_attempt() {
    for length in [10, 5_000, 65_536] {
        for end in [Act::Close, Act::Reset] {
            for builder in [Proxy::serial, Proxy::fanout] {
                let first = Backend::replies([half(length, end.clone())]);
                let gate = Gate::closed();
                let second = Backend::replies([status(200).body("whole").after(&gate)]);
                let proxy = builder(&[&first, &second]).flag("-workers", "4").start();
                let mut client = proxy.client();
                client.request("GET /p", "");
                proxy.wait_for_log("endpoint 0: http");
                gate.open();
                let answer = client.response();
                assert_eq!((answer.status(), answer.body().as_str()), (200, "whole"));
                let line = proxy.wait_for_log("request /p served in ");
                assert!(line.contains(" by endpoint 1 (0: connection "), "{line}");
            }
        }
    }
}

#[test]
fn an_answer_that_breaks_off_and_has_no_successor_is_500_and_no_half() {
    let backend = Backend::replies([half(10, Act::Close)]);
    let proxy = Proxy::serial(&[&backend]).start();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.end), (500, End::Complete));
    proxy.wait_for_log("connection closed in the middle of the answer");
}

#[test]
fn a_short_answer_that_stalls_is_a_failed_attempt() {
    let first = Backend::replies([half(10, Act::Hang)]);
    let second = Backend::replies([status(200).body("whole")]);
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-per-try-timeout", "600ms")
        .start();
    assert_eq!(proxy.get("/").body(), "whole");
    proxy.wait_for_log("timed out: no whole answer within 600ms (-per-try-timeout, -commit-after)");
    first.wait_until_left();
}

#[test]
fn a_trickle_counts_as_a_whole_and_not_read_by_read() {
    // Each byte is in time; all of them together are not.
    let first = Backend::replies([raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        .then([Act::Trickle(b"x", Duration::from_millis(20))])]);
    let second = Backend::replies([status(200).body("whole")]);
    let proxy = Proxy::serial(&[&first, &second])
        .flag("-per-try-timeout", "600ms")
        .start();
    let begun = Instant::now();
    assert_eq!(proxy.get("/").body(), "whole");
    // The trickle would take 20 s.
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_is_longer_than_the_limit_or_of_unknown_length_is_not_waited_for() {
    let answers = [
        ("64KiB", "Content-Length: 65537\r\n"),
        ("5", "Content-Length: 6\r\n"),
        ("0", "Content-Length: 6\r\n"),
        ("64KiB", "Transfer-Encoding: chunked\r\n"),
        ("64KiB", ""),
    ];
    for (limit, framing) in answers {
        let gate = Gate::closed();
        let backend = Backend::replies([script([
            send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n")),
            wait(&gate),
            Act::Close,
        ])]);
        let untouched = Backend::untouched();
        let proxy = Proxy::serial(&[&backend, &untouched])
            .flag("-commit-after", limit)
            .flag("-workers", "4")
            .start();
        let mut client = proxy.client();
        client.request("GET /", "");
        // The head is here while the body is held.
        assert_eq!(client.head().status, 200, "{limit} {framing}");
        gate.open();
    }
}

#[test]
fn what_is_within_the_limit_is_waited_for() {
    for (limit, length) in [("64KiB", 65_536), ("6", 6)] {
        let (asked, gate) = (Gate::closed(), Gate::closed());
        let body = Pattern::bytes(length);
        let backend = Backend::replies([script([
            send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
            )),
            Act::Send(body[..length / 2].to_vec()),
            Act::Open(asked.clone()),
            wait(&gate),
            Act::Send(body[length / 2..].to_vec()),
        ])]);
        let proxy = Proxy::serial(&[&backend])
            .flag("-commit-after", limit)
            .flag("-workers", "4")
            .start();
        let mut client = proxy.client();
        client.request("GET /", "");
        assert!(asked.wait());
        assert!(client.hears_nothing_for(Duration::from_millis(50)));
        gate.open();
        let answer = client.response();
        assert_eq!(answer.end, End::Complete);
        assert!(answer.bytes == body);
    }
}

#[test]
fn a_truncated_answer_is_cut_where_nothing_is_read_first() {
    let backend = Backend::replies([half(10, Act::Close)]);
    let untouched = Backend::untouched();
    let proxy = Proxy::serial(&[&backend, &untouched])
        .flag("-commit-after", "0")
        .start();
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 200);
    assert_ne!(answer.end, End::Complete);
}

#[test]
fn in_a_fan_out_the_first_whole_answer_wins() {
    // The first head is not the first whole answer.
    let (begun, end) = (Gate::closed(), Gate::closed());
    let first = Backend::replies([script([
        send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"),
        Act::Open(begun.clone()),
        wait(&end),
        Act::Close,
    ])]);
    let second = Backend::replies([status(200).body("whole").after(&begun)]);
    let proxy = Proxy::fanout(&[&first, &second]).start();
    assert_eq!(proxy.get("/").body(), "whole");
    end.open();
}

#[test]
fn bodiless_answers_need_no_waiting_and_the_connection_is_used_again() {
    let backend = Backend::replies([
        status(200).body("twelve bytes"),
        status(204),
        status(304).header("Content-Length", "1234"),
        status(200).body(""),
        status(200).body("after"),
    ]);
    let proxy = Proxy::serial(&[&backend]).start();
    let mut client = proxy.client();
    client.request("HEAD /", "");
    assert_eq!(
        client.response_to("HEAD").header("content-length"),
        Some("12")
    );
    assert_eq!(client.get("/").status(), 204);
    assert_eq!(client.get("/").status(), 304);
    assert_eq!(client.get("/").body(), "");
    assert_eq!(client.get("/").body(), "after");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn room_is_made_for_what_comes_and_not_for_what_is_promised() {
    let promise = 90_000_u64 << 30;
    let backend = Backend::choosing(move |request| {
        if request.target == "/promise" {
            script([
                send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {promise}\r\n\r\n"
                )),
                Act::Close,
            ])
        } else {
            status(200).body("served")
        }
    });
    let proxy = Proxy::serial(&[&backend])
        .flag("-commit-after", "100000GiB")
        .start();
    assert_eq!(proxy.get("/promise").status(), 500);
    assert_eq!(proxy.get("/").body(), "served");
}
