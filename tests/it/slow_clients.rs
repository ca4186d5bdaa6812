//! Clients that take their time: limits on heads, bodies and answers.

use crate::common::{
    Gate,
    backend::{Act, Backend, Step, send, status, wait},
    client::{Client, Closed},
    proxy::Proxy,
    refusing::is_refusal,
};
use std::{
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(1);

/// Measures a time that has to be `LIMIT`, give or take a fifth. It is never shorter; where
/// the machine was too busy to see the end in time, it is measured again, some times.
#[track_caller]
fn is_exact(what: &str, measure: impl Fn() -> Duration) {
    let mut seen = Vec::new();
    for _ in 0..8 {
        let took = measure();
        assert!(took >= LIMIT * 8 / 10, "{what}: too early, after {took:?}");
        seen.push(took);
        if took <= LIMIT * 12 / 10 {
            return;
        }
    }
    panic!("{what}: {seen:?}");
}

fn endless() -> Step {
    status(200)
        .head_only()
        .header("Content-Length", "1000000000000")
        .then([Act::Generate(1_000_000_000_000)])
}

/// Waits for the 408, and returns how long it has taken.
#[track_caller]
fn refused_after(client: &mut Client, begun: Instant) -> Duration {
    is_refusal(&client.response(), 408, "a slow client");
    let took = begun.elapsed();
    assert_eq!(client.closed(), Closed::Fin);
    took
}

/// Whether a line tells of a client that was refused for this flag's sake.
fn told(proxy: &Proxy, flag: &str) -> bool {
    let lines = proxy.log_with("refused a request of 127.0.0.1:");
    lines
        .iter()
        .any(|line| line.contains(flag) && line.contains("(408)"))
}

#[test]
fn idle_and_header_timeout_are_exact() {
    let backend = Backend::always(status(200).body("served"));
    let proxy = Proxy::serial(&[&backend])
        .flag("-idle-timeout", "1s")
        .flag("-header-timeout", "1s")
        .start();
    thread::scope(|scope| {
        let proxy = &proxy;
        scope.spawn(move || {
            is_exact("a connection that never says a word", || {
                let begun = Instant::now();
                let mut client = proxy.client();
                // Without an answer.
                assert_eq!(client.closed(), Closed::Fin);
                begun.elapsed()
            });
        });
        scope.spawn(move || {
            is_exact("a connection between two requests", || {
                let mut client = proxy.client();
                for _ in 0..3 {
                    assert_eq!(client.get("/").body(), "served");
                    thread::sleep(LIMIT / 10);
                }
                let begun = Instant::now();
                assert_eq!(client.get("/").body(), "served");
                assert_eq!(client.closed(), Closed::Fin);
                begun.elapsed()
            });
        });
        scope.spawn(move || {
            is_exact("a head that stops", || {
                let mut client = proxy.client();
                // Its time begins with its first byte.
                thread::sleep(LIMIT / 2);
                let begun = Instant::now();
                client.send("GET / HTTP/1.1\r\nHost: h\r\nX-");
                refused_after(&mut client, begun)
            });
        });
        scope.spawn(move || {
            is_exact("a head that goes on byte by byte", || {
                let mut client = proxy.client();
                let begun = Instant::now();
                client.send("GET / HTTP/1.1\r\nHost: h\r\nX-A: ");
                while begun.elapsed() < LIMIT * 7 / 10 {
                    client.send("x");
                    thread::sleep(LIMIT / 50);
                }
                refused_after(&mut client, begun)
            });
        });
        scope.spawn(move || {
            is_exact("the second head of a connection", || {
                let mut client = proxy.client();
                assert_eq!(client.get("/").body(), "served");
                let begun = Instant::now();
                client.send("GET / HTT");
                refused_after(&mut client, begun)
            });
        });
    });
    assert!(told(&proxy, "-header-timeout"), "{:#?}", proxy.log());
    // An idle connection is no request: nothing is told about it.
    assert!(proxy.log_with("-idle-timeout").is_empty());
    assert!(backend.seen().iter().all(|seen| seen == "GET /"));
}

#[test]
fn client_timeout_of_a_body_is_exact() {
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-client-timeout", "1s")
        .start();
    thread::scope(|scope| {
        let proxy = &proxy;
        for head in ["Content-Length: 5000\r\n", "Transfer-Encoding: chunked\r\n"] {
            scope.spawn(move || {
                is_exact("a body that does not begin", || {
                    let mut client = proxy.client();
                    let begun = Instant::now();
                    client.request("POST /", head);
                    refused_after(&mut client, begun)
                });
            });
            scope.spawn(move || {
                is_exact("a body that stops", || {
                    let mut client = proxy.client();
                    client.request("POST /", head);
                    thread::sleep(LIMIT / 2);
                    let begun = Instant::now();
                    let start = if head.starts_with('T') {
                        "1000\r\n"
                    } else {
                        ""
                    };
                    client.send(format!("{start}{}", "x".repeat(1000)));
                    refused_after(&mut client, begun)
                });
            });
        }
    });
    assert!(told(&proxy, "-client-timeout"), "{:#?}", proxy.log());
}

#[test]
fn body_below_the_minimum_rate_makes_no_progress() {
    // 240 bytes a second count as progress, a byte now and then does not.
    let backend = Backend::untouched();
    let proxy = Proxy::serial(&[&backend])
        .flag("-client-timeout", "1s")
        .start();
    thread::scope(|scope| {
        for head in [
            "Content-Length: 50000\r\n",
            "Transfer-Encoding: chunked\r\n",
        ] {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut client = proxy.client();
                client.request("POST /", head);
                let piece = if head.starts_with('T') {
                    "1\r\nx\r\n"
                } else {
                    "x"
                };
                let begun = Instant::now();
                while client.try_send(piece).is_ok() && client.hears_nothing_for(LIMIT / 20) {
                    assert!(begun.elapsed() < LIMIT * 8, "not cut");
                }
                assert!(begun.elapsed() > LIMIT * 8 / 10, "{:?}", begun.elapsed());
                is_refusal(&client.response(), 408, "a crawling body");
            });
        }
    });
}

#[test]
fn body_above_the_minimum_rate_may_take_longer_than_the_time_out() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend])
        .flag("-client-timeout", "500ms")
        .start();
    thread::scope(|scope| {
        for chunked in [false, true] {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut client = proxy.client();
                client.request(
                    "POST /",
                    if chunked {
                        "Transfer-Encoding: chunked\r\n"
                    } else {
                        "Content-Length: 20000\r\n"
                    },
                );
                let piece = if chunked {
                    crate::common::backend::chunk_of(&[b'x'; 1000])
                } else {
                    vec![b'x'; 1000]
                };
                for _ in 0..20 {
                    client.send(&piece);
                    thread::sleep(Duration::from_millis(75));
                }
                client.send(if chunked { "0\r\n\r\n" } else { "" });
                assert_eq!(client.response().status(), 200);
            });
        }
    });
    assert!(
        backend
            .requests()
            .iter()
            .all(|request| request.length == 20_000)
    );
}

/// The receive buffer of clients that read little.
const SMALL: usize = 8 << 10;

#[test]
fn client_that_reads_nothing_is_cut_and_one_that_reads_slowly_is_not() {
    let backend = Backend::always(endless());
    let proxy = Proxy::serial(&[&backend])
        .flag("-client-timeout", "2s")
        .start();
    thread::scope(|scope| {
        let proxy = &proxy;
        for target in ["/nothing", "/nothing-of-a-little"] {
            scope.spawn(move || {
                let mut client = if target == "/nothing" {
                    proxy.client()
                } else {
                    Client::connect_with_buffer(proxy.address, SMALL)
                };
                client.request(&format!("GET {target}"), "");
                client.head();
                let begun = Instant::now();
                proxy.wait_for_log(&format!("request {target} served in "));
                // Not before its time, and soon after it.
                assert!(begun.elapsed() > LIMIT * 16 / 10, "{:?}", begun.elapsed());
                assert!(begun.elapsed() < LIMIT * 10, "{:?}", begun.elapsed());
                let mut got = 0;
                while let Ok(length) = client.try_sip(1 << 20) {
                    got += length;
                    assert!(got < 1 << 26, "it is still being served");
                    if length == 0 {
                        break;
                    }
                }
            });
        }
        for number in 0..3 {
            scope.spawn(move || reads_slowly(proxy, number));
        }
    });
    assert!(!proxy.log_with("-client-timeout").is_empty());
    backend.wait_until_left();
}

/// Reads 40 KB a second for several times as long as the time-out, and is still being served.
///
/// The kernel announces room only when some half of the buffer has been read: with a small one
/// that happens several times within the limit. What the proxy's own kernel has taken for this
/// client is megabytes, so that it writes nothing for all that time.
fn reads_slowly(proxy: &Proxy, number: usize) {
    const PAUSE: Duration = Duration::from_millis(25);
    let mut pauses = Vec::new();
    // Where the machine did not let it read it has been cut rightly: again then.
    for _ in 0..5 {
        let mut client = Client::connect_with_buffer(proxy.address, SMALL);
        client.request(&format!("GET /slowly{number}"), "");
        client.until("\r\n\r\n");
        let (begun, mut last) = (Instant::now(), Instant::now());
        let (mut longest, mut got) = (Duration::ZERO, 0);
        loop {
            let slowly = begun.elapsed() < LIMIT * 5;
            // Then more than any buffer could hold.
            if !slowly && got > 20 << 20 {
                return;
            }
            let most = if slowly { 1000 } else { 1 << 20 };
            let sipped = client.try_sip(most);
            longest = longest.max(last.elapsed());
            last = Instant::now();
            let Ok(length @ 1..) = sipped else {
                break;
            };
            if slowly {
                thread::sleep(PAUSE);
            } else {
                got += length;
            }
        }
        assert!(longest > 4 * PAUSE, "it is cut though it reads on");
        pauses.push(longest);
    }
    panic!("the machine is too busy: {pauses:?}");
}

#[test]
fn what_comes_behind_a_request_in_flight_is_not_read_ahead_without_bound() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("late").after(&gate));
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-header", "8KiB")
        .start();
    let mut flooding = proxy.client();
    flooding.request("GET /", "");
    backend.wait_for_calls(1);
    flooding.send("GET / HTTP/1.1\r\nX-A: ");
    // Were it all taken, this would be half a gigabyte. It waits in the kernel, or is refused.
    let taken =
        flooding.send_until_stuck(&vec![b'x'; 64 << 10], 512 << 20, Duration::from_millis(300));
    assert!(taken.is_err() || taken.is_ok_and(|bytes| bytes < 64 << 20));
    assert!(proxy.peak_memory_kib() < 60 << 10);
    gate.open();
    assert_eq!(flooding.response().body(), "late");
    is_refusal(&flooding.response(), 431, "an endless head");
}

#[test]
fn head_behind_a_request_in_flight_has_its_time_when_it_is_its_turn() {
    let gate = Gate::closed();
    let backend = Backend::always(status(200).body("late").after(&gate));
    let proxy = Proxy::serial(&[&backend])
        .flag("-header-timeout", "500ms")
        .start();
    let mut slow = proxy.client();
    slow.request("GET /", "");
    slow.send("GET / HTT");
    backend.wait_for_calls(1);
    assert!(slow.hears_nothing_for(LIMIT));
    let begun = Instant::now();
    gate.open();
    assert_eq!(slow.response().body(), "late");
    is_refusal(&slow.response(), 408, "the second head");
    assert!(
        begun.elapsed() > Duration::from_millis(400),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn body_is_no_head_however_large() {
    let backend = Backend::always(status(200));
    let proxy = Proxy::serial(&[&backend])
        .flag("-max-header", "8KiB")
        .start();
    assert_eq!(proxy.post("/", vec![b'x'; 1 << 20]).status(), 200);
}

#[test]
fn client_waits_for_a_slow_endpoint_as_long_as_it_takes() {
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
    assert!(client.hears_nothing_for(LIMIT));
    gate.open();
    assert_eq!(client.response().body(), "late");
}

#[test]
fn empty_lines_do_not_prolong_the_time_without_a_request() {
    let proxy = Proxy::serial(&[&Backend::untouched()])
        .flag("-idle-timeout", "300ms")
        .start();
    let mut client = proxy.client();
    let begun = Instant::now();
    // Each comes long before the time is up. As many as are ignored at all would take 6 s.
    while client.try_send("\n").is_ok() && client.hears_nothing_for(LIMIT / 10) {
        assert!(begun.elapsed() < Duration::from_secs(3));
    }
}

#[test]
fn event_stream_between_two_events_is_not_cut() {
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
    assert!(client.hears_nothing_for(LIMIT));
    gate.open();
    client.until("data: 2\n\n");
}
